import { connect, type Socket } from 'node:net';
import type { Config } from '../config/config.js';
import { ProxyError } from '../errors.js';
import { connectOptions } from './address.js';
import type { AnswerHead } from './answer-head.js';
import { AnswerParser, type AnswerReader } from './answer-parser.js';
import { NEVER, type Clock } from './clock.js';
import { pieceOf } from './spare-buffers.js';

/** Whoever's request a connection carries at the moment. */
export interface ConnectionUser extends Omit<AnswerReader, 'data'> {
  /** As `AnswerSink.data`. */
  data(chunk: Buffer, done?: () => void): boolean;
  /** The request can be written: at once on an idle connection, later on a new one. */
  connected(socket: Socket): void;
  /** Whether all of the request is written. */
  readonly isSent: boolean;
  /** Whether the next piece of the request has to come from the caller. */
  readonly awaitsCaller: boolean;
  /** What was written has gone out. */
  drained(): void;
  /** The answer is over. The connection is back in the pool, or gone. */
  answered(trailers: readonly string[]): void;
  /** The connection is gone, and no more of the answer will come. */
  lost(error: Error): void;
}

/** What a connection needs of its pool. */
export interface ConnectionPool {
  readonly settings: Config['upstream'];
  readonly clock: Clock;
  opened(): void;
  /** It waits for another request. */
  idle(connection: UpstreamConnection): void;
  closed(connection: UpstreamConnection): void;
}

/**
 * What may wait to be written before more of a body is asked for. At Node's 16 KiB, each TLS record of a body would stop
 * and start the reading of its caller. Bytes.
 */
const WRITE_AHEAD = 131_072;

/** Bytes that are read at once. A page of it is touched when answers are small. */
const READ_SIZE = 65_536;

/**
 * A connection to the application: one request at a time. It is used again only when it is provably clean: the request was
 * sent whole, the answer was read to its end, nothing came behind it, and neither side wants to close. In any doubt it is
 * destroyed.
 */
export class UpstreamConnection implements AnswerReader {
  isConnected = false;
  /** Answers so far; above 0 the application may close it just as we use it. */
  served = 0;
  private readonly socket: Socket;
  private readonly parser = new AnswerParser();
  private user: ConnectionUser | null = null;
  private deadline: number;
  /** In words, what is late when the deadline passes. */
  private awaited = 'could not connect to the application in time';
  /** Of the answer under way. */
  private answerHead: AnswerHead | null = null;
  /** Bytes that the user had no room for yet. */
  private rest: Buffer | null = null;
  private paused = false;
  private isOpen = true;

  constructor(private readonly pool: ConnectionPool) {
    const { address, connectTimeout } = pool.settings;
    this.deadline = pool.clock.after(connectTimeout);
    // A buffer for good: a fresh one for each read costs more than copying the little that is kept of it.
    const buffer = Buffer.allocUnsafeSlow(READ_SIZE);
    const onread = { buffer, callback: (count: number) => this.onRead(buffer.subarray(0, count)) };
    const options = { noDelay: true, keepAlive: true, keepAliveInitialDelay: 60_000, onread };
    // An option of streams, which the declared type leaves out.
    const buffering = { writableHighWaterMark: WRITE_AHEAD };
    this.socket = connect({ ...connectOptions(address), ...options, ...buffering });
    this.socket.on('connect', () => this.onConnect());
    this.socket.on('drain', () => this.user?.drained());
    this.socket.on('end', () => this.onEnd());
    this.socket.on('error', (error) => this.destroy(error));
    this.socket.on('close', () => this.destroy(closedEarly()));
  }

  /** Whether any byte of the present answer has come. */
  get hasBegun(): boolean {
    return this.parser.hasBegun;
  }

  /** Carries one request. */
  serve(user: ConnectionUser, method: string): void {
    this.user = user;
    this.parser.expect(method, this);
    if (this.isConnected) user.connected(this.socket);
  }

  /** Begins to count how long the application takes for a head, or for more of its answer once that has begun. */
  awaitAnswer(): void {
    const { settings, clock } = this.pool;
    const begun = this.answerHead !== null;
    this.awaited = begun ? 'the application stopped sending' : 'the application sent no head in time';
    this.deadline = this.paused ? NEVER : clock.after(begun ? settings.idleTimeout : settings.headTimeout);
  }

