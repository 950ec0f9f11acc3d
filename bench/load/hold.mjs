import { connect as connectTcp } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { ANSWER, CALLBACK, http1Bytes } from '../callback.mjs';

const REQUEST = http1Bytes(CALLBACK);
const DOORS = 32;

/** A socket seen through a stream: TLS can be taken off it again while it stays open. */
function through(raw) {
  const stream = new Duplex({
    read: () => undefined,
    write: (chunk, _encoding, done) => void raw.write(chunk, done),
  });
  raw.on('data', (chunk) => stream.push(chunk));
  return stream;
}

/** Resolves to the bare socket, when one request has been answered. */
function openOne(options) {
  return new Promise((resolve, reject) => {
    const raw = connectTcp({ host: options.host, port: options.port });
    const socket = connectTls({ ...options, socket: through(raw) }, () => socket.write(REQUEST));
    let text = '';
    raw.on('error', reject).on('end', () => reject(new Error('the proxy closed an idle connection')));
    socket.on('error', reject);
    socket.on('data', (chunk) => {
      text += chunk.latin1Slice();
      if (!text.endsWith(ANSWER)) return;
      raw.removeAllListeners().on('error', () => undefined);
      raw.resume();
      resolve(raw);
    });
  });
}

/**
 * Opens connections that say nothing more after one request, and forgets their TLS state, so that ten thousand of them cost
 * this process little. The peer sees nothing of that.
 * @returns {Promise<object[]>} what closes them
 */
export async function hold(options, connections) {
  const held = [];
  let todo = connections;
  const worker = async () => {
    while (todo-- > 0) {
      const raw = await openOne(options);
      held.push({ close: () => raw.destroy() });
    }
  };
  await Promise.all(Array.from({ length: DOORS }, worker));
  return held;
}
