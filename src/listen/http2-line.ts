import { constants, performServerHandshake, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import type { Config } from '../config/config.js';
import type { Call } from '../proxy.js';
import { Budget } from './budget.js';
import type { Admitted, ConnectionLine, Entrance } from './entrance.js';
import { Http2Answer } from './http2-answer.js';
import { Http2Request } from './http2-request.js';
import type { Judgement } from './recheck.js';
import { Tenure } from './tenure.js';

const { NGHTTP2_CANCEL, NGHTTP2_ENHANCE_YOUR_CALM, NGHTTP2_INADEQUATE_SECURITY } = constants;

/**
 * Room above `limits.head` that is announced and read: what is a little too large is refused by name (431, 414), with a
 * record. What is larger still, Node's parser resets unseen. Bytes.
 */
const HEAD_SLACK = 32_768;

/**
 * Fields of one header block, the pieces of a Cookie each. By reference to the table of HPACK a field costs its sender one
 * byte and us up to 4 KiB, and the announced size holds only once the caller has agreed to it.
 */
const MAX_FIELDS = 256;

/** Requests given up before their answer, at once and a second (CVE-2023-44487 made millions of them). */
const GIVEN_UP = [200, 20] as const;

/** PING and SETTINGS frames since anything was last answered, at once and a second. gRPC pings while it receives. */
const CONTROL = [1_000, 50] as const;

/** How long a caller may take to close its side after we have closed ours. Milliseconds. */
const LINGER_MS = 2_000;

/** The requests of one HTTP/2 connection. Each goes the same way as those of HTTP/1.1, through `proxy.pass`. */
export class Http2Line implements ConnectionLine {
  private session: ServerHttp2Session | null = null;
  private readonly answers = new Set<Http2Answer>();
  private readonly tenure: Tenure;
  private readonly givenUp = new Budget(...GIVEN_UP);
  private readonly control = new Budget(...CONTROL);
  /** When the last request ended. Milliseconds since the epoch. */
  private idleSince = Date.now();
  /** When nothing more was accepted and nothing was under way any more; 0 before. */
  private endedAt = 0;
  /** Bytes written when an answer was given up; null when none was since the last look. */
  private writtenAtReset: number | null = null;
  /** Since when a sign of life is waited for; 0 when none is. Milliseconds since the epoch. */
  private askedAt = 0;
  /** Streams that never became requests. */
  private unread = 0;

  constructor(
    private readonly entrance: Entrance,
    readonly admitted: Admitted,
  ) {
    this.tenure = new Tenure(entrance.parts, admitted.connection, admitted.handshakeTerms);
  }

  start(): void {
    const { socket, connection } = this.admitted;
    if (socket.destroyed) return;
    // Before the session's own listener, which forgets the numbers.
    socket.once('close', () => this.reportUnread());
    const session = performServerHandshake(socket, sessionOptions(this.entrance.parts.limits));
    this.session = session;
    session.on('error', (error: Error & { code?: string }) => this.onError(error));
    session.on('stream', (stream, _headers, _flags, ...rest) => {
      // The flat list, which the type declarations leave out.
      this.take(stream, (rest as unknown as [string[]])[0]);
    });
    session.on('ping', () => this.spend(this.control, 'PING and SETTINGS frames'));
    session.on('remoteSettings', () => this.spend(this.control, 'PING and SETTINGS frames'));
    session.once('close', () => letGo(session));
    // RFC 9113 §9.2
    if (/^TLSv1(\.1)?$/.test(connection.identity.tls.version)) this.breakOff(NGHTTP2_INADEQUATE_SECURITY);
  }

  private take(stream: ServerHttp2Stream, raw: readonly string[]): void {
    const request = new Http2Request(stream, raw);
    const answer = new Http2Answer(stream, () => this.control.refill());
    this.answers.add(answer);
    this.entrance.streams += 1;
    this.tenure.requests += 1;
    this.entrance.parts.proxy.pass(this.call(request, { stream, answer }), answer);
  }

  private call(request: Http2Request, on: { readonly stream: ServerHttp2Stream; readonly answer: Http2Answer }): Call {
    const { connection, source } = this.admitted;
    return {
      connection,
      standings: this.tenure.standings(),
      routing: this.tenure.routing,
      source,
      tenure: this.tenure,
      request,
      body: on.stream,
      refusal: this.tenure.refusal(this.entrance.closing) ?? request.problem ?? this.entrance.crowd(),
      isLast: () => this.isLast(),
      done: () => this.done(on.answer),
    };
  }

  /** Asked with each answer: GOAWAY is the `Connection: close` of HTTP/2. */
  private isLast(): boolean {
    const { tenure } = this;
    const isLast = this.entrance.draining || tenure.isSpent() || Date.now() > tenure.validUntil;
    if (isLast) this.retire();
    return isLast;
  }

  private done(answer: Http2Answer): void {
    this.answers.delete(answer);
    this.entrance.streams -= 1;
    this.idleSince = Date.now();
    if (answer.wasGivenUp) this.spend(this.givenUp, 'requests given up before their answers');
  }

  private spend(budget: Budget, what: string): void {
    const { session } = this;
    if (session === null || session.destroyed || budget.spend(Date.now())) return;
    this.report(`too many ${what}`);
    this.breakOff(NGHTTP2_ENHANCE_YOUR_CALM);
  }

  /** Callers that leave are no error; those that break the protocol, or one of Node's limits, are worth a line. */
  private onError({ code = '', message }: Error & { code?: string }): void {
    if (code.startsWith('ERR_HTTP2_') && code !== 'ERR_HTTP2_SESSION_ERROR') this.report(message);
  }

  private report(detail: string): void {
    this.warn('an HTTP/2 connection was ended', { detail });
  }

  private warn(message: string, fields: Readonly<Record<string, unknown>>): void {
    const { remoteAddress, remotePort, identity } = this.admitted.connection;
    const subject = identity.certificate?.subject ?? null;
    this.entrance.parts.observer.warn(message, { ...fields, peer: `${remoteAddress}:${remotePort}`, subject });
  }

  /**
   * What is malformed by RFC 9113 §8.1.1 Node's parser resets without a word. Streams are numbered in order (§5.1.1), so the last number
   * says how many began; a caller that skips numbers, which it may, is told of as well. Not asked between two streams of one packet, nor after GOAWAY, behind which streams are refused.
   */
  private reportUnread(): void {
    const { session } = this;
    if (session === null || session.closed || session.destroyed) return;
    const begun = ((session.state.lastProcStreamID ?? 0) + 1) >> 1;
    const streams = begun - this.tenure.requests - this.unread;
    if (streams <= 0) return;
    this.unread += streams;
    this.warn('streams of an HTTP/2 connection were reset unread', { streams });
  }

  /** Ends the connection and all that is under way on it. Without an error of its own Node would say NO_ERROR, whatever the code. */
  private breakOff(code: number): void {
    this.session?.destroy(new Error('ended by us'), code);
  }

  /** GOAWAY with the last request that was taken: a caller may send what came behind it again, elsewhere. */
  retire(): void {
    this.session?.close();
  }

  reconsider(judgement: Judgement): void {
    this.tenure.reconsider(judgement);
    if (judgement.change === null) this.retire();
    else if (this.answers.size > 0) this.breakOff(NGHTTP2_CANCEL);
  }

  /** No Upgrade comes over HTTP/2. */
  judgeTunnel(): void {}

  endIfIdle(): void {
    if (this.answers.size === 0) this.retire();
  }

  /** Always to be looked at: Node keeps no deadlines for it. */
  checkProgress(now: number): true {
    const { bodyIdleTimeout } = this.entrance.parts.limits;
    this.reportUnread();
    this.endIfFull();
    for (const answer of [...this.answers]) {
      if (isPast(answer.stalled(now), now, bodyIdleTimeout)) this.giveUp(answer, now);
    }
    if (isPast(this.askedAt, now, bodyIdleTimeout)) this.admitted.socket.destroy();
    if (this.answers.size === 0) this.checkIdle(now);
    return true;
  }

  private giveUp(answer: Http2Answer, now: number): void {
    this.writtenAtReset ??= this.admitted.socket.bytesWritten;
    answer.giveUp();
    this.askForLife(now);
  }

  /**
   * A caller may leave just when its answers are given up. After a write that has failed Node 20 goes on to write, takes that one
   * for still under way, and reads nothing meanwhile: it would never hear of the end. Whoever is there answers a PING.
   */
  private askForLife(now: number): void {
    const { session } = this;
    if (this.askedAt !== 0 || session === null || session.destroyed) return;
    this.askedAt = now;
    session.ping(() => (this.askedAt = 0));
  }

  /** With a full connection a reset does not get out, either. One that did leaves the other requests alone, silent or not. */
  private endIfFull(): void {
    const { socket } = this.admitted;
    if (this.writtenAtReset === socket.bytesWritten) socket.destroy();
    this.writtenAtReset = null;
  }

  private checkIdle(now: number): void {
    const { headTimeout, keepAliveTimeout } = this.entrance.parts.limits;
    const patience = this.tenure.requests === 0 ? headTimeout : keepAliveTimeout;
    if (now - this.idleSince >= patience) this.retire();
    if (this.session?.closed !== true && this.session?.destroyed !== true) return;
    this.endedAt ||= now;
    if (now - this.endedAt >= LINGER_MS) this.admitted.socket.destroy();
  }
}

/**
 * Node keeps a session until its caller has acknowledged our SETTINGS, unless nothing else leads to it. Our listeners lead to the
 * socket, and that may lead to Node's error, whose unread stack trace leads to the session again: a caller who breaks the
 * protocol before the acknowledgement would leave some 60 KiB behind, for good. `close` is the last that a session emits; should there
 * ever be an error behind it, nobody's listening would end the process.
 */
function letGo(session: ServerHttp2Session): void {
  session.removeAllListeners().on('error', () => undefined);
}

function isPast(since: number, now: number, timeout: number): boolean {
  return since !== 0 && now - since >= timeout;
}

function sessionOptions(limits: Config['limits']): Parameters<typeof performServerHandshake>[1] {
  return {
    maxHeaderListPairs: MAX_FIELDS,
    // Of frames that mean nothing, empty DATA frames among them (CVE-2019-9518), and of streams refused.
    maxSessionInvalidFrames: 100,
    maxSessionRejectedStreams: 100,
    settings: {
      enablePush: false,
      maxConcurrentStreams: limits.streams,
      maxHeaderListSize: limits.head + HEAD_SLACK,
    },
  };
}
