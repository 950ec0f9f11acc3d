import { createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { anonymousOf } from '../admit/standing.js';
import type { Config } from '../config/config.js';
import type { ConnectionReason } from '../errors.js';
import type { PeerIdentity } from '../identify/peer-identity.js';
import type { Endpoint } from '../identify/proxy-header.js';
import type { Observer } from '../observe/observer.js';
import { Admission, plainAddress, type AdmissionParts, type Trust } from './admission.js';
import type { Entrance } from './entrance.js';
import { Hallway } from './hallway.js';
import { firstRequest } from './first-request.js';
import { endLingering } from './linger.js';

/** How a refused connection is spoken to. */
export interface RefusedAs {
  /** Where a plain HTTP request should have gone. */
  readonly location: string | null;
  /** Whether HTTP/2 was agreed on in its handshake. */
  readonly http2: boolean;
}

/** What is said to a refused connection, as bytes. */
export interface Refusal {
  /** At once; null when the caller speaks first. */
  readonly greeting: Buffer | null;
  readonly answer: Buffer;
}

export interface ListenerParts {
  readonly listen: Config['listen'];
  readonly handshakeTimeout: number;
  readonly maxConnections: number;
  /** Asked for every new connection, so that a reload needs nothing else. */
  readonly trust: () => Trust;
  readonly entrance: Entrance;
  readonly observer: Observer;
  readonly identityHeaders: (identity: PeerIdentity, now: number) => readonly string[];
  readonly isTrustedProxy: (address: string) => boolean;
  /** See `AdmissionParts`. */
  readonly isProxySender: ((address: string) => boolean) | null;
  /** The whole answer to a refused connection, made by `respond`. */
  readonly refusal: (reason: ConnectionReason, how: RefusedAs) => Refusal;
}

/**
 * Connections besides `limits.connections` that may be in the handshake, or on their way out, at one time. Past them one
 * is closed unanswered: the answer to a flood must not cost more than the flood.
 */
const HALLWAY_ROOM = 256;

/** How long a refused caller may take to say something before it gets its answer anyway. Milliseconds. */
const FIRST_WORDS = 5_000;

/** How long a caller may take to close a refused connection of HTTP/2 before we do. Milliseconds. */
const LAST_WORDS = 1_000;

/** The port: accepts TCP, admits or turns away. */
export class Listener {
  private readonly server: Server;
  private readonly sockets = new Set<Socket>();
  private readonly hallway = new Hallway(HALLWAY_ROOM);
  private nextId = 1;
  /** What callers connect to; to ask each socket for it would take a system call. */
  private port = 0;

  constructor(private readonly parts: ListenerParts) {
    this.server = createServer({ noDelay: true, keepAlive: true }, (raw) => this.accept(raw));
  }

  /** Binds. @throws Node's error (`EADDRINUSE`, `EACCES`, …) */
  listen(): Promise<AddressInfo> {
    const { host, port } = this.parts.listen;
    return new Promise((resolve, reject) => {
      this.server.once('error', reject);
      this.server.listen({ host, port, backlog: 1024 }, () => {
        this.server.off('error', reject);
        this.server.on('error', (error) => this.parts.observer.error('the listener failed', error));
        const address = this.server.address() as AddressInfo;
        this.port = address.port;
        resolve(address);
      });
    });
  }

  /** Stops accepting; what is open stays. */
  stopAccepting(): void {
    this.server.close();
  }

  /** Ends everything that is left, handshakes included. */
  destroyAll(): void {
    for (const raw of this.sockets) raw.destroy();
  }

  private accept(raw: Socket): void {
    this.sockets.add(raw);
    new Admission(raw, this.admissionParts(raw));
    this.hallway.enter(raw, plainAddress(raw.remoteAddress));
    // Emitted once; `once` would keep four objects more for each open connection.
    raw.on('close', () => {
      this.sockets.delete(raw);
      this.hallway.leave(raw);
    });
  }

  private admissionParts(raw: Socket): AdmissionParts {
    const { listen, handshakeTimeout, observer, entrance, maxConnections } = this.parts;
    return {
      trust: this.parts.trust,
      handshakeTimeout,
      redirectPlainHttp: listen.plainHttp === 'redirect',
      isProxySender: this.parts.isProxySender,
      comesFrom: (address) => this.hallway.move(raw, address),
      serverNames: listen.serverNames,
      observer,
      noRoom: () => (entrance.size < maxConnections ? null : `${maxConnections} connections are open`),
      enter: (socket, identity, peer, trust) => this.enter({ socket, raw, identity, peer, trust }),
      turnAway: (socket, reason, location) => this.turnAway(socket, reason, location),
    };
  }

  private enter({ socket, raw, identity, peer, trust }: Entering): void {
    this.hallway.leave(raw);
    const remoteAddress = peer.address;
    const localPort = this.port;
    const openedAt = Date.now();
    const { identityHeaders } = this.parts;
    let anonymous: readonly string[] | undefined;
    const connection = {
      id: this.nextId++,
      identity,
      remoteAddress,
      remotePort: peer.port,
      localPort,
      openedAt,
      identityHeaders: identityHeaders(identity, openedAt),
      anonymousHeaders: () => (anonymous ??= identityHeaders(anonymousOf(identity), openedAt)),
    };
    const source = { remoteAddress, localPort, trusted: this.parts.isTrustedProxy(remoteAddress) };
    const stale = trust !== this.parts.trust();
    this.parts.entrance.enter({ socket, connection, source, stale, handshakeTerms: trust.handshakeTerms });
  }

  /**
   * The answer waits for the caller's first bytes, as nginx's does: some clients take an answer to a request that they
   * have not yet sent for an error of the connection. What they send is not looked at, but for where a request of HTTP/2 begins.
   */
  private turnAway(socket: Socket, reason: ConnectionReason, location: string | null): void {
    const http2 = (socket as Partial<TLSSocket>).alpnProtocol === 'h2';
    const { greeting, answer } = this.parts.refusal(reason, { location, http2 });
    socket.on('error', () => socket.destroy());
    if (reason === 'plain_http') return endLingering(socket, answer);
    const hasAsked = http2 ? firstRequest() : () => true;
    const say = (): void => {
      clearTimeout(timer);
      socket.off('data', listen);
      if (!http2) return endLingering(socket, answer);
      // GOAWAY asks the caller to close. Some forget an answer that they have not handed on when we close first.
      socket.write(answer);
      socket.resume();
      timer = setTimeout(() => endLingering(socket), LAST_WORDS);
    };
    const listen = (chunk: Buffer): void => {
      if (hasAsked(chunk)) say();
    };
    let timer = setTimeout(say, FIRST_WORDS);
    socket.once('close', () => clearTimeout(timer));
    socket.on('data', listen);
    // Some callers ask nothing before they have heard it.
    if (greeting !== null) socket.write(greeting);
  }
}

interface Entering {
  readonly socket: TLSSocket;
  readonly raw: Socket;
  readonly identity: PeerIdentity;
  /** The caller, whoever carried its connection here. */
  readonly peer: Endpoint;
  /** What was in force when the handshake began. */
  readonly trust: Trust;
}
