import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { TLSSocket } from 'node:tls';
import type { Duplex } from 'node:stream';
import type { Config } from '../config/config.js';
import type { RequestCode } from '../errors.js';
import type { Connection } from '../identify/peer-identity.js';
import type { Observer, RequestRecord } from '../observe/observer.js';
import type { Call, MayStay, Proxy, Underway } from '../proxy.js';
import type { ForwardedSource } from '../rewrite/forwarded-headers.js';
import type { Trust } from './admission.js';
import { Gate } from './gate.js';
import { endLingering } from './linger.js';
import { Http2Line } from './http2-line.js';
import { Recheck, type Judgement } from './recheck.js';
import { Tenure } from './tenure.js';

/** How a request that the parser could not read is answered: the bytes, made by `respond`. */
export type UnreadableAnswer = (code: RequestCode, requestId: string) => Buffer;

export interface EntranceParts {
  readonly limits: Config['limits'];
  readonly proxy: Proxy;
  readonly observer: Observer;
  /** What is in force now. */
  readonly trust: () => Trust;
  readonly unreadableAnswer: UnreadableAnswer;
  readonly newRequestId: () => string;
}

/** What the entrance keeps of an admitted connection. */
export interface Admitted {
  readonly socket: TLSSocket;
  readonly connection: Connection;
  readonly source: ForwardedSource;
  /** Whether trust changed during the handshake: the connection ends with its first answer. */
  readonly stale: boolean;
  /** What only its handshake was asked, as `Trust` has it. */
  readonly handshakeTerms: string;
}

/** One connection inside, whichever version of HTTP it speaks. */
export interface ConnectionLine {
  readonly admitted: Admitted;
  /** Begins to read. */
  start(): void;
  /** Asks the caller to open another connection for what it has not sent yet; nothing where only an answer can say so. */
  retire(): void;
  /** Takes over what is to be said of its caller today; when it would not be let in, what is under way is cut. */
  reconsider(judgement: Judgement): void;
  /**
   * Cuts a tunnel that would not be let in by the settings in force.
   * @param now milliseconds since the epoch
   */
  judgeTunnel(now: number): void;
  endIfIdle(): void;
  /**
   * Ends what has not moved for too long.
   * @param now milliseconds since the epoch
   * @returns false when there is nothing to look at before the line asks for it again
   */
  checkProgress(now: number): boolean;
}

const LINE = Symbol('line');
type LineSocket = TLSSocket & { [LINE]?: Line };

/** One function for all connections. */
function endAfterAnswer(this: LineSocket): void {
  this[LINE]?.endAfterAnswer();
}

/**
 * Head room of the parser above `limits.head`: what is a little too large is still read, so that it can be refused by
 * name (414 or 431) with its request line in the log. Bytes.
 */
const PARSER_SLACK = 32_768;

/** The HTTP side of admitted connections. Nothing else is ever given to this parser. */
export class Entrance {
  readonly server: Server;
  private readonly lines = new Set<ConnectionLine>();
  /** Those that may stop moving: thousands that are quiet need no look each second. */
  private readonly moving = new Set<ConnectionLine>();
  private readonly sweeper: NodeJS.Timeout;
  /** Set when callers are told to close. */
  draining = false;
  /** Set when what is not under way already is no longer forwarded. */
  closing = false;
  /** Requests of HTTP/2 under way. */
  streams = 0;

  constructor(readonly parts: EntranceParts) {
    this.server = createHttpServer(parts.limits);
    this.server.on('request', (request, response) => lineOf(request.socket)?.take(request, response));
    // The application answers Expect, not we.
    this.server.on('checkContinue', (request, response) => lineOf(request.socket)?.take(request, response));
    this.server.on('checkExpectation', (request, response) => lineOf(request.socket)?.take(request, response));
    this.server.on('upgrade', (request, socket, early) => lineOf(request.socket)?.takeUpgrade(request, socket, early));
    this.server.on('connect', (request, socket, early) => lineOf(request.socket)?.takeUpgrade(request, socket, early));
    this.server.on('clientError', (error, socket) => lineOf(socket)?.onUnreadable(error));
    const { bodyIdleTimeout } = parts.limits;
    this.sweeper = setInterval(() => this.sweep(), Math.min(1_000, Math.max(50, bodyIdleTimeout / 4)));
    this.sweeper.unref();
  }

