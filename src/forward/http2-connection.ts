import { connect, constants, type ClientHttp2Session, type ClientHttp2Stream, type Settings } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
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

/** How long the application may take to close its side after we have closed ours. Milliseconds. */
const LINGER_MS = 2_000;

/** One HTTP/2 connection to the application, without TLS and with prior knowledge (RFC 9113 §3.3). */
export class Http2Connection {
  readonly session: ClientHttp2Session;
  private readonly socket: Socket;
  /** Whether the application has accepted it. */
  isConnected = false;
  /** Requests under way. */
  streams = 0;
  /** Requests so far. */
  private begun = 0;
  private cancelled = 0;
  private readonly carried = new Set<ClientHttp2Stream>();
  /** Requests given up whose streams are not closed yet. */
  private unclosed = 0;
  /** Answers completed; above 0 the application may close it under our feet. */
  served = 0;
  /** What ended it, if anything did. */
  failure: (Error & { code?: string }) | null = null;
  /** Ends the wait for the connection, for the next request, or for the end. */
  private timer: NodeJS.Timeout;
  /** Ends the wait for a sign of life; null when none is waited for. */
  private proof: NodeJS.Timeout | null = null;
  /** Looks whether the streams of requests given up are closed; null when there are none. */
  private look: NodeJS.Timeout | null = null;
  private most = MAX_STREAMS;

  constructor(
    private readonly settings: Config['upstream'],
    private readonly owner: Http2ConnectionOwner,
  ) {
    this.socket = connectTcp({ ...connectOptions(settings.address), noDelay: true });
    this.session = connect('http://localhost', {
      createConnection: () => this.socket,
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
    session.on('goaway', () => {
      if (this.streams === 0) this.retire();
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

  /** Whether it will be gone in a moment, or has to show that it will not. */
  get isDoubtful(): boolean {
    return this.isSuspect || this.session.destroyed;
  }

  /** Whether it owes us a sign of life. */
  private get isSuspect(): boolean {
    return this.proof !== null;
  }

  private get isSpent(): boolean {
    return this.begun >= MAX_REQUESTS || this.cancelled >= MAX_CANCELLED;
  }

  enter(): void {
    this.streams += 1;
    this.begun += 1;
    if (this.isConnected) clearTimeout(this.timer);
  }

  carry(stream: ClientHttp2Stream): void {
    this.carried.add(stream);
    stream.once('close', () => this.carried.delete(stream));
  }

  leave(): void {
    this.streams -= 1;
    if (this.streams === 0 && this.isConnected) this.awaitWork();
  }

  /** Resets a stream that is still open. One that is closed already, with an answer that nobody took, would wait for its reader. */
  cancel(stream: ClientHttp2Stream): void {
    if (stream.closed) return void stream.destroy();
    this.cancelled += 1;
    this.unclosed += 1;
    stream.once('close', () => (this.unclosed -= 1));
    stream.close(constants.NGHTTP2_CANCEL);
    this.lookAfterResets();
  }

  /**
   * After some errors of the application's nghttp2 says GOAWAY, and no more is read or written; Node 20 is not told, and a stream that
   * is reset then never closes. Neither does one, for a while, that waits in nghttp2's queue: so this is no proof yet.
   */
  private lookAfterResets(): void {
    this.look ??= setTimeout(() => {
      this.look = null;
      if (this.unclosed === 0) return;
      this.suspect();
      this.lookAfterResets();
    }, this.settings.connectTimeout);
  }

  /**
   * A request has had no answer in time, or could not be sent. That may be the request's fault; a connection that does not even answer
   * a PING takes the others down sooner than their own deadlines would.
   */
  suspect(): void {
    if (this.isSuspect || !this.isConnected || this.session.destroyed) return;
    this.proof = setTimeout(() => this.giveUp(unanswered()), this.settings.connectTimeout);
    this.askForLife(() => {
      this.trust();
      this.owner.roomMade();
    });
  }

  /** Behind a GOAWAY Node sends no PING; SETTINGS, which have to be acknowledged as well, it does. */
  private askForLife(answered: () => void): void {
    if (this.session.closed) this.session.settings({ enablePush: false }, answered);
    else this.session.ping(answered);
  }

  private trust(): void {
    if (this.proof !== null) clearTimeout(this.proof);
    this.proof = null;
  }

  /** Stream by stream first: a session that is destroyed with one in the middle of a head may end the process (Node 20, `current_nghttp2_memory_`). */
  destroy(error: Error): void {
    this.failure ??= error;
    for (const stream of this.carried) stream.close(constants.NGHTTP2_CANCEL);
    this.session.destroy(error, constants.NGHTTP2_CANCEL);
    this.linger();
  }

  /** At once: nobody is there to be told. */
  private giveUp(error: Error): void {
    this.destroy(error);
    this.socket.destroy();
  }

  private onConnect(): void {
    clearTimeout(this.timer);
    this.isConnected = true;
    this.owner.opened();
    if (this.streams === 0) this.awaitWork();
  }

  private onConnectTimeout(): void {
    const message = 'could not connect to the application in time';
    this.giveUp(new ProxyError('upstream_timeout', 'upstream', 'forward', message));
  }

  private awaitWork(): void {
    clearTimeout(this.timer);
    if (this.isSpent || this.session.closed || this.session.destroyed) return this.retire();
    this.timer = setTimeout(() => this.retire(), this.settings.keepAlive);
    this.timer.unref();
  }

  /** To be called when nothing is under way any more. */
  private retire(): void {
    this.session.close();
    this.linger();
  }

  /** Node leaves it to the application to close a connection that has ended, and cannot end one that takes no more bytes. */
  private linger(): void {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.cutOff(), LINGER_MS);
    this.timer.unref();
  }

  private cutOff(): void {
    this.session.destroy();
    this.socket.destroy();
  }

  private onClose(): void {
    clearTimeout(this.timer);
    if (this.look !== null) clearTimeout(this.look);
    this.trust();
    letGo(this.session);
    this.owner.closed(this);
  }
}

/**
 * Node keeps a session until the application has acknowledged our SETTINGS, unless nothing else leads to it. Our listeners lead to
 * `failure`, whose unread stack trace leads to the session again. `close` is the last that a session emits; should there ever be an error
 * behind it, nobody's listening would end the process.
 */
function letGo(session: ClientHttp2Session): void {
  session.removeAllListeners().on('error', () => undefined);
}

function unanswered(): ProxyError {
  return new ProxyError('upstream_timeout', 'upstream', 'forward', 'the application does not answer a PING');
}
