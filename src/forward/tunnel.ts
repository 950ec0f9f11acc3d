import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { Transform, type Duplex } from 'node:stream';
import httpProxy from 'http-proxy';
import type { Permit } from '../admit/authorize.js';
import type { Config } from '../config/config.js';
import { ProxyError } from '../errors.js';
import { headText } from '../rewrite/flat-headers.js';
import { isProgram, networkAddress } from './address.js';
import { EarlyBytes, MAX_EARLY } from './early-bytes.js';
import { upstreamError } from './upstream-errors.js';

/** An admitted Upgrade request. */
export interface TunnelRequest {
  readonly method: string;
  /** Origin form. */
  readonly target: string;
  /** Value of the Upgrade header. */
  readonly protocol: string;
  /** Flat list, Host included, without `Connection` and `Upgrade`. */
  readonly headers: readonly string[];
}

export interface TunnelEnds {
  readonly request: TunnelRequest;
  readonly socket: Duplex;
  /** What the caller sent right behind the head. */
  readonly early: Buffer;
}

/** What becomes of a tunnel. After `closed` nothing follows. */
export interface TunnelObserver {
  /** The head of the application's answer; the returned flat list goes to the caller in place of `headers`. */
  tunnelAnswered(status: number, headers: readonly string[]): string[];
  /**
   * The application could not be asked, gave no answer, or broke off after its head.
   * @returns the whole answer to send instead, if none has begun
   */
  tunnelFailed(error: ProxyError): string | Buffer;
  tunnelClosed(bytes: { readonly received: number; readonly sent: number }): void;
}

/**
 * Upgrade (RFC 9110 §7.8): WebSocket and any other protocol. http-proxy's `ws()` moves the bytes. Around it stand what
 * it lacks: it lets a failed caller's request to the application live on, ends the process on a socket error before the
 * 101, does not read before it, has no deadlines, serves WebSocket alone, folds slashes in the path, cuts off what is not
 * yet written when the application ends, and frames a refused upgrade wrongly.
 */
export class Tunnel {
  private readonly live = new Set<Duplex>();

  constructor(
    private readonly upstream: Config['upstream'],
    private readonly idleTimeout: number,
  ) {}

  /** Tunnels under way. */
  get count(): number {
    return this.live.size;
  }

  /** Ends every tunnel, for the end of a drain. */
  closeAll(): void {
    for (const socket of this.live) socket.destroy();
  }

  open(_permit: Permit, ends: TunnelEnds, observer: TunnelObserver): void {
    this.live.add(ends.socket);
    ends.socket.once('close', () => this.live.delete(ends.socket));
    new TunnelAttempt(ends, observer, { upstream: this.upstream, idleTimeout: this.idleTimeout }).start();
  }
}

interface TunnelSettings {
  readonly upstream: Config['upstream'];
  readonly idleTimeout: number;
}

/** How long a caller may take to end its side after the application has ended. Milliseconds. */
const LINGER_MS = 2_000;

/** How long we look for the end of a caller behind all that it sent, before it is told that this was too much. Milliseconds. */
const LOOK_MS = 250;

const NOTHING = Buffer.alloc(0);

class TunnelAttempt {
  private outgoing: ClientRequest | null = null;
  private upstreamSocket: Socket | null = null;
  private timer: NodeJS.Timeout | null = null;
  private early: EarlyBytes | null = null;
  private connected = false;
  private answered = false;
  private timedOut = false;
  /** Bytes of the two heads, which are no part of the tunnel. */
  private heads = { written: 0, read: 0 };
  /** Bytes of the body of an answer other than 101. */
  private refusalBytes = 0;

  constructor(
    private readonly ends: TunnelEnds,
    private readonly observer: TunnelObserver,
    private readonly settings: TunnelSettings,
  ) {}

  start(): void {
    const { socket, request, early } = this.ends;
    // A caller that goes away is no error, but without a listener it would end the process.
    socket.on('error', () => socket.destroy());
    socket.once('close', () => this.onCallerGone());
    // Header bytes are not text; http-proxy writes them as a string.
    socket.setDefaultEncoding('latin1');
    if (carriesRequests(request.protocol)) return this.refuse(anotherHttp(request.protocol));
    if (!isProgram(this.settings.upstream.address)) return this.refuse(noTunnelHere());
    if (this.settings.upstream.http2) return this.refuse(noTunnelToHttp2());
    const proxy = createForwarder(this.settings.upstream);
    proxy.on('proxyReqWs', (outgoing) => this.onOutgoing(outgoing));
    proxy.on('open', (upstreamSocket) => this.onOpen(upstreamSocket));
    const incoming = { method: request.method, url: request.target, headers: headerObject(request) } as IncomingMessage;
    proxy.ws(incoming, socket, NOTHING, {}, (error) => this.onError(error));
    this.early = new EarlyBytes(socket, early, () => this.onStuck());
    socket.once('end', () => this.onCallerEnded());
    // http-proxy would write the head of a chunked answer over its unchunked body.
    this.outgoing?.removeAllListeners('response').on('response', (response) => this.onRefused(response));
  }