  /** Connections inside. */
  get size(): number {
    return this.lines.size;
  }

  enter(admitted: Admitted): void {
    const { socket, connection } = admitted;
    const line = socket.alpnProtocol === 'h2' ? new Http2Line(this, admitted) : this.openLine(admitted);
    this.lines.add(line);
    this.parts.observer.connectionAdmitted(connection);
    socket.on('close', () => {
      this.lines.delete(line);
      this.moving.delete(line);
      this.parts.observer.connectionClosed(connection);
    });
    this.watch(line);
    if (admitted.stale) line.reconsider(this.recheck().ask(connection.identity));
    line.start();
  }

  private openLine(admitted: Admitted): Line {
    const line = new Line(this, admitted);
    const { socket } = admitted;
    (socket as LineSocket)[LINE] = line;
    // Called by Node after the last answer of a connection.
    socket.destroySoon = endAfterAnswer;
    return line;
  }

  /** Looks whether this line moves, until it says that it has come to rest. */
  watch(line: ConnectionLine): void {
    this.moving.add(line);
  }

  /** Tells callers to close, those of HTTP/1.1 with their next answer. */
  drain(): void {
    this.draining = true;
    for (const line of this.lines) line.retire();
  }

  /** Why one more request of HTTP/2 is too many, or null: as many may be under way as HTTP/1.1 could have, one a connection. */
  crowd(): Call['refusal'] {
    const { connections } = this.parts.limits;
    return this.streams <= connections ? null : { code: 'overloaded', detail: `${connections} requests are under way` };
  }

  /**
   * Bundle, CRLs or mode have changed: every connection ends with its next answer, so that its caller is verified anew;
   * those of callers that would not be let in today are not served any more.
   */
  reconsider(): void {
    const recheck = this.recheck();
    for (const line of this.lines) line.reconsider(recheck.ask(line.admitted.connection.identity));
  }

  private recheck(): Recheck {
    return new Recheck(this.parts.trust().policy, Date.now());
  }

  /** Settings may have changed: who holds a tunnel asks for nothing any more, and would never be judged by them. */
  judgeTunnels(): void {
    const now = Date.now();
    for (const line of this.lines) line.judgeTunnel(now);
  }

  /** Ends connections on which no request is under way. */
  closeIdle(): void {
    this.server.closeIdleConnections();
    for (const line of this.lines) line.endIfIdle();
  }

  /** Ends every connection at once. */
  closeAll(): void {
    for (const { admitted } of this.lines) admitted.socket.destroy();
  }

  /** Stops the timers. */
  close(): void {
    clearInterval(this.sweeper);
    this.server.close();
  }

  /** A caller who does not read its answer holds a connection to the application with it. */
  private sweep(): void {
    const now = Date.now();
    for (const line of this.moving) {
      if (!line.checkProgress(now)) this.moving.delete(line);
    }
  }
}

function createHttpServer(limits: Config['limits']): Server {
  const server = createServer({
    maxHeaderSize: limits.head + PARSER_SLACK,
    insecureHTTPParser: false,
    // Answered by `screen`, in our words and with a record.
    requireHostHeader: false,
    keepAliveTimeout: limits.keepAliveTimeout,
    headersTimeout: limits.headTimeout,
    // Bodies have an idle deadline instead: a large upload may take its time as long as it moves.
    requestTimeout: 0,
    connectionsCheckingInterval: Math.min(1_000, Math.max(50, limits.headTimeout / 4)),
  });
  server.timeout = 0;
  // Bounded by bytes. A bound by number would drop the rest silently, a Transfer-Encoding perhaps.
  server.maxHeadersCount = 0;
  // It never listens itself; this starts the watch over head deadlines and idle connections, as listening would.
  server.emit('listening');
  return server;
}

