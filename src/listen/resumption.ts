import { X509Certificate } from 'node:crypto';
import { EventEmitter } from 'node:events';
import { rulesFor } from '../admit/authorize.js';
import type { Terms } from '../admit/standing.js';
import { readPeerCertificate } from '../identify/peer-certificate.js';
import { readSession, type SessionFacts } from '../identify/session.js';
import { isPathValid, pathToAnchor } from './chain.js';
import type { ClientHello } from './client-hello.js';
import type { Policy } from './verdict.js';
import { INVALID_PURPOSE, ISSUER_ERRORS } from './verify-errors.js';

/** What opens tickets. */
export interface TicketReader {
  /** @returns null for a ticket that is not ours */
  open(ticket: Buffer): SessionFacts | null;
}

/** How a handshake may begin. */
export interface Beginning {
  /** Whether a ticket may be used. */
  readonly resumes: boolean;
  /** Where sessions of callers without tickets are kept; null for all others. */
  readonly sessionsById: EventEmitter | null;
}

/**
 * Decides whether a session may be resumed, before OpenSSL resumes it: afterwards there is no way back to a full
 * handshake. A session brings the leaf alone, so where it began under an intermediate that this process has never been
 * shown, it could only be refused, and a full handshake costs the caller nothing but time. It may have begun in another
 * worker or replica, before a restart, or too long ago.
 *
 * The same holds for whatever else would be refused. A caller that has renewed its certificate and still offers its
 * session would be taken for what it was, and get with the refusal a new ticket, until the lifetime of sessions is over. And a
 * full handshake asks OpenSSL about CRLs that our own look cannot evaluate.
 *
 * Who gets in is decided later, by the verdict, whatever is decided here.
 */
export class Resumption {
  private readonly byId = new EventEmitter();

  /**
   * @param terms of the settings themselves, then of each route
   * @param kept sessions by id; outlives a reload that leaves trust as it is
   */
  constructor(
    private readonly tickets: TicketReader,
    private readonly policy: Policy,
    private readonly terms: readonly Terms[],
    private readonly kept: SessionCache,
  ) {
    // The names are those of tls.Server, in whose place this stands.
    this.byId.on('newSession', (id: Buffer, session: Buffer, done: () => void) => {
      if (this.isWorthKeeping(session)) kept.keep(id, session);
      done();
    });
    this.byId.on('resumeSession', (id: Buffer, done: (error: null, session: Buffer | null) => void) => {
      const session = kept.find(id);
      done(null, session !== null && this.isResumable(() => readSession(session)) ? session : null);
    });
  }

  beginning(hello: ClientHello | null): Beginning {
    if (hello === null) return { resumes: false, sessionsById: null };
    return {
      // OpenSSL takes the first ticket that it can open, and ignores the others.
      resumes: hello.tickets.every((ticket) => this.isResumable(() => this.tickets.open(ticket))),
      sessionsById: hello.withoutTickets ? this.byId : null,
    };
  }

  /** Takes in a session that began in another worker. It is looked at when it is resumed, as all are. */
  learn(id: Buffer, session: Buffer): void {
    if (this.isWorthKeeping(session)) this.kept.learn(id, session);
  }

  /** @param facts null for what OpenSSL will ignore, too */
  private isResumable(facts: () => SessionFacts | null): boolean {
    try {
      const found = facts();
      return found === null || this.isPromising(found);
    } catch {
      // What we stumble over is not resumed.
      return false;
    }
  }

  /** Whether the verdict could be a good one. */
  private isPromising({ leaf, complaint }: SessionFacts): boolean {
    const { modes, purpose } = this.policy;
    if (leaf === null) return (modes.size > 1 || !modes.has('required')) && this.isAllowed(null);
    if (complaint === 0 || (complaint === INVALID_PURPOSE && purpose === 'any')) {
      return this.isFollowable(leaf) && this.isAllowed(leaf);
    }
    return ISSUER_ERRORS.has(complaint) && modes.has('optional-no-ca') && this.isAllowed(null);
  }

  /**
   * Whether the allow rules of some route could let it in. A route that asks nobody is none for a caller with a certificate:
   * for the sake of a health check it would be kept from all others.
   * @param leaf null when nothing is proved
   */
  private isAllowed(leaf: Uint8Array | null): boolean {
    const { terms } = this;
    // Most settings have a route without rules, and then there is no certificate to read.
    if (terms.some(({ verify, allow }) => (verify === 'off' ? leaf === null : allow === null))) return true;
    const certificate =
      leaf === null ? null : (this.policy.knownCallers.recall(leaf)?.certificate ?? readPeerCertificate(leaf));
    const caller = { verify: certificate === null ? 'NONE' : 'SUCCESS', certificate } as const;
    return terms.some(({ verify, allow }) => verify !== 'off' && rulesFor(caller, allow)?.length !== 0);
  }

  /** Whether its path is known, and neither dates nor CRLs say anything against it. */
  private isFollowable(der: Uint8Array): boolean {
    const { knownCallers, anchors, revocation } = this.policy;
    const now = Date.now();
    const known = knownCallers.recall(der);
    const leaf = known?.leaf ?? new X509Certificate(der);
    const path = known?.path ?? pathToAnchor(leaf, { presented: [], anchors, now });
    return path !== null && isPathValid([leaf, ...path], now) && revocation(leaf, path, now) === null;
  }

  /** Anybody can make us keep a session before the verdict; only callers whom OpenSSL has verified take up room. */
  private isWorthKeeping(session: Buffer): boolean {
    try {
      const { leaf, complaint } = readSession(session);
      return leaf !== null && complaint === 0;
    } catch {
      return false;
    }
  }
}

/** Tells the other workers of a session. */
export type ShareSession = (id: Buffer, session: Buffer) => void;

export const SESSIONS_KEPT = 1_000;

/** Sessions by their ids, of callers who know no tickets. OpenSSL has a cache of its own, which Node switches off. */
export class SessionCache {
  private readonly sessions = new Map<string, { readonly session: Buffer; readonly until: number }>();

  /**
   * @param lifetime milliseconds; OpenSSL asks for it as well
   * @param capacity sessions kept; the oldest go first. Node hands out none of more than 10 KiB.
   * @param share told of what begins here
   */
  constructor(
    private readonly lifetime: number,
    private readonly capacity = SESSIONS_KEPT,
    private readonly share: ShareSession | null = null,
  ) {}

  get size(): number {
    return this.sessions.size;
  }

  keep(id: Buffer, session: Buffer): void {
    this.put(id.toString('hex'), session);
    this.share?.(id, session);
  }

  /** What is known already stays: another worker cannot replace what began here. */
  learn(id: Buffer, session: Buffer): void {
    const key = id.toString('hex');
    if (!this.sessions.has(key)) this.put(key, session);
  }

  private put(key: string, session: Buffer): void {
    const now = Date.now();
    this.sessions.set(key, { session, until: now + this.lifetime });
    for (const [oldest, { until }] of this.sessions) {
      if (until > now && this.sessions.size <= this.capacity) break;
      this.sessions.delete(oldest);
    }
  }

  find(id: Buffer): Buffer | null {
    const found = this.sessions.get(id.toString('hex'));
    return found === undefined || found.until <= Date.now() ? null : found.session;
  }
}
