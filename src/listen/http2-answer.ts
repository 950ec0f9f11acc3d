import { constants, type ServerHttp2Stream } from 'node:http2';
import type { Outgoing } from '../respond/relay.js';
import { toHttp2Headers, type Http2Headers } from '../rewrite/http2-headers.js';

const { NGHTTP2_NO_ERROR, NGHTTP2_INTERNAL_ERROR, NGHTTP2_CANCEL } = constants;

/** The answer of one stream, with the face of Node's ServerResponse. */
export class Http2Answer implements Outgoing {
  headersSent = false;
  /** DATA frames tell the end of a body, as chunks do. */
  readonly chunkedEncoding = true;
  readonly socket = null;
  private trailers: Http2Headers = {};
  /** Whether the end of the answer has been handed over. */
  private isWhole = false;
  /** Whether the end of the stream before that of the answer was our doing. */
  private isBroken = false;
  private written = 0;
  private flushed = 0;
  private stalledSince = 0;

  /** @param onProgress called with every piece of the answer */
  constructor(
    private readonly stream: ServerHttp2Stream,
    private readonly onProgress: () => void,
  ) {
    // Its end is told by `close`, which is enough.
    stream.on('error', () => undefined);
    stream.on('wantTrailers', () => this.sendTrailers());
    // Reset without an error code, Node would leave it open until somebody has read what came before.
    stream.on('aborted', () => process.nextTick(() => stream.destroy()));
  }

  get writableFinished(): boolean {
    return this.isWhole && this.stream.writableFinished && !this.stream.aborted;
  }

  /** Whether the caller ended the stream before it had the answer, or made the parser end it. */
  get wasGivenUp(): boolean {
    return !this.isBroken && !this.writableFinished;
  }

  readonly inform = (status: number, headers: readonly string[]): void => {
    const { stream } = this;
    if (this.headersSent || stream.closed || stream.destroyed || stream.writableNeedDrain) return;
    try {
      stream.additionalHeaders({ ':status': status, ...toHttp2Headers(headers) });
    } catch {
      // It was to help the caller; without it nothing is lost.
    }
  };

  writeHead(status: number, _reason: string | undefined, headers: readonly string[], isWhole = false): void {
    const fields = { ':status': status, ...toHttp2Headers(headers) };
    // ServerResponse takes no offence at a caller who has left, either.
    if (this.isGone()) return;
    this.stream.respond(fields, isWhole ? { endStream: true } : { waitForTrailers: true });
    this.headersSent = true;
    // Node has ended it where there can be no body (HEAD, 204, 304), whenever the application may say so.
    const isEnded = this.stream.writableEnded;
    this.isWhole = isWhole || isEnded;
    this.onProgress();
    // No trailers are waited for then.
    if (isEnded) this.endRequest();
  }

  /** Frames leave by themselves. */
  flushHeaders(): void {}

  write(chunk: Buffer, done?: () => void): boolean {
    if (this.isGone() || this.stream.writableEnded) {
      done?.();
      return true;
    }
    this.written += chunk.length;
    this.onProgress();
    return this.stream.write(chunk, done);
  }

  end(chunk?: string | Buffer, how?: BufferEncoding | (() => void)): void {
    this.isWhole = true;
    const done = typeof how === 'function' ? how : undefined;
    if (this.isGone() || this.stream.writableEnded) return done?.();
    const last = typeof chunk === 'string' ? Buffer.from(chunk, typeof how === 'string' ? how : 'utf8') : chunk;
    this.written += last?.length ?? 0;
    this.onProgress();
    if (last !== undefined) this.stream.write(last, done);
    this.stream.end();
  }

  addTrailers(pairs: [name: string, value: string][]): void {
    this.trailers = toHttp2Headers(pairs.flat());
  }

  /** A reset tells the caller that the answer is not whole. */
  destroy(): void {
    this.isBroken = true;
    if (!this.isGone()) this.stream.close(NGHTTP2_INTERNAL_ERROR);
  }

  on(event: 'close', listener: () => void): void {
    this.stream.on(event, listener);
  }

  once(event: 'drain', listener: () => void): void {
    this.stream.once(event, listener);
  }

  /** Since when the caller takes nothing of what is written for it; 0 while it does. @param now milliseconds since the epoch */
  stalled(now: number): number {
    const { stream } = this;
    const flushed = this.written - stream.writableLength;
    const waits = this.headersSent && (stream.writableLength > 0 || stream.writableEnded);
    if (!waits || flushed !== this.flushed || this.stalledSince === 0) this.stalledSince = waits ? now : 0;
    this.flushed = flushed;
    return this.stalledSince;
  }

  /** Gives up a caller who takes nothing. The reset may be stuck behind the rest, so nothing waits for it. */
  giveUp(): void {
    this.stream.close(NGHTTP2_CANCEL);
    this.stream.destroy();
  }

  private isGone(): boolean {
    return this.stream.closed || this.stream.destroyed;
  }

  private sendTrailers(): void {
    if (this.isGone()) return;
    // Without any it is an empty DATA frame with the end in it.
    this.stream.sendTrailers(this.trailers);
    this.endRequest();
  }

  /**
   * RFC 9113 §8.1: after an early answer the caller is asked, without an error, to send no more. Nobody reads what is on its way,
   * and a stream that nobody reads would never close.
   */
  private endRequest(): void {
    const { stream } = this;
    if (stream.endAfterHeaders || stream.readableEnded) return;
    setImmediate(() => {
      if (stream.readableEnded || stream.destroyed) return;
      // A small body is taken without a look for its end: then the caller has nothing more to send.
      if (stream.state.remoteClose !== 1) stream.close(NGHTTP2_NO_ERROR);
      stream.removeAllListeners('data').resume();
    });
  }
}
