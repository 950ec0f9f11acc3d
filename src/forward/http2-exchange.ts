import { STATUS_CODES } from 'node:http';
import { constants, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import { Readable } from 'node:stream';
import { ProxyError } from '../errors.js';
import { fromHttp2Headers, toHttp2Headers } from '../rewrite/http2-headers.js';
import type { AnswerSink, Exchange, ForwardRequest } from './exchange.js';
import type { Http2Connection } from './http2-connection.js';
import type { Http2Pool } from './http2-pool.js';
import { isIdempotent } from './idempotent.js';
import { upstreamError } from './upstream-errors.js';
import type { Upstream } from './upstream.js';

const { NGHTTP2_REFUSED_STREAM, NGHTTP2_FLAG_END_STREAM } = constants;

/** One request over a shared HTTP/2 connection. */
export class Http2Exchange implements Exchange {
  private connection: Http2Connection | null = null;
  private stream: ClientHttp2Stream | null = null;
  private timer: NodeJS.Timeout | null = null;
  private trailers: readonly string[] = [];
  private answered = false;
  private retried = false;
  private finished = false;
  private error: (Error & { code?: string }) | null = null;

  constructor(
    private readonly upstream: Upstream,
    private readonly pool: Http2Pool,
    private readonly request: ForwardRequest,
    private readonly sink: AnswerSink,
  ) {}

  /** Called once, when the pool has room. */
  start(): void {
    const connection = this.pool.take();
    this.connection = connection;
    connection.enter();
    try {
      this.send(connection);
    } catch (error) {
      connection.leave();
      // The sink must not hear of it before `send` has returned.
      process.nextTick(() => this.fail(unsendable(error as Error)));
    }
  }

  private send(connection: Http2Connection): void {
    const { body } = this.request;
    // With trailers to wait for, Node does not end a request that it resets.
    const stream = connection.session.request(headersOf(this.request), {
      endStream: body === null,
      waitForTrailers: body !== null,
    });
    this.stream = stream;
    connection.carry(stream);
    this.listen(stream);
    if (!(body instanceof Readable) || this.request.expectsContinue) this.awaitHead();
    if (body instanceof Readable) this.sendBody(stream, body);
    else if (body !== null) stream.end(body);
  }

  private listen(stream: ClientHttp2Stream): void {
    const seen = watchEnd(stream);
    stream.on('wantTrailers', () => this.sendTrailers(stream));
    stream.on('headers', (headers, _flags, ...rest) => this.inform(Number(headers[':status']), flat(rest)));
    stream.on('response', (headers, flags, ...rest) => {
      this.onResponse(Number(headers[':status']), flat(rest), (flags & NGHTTP2_FLAG_END_STREAM) !== 0);
    });
    stream.on('trailers', (_headers, _flags, ...rest) => (this.trailers = flat(rest)));
    stream.on('data', (chunk: Buffer) => this.onData(stream, chunk));
    stream.on('end', () => {
      if (seen.end && !stream.destroyed) this.end();
    });
    // Ahead of its `close`, so that a request which is sent again goes elsewhere.
    stream.on('frameError', () => this.connection?.suspect());
    stream.on('error', (error: Error) => (this.error = error));
    stream.once('close', () => this.onClose(stream));
  }

  private sendBody(stream: ClientHttp2Stream, body: Readable): void {
    body.on('error', (error) => this.fail(upstreamError(error, { connected: true })));
    body.pipe(stream);
    body.on('data', () => this.bodyMoved(!stream.writableNeedDrain));
    body.on('end', () => this.bodyMoved(false));
    stream.on('drain', () => this.bodyMoved(true));
  }

  /** @param waits for the caller, whose own clock runs then, and not for the application */
  private bodyMoved(waits: boolean): void {
    if (this.answered || this.finished) return;
    if (waits) this.stopTimer();
    else this.awaitHead();
  }

  private sendTrailers(stream: ClientHttp2Stream): void {
    if (stream.closed || stream.destroyed) return;
    try {
      stream.sendTrailers(toHttp2Headers(this.request.trailers?.() ?? []));
    } catch (error) {
      this.fail(unsendable(error as Error));
    }
  }

  private awaitHead(): void {
    this.stopTimer();
    const { headTimeout } = this.upstream.settings;
    this.timer = setTimeout(() => this.timeOut('the application sent no head in time'), headTimeout);
  }

  private inform(status: number, headers: string[]): void {
    if (this.finished) return;
    if (status === 100 && this.request.body instanceof Readable) this.bodyMoved(!this.request.body.readableEnded);
    this.sink.information(status, headers);
  }

  private onResponse(status: number, headers: string[], isWhole: boolean): void {
    if (this.finished) return;
    this.answered = true;
    this.stopTimer();
    try {
      this.sink.head(status, STATUS_CODES[status] ?? '', headers);
    } catch (error) {
      return this.fail(upstreamError(error as Error, { connected: true }));
    }
    // At once, so that it can go on as one frame: gRPC has answers of a head alone.
    if (isWhole) return this.end();
    const { idleTimeout } = this.upstream.settings;
    this.timer = setTimeout(() => this.onIdle(), idleTimeout);
  }

  private onData(stream: ClientHttp2Stream, chunk: Buffer): void {
    if (this.finished) return;
    this.timer?.refresh();
    if (!this.sink.data(chunk)) stream.pause();
  }

  /** A caller who reads slowly is not the application's fault. */
  private onIdle(): void {
    if (this.stream?.isPaused() === true) this.timer?.refresh();
    else this.timeOut('the application stopped sending');
  }

  private timeOut(message: string): void {
    this.connection?.suspect();
    this.fail(new ProxyError('upstream_timeout', 'upstream', 'forward', message));
  }

  resume(): void {
    this.timer?.refresh();
    this.stream?.resume();
  }

  abort(): void {
    if (this.finished) return;
    if (this.connection === null) {
      this.finished = true;
      return this.upstream.withdraw(this);
    }
    this.settle();
  }

  private end(): void {
    if (this.finished) return;
    if (this.connection !== null) this.connection.served += 1;
    this.settle(true);
    this.sink.end(this.trailers);
  }

  private fail(error: ProxyError): void {
    if (this.finished) return;
    this.settle();
    this.sink.fail(error);
  }

  /**
   * Whatever of the request or the answer is still to come has nowhere to go.
   * @param isWhole whether the answer is over: then nghttp2 closes the stream a moment later, if the request is over as well, and a reset
   *   of each would soon make the application end the connection
   */
  private settle(isWhole = false): void {
    this.finished = true;
    this.stopTimer();
    const { connection, stream } = this;
    const { body } = this.request;
    if (body instanceof Readable && stream !== null) body.unpipe(stream);
    if (stream === null) this.upstream.leave();
    else if (isWhole) setImmediate(() => connection?.cancel(stream));
    else connection?.cancel(stream);
  }

  private onClose(stream: ClientHttp2Stream): void {
    const { connection } = this;
    if (connection === null) return;
    connection.leave();
    if (!this.finished && this.mayRetry(stream, connection)) return this.retry();
    if (!this.finished) this.fail(this.explain(stream, connection));
    this.upstream.leave();
  }

  private retry(): void {
    this.retried = true;
    this.stream = null;
    this.connection = null;
    this.stopTimer();
    this.upstream.leaveAndEnter(this, this.sink);
  }

  /**
   * Once, and only what cannot have been processed: RFC 9113 §8.7 says so of a refused stream, as a GOAWAY leaves them behind;
   * and, as in HTTP/1.1, what a kept connection lost unanswered, when sending twice is the same as sending once.
   */
  private mayRetry(stream: ClientHttp2Stream, connection: Http2Connection): boolean {
    if (this.retried || this.answered || this.request.body instanceof Readable) return false;
    if (stream.rstCode === NGHTTP2_REFUSED_STREAM) return true;
    const isLost = connection.session.destroyed && connection.served > 0;
    return isLost && this.request.body === null && isIdempotent(this.request.method);
  }

  private explain({ rstCode }: ClientHttp2Stream, { isConnected, failure }: Http2Connection): ProxyError {
    const cause = failure ?? this.error;
    if (!isConnected || cause instanceof ProxyError)
      return upstreamError(cause ?? closedEarly(), { connected: isConnected });
    const message = cause?.message ?? `the application ended the stream with code ${rstCode}`;
    const code = BROKEN.has(rstCode) || isProtocolError(cause) ? 'upstream_protocol' : 'upstream_closed';
    return new ProxyError(code, 'upstream', 'forward', message, cause);
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

/** Codes that say that somebody did not speak HTTP/2 (RFC 9113 §7). */
const BROKEN: ReadonlySet<number> = new Set([
  constants.NGHTTP2_PROTOCOL_ERROR,
  constants.NGHTTP2_FLOW_CONTROL_ERROR,
  constants.NGHTTP2_FRAME_SIZE_ERROR,
  constants.NGHTTP2_COMPRESSION_ERROR,
]);

function isProtocolError(cause: (Error & { readonly code?: string }) | null): boolean {
  return cause?.code === 'ERR_HTTP2_ERROR';
}

/**
 * Node ends the readable side of a stream in one way for END_STREAM and for a reset without an error code, which is how Node's own
 * server says that an answer was cut. The order tells them apart: a reset closes the stream first.
 */
function watchEnd(stream: ClientHttp2Stream): { readonly end: boolean } {
  const seen = { end: false };
  const push = stream.push.bind(stream);
  stream.push = (chunk: unknown, encoding?: BufferEncoding): boolean => {
    if (chunk === null && !stream.closed) seen.end = true;
    return push(chunk, encoding);
  };
  return seen;
}

function headersOf(request: ForwardRequest): OutgoingHttpHeaders {
  const { host, ...headers } = toHttp2Headers([...request.headers, ...request.identityHeaders]);
  const length =
    request.body === null || request.contentLength === null ? {} : { 'content-length': request.contentLength };
  return {
    ':method': request.method,
    ':scheme': 'http',
    ':authority': host,
    ':path': request.target,
    ...headers,
    // We can; gRPC asks for it.
    te: 'trailers',
    ...length,
    ...(request.expectsContinue ? { expect: '100-continue' } : {}),
  };
}

/** The flat list of an event, which the type declarations leave out. */
function flat(rest: readonly unknown[]): string[] {
  return fromHttp2Headers(rest[0] as readonly string[]);
}

/** Node sends some headers once only, where HTTP/1.1 would have let several pass. */
function unsendable(error: Error): ProxyError {
  return new ProxyError('bad_request', 'downstream', 'forward', error.message, error);
}

function closedEarly(): Error {
  return new Error('the application closed the connection');
}
