import { performance } from 'node:perf_hooks';
import { connect } from 'node:tls';
import { ANSWER, CALLBACK, http1Bytes } from '../callback.mjs';
import { percentile } from '../statistics.mjs';

const REQUEST = http1Bytes(CALLBACK);

/**
 * One connection: handshake, one request, its answer, a clean end. Without a request the end follows the caller's last message
 * of the handshake, which the proxy has to take before it.
 * @returns {Promise<object>} { session, reused }
 */
export function connectOnce(options, asks = true) {
  return new Promise((resolve, reject) => {
    let isSecure = false;
    let reused = false;
    const socket = connect(options, () => {
      isSecure = true;
      reused = socket.isSessionReused();
      if (asks) socket.write(REQUEST);
      else socket.end();
    });
    let text = '';
    let { session } = options;
    socket.setNoDelay(true);
    socket.on('session', (fresh) => (session = fresh));
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      text += chunk.latin1Slice();
      if (text.endsWith(ANSWER)) socket.end();
    });
    socket.on('close', () => {
      const isWhole = asks ? text.startsWith('HTTP/1.1 200 ') : isSecure && text === '';
      if (isWhole) resolve({ session, reused });
      else reject(new Error(`a new connection got ${text === '' ? 'nothing' : text.slice(0, 300)}`));
    });
  });
}

/**
 * New connections, `concurrency` of them at a time, each resuming the session of an earlier one or doing the whole
 * handshake.
 * @param asks whether each has a request
 * @returns {Promise<object>} { requests, bytes, seconds, p50, p99 }: connections, and the time of one from start to end
 * @throws Error when a session is not resumed that should be
 */
export async function handshakes(options, { seconds, concurrency, resumed, asks }) {
  const latencies = [];
  const first = await connectOnce(options);
  const start = performance.now();
  const until = start + seconds * 1000;
  const worker = async () => {
    let { session } = first;
    while (performance.now() < until) {
      const begun = performance.now();
      const one = await connectOnce(resumed ? { ...options, session } : options, asks);
      if (one.reused !== resumed) throw new Error(resumed ? 'a session was not resumed' : 'a session was resumed');
      ({ session } = one);
      latencies.push(performance.now() - begun);
    }
  };
  await Promise.all(Array.from({ length: concurrency }, worker));
  const sorted = Float64Array.from(latencies).sort();
  const elapsed = (performance.now() - start) / 1000;
  return {
    requests: sorted.length,
    bytes: 0,
    seconds: elapsed,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
  };
}
