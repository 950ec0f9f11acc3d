import { connect } from 'node:tls';
import { ANSWER_FRAME, FRAME } from './frames.mjs';

const OPENING = Buffer.from(
  'GET /chat HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n' +
    'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: bXRscy1zaWRlY2FyLTE2IQ==\r\n\r\n',
  'latin1',
);

/** One WebSocket connection: a frame out, a frame back. */
export class WebSocketCaller {
  #open = false;
  #head = '';
  #bytes = 0;

  constructor(options, handlers) {
    this.handlers = handlers;
    this.socket = connect(options, () => this.socket.write(OPENING));
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => (this.#open ? this.#frame(chunk) : this.#opening(chunk)));
    this.socket.on('error', (error) => handlers.failed(`connection: ${error.message}`));
    this.socket.on('end', () => handlers.failed('the proxy closed a connection'));
  }

  send() {
    this.socket.write(FRAME);
  }

  close() {
    this.socket.removeAllListeners('end').destroy();
  }

  #opening(chunk) {
    this.#head += chunk.latin1Slice();
    if (!this.#head.includes('\r\n\r\n')) return;
    if (!this.#head.startsWith('HTTP/1.1 101 ')) return this.handlers.failed(`not upgraded: ${this.#head}`);
    this.#open = true;
    this.handlers.ready(this);
  }

  #frame(chunk) {
    this.#bytes += chunk.length;
    if (this.#bytes < ANSWER_FRAME.length) return;
    this.#bytes -= ANSWER_FRAME.length;
    this.handlers.answered(this, ANSWER_FRAME.length);
  }
}
