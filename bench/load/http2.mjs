import { connect } from 'node:tls';
import { ANSWER } from '../callback.mjs';

const PREFACE = Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', 'latin1');
const DATA = 0;
const HEADERS = 1;
const RST_STREAM = 3;
const SETTINGS = 4;
const PING = 6;
const GOAWAY = 7;
const WINDOW_UPDATE = 8;
const END_STREAM = 1;
const ACK = 1;
const END_HEADERS = 4;
const WINDOW = 2 ** 30;
/** HPACK's static table holds `:status: 200` at 8 (RFC 7541, appendix A). */
const STATUS_200 = 0x88;

function frame(type, flags, stream, payload) {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

function uint32(value) {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** A string or an integer with a prefix of 7 bits (RFC 7541 §5). Not Huffman-coded: the proxy decodes, we do not care. */
function hpackString(text) {
  const length = Buffer.byteLength(text);
  if (length < 127) return Buffer.concat([Buffer.from([length]), Buffer.from(text)]);
  const rest = length - 127;
  const digits = rest < 128 ? [rest] : [0x80 | (rest & 0x7f), rest >> 7];
  return Buffer.concat([Buffer.from([127, ...digits]), Buffer.from(text)]);
}

/** Literals without indexing, so that the block is the same each time and can be prepared. */
function headerBlock({ method, path, headers, body }) {
  const fields = [
    [':method', method],
    [':scheme', 'https'],
    [':authority', 'localhost'],
    [':path', path],
    ...Object.entries(headers),
    ...(body === null ? [] : [['content-length', String(body.length)]]),
  ];
  return Buffer.concat(
    fields.flatMap(([name, value]) => [Buffer.from([0]), hpackString(name.toLowerCase()), hpackString(value)]),
  );
}

/** A request with a body, as one piece of bytes in which only the stream's number has to be written. */
export function http2Bytes(request) {
  const headers = frame(HEADERS, END_HEADERS, 1, headerBlock(request));
  return { bytes: Buffer.concat([headers, frame(DATA, END_STREAM, 1, request.body)]), second: headers.length };
}

/** One of the streams of a connection: a caller like the others, with one answer to wait for. */
class Stream {
  constructor(connection) {
    this.connection = connection;
  }

  send(request) {
    this.connection.send(request, this);
  }

  close() {
    this.connection.close();
  }
}

/** One connection, and as many callers on it as it has streams at once. */
export class Http2Connection {
  #pending = Buffer.alloc(0);
  #next = 1;
  #answers = new Map();
  #received = 0;

  constructor(options, streams, handlers) {
    this.handlers = handlers;
    this.socket = connect({ ...options, ALPNProtocols: ['h2'] }, () => this.#begin(streams));
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => this.#read(chunk));
    this.socket.on('error', (error) => handlers.failed(`connection: ${error.message}`));
    this.socket.on('end', () => handlers.failed('the proxy closed a connection'));
  }

  #begin(streams) {
    if (this.socket.alpnProtocol !== 'h2') return this.handlers.failed('the proxy does not speak HTTP/2');
    // SETTINGS_INITIAL_WINDOW_SIZE (4), and the same for the connection.
    const settings = frame(SETTINGS, 0, 0, Buffer.concat([Buffer.from([0, 4]), uint32(WINDOW)]));
    this.socket.write(Buffer.concat([PREFACE, settings, frame(WINDOW_UPDATE, 0, 0, uint32(WINDOW))]));
    for (let index = 0; index < streams; index++) this.handlers.ready(new Stream(this));
  }

  send({ bytes, second }, caller) {
    const stream = this.#next;
    this.#next += 2;
    const copy = Buffer.from(bytes);
    copy.writeUInt32BE(stream, 5);
    copy.writeUInt32BE(stream, second + 5);
    this.#answers.set(stream, { caller, good: false, length: 0 });
    this.socket.write(copy);
  }

  close() {
    this.socket.removeAllListeners('end').destroy();
  }

  #read(chunk) {
    let bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    while (bytes.length >= 9) {
      const length = 9 + bytes.readUIntBE(0, 3);
      if (bytes.length < length) break;
      this.#frame(bytes[3], bytes[4], bytes.readUInt32BE(5) & 0x7fffffff, bytes.subarray(9, length));
      bytes = bytes.subarray(length);
    }
    this.#pending = bytes;
  }

  #frame(type, flags, stream, payload) {
    if (type === RST_STREAM || type === GOAWAY)
      return this.handlers.failed(`frame ${type}: ${payload.toString('hex')}`);
    if (type === SETTINGS && !(flags & ACK)) this.socket.write(frame(SETTINGS, ACK, 0, Buffer.alloc(0)));
    if (type === PING && !(flags & ACK)) this.socket.write(frame(PING, ACK, 0, payload));
    const answer = this.#answers.get(stream);
    if (answer === undefined) return;
    if (type === HEADERS) answer.good = isStatus200(payload);
    if (type === DATA) this.#count(answer, payload.length);
    if (flags & END_STREAM && (type === DATA || type === HEADERS)) this.#finish(stream, answer);
  }

  #count(answer, length) {
    answer.length += length;
    this.#received += length;
    if (this.#received < WINDOW / 2) return;
    this.socket.write(frame(WINDOW_UPDATE, 0, 0, uint32(this.#received)));
    this.#received = 0;
  }

  #finish(stream, { caller, good, length }) {
    this.#answers.delete(stream);
    if (!good || length !== ANSWER.length) return this.handlers.failed(`a wrong answer of ${length} bytes over HTTP/2`);
    this.handlers.answered(caller, length);
  }
}

/** A change of the table's size (001xxxxx) may come first. */
function isStatus200(block) {
  let at = 0;
  while (block[at] >> 5 === 1) at += 1;
  return block[at] === STATUS_200;
}
