import type { Dispatcher } from 'undici';
import type { ProxyError } from '../errors.js';
import type { AnswerSink, Exchange, ForwardRequest } from './exchange.js';
import { isConnectionClosed, upstreamError } from './upstream-errors.js';
import type { PooledClient, Upstream } from './upstream.js';

/** RFC 9110 §9.2.2. */
const IDEMPOTENT: ReadonlySet<string> = new Set(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE']);

/**
 * One request over a pooled connection.
 *
 * Implements undici's older handler interface on purpose: it hands over raw header buffers, where the newer one builds
 * an object that loses order, case and duplicates.
 */
export class PooledExchange implements Exchange, Dispatcher.DispatchHandler {
  private pooled: PooledClient | null = null;
  private abortUpstream: ((reason?: Error) => void) | null = null;
  private resumeUpstream: (() => void) | null = null;
  private reused = false;
  private answered = false;
  private bodiless = false;
  private retried = false;
  private finished = false;

  constructor(
    private readonly upstream: Upstream,
    private readonly request: ForwardRequest,
    private readonly sink: AnswerSink,
  ) {}

  /** Called once, when the pool has room. */
  start(): void {
    this.pooled = this.upstream.take();
    this.dispatch(this.pooled);
  }

  private dispatch(pooled: PooledClient): void {
    this.reused = pooled.served > 0;
    this.abortUpstream = null;
    pooled.client.dispatch(
      {
        method: this.request.method,
        path: this.request.target,
        headers: framedHeaders(this.request),
        body: this.request.body,
      },
      this,
    );
  }

  resume(): void {
    this.resumeUpstream?.();
  }

  abort(): void {
    if (this.finished) return;
    this.finished = true;
    if (this.pooled === null) return this.upstream.withdraw(this);
    // Null while connecting: `onConnect` will see that it is over.
    this.abortUpstream?.();
  }

  onConnect(abort: (reason?: Error) => void): void {
    this.abortUpstream = abort;
    if (this.finished) abort();
  }

  onResponseStarted(): void {
    this.answered = true;
  }

  onHeaders(status: number, rawHeaders: Buffer[], resume: () => void, reason: string): boolean {
    if (this.finished) return true;
    this.answered = true;
    this.resumeUpstream = resume;
    this.bodiless = status === 304 || status === 204;
    const headers = rawHeaders.map(latin1);
    if (status < 200) this.sink.information(status, headers);
    else this.sink.head(status, reason, headers);
    return true;
  }

  onData(chunk: Buffer): boolean {
    return this.finished || this.sink.data(chunk);
  }

  onComplete(trailers: string[] | null): void {
    // undici takes a reset for the end of an answer that has no length.
    const reset = this.pooled?.socket?.errored ?? null;
    if (reset !== null && !this.bodiless) return this.onError(reset);
    // The declared type is that of the newer interface; this one brings buffers.
    const rawTrailers = trailers as unknown as Buffer[] | null;
    if (this.pooled !== null) this.pooled.served += 1;
    this.release();
    if (this.finished) return;
    this.finished = true;
    this.sink.end(rawTrailers === null ? [] : rawTrailers.map(latin1));
  }

  onError(cause: Error & { code?: string }): void {
    // 304 may tell the length of the body that it does not have (RFC 9110 §15.4.5), and some 204 do. undici takes that for
    // a broken answer.
    if (this.bodiless && cause.code === 'UND_ERR_RES_CONTENT_LENGTH_MISMATCH') return this.onComplete(null);
    if (this.mayRetry(cause)) {
      this.retried = true;
      if (this.pooled !== null) this.dispatch(this.pooled);
      return;
    }
    this.release();
    if (this.finished) return;
    this.finished = true;
    this.sink.fail(this.explain(cause));
  }

  private explain(cause: Error): ProxyError {
    return upstreamError(cause, { connected: this.abortUpstream !== null });
  }

  /**
   * A kept-alive connection may be closed by the application in the moment in which we use it. Only then, only before
   * any byte of an answer, and only when sending twice is the same as sending once, it is sent again, once.
   */
  private mayRetry(cause: Error): boolean {
    if (this.finished || this.retried || this.answered || !this.reused) return false;
    return this.request.body === null && IDEMPOTENT.has(this.request.method) && isConnectionClosed(cause);
  }

  private release(): void {
    if (this.pooled === null) return;
    this.upstream.give(this.pooled);
    this.pooled = null;
    this.upstream.leave();
  }
}

function framedHeaders(request: ForwardRequest): string[] {
  if (request.body === null || request.contentLength === null) return request.headers as string[];
  return [...request.headers, 'Content-Length', String(request.contentLength)];
}

/** Header bytes are not text: latin1 keeps every byte as it is. */
function latin1(bytes: Buffer): string {
  return bytes.toString('latin1');
}