function lineOf(socket: Duplex): Line | undefined {
  return (socket as LineSocket)[LINE];
}

/** The requests of one connection, one at a time and in order. */
class Line implements ConnectionLine {
  private readonly waiting: [IncomingMessage, ServerResponse][] = [];
  /** Most callers never send a request before the last is answered. */
  private gate: Gate | null = null;
  private busy = false;
  private current: {
    readonly request: IncomingMessage;
    readonly response: ServerResponse;
    readonly underway: Underway;
  } | null = null;
  /** The present answer is the last; what follows is not read as a request. */
  private ended = false;
  /** An Upgrade that came right behind an answer. */
  private upgradeNext: (() => void) | null = null;
  /** Of its tunnel, once there is one. */
  private mayStay: MayStay | null = null;
  /** What follows the requests that wait is lost. */
  private overrun = false;
  private failure: { readonly code: RequestCode; readonly detail: string } | null = null;
  private readonly tenure: Tenure;
  private flushed = 0;
  private stalledSince = 0;
  /** The request served last, until the line has come to rest. */
  private last: IncomingMessage | null = null;

  constructor(
    private readonly entrance: Entrance,
    readonly admitted: Admitted,
  ) {
    this.tenure = new Tenure(entrance.parts, admitted.connection, admitted.handshakeTerms);
  }

  /**
   * Node hands over pipelined requests all at once. Forwarded at once they would reach the application in any order
   * (measured), so they wait; and while they wait, no more are parsed.
   */
  take(request: IncomingMessage, response: ServerResponse): void {
    if (this.isOver()) return;
    if (!this.busy) return this.serve(request, response);
    this.waiting.push([request, response]);
    // One alone is nearly always that of a caller who has read its answer before Node has told us that it is written.
    if (this.waiting.length > 1 || !this.isWritten()) this.closeGate();
  }

  private closeGate(): void {
    this.gate ??= new Gate(this.admitted.socket);
    this.gate.close();
  }

  /** Whether the present answer is complete and only waits for Node to say so. */
  private isWritten(): boolean {
    return this.current?.response.writableEnded === true;
  }

  private serve(request: IncomingMessage, response: ServerResponse): void {
    this.begin(request);
    this.tenure.requests += 1;
    const underway = this.entrance.parts.proxy.pass(this.call(request), response);
    // A refusal may be over already.
    if (this.busy) this.current = { request, response, underway };
  }

  private begin(request: IncomingMessage): void {
    this.busy = true;
    this.last = request;
    this.entrance.watch(this);
  }

  takeUpgrade(request: IncomingMessage, socket: Duplex, early: Buffer): void {
    // From here on Node's parser is gone, so an Upgrade behind an unanswered request has nobody to wait for it.
    if (this.busy && this.waiting.length === 0 && this.isWritten()) {
      this.upgradeNext = () => this.takeUpgrade(request, socket, early);
      return;
    }
    if (this.busy || this.isOver()) return this.outliveParser();
    this.begin(request);
    this.ended = true;
    this.tenure.requests += 1;
    this.mayStay = this.entrance.parts.proxy.passUpgrade(this.call(request), socket, early);
    // Refused at once. What it sent besides would make the kernel send a reset after our answer.
    if (socket.writableEnded) endLingering(socket);
  }

  start(): void {
    this.entrance.server.emit('connection', this.admitted.socket);
  }

  /** Its next answer says so. */
  retire(): void {}

  /** Node counts a connection that has sent nothing as busy with its first request. */
  endIfIdle(): void {
    if (this.admitted.socket.bytesRead === 0) this.admitted.socket.end();
  }

  /** An answer that came before the end of its request must not be lost in the reset that unread bytes bring about. */
  endAfterAnswer(): void {
    const { socket } = this.admitted;
    const request = this.current?.request;
    if (request === undefined || request.complete) return TLSSocket.prototype.destroySoon.call(socket);
    endLingering(socket);
    request.resume();
  }

