import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import httpProxy from 'http-proxy';
import type { Permit } from '../admit/authorize.js';
import type { Config } from '../config/config.js';
import { ProxyError } from '../errors.js';
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
  /** The application could not be asked, or gave no answer. @returns the whole answer to send instead */
  tunnelFailed(error: ProxyError): string | Buffer;
  tunnelClosed(bytes: { readonly received: number; readonly sent: number }): void;
}

/**
 * Upgrade (RFC 9110 §7.8): WebSocket and any other protocol. http-proxy's `ws()` moves the bytes. Around it stand what
 * it lacks: it lets a failed caller's request to the application live on, ends the process on a socket error before the
 * 101, has no deadlines, serves WebSocket alone, folds slashes in the path, and frames a refused upgrade wrongly.
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

class TunnelAttempt {
  private outgoing: ClientRequest | null = null;
  private upstreamSocket: Socket | null = null;
  private timer: NodeJS.Timeout | null = null;
  private connected = false;
  private answered = false;
  private timedOut = false;

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
    const proxy = createForwarder(this.settings.upstream);
    proxy.on('proxyReqWs', (outgoing) => this.onOutgoing(outgoing));
    proxy.on('open', (upstreamSocket) => this.onOpen(upstreamSocket));
    const incoming = { method: request.method, url: request.target, headers: headerObject(request) } as IncomingMessage;
    proxy.ws(incoming, socket, early, {}, (error) => this.onError(error));
  }

  private onOutgoing(outgoing: ClientRequest): void {
    this.outgoing = outgoing;
    // http-proxy joins and folds the path; what was judged is what must be asked for.
    outgoing.path = this.ends.request.target;
    this.timer = setTimeout(() => {
      this.timedOut = true;
      outgoing.destroy(new Error('the application did not answer the Upgrade in time'));
    }, this.settings.upstream.headTimeout);
    outgoing.on('socket', (socket) => socket.once('connect', () => (this.connected = true)));
    // Before http-proxy's own listeners, which are added after this event.
    outgoing.on('response', (response) => this.onRefused(response));
    outgoing.on('upgrade', (response) => this.onUpgraded(response));
  }

  private onUpgraded(response: IncomingMessage): void {
    this.stopTimer();
    this.answered = true;
    const kept = this.observer.tunnelAnswered(101, response.rawHeaders);
    response.headers = { ...objectOf(kept), connection: 'Upgrade', upgrade: response.headers.upgrade ?? '' };
  }

  private onOpen(upstreamSocket: Socket): void {
    this.upstreamSocket = upstreamSocket;
    const { socket } = this.ends;
    upstreamSocket.once('close', () => socket.destroy());
    // Every byte of either direction passes this socket, so its clock is the tunnel's.
    (socket as Socket).setTimeout(this.settings.idleTimeout, () => socket.destroy());
  }

  /** An answer other than 101: passed on, and the connection ended with it, since its framing is gone. */
  private onRefused(response: IncomingMessage): void {
    this.stopTimer();
    this.answered = true;
    // http-proxy would write the head of a chunked answer over its unchunked body.
    Object.assign(response, { upgrade: true });
    const { socket } = this.ends;
    const kept = this.observer.tunnelAnswered(response.statusCode ?? 502, response.rawHeaders);
    kept.push('Connection', 'close');
    socket.write(headBytes(`HTTP/1.1 ${response.statusCode} ${response.statusMessage}`, kept), 'latin1');
    response.on('error', () => socket.destroy());
    response.pipe(socket);
  }

  private onError(cause: Error): void {
    this.stopTimer();
    if (this.answered || this.ends.socket.destroyed) {
      this.ends.socket.destroy();
      return;
    }
    this.answered = true;
    // http-proxy ends the socket behind this.
    this.ends.socket.write(this.observer.tunnelFailed(this.explain(cause)));
  }

  private explain(cause: Error): ProxyError {
    if (this.timedOut) return new ProxyError('upstream_timeout', 'upstream', 'forward', cause.message, cause);
    return upstreamError(cause, { connected: this.connected });
  }

  private onCallerGone(): void {
    this.stopTimer();
    this.outgoing?.destroy();
    const { upstreamSocket } = this;
    upstreamSocket?.destroy();
    const received = upstreamSocket?.bytesWritten ?? 0;
    this.observer.tunnelClosed({ received, sent: upstreamSocket?.bytesRead ?? 0 });
  }

  private stopTimer(): void {
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}

/** One for each tunnel: http-proxy reports through events of the proxy, which cannot be told apart when shared. */
function createForwarder({ address }: Config['upstream']): httpProxy {
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
  return { ...objectOf(request.headers), Connection: 'Upgrade', Upgrade: request.protocol };
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

function headBytes(line: string, flat: readonly string[]): string {
  const lines = [line];
  for (let index = 0; index + 1 < flat.length; index += 2) lines.push(`${flat[index]}: ${flat[index + 1]}`);
  return `${lines.join('\r\n')}\r\n\r\n`;
}