  private onOutgoing(outgoing: ClientRequest): void {
    this.outgoing = outgoing;
    // http-proxy joins and folds the path; what was judged is what must be asked for.
    outgoing.path = this.ends.request.target;
    const { connectTimeout } = this.settings.upstream;
    this.startTimer(outgoing, connectTimeout, 'could not connect to the application in time');
    outgoing.on('socket', (socket) => socket.once('connect', () => this.onConnected(outgoing)));
    // Before http-proxy's own listener, which is added after this event.
    outgoing.on('upgrade', (response, upstreamSocket, early) => {
      this.heads = { written: upstreamSocket.bytesWritten, read: upstreamSocket.bytesRead - early.length };
      this.onUpgraded(response);
    });
  }

  private onConnected(outgoing: ClientRequest): void {
    this.connected = true;
    const { headTimeout } = this.settings.upstream;
    this.startTimer(outgoing, headTimeout, 'the application did not answer the Upgrade in time');
  }

  private startTimer(outgoing: ClientRequest, milliseconds: number, message: string): void {
    this.stopTimer();
    this.timer = setTimeout(() => {
      this.timedOut = true;
      outgoing.destroy(new Error(message));
    }, milliseconds);
  }

  private onUpgraded(response: IncomingMessage): void {
    this.stopTimer();
    this.answered = true;
    this.early?.giveBack();
    const kept = this.observer.tunnelAnswered(101, response.rawHeaders);
    response.headers = { ...objectOf(kept), connection: 'Upgrade', upgrade: response.headers.upgrade ?? '' };
  }

  private onOpen(upstreamSocket: Socket): void {
    this.upstreamSocket = upstreamSocket;
    const { socket } = this.ends;
    // Its last bytes may still be on their way to a slow caller.
    upstreamSocket.once('close', () => endGently(socket as Socket));
    // Every byte of either direction passes this socket, so its clock is the tunnel's.
    (socket as Socket).setTimeout(this.settings.idleTimeout, () => socket.destroy());
  }

  /** An answer other than 101: passed on, and the connection ended with it, since its framing is gone. */
  private onRefused(response: IncomingMessage): void {
    this.stopTimer();
    const { socket } = this.ends;
    const kept = this.askFor(response);
    if (kept === null) return;
    this.answered = true;
    this.early?.discard();
    kept.push('Connection', 'close');
    const bodiless = isBodiless(this.ends.request, response);
    const framed = response.headers['content-length'] !== undefined || bodiless;
    if (!framed) kept.push('Transfer-Encoding', 'chunked');
    socket.write(headText(`HTTP/1.1 ${response.statusCode} ${response.statusMessage}`, kept), 'latin1');
    response.on('error', (error) => this.onError(error));
    response.on('data', (chunk: Buffer) => (this.refusalBytes += bodiless ? 0 : chunk.length));
    response.setTimeout(this.settings.upstream.idleTimeout, () => {
      this.timedOut = true;
      response.destroy(new Error('the application stopped sending'));
    });
    const body = framed ? response : response.pipe(chunks());
    body.once('end', () => endGently(socket as Socket));
    if (bodiless) body.resume();
    else body.pipe(socket, { end: false });
  }

  /** @returns the headers for the caller, or null when there is no passing this answer on */
  private askFor(response: IncomingMessage): string[] | null {
    try {
      return this.observer.tunnelAnswered(response.statusCode ?? 502, response.rawHeaders);
    } catch (error) {
      this.outgoing?.destroy();
      this.onError(error as Error);
      return null;
    }
  }

  /** Before an answer has begun it becomes ours; after that only a broken connection tells the caller. */
  private onError(cause: Error): void {
    this.stopTimer();
    const { socket } = this.ends;
    if (socket.destroyed) return;
    if (!this.answered) return this.refuse(this.explain(cause));
    this.observer.tunnelFailed(this.explain(cause));
    socket.destroy();
  }

  private refuse(error: ProxyError): void {
    this.answered = true;
    this.early?.discard();
    const { socket } = this.ends;
    socket.write(this.observer.tunnelFailed(error));
    endGently(socket as Socket);
  }

  private explain(cause: Error): ProxyError {
    if (this.timedOut) return new ProxyError('upstream_timeout', 'upstream', 'forward', cause.message, cause);
    return upstreamError(cause, { connected: this.connected });
  }

  /** Before the answer half a connection is nobody, as for any other request. */
  private onCallerEnded(): void {
    if (!this.answered) this.letGo();
  }

  /** A caller that is not read may have left. It is given up; behind what it sent may be its end, and then there is nobody to tell. */
  private onStuck(): void {
    this.letGo();
    this.timer = setTimeout(() => this.refuse(tooMuchEarly()), LOOK_MS);
  }

