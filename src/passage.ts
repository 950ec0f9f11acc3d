import type { Duplex } from 'node:stream';
import type { Permit } from './admit/authorize.js';
import type { Problem, RequestHead, ScreenedRequest } from './admit/screen.js';
import type { ProxyError, RequestCode } from './errors.js';
import type { ForwardRequest } from './forward/exchange.js';
import { RequestBody, type Body } from './forward/request-body.js';
import type { TunnelObserver, TunnelRequest } from './forward/tunnel.js';
import type { Outcome } from './observe/observer.js';
import type { Admitted, Call, ProxyStages, Way } from './proxy.js';
import { statusOf, unparsedRefusal } from './respond/refuse.js';
import { Relay, type Outgoing, type RelayOptions } from './respond/relay.js';
import { pairsOf } from './rewrite/flat-headers.js';
import type { RewriteInput } from './rewrite/request-headers.js';
import { withoutHeaders } from './rewrite/flat-headers.js';
import { rewriteResponseHeaders } from './rewrite/response-headers.js';

/** How a request ended, for its record. */
interface End {
  readonly status: number;
  readonly code: RequestCode | null;
  readonly detail: string | null;
  readonly outcome: Outcome;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly headAt: number | null;
  readonly upgraded: boolean;
}

/**
 * One request on its way through the stages: what is known of it so far, and the one record it leaves. Whatever becomes
 * of it, `finish` is reached exactly once.
 */
export class Passage implements RelayOptions, TunnelObserver {
  readonly head: RequestHead;
  requestId = '';
  expectsContinue = false;
  isOver = false;
  private readonly startedAt = Date.now();
  private readonly startedTick = performance.now();
  private screened: ScreenedRequest | null = null;
  private way: Way;
  private others: readonly Way[] = [];
  private body: Body = null;
  private relay: Relay | null = null;
  private forwardedTick = 0;
  private tunnelHeadAt: number | null = null;
  private tunnelStatus = 0;
  private tunnelError: ProxyError | null = null;

  constructor(
    private readonly call: Call,
    private readonly stages: ProxyStages,
  ) {
    const { request } = call;
    [this.way] = stages.ways;
    this.head = {
      method: request.method ?? '',
      target: request.url ?? '',
      httpVersion: request.httpVersion,
      rawHeaders: request.rawHeaders,
      hasBody: request.hasBody,
    };
    this.requestId = stages.newRequestId();
  }

  get httpVersion(): string {
    return this.head.httpVersion;
  }

  /**
   * Takes over what the screening found out, and which way the request goes.
   * @param others that it may be read to take: no header or trailer of theirs is the caller's to send
   */
  accept(screened: ScreenedRequest, way: Way, others: readonly Way[]): void {
    this.screened = screened;
    this.way = way;
    this.others = others;
    this.expectsContinue = screened.expectsContinue;
    if (screened.requestId !== null) this.requestId = screened.requestId;
  }

  /** Whether it began after the end of what its caller was verified by. */
  get hasEnded(): boolean {
    return this.startedAt > this.call.tenure.validUntil;
  }

  answerOn(response: Outgoing): Relay {
    const relay = new Relay(response, this);
    this.relay = relay;
    response.on('close', () => this.onResponseClosed(response, relay));
    return relay;
  }

  /** @param permit whose identity the application is told: under a route that asks nobody it is nobody's */
  identityHeaders({ identity }: Permit): readonly string[] {
    const { connection } = this.call;
    return identity === connection.identity ? connection.identityHeaders : connection.anonymousHeaders();
  }

  rewriteInput({ connectionTokens, host }: ScreenedRequest): RewriteInput {
    return {
      rawHeaders: this.withoutThoseOfOthers(this.head.rawHeaders),
      connectionTokens,
      host,
      requestId: this.requestId,
      source: this.call.source,
    };
  }

  private withoutThoseOfOthers(flat: readonly string[]): readonly string[] {
    if (this.others.length === 0) return flat;
    const names = this.others.map(({ ownHeaders }) => ownHeaders);
    return withoutHeaders(flat, names);
  }

  forwardRequest({ screened, headers, identityHeaders }: Admitted, body: Body): ForwardRequest {
    this.body = body;
    this.forwardedTick = performance.now();
    const { request } = this.call;
    const { rewriteTarget, rewriteTrailers } = this.way;
    return {
      method: screened.method,
      target: rewriteTarget(screened.target),
      askedFor: screened.target,
      headers,
      identityHeaders,
      body,
      contentLength: screened.body === 'length' ? screened.contentLength : null,
      expectsContinue: screened.expectsContinue,
      trailers: screened.announcesTrailers
        ? () => rewriteTrailers(this.withoutThoseOfOthers(request.rawTrailers))
        : null,
    };
  }

  tunnelRequest({ screened, headers, identityHeaders }: Admitted): TunnelRequest {
    this.forwardedTick = performance.now();
    const protocol = allOf(this.head.rawHeaders, 'upgrade');
    const target = this.way.rewriteTarget(screened.target);
    return { method: screened.method, target, protocol, headers: [...headers, ...identityHeaders] };
  }

