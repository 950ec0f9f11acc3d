import { request as httpRequest, type ClientRequest, type IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { ProxyError } from '../errors.js';
import { pairsOf } from '../rewrite/flat-headers.js';
import { connectOptions } from './address.js';
import type { AnswerSink, Exchange, ForwardRequest } from './exchange.js';
import { upstreamError } from './upstream-errors.js';
import type { Upstream } from './upstream.js';

/**
 * One request over a connection of its own, through Node's client: for what undici cannot send (`Expect`, trailers of a
 * request, `OPTIONS *`). Rare, so it need not be fast, and a connection that is never reused cannot be confused.
 */
export class PlainExchange implements Exchange {
  private outgoing: ClientRequest | null = null;
  private incoming: IncomingMessage | null = null;
  private timer: NodeJS.Timeout | null = null;
  private connected = false;
  private entered = false;
  private finished = false;

  constructor(
    private readonly upstream: Upstream,
    private readonly request: ForwardRequest,
    private readonly sink: AnswerSink,
  ) {}

  /** Called once, when the pool has room. */
  start(): void {
    this.entered = true;
    const { address, connectTimeout } = this.upstream.target;
    const connection = connectOptions(address);
    const outgoing = httpRequest({
      // Here `path` is the target of the request.
      ...('path' in connection ? { socketPath: connection.path } : connection),
      agent: false,
      method: this.request.method,
      path: this.request.target,
      headers: framedHeaders(this.request),
    });
    this.outgoing = outgoing;
    this.timer = setTimeout(() => this.timeOut('could not connect to the application in time'), connectTimeout);
    this.listen(outgoing);
    this.sendBody(outgoing);
  }

  private listen(outgoing: ClientRequest): void {
    outgoing.on('socket', (socket) => socket.once('connect', () => this.onConnected()));
    outgoing.on('information', (info) => this.sink.information(info.statusCode, info.rawHeaders));
    outgoing.on('response', (incoming) => this.onResponse(incoming));
    outgoing.on('upgrade', (_response, socket) => {
      socket.destroy();
      this.fail(new ProxyError('upstream_protocol', 'upstream', 'forward', 'the application upgraded unasked'));
    });
    outgoing.on('error', (error) => this.fail(upstreamError(error, { connected: this.connected })));
    outgoing.on('close', () => this.fail(closedEarly()));
  }

  private onConnected(): void {
    this.connected = true;
    this.upstream.markReached();
    if (this.finished) return;
    this.stopTimer();
    const { headTimeout } = this.upstream.target;
    this.timer = setTimeout(() => this.timeOut('the application sent no head in time'), headTimeout);
  }

  private sendBody(outgoing: ClientRequest): void {
    const { body, trailers } = this.request;
    if (!(body instanceof Readable)) {
      outgoing.end(body ?? undefined);
      return;
    }
    // The caller waits for the application's 100 before it sends the body, so the head cannot wait for the body.
    outgoing.flushHeaders();
    body.on('error', (error) => outgoing.destroy(error));
    body.on('end', () => {
      if (trailers !== null) outgoing.addTrailers(pairsOf(trailers()));
      outgoing.end();
    });
    body.pipe(outgoing, { end: false });
    // The application may wait for all of a large body, and that may take longer than a head may.
    body.on('data', () => this.timer?.refresh());
  }

  private onResponse(incoming: IncomingMessage): void {
    if (this.finished) return;
    this.incoming = incoming;
    this.stopTimer();
    const { idleTimeout } = this.upstream.target;
    incoming.setTimeout(idleTimeout, () => {
      if (!incoming.isPaused()) this.timeOut('the application stopped sending');
    });
    incoming.on('data', (chunk: Buffer) => {
      if (!this.finished && !this.sink.data(chunk)) incoming.pause();
    });
    incoming.on('end', () => this.end(incoming));
    incoming.on('error', (error) => this.fail(upstreamError(error, { connected: true })));
    this.passHead(incoming);
  }

  private passHead({ statusCode = 0, statusMessage = '', rawHeaders }: IncomingMessage): void {
    try {
      this.sink.head(statusCode, statusMessage, rawHeaders);
    } catch (error) {
      this.fail(upstreamError(error as Error, { connected: true }));
    }
  }

  private end(incoming: IncomingMessage): void {
    if (!this.settle()) return;
    // An early answer: what the caller still sends has nowhere to go.
    this.outgoing?.destroy();
    this.sink.end(incoming.rawTrailers);
  }

  private timeOut(message: string): void {
    this.fail(new ProxyError('upstream_timeout', 'upstream', 'forward', message));
  }

  private fail(error: ProxyError): void {
    if (!this.settle()) return;
    this.outgoing?.destroy();
    this.sink.fail(error);
  }

  resume(): void {
    const { incoming } = this;
    if (incoming === null) return;
    incoming.resume();
    // The clock may have run out, unheeded, while the caller was slow; it does not start again by itself.
    incoming.setTimeout(this.upstream.target.idleTimeout);
  }

  abort(): void {
    if (!this.settle()) return;
    this.outgoing?.destroy();
  }

  /** @returns whether it was not over before */
  private settle(): boolean {
    if (this.finished) return false;
    this.finished = true;
    this.stopTimer();
    if (this.entered) this.upstream.leave();
    else this.upstream.withdraw(this);
    return true;
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

function closedEarly(): ProxyError {
  return new ProxyError('upstream_closed', 'upstream', 'forward', 'the application closed the connection');
}

function framedHeaders(request: ForwardRequest): string[] {
  const headers = [...request.headers];
  if (request.expectsContinue) headers.push('Expect', '100-continue');
  if (request.body === null) return headers;
  if (request.contentLength === null) headers.push('Transfer-Encoding', 'chunked');
  else headers.push('Content-Length', String(request.contentLength));
  return headers;
}
