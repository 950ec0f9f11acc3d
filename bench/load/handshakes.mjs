import { performance } from 'node:perf_hooks';
import { connect } from 'node:tls';
import { ANSWER, CALLBACK, http1Bytes } from '../callback.mjs';
import { percentile } from '../statistics.mjs';

const REQUEST = http1Bytes(CALLBACK);

/**
 * One connection: handshake, one request, its answer, a clean end.
 * @returns {Promise<object>} { session, reused }
 */
export function connectOnce(options) {
  return new Promise((resolve, reject) => {
    let reused = false;
    const socket = connect(options, () => {
      reused = socket.isSessionReused();
      socket.write(REQUEST);
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
      if (text.startsWith('HTTP/1.1 200 ')) resolve({ session, reused });
      else reject(new Error(`no answer on a new connection: ${text.slice(0, 300)}`));
    });
  });
}

/**
 * New connections, `concurrency` of them at a time, each resuming the session of an earlier one or doing the whole
 * handshake.
 * @returns {Promise<object>} { requests, bytes, seconds, p50, p99 }: connections, and the time of one from start to end
 * @throws Error when a session is not resumed that should be
 */
export async function handshakes(options, { seconds, concurrency, resumed }) {
  const latencies = [];
  const first = await connectOnce(options);
  const start = performance.now();
  const until = start + seconds * 1000;
  const worker = async () => {
    let { session } = first;
    while (performance.now() < until) {
      const begun = performance.now();
      const one = await connectOnce(resumed ? { ...options, session } : options);
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
