import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { isOneOf } from '../admit/host-names.js';
import { isWelcome, standingsOf, type Terms } from '../admit/standing.js';
import type { Routing } from '../admit/routes.js';
import type { ConnectionReason } from '../errors.js';
import type { PeerCertificate, PeerIdentity } from '../identify/peer-identity.js';
import type { Endpoint } from '../identify/proxy-header.js';
import type { Observer } from '../observe/observer.js';
import { peekClientHello, type ClientHello } from './client-hello.js';
import type { KnownCallers } from './known-callers.js';
import { httpsLocation, sniff } from './plain-http.js';
import { readProxyHeader } from './read-proxy-header.js';
import type { Beginning, Resumption, SessionCache } from './resumption.js';
import {
  isCertifiedName,
  onGivingUp,
  readPeer,
  startHandshake,
  type HandshakeError,
  type PeerVerification,
  type TlsParameters,
} from './tls-socket.js';
import { Recheck } from './recheck.js';
import { judge, type Policy } from './verdict.js';
import { explainHandshakeError, explainVerifyError, isForgivable } from './verify-errors.js';

/** What the process remembers of handshakes; goes when trust changes. */
export interface SessionMemory {
  /** Names the trust that they were judged under. */
  readonly digest: string;
  readonly knownCallers: KnownCallers;
  readonly sessions: SessionCache;
}

/** Everything a new connection is measured by; replaced whole when credentials or allow lists change. */
export interface Trust {
  readonly tls: TlsParameters;
  /** Null when no session is ever resumed. */
  readonly resumption: Resumption | null;
  readonly memory: SessionMemory;
  readonly policy: Policy;
  /** Names the settings that only a handshake is asked about: a connection that is open cannot be judged by others. */
  readonly handshakeTerms: string;
  /** Of the settings themselves, then of each route. */
  readonly terms: readonly Terms[];
  readonly routing: Routing;
}

export interface AdmissionParts {
  /** What is in force now. */
  readonly trust: () => Trust;
  /** Milliseconds, from accept to the end of the handshake. */
  readonly handshakeTimeout: number;
  readonly redirectPlainHttp: boolean;
  /** Whether an address may, and then must, say by the PROXY protocol who called it; null when nobody may. */
  readonly isProxySender: ((address: string) => boolean) | null;
  readonly serverNames: readonly string[];
  readonly observer: Observer;
  /** The connection turns out to come from another address than it seemed to. */
  comesFrom(address: string): void;
  /** @returns why there is no room, or null */
  noRoom(): string | null;
  /**
   * Takes over an admitted connection.
   * @param trust what was in force when its handshake began
   */
  enter(socket: TLSSocket, identity: PeerIdentity, peer: Endpoint, trust: Trust): void;
  /** Answers and ends a refused one. */
  turnAway(socket: Socket, reason: ConnectionReason, location: string | null): void;
}

/** The way of one TCP connection through the handshake to its verdict. Exactly one verdict comes out. */
export class Admission {
  private socket: TLSSocket | null = null;
  private decided = false;
  /** What was in force when the handshake began. */
  private readonly trust: Trust;
  /** Looked at before the end of the handshake. */
  private early: PeerVerification | null = null;
  /** OpenSSL's complaint about a certificate, in whose place Node reported an error that was none. */
  private noted: PeerVerification['error'] = null;
  /** Before that OpenSSL names the version that it would like best. */
  private secure = false;
  private readonly timer: NodeJS.Timeout;
  /** Read at once: a caller who has left has no address any more. Of a balancer's connection, its caller in the end. */
  private peer: Endpoint;
  /** The name in the hello; null where that was not looked at. */
  private askedName: string | null = null;
  /** What has to be complete before the deadline. */
  private awaited = 'handshake';

  constructor(
    private readonly raw: Socket,
    private readonly parts: AdmissionParts,
  ) {
    this.peer = { address: plainAddress(raw.remoteAddress), port: raw.remotePort ?? 0 };
    this.trust = parts.trust();
    this.timer = setTimeout(() => this.onTimeout(), parts.handshakeTimeout);
    raw.on('error', this.onError);
    raw.on('close', this.onClose);
    if (parts.isProxySender === null) this.begin();
    else if (parts.isProxySender(this.peer.address)) this.expectProxyHeader();
    else this.drop('proxy_untrusted', 'the address is not in listen.proxyProtocolFrom');
  }

