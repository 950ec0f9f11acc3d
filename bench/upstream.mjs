/**
 * The application. On bare sockets, because it shares a core with the callers and must not be what is measured. Not nginx
 * with `return`: that answers before it has read the body, upon which undici gives the connection up, and every proxy made
 * with it would be measured opening connections.
 *
 *   POST /im/callback   the fixed answer, when the body is complete
 *   GET /bytes/N        N bytes
 *   Upgrade: websocket  the fixed frame back for each frame
 *
 *   node bench/upstream.mjs PORT
 */
import { createHash } from 'node:crypto';
import { createServer } from 'node:net';
import { ANSWER } from './callback.mjs';
import { ANSWER_FRAME, FRAME } from './load/frames.mjs';

const ANSWER_BYTES = answer('application/json', Buffer.from(ANSWER));
const files = new Map();

function answer(type, body) {
  const head = `HTTP/1.1 200 OK\r\nContent-Type: ${type}\r\nContent-Length: ${body.length}\r\n\r\n`;
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}

function fileOf(size) {
  if (!files.has(size)) files.set(size, answer('application/octet-stream', Buffer.alloc(size, 'x')));
  return files.get(size);
}

/** Understands just what proxies send here: one request after another, of known length or chunked. */
class Conversation {
  #pending = Buffer.alloc(0);
  #bodyLeft = 0;
  #chunked = false;
  #reply = null;
  #frameBytes = -1;

  constructor(socket) {
    this.socket = socket;
  }

  read(chunk) {
    if (this.#frameBytes >= 0) return this.#echo(chunk);
    let rest = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    this.#pending = Buffer.alloc(0);
    while (rest.length > 0 && this.#frameBytes < 0) {
      const next = this.#step(rest);
      if (next === null) {
        // The buffer that sockets are read into is used again.
        this.#pending = Buffer.from(rest);
        return;
      }
      rest = next;
    }
    if (rest.length > 0) this.#echo(rest);
  }

  /** What is left of `bytes` after one head or one piece of a body; null when more has to come. */
  #step(bytes) {
    if (this.#reply === null) return this.#head(bytes);
    if (this.#chunked) return this.#chunkedBody(bytes);
    const taken = Math.min(this.#bodyLeft, bytes.length);
    this.#bodyLeft -= taken;
    if (this.#bodyLeft === 0) this.#answer();
    return bytes.subarray(taken);
  }

  #head(bytes) {
    const end = bytes.indexOf('\r\n\r\n');
    if (end === -1) return null;
    const head = bytes.latin1Slice(0, end + 2);
    if (/\r\nupgrade: *websocket/i.test(head)) return this.#upgrade(head, bytes.subarray(end + 4));
    const size = /^GET \/bytes\/(\d+) /.exec(head);
    this.#reply = size === null ? ANSWER_BYTES : fileOf(Number(size[1]));
    this.#bodyLeft = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1] ?? 0);
    this.#chunked = /\r\ntransfer-encoding: *chunked/i.test(head);
    if (this.#bodyLeft === 0 && !this.#chunked) this.#answer();
    return bytes.subarray(end + 4);
  }

  /** One chunk, or the last one with its empty trailer. `bodyLeft` counts down the chunk that has begun, CRLF included. */
  #chunkedBody(bytes) {
    if (this.#bodyLeft > 0) {
      const taken = Math.min(this.#bodyLeft, bytes.length);
      this.#bodyLeft -= taken;
      return bytes.subarray(taken);
    }
    const end = bytes.indexOf('\r\n');
    if (end === -1) return null;
    const size = Number.parseInt(bytes.latin1Slice(0, end), 16);
    if (size > 0) {
      this.#bodyLeft = size + 2;
      return bytes.subarray(end + 2);
    }
    if (bytes.length < end + 4) return null;
    this.#answer();
    return bytes.subarray(end + 4);
  }

  #answer() {
    this.socket.write(this.#reply);
    this.#reply = null;
    this.#chunked = false;
  }

  #upgrade(head, rest) {
    const [, key] = /\r\nsec-websocket-key: *(\S+)/i.exec(head);
    const accept = createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64');
    const lines = ['HTTP/1.1 101 Switching Protocols', 'Upgrade: websocket', 'Connection: Upgrade'];
    this.socket.write([...lines, `Sec-WebSocket-Accept: ${accept}`, '\r\n'].join('\r\n'));
    this.#frameBytes = 0;
    return rest;
  }

  #echo(chunk) {
    this.#frameBytes += chunk.length;
    for (; this.#frameBytes >= FRAME.length; this.#frameBytes -= FRAME.length) this.socket.write(ANSWER_FRAME);
  }
}

const server = createServer({ noDelay: true }, (socket) => {
  const conversation = new Conversation(socket);
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk) => conversation.read(chunk));
});

server.listen(Number(process.argv[2]), '127.0.0.1');
