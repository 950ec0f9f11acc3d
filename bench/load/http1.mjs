import { connect } from 'node:tls';
import { ANSWER } from '../callback.mjs';

const ANSWER_BYTES = Buffer.from(ANSWER);
/** All connections are read into one buffer: what came is looked at before the next read. */
const SHARED = Buffer.alloc(65_536);

/**
 * One connection of HTTP/1.1 that sends prepared bytes and knows when their answer is complete. Status, length and, where
 * it is short, the body are checked. An answer of the same length as the one before is not parsed again: only its status and
 * its body are compared.
 */
export class Http1Caller {
  #expects = null;
  #pending = Buffer.alloc(0);
  /** Bytes of a long body that are still to come; 0 between answers. */
  #left = 0;
  #knownLength = -1;

  /** @param handlers { ready, answered(caller, bytes), failed(message) } */
  constructor(options, handlers) {
    this.handlers = handlers;
    const onread = { buffer: SHARED, callback: (count) => this.#read(SHARED.subarray(0, count)) };
    this.socket = connect({ ...options, onread }, () => handlers.ready(this));
    this.socket.setNoDelay(true);
    this.socket.on('error', (error) => handlers.failed(`connection: ${error.message}`));
    this.socket.on('end', () => handlers.failed('the proxy closed a connection'));
  }

  /** @param request { bytes, expects }: `expects` null for ANSWER */
  send({ bytes, expects }) {
    if (expects !== this.#expects) this.#knownLength = -1;
    this.#expects = expects;
    this.socket.write(bytes);
  }

  close() {
    this.socket.removeAllListeners('end').destroy();
  }

  #read(chunk) {
    try {
      this.#take(chunk);
    } catch (error) {
      this.socket.destroy();
      this.handlers.failed(error.message);
    }
    return true;
  }

  #take(chunk) {
    if (this.#left > 0) return this.#body(chunk.length);
    if (chunk.length === this.#knownLength && this.#pending.length === 0 && this.#isGood(chunk)) {
      this.handlers.answered(this, chunk.length);
      return;
    }
    const bytes = this.#pending.length === 0 ? chunk : Buffer.concat([this.#pending, chunk]);
    const end = bytes.indexOf('\r\n\r\n');
    this.#pending = end === -1 ? Buffer.from(bytes) : Buffer.alloc(0);
    if (end !== -1) this.#head(bytes, end + 4);
  }

  #head(bytes, headLength) {
    const head = bytes.latin1Slice(0, headLength);
    if (!head.startsWith('HTTP/1.1 200 ')) throw new Error(`unexpected answer: ${head.slice(0, 300)}`);
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(head)?.[1]);
    const wanted = this.#expects ?? ANSWER_BYTES.length;
    if (length !== wanted) throw new Error(`an answer of ${length} bytes, not ${wanted}: ${head}`);
    if (this.#expects !== null) {
      this.#left = length;
      this.#body(bytes.length - headLength);
    } else if (bytes.length < headLength + length) {
      this.#pending = Buffer.from(bytes);
    } else {
      if (!this.#isGood(bytes)) throw new Error(`unexpected body: ${bytes.latin1Slice(headLength)}`);
      this.#knownLength = bytes.length;
      this.handlers.answered(this, bytes.length);
    }
  }

  #isGood(bytes) {
    const start = bytes.length - ANSWER_BYTES.length;
    return bytes[9] === 0x32 && bytes.compare(ANSWER_BYTES, 0, ANSWER_BYTES.length, start) === 0;
  }

  #body(count) {
    this.#left -= count;
    if (this.#left < 0) throw new Error('more than one answer to one request');
    if (this.#left === 0) this.handlers.answered(this, this.#expects);
  }
}