  /** An answer before the whole request was read ends the connection: the rest of the body is no next request. */
  isLast(): boolean {
    return this.call.isLast() || (this.screened?.body !== 'none' && !this.call.request.complete);
  }

  wantsJson(): boolean {
    return allOf(this.head.rawHeaders, 'accept').includes('application/json');
  }

  isStarting(): boolean {
    return !this.way.upstream.reached;
  }

  /** The rest of the request cannot be read. Does nothing to an answer that is on its way already. */
  breakOff(code: RequestCode, detail: string): void {
    if (this.isOver || this.relay === null || this.relay.outcome === 'refused') return;
    this.relay.abort();
    this.relay.refuse(code, detail);
  }

  private onResponseClosed(response: Outgoing, relay: Relay): void {
    const { status, code, detail, bytesOut, headAt } = relay;
    const aborted = relay.outcome === 'ok' && !response.writableFinished;
    relay.abort();
    const outcome =
      aborted || (relay.outcome === 'refused' && !response.writableFinished) ? 'caller_aborted' : relay.outcome;
    const sent = response.headersSent ? status : 0;
    this.finish({ status: sent, code, detail, outcome, bytesIn: this.bytesIn(), bytesOut, headAt, upgraded: false });
  }

  private bytesIn(): number {
    const { body } = this;
    if (body instanceof RequestBody) return body.received;
    return body === null ? 0 : body.length;
  }

  /** Answers an Upgrade by ourselves: no ServerResponse belongs to it. */
  refuseOn(socket: Duplex, { code, detail }: Problem): void {
    socket.on('error', () => socket.destroy());
    socket.end(this.rawRefusal(code));
    const outcome = 'refused';
    const status = statusOf(code, this.isStarting());
    this.finish({ status, code, detail, outcome, bytesIn: 0, bytesOut: 0, headAt: null, upgraded: false });
  }

  private rawRefusal(code: RequestCode): Buffer {
    return unparsedRefusal(code, { requestId: this.requestId, json: this.wantsJson(), starting: this.isStarting() });
  }

  tunnelAnswered(status: number, headers: readonly string[]): string[] {
    this.way.upstream.markReached();
    const kept = rewriteResponseHeaders(headers, this.requestId, status);
    this.tunnelHeadAt = performance.now();
    this.tunnelStatus = status;
    return kept;
  }

  tunnelFailed(error: ProxyError): string | Buffer {
    this.tunnelError = error;
    if (this.tunnelHeadAt === null) this.tunnelStatus = statusOf(error.code, this.isStarting());
    return this.rawRefusal(error.code);
  }

  tunnelClosed(bytes: { readonly received: number; readonly sent: number }): void {
    const { tunnelError, tunnelStatus: status, tunnelHeadAt: headAt } = this;
    this.finish({
      status,
      code: tunnelError?.code ?? null,
      detail: tunnelError?.message ?? null,
      outcome: tunnelOutcome(tunnelError !== null, headAt !== null),
      bytesIn: bytes.received,
      bytesOut: bytes.sent,
      headAt,
      upgraded: status === 101,
    });
  }

  private finish(end: End): void {
    if (this.isOver) return;
    this.isOver = true;
    if (this.body instanceof RequestBody) this.body.destroy();
    const { connection, request } = this.call;
    const { headAt } = end;
    this.stages.observer.requestFinished({
      connection,
      requestId: this.requestId,
      method: this.head.method,
      target: this.head.target,
      httpVersion: this.head.httpVersion,
      host: this.screened?.host ?? null,
      route: this.way.name,
      referer: headerOf(request.rawHeaders, 'referer'),
      userAgent: headerOf(request.rawHeaders, 'user-agent'),
      rawHeaders: request.rawHeaders,
      // Written out, since a spread of `end` costs a microsecond.
      status: end.status,
      code: end.code,
      detail: end.detail,
      outcome: end.outcome,
      bytesIn: end.bytesIn,
      bytesOut: end.bytesOut,
      upgraded: end.upgraded,
      startedAt: this.startedAt,
      durationMs: performance.now() - this.startedTick,
      upstreamMs: headAt === null ? null : headAt - this.forwardedTick,
    });
    this.call.done();
  }
}

function tunnelOutcome(failed: boolean, answered: boolean): Outcome {
  if (failed) return answered ? 'upstream_aborted' : 'refused';
  return answered ? 'ok' : 'caller_aborted';
}

/** Read from the flat list: the header object that Node would build costs more than all of the record. */
function headerOf(rawHeaders: readonly string[], name: string): string | null {
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const candidate = rawHeaders[index] as string;
    if (candidate.length === name.length && candidate.toLowerCase() === name) return rawHeaders[index + 1] as string;
  }
  return null;
}

/** Every value of a header, as one list. */
function allOf(rawHeaders: readonly string[], name: string): string {
  return pairsOf(rawHeaders)
    .filter(([candidate]) => candidate.toLowerCase() === name)
    .map(([, value]) => value)
    .join(', ');
}
