import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream, type Settings } from 'node:http2';
import { connect as connectTcp } from 'node:net';
import type { Config } from '../config/config.js';
import { ProxyError } from '../errors.js';
import { connectOptions } from './address.js';

/** Whoever has to know what becomes of a connection. */
export interface Http2ConnectionOwner {
  opened(): void;
  /** It may have room for a request that it had none for. */
  roomMade(): void;
  closed(connection: Http2Connection): void;
}

/** Requests of one connection at once, where the application permits more: past it another connection shares the work. */
export const MAX_STREAMS = 100;

/** Requests of one connection in all. RFC 9113 §5.1.1: its numbers run out, and then it would fail every request for good. */
export const MAX_REQUESTS = 1_000_000;

/**
 * Requests of one connection that were given up. Applications end one with too many as under an attack (CVE-2023-44487), Envoy after 500,
 * nghttp2 after 1,000 at once, and all that is under way on it with them; `MAX_STREAMS` may still follow on these.
 */
const MAX_CANCELLED = 300;

/** The head of an answer may be as long as in HTTP/1.1: applications set large cookies. Bytes, and fields. */
const MAX_ANSWER_HEAD = 65_536;
const MAX_ANSWER_FIELDS = 1_000;

/** One HTTP/2 connection to the application, without TLS and with prior knowledge (RFC 9113 §3.3). */
export class Http2Connection {
  readonly session: ClientHttp2Session;
  /** Whether the application has accepted it. */
  isConnected = false;
  /** Requests under way. */
  streams = 0;
  /** Requests so far. */
  private begun = 0;
  private cancelled = 0;
  /** Answers completed; above 0 the application may close it under our feet. */
  served = 0;
  /** What ended it, if anything did. */
  failure: (Error & { code?: string }) | null = null;
  /** Ends the wait for the connection, or for the next request. */
  private timer: NodeJS.Timeout;
  private most = MAX_STREAMS;
  private isSuspect = false;

  constructor(
    private readonly settings: Config['upstream'],
    private readonly owner: Http2ConnectionOwner,
  ) {
    const options = connectOptions(settings.address);
    this.session = connect('http://localhost', {
      createConnection: () => connectTcp({ ...options, noDelay: true }),
      maxHeaderListPairs: MAX_ANSWER_FIELDS,
      settings: { enablePush: false, maxHeaderListSize: MAX_ANSWER_HEAD },
    });
    this.timer = setTimeout(() => this.onConnectTimeout(), settings.connectTimeout);
    this.listen();
  }

  private listen(): void {
    const { session } = this;
    session.on('connect', () => this.onConnect());
    session.on('remoteSettings', ({ maxConcurrentStreams }: Settings) => {
      this.most = Math.min(MAX_STREAMS, maxConcurrentStreams ?? MAX_STREAMS);
      this.owner.roomMade();
    });
    session.on('error', (error: Error) => (this.failure ??= error));
    session.on('close', () => this.onClose());
  }

  /** Whether another request can begin on it at once. An application that is about to leave has said so (GOAWAY). */
  get hasRoom(): boolean {
    return this.isUsable && this.streams < this.most;
  }

  get isUsable(): boolean {
    return !this.isSpent && !this.isSuspect && !this.session.closed && !this.session.destroyed;
  }

  private get isSpent(): boolean {
    return this.begun >= MAX_REQUESTS || this.cancelled >= MAX_CANCELLED;
  }

  enter(): void {
    this.streams += 1;
    this.begun += 1;
    if (this.isConnected) clearTimeout(this.timer);
  }

  leave(): void {
    this.streams -= 1;
    if (this.streams === 0 && this.isConnected) this.awaitWork();
  }

  /** Resets a stream that is still open. */
  cancel(stream: ClientHttp2Stream): void {
    if (stream.closed) return;
    this.cancelled += 1;
    stream.close(constants.NGHTTP2_CANCEL);
  }

  /**
   * A request has had no answer in time. That may be the request's fault; a connection that does not even answer a PING takes
   * the others down sooner than their own deadlines would.
   */
  suspect(): void {
    if (this.isSuspect || this.session.destroyed || this.session.closed) return;
    this.isSuspect = true;
    const timer = setTimeout(() => this.session.destroy(unanswered()), this.settings.connectTimeout);
    const trust = (): void => {
      clearTimeout(timer);
      this.isSuspect = false;
      this.owner.roomMade();
    };
    this.session.once('close', () => clearTimeout(timer));
    this.session.ping(trust);
  }

  destroy(error: Error): void {
    this.failure ??= error;
    this.session.destroy(error, constants.NGHTTP2_CANCEL);
  }

  private onConnect(): void {
    clearTimeout(this.timer);
    this.isConnected = true;
    this.owner.opened();
    if (this.streams === 0) this.awaitWork();
  }

  private onConnectTimeout(): void {
    const message = 'could not connect to the application in time';
    this.destroy(new ProxyError('upstream_timeout', 'upstream', 'forward', message));
  }

  private awaitWork(): void {
    clearTimeout(this.timer);
    if (this.isSpent) return this.session.close();
    this.timer = setTimeout(() => this.session.close(), this.settings.keepAlive);
    this.timer.unref();
  }

  private onClose(): void {
    clearTimeout(this.timer);
    this.owner.closed(this);
  }
}

function unanswered(): ProxyError {
  return new ProxyError('upstream_timeout', 'upstream', 'forward', 'the application does not answer a PING');
}