  /** Asks the application no longer. */
  private letGo(): void {
    this.stopTimer();
    this.early?.discard();
    // http-proxy would end the caller's connection.
    this.outgoing?.removeAllListeners('error').on('error', () => undefined);
    this.outgoing?.destroy();
  }

  private onCallerGone(): void {
    this.letGo();
    this.observer.tunnelClosed(this.bytes());
    this.upstreamSocket?.destroy();
  }

  private bytes(): { readonly received: number; readonly sent: number } {
    const { upstreamSocket, heads, refusalBytes } = this;
    if (upstreamSocket === null) return { received: 0, sent: refusalBytes };
    return { received: upstreamSocket.bytesWritten - heads.written, sent: upstreamSocket.bytesRead - heads.read };
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

/** One for each tunnel: http-proxy reports through events of the proxy, which cannot be told apart when shared. */
function createForwarder(upstream: Config['upstream']): httpProxy {
  const address = networkAddress(upstream.address);
  const target = address.kind === 'unix' ? { socketPath: address.path } : { host: address.host, port: address.port };
  const proxy = httpProxy.createProxyServer({
    target: { ...target, protocol: 'http:' } as httpProxy.ServerOptions['target'] & object,
    toProxy: true,
    prependPath: false,
  });
  // Its first pass destroys the socket of everything but WebSocket over GET.
  const passes = proxy as unknown as { wsPasses: { name: string }[] };
  passes.wsPasses = passes.wsPasses.filter(({ name }) => name !== 'checkMethodAndHeader');
  return proxy;
}

function headerObject(request: TunnelRequest): Record<string, string | string[]> {
  // Lower case, or http-proxy does not find it and says `close` besides.
  return { ...objectOf(request.headers), connection: 'Upgrade', upgrade: request.protocol };
}

/** Case and order of first mention are kept, several values of a name stay several. */
function objectOf(flat: readonly string[]): Record<string, string | string[]> {
  const names = new Map<string, string>();
  const result: Record<string, string | string[]> = Object.create(null) as Record<string, string | string[]>;
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const written = flat[index] as string;
    const value = flat[index + 1] as string;
    const name = names.get(written.toLowerCase()) ?? written;
    names.set(written.toLowerCase(), name);
    const before = result[name];
    result[name] = before === undefined ? value : [...(Array.isArray(before) ? before : [before]), value];
  }
  return result;
}

/**
 * Whether the protocol would carry requests. They would reach the application unseen, with any identity headers that the
 * caller likes: the known way around a proxy is `Upgrade: h2c`.
 */
function carriesRequests(protocol: string): boolean {
  return protocol.split(',').some((token) => /^\s*(?:h2c?|http|tls)\b/i.test(token));
}

function anotherHttp(protocol: string): ProxyError {
  return new ProxyError('bad_request', 'downstream', 'forward', `an Upgrade to ${protocol}, which carries requests`);
}

function noTunnelHere(): ProxyError {
  return new ProxyError('bad_request', 'downstream', 'forward', 'an Upgrade, where no program is asked');
}

function tooMuchEarly(): ProxyError {
  const message = `more than ${MAX_EARLY} bytes behind an Upgrade before its answer`;
  return new ProxyError('body_too_large', 'downstream', 'forward', message);
}

/** HTTP/2 has no Upgrade (RFC 9113 §8.6). Its own way to WebSocket, extended CONNECT, few applications know. */
function noTunnelToHttp2(): ProxyError {
  return new ProxyError('bad_request', 'downstream', 'forward', 'an Upgrade, where the application speaks HTTP/2');
}

/** Whether an answer has no body, whatever its headers say (RFC 9112 §6.3, and for 205, RFC 9110 §15.3.6). */
function isBodiless(request: TunnelRequest, { statusCode }: IncomingMessage): boolean {
  return request.method === 'HEAD' || statusCode === 204 || statusCode === 205 || statusCode === 304;
}

/** Chunked coding (RFC 9112 §7.1), so that an answer cut short does not look whole. */
function chunks(): Transform {
  return new Transform({
    transform(chunk: Buffer, _encoding, done) {
      this.push(`${chunk.length.toString(16)}\r\n`);
      this.push(chunk);
      done(null, '\r\n');
    },
    flush: (done) => done(null, '0\r\n\r\n'),
  });
}

/** Ends a connection when all is written, and reads on for a while: unread bytes would make the kernel send a reset. */
function endGently(socket: Socket): void {
  if (socket.destroyed) return;
  const linger = (): void => {
    // A timeout of the socket would begin anew with each byte.
    const timer = setTimeout(() => socket.destroy(), LINGER_MS);
    socket.setTimeout(0).once('close', () => clearTimeout(timer));
  };
  if (socket.writableFinished) linger();
  else socket.once('finish', linger);
  socket.end();
  socket.resume();
}
