import type { Socket } from 'node:net';
import type { Readable } from 'node:stream';
import { ProxyError } from '../errors.js';
import type { ForwardRequest } from './exchange.js';
import { fieldLines } from './request-head.js';
import { giveBack } from './returned-memory.js';

export interface BodyEvents {
  /** Something was written. `waits`: for the caller, not for the application. */
  bodyMoved(waits: boolean): void;
  bodyFailed(error: Error): void;
}

/** Bytes of a body that one write may gather: half of what may wait, so that gathering alone never stops the caller. */
const GATHERED = 65_536;

/** A body that is sent as it comes, by its length or in chunks (RFC 9112 §7.1). */
export class BodySender {
  /** Whether all of it is written. */
  done = false;
  private sent = 0;
  private gathering = false;

  constructor(
    private readonly socket: Socket,
    private readonly request: ForwardRequest,
    private readonly body: Readable,
    private readonly events: BodyEvents,
  ) {}

  /** Whether the application has taken all that has come so far, and there is more to come. */
  get awaitsCaller(): boolean {
    return !this.done && !this.socket.writableNeedDrain;
  }

  start(): void {
    const { body } = this;
    body.on('error', this.onError);
    body.on('end', this.onEnd);
    body.on('data', this.onData);
  }

  /** The application reads again. */
  goOn(): void {
    if (this.done) return;
    this.events.bodyMoved(true);
    this.body.resume();
  }

  /** Takes no more of it; whoever made the body disposes of the rest. */
  stop(): void {
    this.body.off('data', this.onData);
    this.body.off('end', this.onEnd);
    this.body.pause();
  }

  private readonly onData = (chunk: Buffer): void => {
    if (chunk.length === 0) return;
    this.sent += chunk.length;
    const { contentLength } = this.request;
    // The next request would begin within this one, or this one end within the next.
    if (contentLength !== null && this.sent > contentLength) return this.onError(mismatch());
    this.gather();
    if (contentLength === null) this.writeChunk(chunk);
    else this.writePiece(chunk);
    if (this.socket.writableLength >= GATHERED) this.passOn();
    const flowing = !this.socket.writableNeedDrain;
    if (!flowing) this.body.pause();
    this.events.bodyMoved(flowing);
  };

  /** One packet of a caller brings several pieces, a TLS record each. They go on in one write, when it has been read. */
  private gather(): void {
    if (this.gathering) return;
    this.gathering = true;
    this.socket.cork();
    setImmediate(this.release);
  }

  /** Held until the packet is read, a large body would stop its caller, and start it again, every 128 KiB. */
  private passOn(): void {
    this.socket.uncork();
    this.socket.cork();
  }

  private readonly release = (): void => {
    this.gathering = false;
    this.socket.uncork();
  };

  private writePiece(chunk: Buffer): void {
    this.socket.write(chunk, (error) => {
      if (!error) giveBack(chunk);
    });
  }

  private writeChunk(chunk: Buffer): void {
    this.socket.write(`${chunk.length.toString(16)}\r\n`, 'latin1');
    this.writePiece(chunk);
    this.socket.write('\r\n', 'latin1');
  }

  private readonly onEnd = (): void => {
    const { contentLength, trailers } = this.request;
    if (contentLength !== null && this.sent !== contentLength) return this.onError(mismatch());
    if (contentLength === null) {
      try {
        this.socket.write(`0${fieldLines(trailers?.() ?? [])}\r\n\r\n`, 'latin1');
      } catch (error) {
        return this.onError(error as Error);
      }
    }
    this.done = true;
    this.events.bodyMoved(false);
  };

  private readonly onError = (error: Error): void => {
    this.stop();
    this.events.bodyFailed(error);
  };
}

function mismatch(): ProxyError {
  return new ProxyError('internal', 'internal', 'forward', 'a body of another length than announced');
}