  /**
   * Nobody else is asked for a header, and nothing guesses whether there is one: whoever could do without could also
   * bring his own, and be called what he likes (proxy-protocol.txt §2).
   */
  private expectProxyHeader(): void {
    this.awaited = 'PROXY protocol header';
    readProxyHeader(this.raw, (header) => {
      if (this.decided) return;
      if (header.kind === 'invalid') return this.drop('proxy_protocol', header.detail);
      this.awaited = 'handshake';
      if (header.source !== null) this.comesFrom(header.source);
      this.begin();
    });
  }

  private comesFrom(caller: Endpoint): void {
    this.peer = caller;
    this.parts.comesFrom(caller.address);
  }

  private begin(): void {
    if (this.parts.redirectPlainHttp) sniff(this.raw, (plain) => this.onSniffed(plain));
    else this.handshake();
  }

  /** Without an answer: what speaks here is not known to be a caller. */
  private drop(reason: ConnectionReason, detail: string): void {
    this.refuse(reason, detail, null);
    this.raw.destroy();
  }

  private onSniffed(plain: Buffer | null): void {
    if (this.decided) return;
    if (plain === null) return this.handshake();
    this.refuse('plain_http', 'plain HTTP on the TLS port', null);
    this.parts.turnAway(
      this.raw,
      'plain_http',
      httpsLocation(plain, (name) => this.isOurs(name)),
    );
  }

  /** A name of the certificate will do where none is set: the next request would not be believed under another. */
  private isOurs(name: string): boolean {
    const { serverNames } = this.parts;
    return serverNames.length > 0 ? isOneOf(serverNames)(name) : isCertifiedName(this.trust.tls, name);
  }

  private handshake(): void {
    const { resumption } = this.trust;
    if (resumption === null) this.startTls();
    else peekClientHello(this.raw, (hello) => this.onHello(hello, resumption));
  }

  private onHello(hello: ClientHello | null, resumption: Resumption): void {
    this.askedName = hello?.serverName ?? null;
    this.startTls(resumption.beginning(hello));
  }

  private startTls(beginning?: Beginning): void {
    if (this.decided) return;
    const socket = startHandshake(this.raw, this.trust.tls, beginning);
    this.socket = socket;
    socket.on('error', this.onError);
    socket.once('secure', () => this.onSecure());
    onGivingUp(socket, (error) => this.isOver(socket, error));
  }

  /**
   * A wrong signature in a certificate stays behind in OpenSSL's queue of errors. When the caller's messages come in
   * more than one read, Node takes it for the end of the handshake. OpenSSL does not: it has noted its complaint, and goes
   * on with the next read, so that the verdict and the page come as after any other bad certificate. The queue is emptied
   * by that read; a second error is an end, and what has ended without one meets the deadline.
   *
   * The complaint need not be about the signature: of several OpenSSL keeps the last, such as that the certificate has
   * expired, too. One that a setting forgives is not looked behind: whoever goes on here must have no way in at all.
   */
  private isOver(socket: TLSSocket, error: HandshakeError): boolean {
    if (this.early !== null || this.secure) return true;
    this.early = readPeer(socket);
    const { error: complaint } = this.early;
    const isOfTls = error.library === undefined || error.library === 'SSL routines';
    if (complaint !== null && !isForgivable(complaint.code) && !isOfTls) this.noted = complaint;
    return this.noted === null;
  }

  private onTimeout(): void {
    this.drop('handshake_timeout', `no complete ${this.awaited} within ${this.parts.handshakeTimeout} ms`);
  }

  /** Most connections close long after their verdict: for them there is no error to be made. */
  private readonly onClose = (): void => {
    if (!this.decided) this.onError(new Error('the caller closed the connection'));
  };

  private readonly onError = (error: Error & { code?: string }): void => {
    if (this.decided) return;
    const { reason, text } = this.explain(error);
    this.refuse(reason, text, null);
    if (reason === 'plain_http') this.parts.turnAway(this.raw, reason, null);
    else this.raw.destroySoon();
  };

  private explain(error: HandshakeError): { readonly reason: ConnectionReason; readonly text: string } {
    if (this.noted !== null) return explainVerifyError(this.noted);
    if (error.code === undefined) return { reason: 'handshake_aborted', text: describe(error) };
    return { reason: explainHandshakeError(error, this.raw.bytesWritten > 0), text: describe(error) };
  }