  /** With the parser went its listeners, by which the present answer went on and its caller's end was noticed. */
  private outliveParser(): void {
    const { socket } = this.admitted;
    this.failure ??= { code: 'bad_request', detail: 'an Upgrade behind an unanswered request' };
    socket.on('drain', () => this.current?.response.emit('drain'));
    this.gate?.discard();
    socket.resume();
  }

  private call(request: IncomingMessage): Call {
    const { connection, source } = this.admitted;
    return {
      connection,
      standings: this.tenure.standings(),
      routing: this.tenure.routing,
      source,
      request,
      body: request,
      tenure: this.tenure,
      refusal: this.tenure.refusal(this.entrance.closing),
      isLast: () => this.isLast(),
      done: () => this.done(),
    };
  }

  /** What is cut may be a tunnel; an idle connection stays, so that its next request is told why. */
  reconsider(judgement: Judgement): void {
    this.tenure.reconsider(judgement);
    if (judgement.change !== null && this.busy) this.admitted.socket.destroy();
  }

  judgeTunnel(now: number): void {
    const { tenure, mayStay } = this;
    if (mayStay === null) return;
    // Of whom nobody can say any more that it is verified, the same is asked as of one whose certificate has ended.
    const hasEnded = tenure.isOutdated || now > tenure.validUntil;
    const today = { standings: tenure.standings(), routing: tenure.routing, hasEnded };
    if (!mayStay(today)) this.admitted.socket.destroy();
  }

  private isLast(): boolean {
    if (this.entrance.draining || this.tenure.isSpent()) this.ended = true;
    if (this.overrun && this.waiting.length === 0) this.ended = true;
    return this.ended;
  }

  private done(): void {
    this.busy = false;
    this.current = null;
    if (this.isOver()) return;
    if (this.upgradeNext !== null) return this.upgradeNext();
    const next = this.waiting.shift();
    // No earlier than needed: an Upgrade must not be parsed before its turn.
    if (next?.[0].complete !== true) this.gate?.open();
    if (next !== undefined) this.serve(...next);
    else if (this.overrun) this.end();
    else if (this.failure !== null) this.answerUnreadable(this.failure.code, this.failure.detail);
  }

  /**
   * Whether no further request may be served. Node has ended the socket already when an answer said `close`, a refusal
   * above all: what stands behind a request that cannot be trusted must not be taken for one.
   */
  private isOver(): boolean {
    if (!this.admitted.socket.writable) this.ended = true;
    if (this.ended) this.waiting.length = 0;
    return this.ended;
  }

  /** The parser gave up on this connection, or its deadline for a head has passed. */
  onUnreadable(error: Error & UnreadableError): void {
    const { socket } = this.admitted;
    if (this.ended && !this.busy) return;
    // A connection that was opened for later and not used asked nothing, so there is nothing to answer or to log.
    const code = socket.bytesRead === 0 ? null : unreadableCode(error);
    // The caller went away, or sends on after its last request: nobody to answer.
    if (code === null || !socket.writable) {
      if (code === null && error.code !== 'HPE_CLOSED_CONNECTION') socket.destroy();
      return;
    }
    const detail = error.reason ?? error.message;
    if (this.busy) this.failLater(code, detail);
    else this.answerUnreadable(code, detail);
  }

  private failLater(code: RequestCode, detail: string): void {
    // A head is late because we keep the rest of it.
    if (code === 'request_timeout' && this.gate?.isClosed === true) return this.loseTheRest(this.gate);
    // Either the body of the present request is broken, or the request behind it.
    if (this.current !== null && !this.current.request.complete) return this.current.underway.breakOff(code, detail);
    this.forgetUnfinished();
    this.failure ??= { code, detail };
  }

