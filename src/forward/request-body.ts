import { Readable } from 'node:stream';
import { ProxyError } from '../errors.js';

export interface BodyLimits {
  /** Bytes; 0 means no limit. */
  readonly maxBody: number;
  /** Milliseconds between two pieces, while they are asked for. */
  readonly idleTimeout: number;
}

/**
 * A request body on its way to the application.
 *
 * It stands between Node's IncomingMessage and the client because clients destroy the body they are given, which here
 * would take the caller's connection (and with it the answer) along. It counts, limits, and watches the clock only
 * while somebody waits for bytes: an application that reads slowly is not the caller's fault.
 */
export class RequestBody extends Readable {
  /** Bytes received so far. */
  received = 0;
  private last: Buffer | null = null;
  private timer: NodeJS.Timeout | null = null;

  /** @param length bytes announced; negative when none are */
  constructor(
    private readonly source: Readable,
    private readonly limits: BodyLimits,
    private readonly length: number,
  ) {
    super();
    source.on('data', this.onChunk);
    source.on('end', this.onEnd);
    source.pause();
  }

  override _read(): void {
    this.timer ??= setTimeout(this.onIdle, this.limits.idleTimeout);
    this.source.resume();
  }

  private readonly onChunk = (chunk: Buffer): void => {
    this.received += chunk.length;
    if (this.limits.maxBody > 0 && this.received > this.limits.maxBody) {
      const message = `more than ${this.limits.maxBody} bytes of body`;
      this.destroy(new ProxyError('body_too_large', 'downstream', 'forward', message));
      return;
    }
    // With it the application has a whole request, and a caller of HTTP/2 has not yet said that it is (RFC 9113 §8.1.1).
    if (this.received === this.length) this.last = chunk;
    else if (this.push(chunk)) this.timer?.refresh();
    else {
      this.stopTimer();
      this.source.pause();
    }
  };

  private readonly onEnd = (): void => {
    this.stopTimer();
    // A stream of HTTP/2 says `end` when it was reset, too.
    if (this.source.destroyed) return;
    if (this.last !== null) this.push(this.last);
    this.push(null);
  };

  private readonly onIdle = (): void => {
    const message = `no body bytes for ${this.limits.idleTimeout} ms`;
    this.destroy(new ProxyError('request_timeout', 'downstream', 'forward', message));
  };

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.stopTimer();
    this.source.off('data', this.onChunk);
    this.source.off('end', this.onEnd);
    callback(error);
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

/** Null: there is none. A buffer: it came whole with its head. */
export type Body = Buffer | RequestBody | null;

/** A body up to this size is taken whole if it is there whole. Bytes. */
const SMALL_BODY = 65_536;

/** A body as it comes from the caller. */
export interface BodySource {
  readonly bytes: Readable;
  readonly framing: { readonly body: 'none' | 'length' | 'chunked'; readonly contentLength: number };
  /** Says by `complete` whether all has been received; where a flag delimits the body (HTTP/2), more may follow its length. */
  readonly request: { readonly hasBody?: boolean; readonly complete: boolean };
}

/**
 * Hands over the body of a request: at once when there is none, otherwise in the next tick, when a small body that came
 * in the same packet as its head has been parsed and can be sent on in one write. Nothing is waited for beyond that.
 */
export function takeBody(source: BodySource, limits: BodyLimits, use: (body: Body) => void): void {
  if (source.framing.body === 'none') {
    use(null);
    return;
  }
  process.nextTick(handOver, source, limits, use);
}

function handOver(source: BodySource, limits: BodyLimits, use: (body: Body) => void): void {
  use(takeWhole(source) ?? new RequestBody(source.bytes, limits, source.framing.contentLength));
}

/** Judged by length: `complete` is set a moment later, when the parser has looked behind the body. */
function takeWhole({ bytes, framing: { contentLength: length }, request }: BodySource): Buffer | null {
  if (length < 0 || length > SMALL_BODY || bytes.readableLength !== length) return null;
  if (request.hasBody !== undefined && !request.complete) return null;
  // By its length: on Node 26 `read()` gives the first packet alone.
  return bytes.read(length) as Buffer | null;
}
