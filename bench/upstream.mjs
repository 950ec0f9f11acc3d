/**
 * The application: answers every request with the same JSON as soon as its body is complete. Written on bare sockets,
 * because it shares a core with the load generator and must not be what is measured.
 *
 *   node bench/upstream.mjs PORT
 */
import { createServer } from 'node:net';
import { ANSWER } from './callback.mjs';

const REPLY = Buffer.from(
  `HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ${ANSWER.length}\r\n\r\n${ANSWER}`,
  'latin1',
);

/** Length of the first complete request in `text`, or -1. Understands just what proxies send for one callback. */
function requestLength(text) {
  const end = text.indexOf('\r\n\r\n');
  if (end === -1) return -1;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end + 2));
  if (length !== null) return text.length >= end + 4 + Number(length[1]) ? end + 4 + Number(length[1]) : -1;
  const last = text.indexOf('\r\n0\r\n\r\n', end);
  return last === -1 ? -1 : last + 7;
}

const server = createServer({ noDelay: true }, (socket) => {
  let pending = '';
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => {
    pending += chunk.latin1Slice();
    for (let length = requestLength(pending); length !== -1; length = requestLength(pending)) {
      pending = pending.slice(length);
      socket.write(REPLY);
    }
  });
});

server.listen(Number(process.argv[2]), '127.0.0.1');