  /** A request whose rest will never be parsed must not get its turn: the application would wait for its body. */
  private forgetUnfinished(): void {
    if (this.waiting.at(-1)?.[0].complete === false) this.waiting.pop();
  }

  private answerUnreadable(code: RequestCode, detail: string): void {
    if (this.isOver()) return;
    this.ended = true;
    this.failure = null;
    this.entrance.watch(this);
    const { newRequestId, unreadableAnswer, observer } = this.entrance.parts;
    const requestId = newRequestId();
    const answer = unreadableAnswer(code, requestId);
    endLingering(this.admitted.socket, answer);
    observer.requestFinished(unreadableRecord(this.admitted.connection, { code, detail, requestId, answer }));
  }

  /**
   * Of what was sent ahead the requests that were read whole are still answered. The rest is lost, as its caller has to
   * expect (RFC 9112 §9.3.2): it is too much to keep, and unread it would hide that the caller has left.
   */
  private loseTheRest(gate: Gate): void {
    this.overrun = true;
    gate.discard();
    this.forgetUnfinished();
  }

  /** After an answer that did not say that it was the last. */
  private end(): void {
    this.ended = true;
    endLingering(this.admitted.socket);
  }

  checkProgress(now: number): boolean {
    const { socket } = this.admitted;
    if (this.gate?.isStuck(now) === true) this.loseTheRest(this.gate);
    if (!this.busy && !this.ended && socket.writableLength === 0) return this.rest();
    if (now > this.tenure.validUntil) this.judgeTunnel(now);
    const flushed = socket.bytesWritten - socket.writableLength;
    if (socket.writableLength === 0 || flushed !== this.flushed || this.stalledSince === 0) {
      this.flushed = flushed;
      this.stalledSince = now;
    } else if (now - this.stalledSince >= this.entrance.parts.limits.bodyIdleTimeout) socket.destroy();
    return true;
  }

  /** A body that was taken whole leaves its request without an end, and Node's parser keeps it until the next one comes. */
  private rest(): false {
    this.last?.resume();
    this.last = null;
    this.stalledSince = 0;
    return false;
  }
}

interface UnreadableError {
  readonly code?: string;
  /** llhttp's words. */
  readonly reason?: string;
  readonly rawPacket?: Buffer;
  readonly bytesParsed?: number;
}

function unreadableCode(error: UnreadableError): RequestCode | null {
  const { code = '' } = error;
  if (code === 'ERR_HTTP_REQUEST_TIMEOUT') return 'request_timeout';
  if (code === 'HPE_HEADER_OVERFLOW') return isTarget(error) ? 'uri_too_long' : 'headers_too_large';
  if (code === 'HPE_CLOSED_CONNECTION' || code === 'HPE_INVALID_EOF_STATE') return null;
  return code.startsWith('HPE_') || code === 'ERR_HTTP_CONTENT_LENGTH_MISMATCH' ? 'bad_request' : null;
}

/**
 * Whether the parser was still in the request line. It does not say, and a later packet of a target looks like one of a
 * cookie, so only a packet that begins with the method counts; the slack lets most others come as far as `screen`.
 */
function isTarget({ rawPacket, bytesParsed }: UnreadableError): boolean {
  return /^[A-Z-]+ [!-~]*$/.test(rawPacket?.subarray(0, bytesParsed).toString('latin1') ?? '');
}

function unreadableRecord(
  connection: Connection,
  facts: { readonly code: RequestCode; readonly detail: string; readonly requestId: string; readonly answer: Buffer },
): RequestRecord {
  return {
    connection,
    requestId: facts.requestId,
    method: '',
    target: '',
    httpVersion: '',
    host: null,
    route: null,
    referer: null,
    userAgent: null,
    rawHeaders: [],
    status: Number(facts.answer.toString('latin1', 9, 12)),
    code: facts.code,
    detail: facts.detail,
    outcome: 'refused',
    bytesIn: 0,
    bytesOut: 0,
    startedAt: Date.now(),
    durationMs: 0,
    upstreamMs: null,
    upgraded: false,
  };
}