  /** The caller is to send the next piece. Once the answer has begun, its pace counts all the same. */
  awaitCaller(): void {
    if (this.answerHead === null) this.deadline = NEVER;
    else this.awaitAnswer();
  }

  /** The user has room again. */
  resume(): void {
    if (!this.paused) return;
    this.paused = false;
    const { rest } = this;
    this.rest = null;
    this.awaitAnswer();
    if (rest === null || this.read(rest, false)) this.socket.resume();
  }

  /** Called by the pool when time has gone on. */
  checkDeadline(): void {
    if (!this.pool.clock.hasPassed(this.deadline)) return;
    this.destroy(new ProxyError('upstream_timeout', 'upstream', 'forward', this.awaited));
  }

  /** Gives it up; the user, if there is still one, hears why. */
  destroy(error: Error): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    const user = this.release();
    this.socket.destroy();
    this.pool.closed(this);
    user?.lost(error);
  }

  /** Gives it up; the user hears nothing more. */
  abandon(): void {
    this.user = null;
    this.destroy(closedEarly());
  }

  private release(): ConnectionUser | null {
    const { user } = this;
    this.user = null;
    this.answerHead = null;
    this.rest = null;
    this.paused = false;
    this.deadline = NEVER;
    this.parser.drop();
    return user;
  }

  private onConnect(): void {
    if (!this.isOpen) return;
    this.isConnected = true;
    this.pool.opened();
    this.user?.connected(this.socket);
  }

  /** @returns whether to read on */
  private onRead(chunk: Buffer): boolean {
    if (this.user !== null) return this.read(chunk, chunk.length < READ_SIZE);
    // Nobody asked. Kept, it would be taken for the beginning of the next answer.
    this.destroy(closedEarly());
    return false;
  }

  /**
   * @param isAll whether it is all that has come. What has come and is not read would be the answer to the next request,
   * which may be written before this returns.
   * @returns whether to read on
   */
  private read(chunk: Buffer, isAll: boolean): boolean {
    const { parser, user } = this;
    let count = 0;
    try {
      count = parser.read(chunk);
    } catch (error) {
      this.destroy(error as Error);
    }
    if (!this.isOpen || this.user !== user) return false;
    if (parser.isOver) return this.complete(isAll && count === chunk.length);
    this.paused = parser.isFull;
    if (this.paused && count < chunk.length) this.rest = Buffer.from(chunk.subarray(count));
    if (this.answerHead !== null) this.awaitAnswer();
    return !this.paused;
  }

  private onEnd(): void {
    if (this.user !== null && this.parser.finish()) this.complete(false);
    else this.destroy(closedEarly());
  }

  /**
   * @param clean whether nothing came behind the answer
   * @returns whether to read on
   */
  private complete(clean: boolean): boolean {
    const { answerHead: head, socket } = this;
    const { settings, clock } = this.pool;
    const { trailers } = this.parser;
    const isSent = this.user?.isSent === true && socket.writableLength === 0;
    const user = this.release();
    if (clean && isSent && head?.keepAlive === true) {
      this.served += 1;
      this.deadline = clock.after(Math.min(settings.keepAlive, head.keepAliveFor * 1000));
      this.pool.idle(this);
    } else this.destroy(closedEarly());
    user?.answered(trailers);
    return this.isOpen;
  }

  information(status: number, headers: readonly string[]): void {
    // The application has spoken, but the pace of a body that it waits for is the caller's.
    if (this.user?.awaitsCaller === true) this.awaitCaller();
    else this.awaitAnswer();
    this.user?.information(status, headers);
  }

  head(head: AnswerHead): void {
    this.answerHead = head;
    this.user?.head(head);
  }

  data(chunk: Buffer, from: number, to: number): boolean {
    if (this.user === null) return false;
    // The chunk is overwritten by the next read.
    const piece = pieceOf(chunk, from, to);
    return this.user.data(piece.chunk, piece.done);
  }
}

function closedEarly(): ProxyError {
  return new ProxyError('upstream_closed', 'upstream', 'forward', 'the application closed the connection');
}