  private onSecure(): void {
    const { socket } = this;
    if (this.decided || socket === null) return;
    this.secure = true;
    try {
      this.decide(socket);
    } catch (error) {
      // Fail closed: a certificate that we stumble over does not come in.
      this.parts.observer.error('judging a connection failed', error);
      if (!this.decided) this.refuse('invalid', 'internal error', null);
      socket.destroy();
    }
  }

  private decide(socket: TLSSocket): void {
    const { policy } = this.trust;
    const now = Date.now();
    const peer = this.early ?? readPeer(socket, (leaf) => policy.knownCallers.recallWhole(leaf, now));
    const tls = tlsFacts(socket, this.askedName);
    const verdict = judge({ peer, tls, now }, policy);
    if (!verdict.admitted) {
      const { reason, detail } = verdict.refusal;
      return this.turnAway(socket, { reason, detail, certificate: verdict.certificate });
    }
    const { identity } = verdict;
    const trust = this.parts.trust();
    // A handshake held open must not carry yesterday's trust into today.
    const change = trust === this.trust ? null : new Recheck(trust.policy, Date.now()).ask(identity).change;
    if (change !== null) {
      const { code: reason, detail } = change;
      return this.turnAway(socket, { reason, detail, certificate: identity.certificate });
    }
    if (!isWelcome(standingsOf(identity, trust.terms))) {
      const detail = 'no allow rule matches this caller';
      return this.turnAway(socket, { reason: 'not_allowed', detail, certificate: identity.certificate });
    }
    const full = this.parts.noRoom();
    if (full !== null) {
      return this.turnAway(socket, { reason: 'overloaded', detail: full, certificate: identity.certificate });
    }
    this.settle();
    this.letGo(socket);
    this.parts.enter(socket, identity, this.peer, this.trust);
  }

  private turnAway(
    socket: TLSSocket,
    refusal: {
      readonly reason: ConnectionReason;
      readonly detail: string;
      readonly certificate: PeerCertificate | null;
    },
  ): void {
    this.refuse(refusal.reason, refusal.detail, refusal.certificate);
    this.parts.turnAway(socket, refusal.reason, null);
  }

  private refuse(reason: ConnectionReason, detail: string, certificate: PeerCertificate | null): void {
    this.settle();
    const { socket } = this;
    this.parts.observer.connectionRefused({
      reason,
      detail,
      remoteAddress: this.peer.address,
      remotePort: this.peer.port,
      tlsVersion: this.secure && socket !== null ? socket.getProtocol() : null,
      serverName: serverNameOf(socket, this.askedName),
      certificate,
    });
  }

  /** An admission that listens on would be kept, with all that it knows, as long as the connection is open. */
  private letGo(socket: TLSSocket): void {
    this.raw.off('close', this.onClose);
    for (const each of [this.raw, socket]) each.off('error', this.onError).on('error', ignore);
  }

  private settle(): void {
    this.decided = true;
    clearTimeout(this.timer);
  }
}

/** Errors of an admitted connection end it, and its end is what is looked at; unheard they would end the process. */
function ignore(): void {}

/** OpenSSL's lines carry thread ids and source positions; the reason stands between the last colons. */
function describe(error: Error & { reason?: string }): string {
  return error.reason ?? error.message;
}

function tlsFacts(socket: TLSSocket, askedName: string | null): PeerIdentity['tls'] {
  return {
    version: socket.getProtocol() ?? 'unknown',
    cipher: socket.getCipher().name,
    serverName: serverNameOf(socket, askedName),
    sessionReused: socket.isSessionReused(),
  };
}

/** Up to TLS 1.2 Node knows no name for a session that it resumes; then it is the one that was asked for. */
function serverNameOf(socket: TLSSocket | null, askedName: string | null): string | null {
  const { servername } = (socket ?? {}) as { servername?: string | false };
  const name = typeof servername === 'string' && servername !== '' ? servername : askedName;
  return name?.toLowerCase() ?? null;
}

/** An IPv4 caller on a dual-stack listener shows as `::ffff:192.0.2.1`; nobody wants to match or log that. */
export function plainAddress(address: string | undefined): string {
  if (address === undefined) return 'unknown';
  return address.startsWith('::ffff:') && address.includes('.') ? address.slice(7) : address;
}
