import { connect } from 'node:net';
import type { Permit } from '../admit/authorize.js';
import type { Config } from '../config/config.js';
import { ProxyError } from '../errors.js';
import { connectOptions } from './address.js';
import { Clock } from './clock.js';
import type { AnswerSink, Exchange, ForwardRequest, PoolNumbers } from './exchange.js';
import { FixedAnswers } from './fixed-answer.js';
import { Http1Exchange } from './http1-exchange.js';
import { Http2Exchange } from './http2-exchange.js';
import { Http2Pool, type Http2PoolUser } from './http2-pool.js';
import { StaticFiles } from './static-files.js';
import { UpstreamConnection, type ConnectionPool } from './upstream-connection.js';

/** How finely deadlines are kept, at most and at least. Milliseconds. */
const COARSEST_TICK = 500;
const FINEST_TICK = 10;

/** A request that may have to wait for its turn. */
interface Startable extends Exchange {
  start(): void;
}

/**
 * The application: a pool of keep-alive connections, at most `upstream.maxConnections`, the last used first; with
 * `upstream.http2` as few as have room, each shared by many requests.
 */
export class Upstream implements ConnectionPool, Http2PoolUser {
  readonly clock: Clock;
  private readonly unused: UpstreamConnection[] = [];
  private readonly connections = new Set<UpstreamConnection>();
  /** In the order of arrival, with the ticks at which their patience ends. */
  private readonly waiting = new Map<Startable, { readonly deadline: number; readonly sink: AnswerSink }>();
  private connected = 0;
  private busy = 0;
  private wasReached = false;
  /** In place of the pool when there is no program to ask. */
  private readonly own: StaticFiles | FixedAnswers | null;
  /** In place of the pool when the application speaks HTTP/2. */
  private readonly http2: Http2Pool | null;

  constructor(readonly settings: Config['upstream']) {
    const { address, index, http2 } = settings;
    if (address.kind === 'file') this.own = new StaticFiles(address.path, index);
    else this.own = address.kind === 'answer' ? new FixedAnswers(address.answer) : null;
    this.http2 = http2 ? new Http2Pool(settings, this) : null;
    this.clock = new Clock(tickFor(settings), () => this.checkDeadlines());
  }

  /** Whether the application has ever accepted a connection. Before that it is starting, not broken. */
  get reached(): boolean {
    return this.wasReached || this.own !== null;
  }

  /** Whether nothing is asked, since a route answers by itself. */
  get isAnswer(): boolean {
    return this.settings.address.kind === 'answer';
  }

  numbers(): PoolNumbers {
    const { open, busy } = this.http2 ?? { open: this.connected, busy: this.busy };
    return { open, busy, waiting: this.waiting.size };
  }

  /** Sends one admitted request. `sink` hears of it later, never before this returns. */
  send(permit: Permit, request: ForwardRequest, sink: AnswerSink): Exchange {
    if (this.own !== null) return this.own.send(permit, request, sink);
    const { http2 } = this;
    const exchange =
      http2 === null ? new Http1Exchange(this, request, sink) : new Http2Exchange(this, http2, request, sink);
    this.enter(exchange, sink);
    return exchange;
  }

  /** Starts it as soon as the pool has room; fails the sink when that takes longer than connecting may take. */
  private enter(exchange: Startable, sink: AnswerSink): void {
    if (this.hasRoom) {
      this.busy += 1;
      exchange.start();
      return;
    }
    this.waiting.set(exchange, { deadline: this.clock.after(this.settings.connectTimeout), sink });
    this.clock.start();
  }

  private get hasRoom(): boolean {
    return this.http2?.hasRoom ?? this.busy < this.settings.maxConnections;
  }

  /** Forgets an exchange that was given up before its turn. */
  withdraw(exchange: Startable): void {
    this.waiting.delete(exchange);
  }

  /** Ends the turn of an exchange that was started. */
  leave(): void {
    this.busy -= 1;
    this.startWaiting();
  }

  /** Ends the turn of an exchange that has to be sent again, and has it wait for another. */
  leaveAndEnter(exchange: Startable, sink: AnswerSink): void {
    this.busy -= 1;
    this.enter(exchange, sink);
  }

  startWaiting(): void {
    for (const exchange of this.waiting.keys()) {
      if (!this.hasRoom) return;
      this.waiting.delete(exchange);
      this.busy += 1;
      exchange.start();
    }
  }

  /** A connection that waits for work, or a new one. */
  take(): UpstreamConnection {
    return this.unused.pop() ?? this.open();
  }

  open(): UpstreamConnection {
    const connection = new UpstreamConnection(this);
    this.connections.add(connection);
    this.clock.start();
    return connection;
  }

  opened(): void {
    this.connected += 1;
    this.wasReached = true;
  }

  idle(connection: UpstreamConnection): void {
    this.unused.push(connection);
  }

  closed(connection: UpstreamConnection): void {
    this.connections.delete(connection);
    if (connection.isConnected) this.connected -= 1;
    const index = this.unused.lastIndexOf(connection);
    if (index !== -1) this.unused.splice(index, 1);
  }

  /** @returns whether there is anything to look for later */
  private checkDeadlines(): boolean {
    for (const connection of this.connections) connection.checkDeadline();
    for (const [exchange, { deadline, sink }] of this.waiting) {
      // The first to come is the first whose patience ends.
      if (!this.clock.hasPassed(deadline)) break;
      this.waiting.delete(exchange);
      sink.fail(new ProxyError('upstream_timeout', 'upstream', 'forward', 'no upstream connection became free'));
    }
    return this.connections.size > 0 || this.waiting.size > 0;
  }

  markReached(): void {
    this.wasReached = true;
  }

  /** Whether the application accepts connections right now. Sends nothing. */
  probe(): Promise<boolean> {
    if (this.own !== null) return this.own.probe();
    return new Promise((resolve) => {
      const socket = connect(connectOptions(this.settings.address));
      const finish = (answers: boolean): void => {
        socket.destroy();
        if (answers) this.wasReached = true;
        resolve(answers);
      };
      socket.setTimeout(this.settings.connectTimeout, () => finish(false));
      socket.once('connect', () => finish(true));
      socket.once('error', () => finish(false));
    });
  }

  /** Closes every connection, whatever is under way. */
  close(): void {
    this.clock.stop();
    const over = new ProxyError('draining', 'internal', 'forward', 'the sidecar ends');
    const waiting = [...this.waiting.values()];
    this.waiting.clear();
    for (const { sink } of waiting) sink.fail(over);
    for (const connection of [...this.connections]) connection.destroy(over);
    this.http2?.close(over);
  }
}

/** Fine enough for the shortest deadline. Milliseconds. */
function tickFor({ connectTimeout, headTimeout, idleTimeout, keepAlive }: Config['upstream']): number {
  const shortest = Math.min(connectTimeout, headTimeout, idleTimeout, keepAlive);
  return Math.min(COARSEST_TICK, Math.max(FINEST_TICK, shortest / 8));
}
