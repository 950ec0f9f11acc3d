import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import type { AnswerHead } from './answer-head.js';
import { BodySender, type BodyEvents } from './body-sender.js';
import type { AnswerSink, Exchange, ForwardRequest } from './exchange.js';
import { isIdempotent } from './idempotent.js';
import { requestHead } from './request-head.js';
import type { ConnectionUser, UpstreamConnection } from './upstream-connection.js';
import { isConnectionClosed, upstreamError } from './upstream-errors.js';
import type { Upstream } from './upstream.js';

/** Up to this size head and body are one text and one write. Bytes. */
const SMALL_BODY = 16_384;

/** One request over a connection of the pool. */
export class Http1Exchange implements Exchange, ConnectionUser, BodyEvents {
  private connection: UpstreamConnection | null = null;
  private sender: BodySender | null = null;
  private wasWritten = false;
  private retried = false;
  private finished = false;

  constructor(
    private readonly upstream: Upstream,
    private readonly request: ForwardRequest,
    private readonly sink: AnswerSink,
  ) {}

  /** Called once, when the pool has room. */
  start(): void {
    this.use(this.upstream.take());
  }

  private use(connection: UpstreamConnection): void {
    this.connection = connection;
    connection.serve(this, this.request.method);
  }

  resume(): void {
    this.connection?.resume();
  }

  abort(): void {
    if (this.finished) return;
    this.finished = true;
    this.sender?.stop();
    const { connection } = this;
    if (connection === null) return this.upstream.withdraw(this);
    this.connection = null;
    connection.abandon();
    this.upstream.leave();
  }

  get isSent(): boolean {
    return this.wasWritten && (this.sender === null || this.sender.done);
  }

  get awaitsCaller(): boolean {
    return this.sender?.awaitsCaller === true;
  }

  connected(socket: Socket): void {
    try {
      this.write(socket, requestHead(this.request));
    } catch (error) {
      // The sink must not hear of it before `send` has returned.
      process.nextTick(() => this.connection?.destroy(error as Error));
    }
  }

  private write(socket: Socket, head: string): void {
    const { body, expectsContinue } = this.request;
    this.wasWritten = true;
    if (body instanceof Readable) {
      socket.write(head, 'latin1');
      this.sender = new BodySender(socket, this.request, body, this);
      this.sender.start();
      // A caller that asked first waits for the application's word, as we do.
      if (!expectsContinue) return this.connection?.awaitCaller();
    } else if (body === null) socket.write(head, 'latin1');
    else if (body.length <= SMALL_BODY) socket.write(head + body.toString('latin1'), 'latin1');
    else {
      socket.cork();
      socket.write(head, 'latin1');
      socket.write(body);
      socket.uncork();
    }
    this.connection?.awaitAnswer();
  }

  drained(): void {
    this.sender?.goOn();
  }

  bodyMoved(waits: boolean): void {
    if (waits) this.connection?.awaitCaller();
    else this.connection?.awaitAnswer();
  }

  bodyFailed(error: Error): void {
    this.connection?.destroy(error);
  }

  information(status: number, headers: readonly string[]): void {
    this.sink.information(status, headers);
  }

  head({ status, reason, headers }: AnswerHead): void {
    this.sink.head(status, reason, headers);
  }

  data(chunk: Buffer, done?: () => void): boolean {
    return this.sink.data(chunk, done);
  }

  answered(trailers: readonly string[]): void {
    this.finish();
    this.sink.end(trailers);
  }

  lost(error: Error): void {
    const { connection } = this;
    if (connection !== null && this.mayRetry(connection, error)) {
      this.retried = true;
      return this.use(this.upstream.open());
    }
    this.finish();
    this.sink.fail(upstreamError(error, { connected: connection?.isConnected === true }));
  }

  /**
   * A kept-alive connection may be closed by the application in the moment in which we use it. Only then, only before
   * any byte of an answer, and only when sending twice is the same as sending once, it is sent again, once, over a new one.
   */
  private mayRetry(connection: UpstreamConnection, cause: Error): boolean {
    if (this.retried || connection.hasBegun || connection.served === 0) return false;
    return this.request.body === null && isIdempotent(this.request.method) && isConnectionClosed(cause);
  }

  private finish(): void {
    this.finished = true;
    this.connection = null;
    this.sender?.stop();
    this.upstream.leave();
  }
}
