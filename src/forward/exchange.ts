import type { Readable } from 'node:stream';
import type { ProxyError } from '../errors.js';

/** One request as it goes to the application. */
export interface ForwardRequest {
  readonly method: string;
  /** Origin form, or `*`. */
  readonly target: string;
  /** Set where a route has replaced its beginning: what the caller would have to ask for again. */
  readonly askedFor?: string;
  /** Flat list, Host included, without framing and connection headers. */
  readonly headers: readonly string[];
  /** Flat list that follows on these: who called. The same array for each request of a connection. */
  readonly identityHeaders: readonly string[];
  readonly body: Buffer | Readable | null;
  /** Bytes; null means chunked. Meaningless without a body. */
  readonly contentLength: number | null;
  readonly expectsContinue: boolean;
  /** Set when the caller announced trailers: they are asked for when the body has ended. */
  readonly trailers: (() => string[]) | null;
}

/** What the application answers, piece by piece. After `end` or `fail` nothing follows. */
export interface AnswerSink {
  /** 1xx, any number of times. */
  information(status: number, headers: readonly string[]): void;
  head(status: number, reason: string, headers: readonly string[]): void;
  /**
   * @param done to be called when the chunk is not needed any more, and not before: its bytes may be overwritten then
   * @returns false when the sink is full; `Exchange.resume` goes on
   */
  data(chunk: Buffer, done?: () => void): boolean;
  end(trailers: readonly string[]): void;
  fail(error: ProxyError): void;
}

/** A request under way. */
export interface Exchange {
  resume(): void;
  /** Ends it and its connection; the sink hears nothing more. */
  abort(): void;
}

/** The numbers behind the pool metrics. */
export interface PoolNumbers {
  readonly open: number;
  readonly busy: number;
  readonly waiting: number;
}
