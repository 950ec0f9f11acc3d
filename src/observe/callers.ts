import type { Connection, PeerCertificate } from '../identify/peer-identity.js';
import { clip } from './text.js';
import { isoTime } from './timestamps.js';

/** A client certificate that was let in, as `/status` shows it. The names in it are its owner's to choose. */
export interface SeenCaller {
  readonly subject: string;
  readonly issuer: string;
  readonly serial: string;
  readonly sha256: string;
  /** False where callers are let in whose certificate was not verified. */
  readonly verified: boolean;
  /** ISO 8601 UTC */
  readonly notBefore: string;
  readonly notAfter: string;
  readonly firstSeen: string;
  readonly lastSeen: string;
  /** Of the last connection. */
  readonly address: string;
  readonly anchorSha256: string | null;
  readonly openConnections: number;
  readonly connections: number;
  readonly requests: number;
}

/** What is counted of one certificate. */
export interface Caller {
  readonly certificate: PeerCertificate;
  readonly verified: boolean;
  readonly anchorSha256: string | null;
  readonly firstSeen: number;
  lastSeen: number;
  address: string;
  openConnections: number;
  connections: number;
  requests: number;
  /** Whether it is in the list. */
  kept: boolean;
}

const KEPT = 100;

/** Milliseconds between two returns: when more certificates are busy than are kept, the list must not be what is busy. */
const RETURN_INTERVAL = 1_000;

/** The certificates seen last; that which was silent longest is forgotten first. */
export class Callers {
  readonly #kept: number;
  readonly #seen = new Map<string, Caller>();
  #returnedAt = 0;

  constructor(kept: number = KEPT) {
    this.#kept = kept;
  }

  /** @returns null for a caller without a certificate */
  connected({ identity, remoteAddress, openedAt }: Connection): Caller | null {
    const { certificate, anchorSha256 } = identity;
    if (certificate === null) return null;
    const verified = identity.verify === 'SUCCESS';
    const known = this.#seen.get(certificate.sha256);
    // Verified under other settings than before: another line, lest the old one vouch for it.
    const same = known?.verified === verified && known.anchorSha256 === anchorSha256 ? known : undefined;
    const fresh = { firstSeen: openedAt, openConnections: 0, connections: 0, requests: 0, kept: false };
    const caller = same ?? { certificate, verified, anchorSha256, address: '', lastSeen: 0, ...fresh };
    caller.address = remoteAddress;
    caller.lastSeen = openedAt;
    caller.connections += 1;
    caller.openConnections += 1;
    if (!caller.kept) this.#keep(caller);
    return caller;
  }

  /** One who was forgotten while its connection was silent is remembered again. */
  requested(caller: Caller, at: number): void {
    caller.requests += 1;
    caller.lastSeen = at;
    if (caller.kept || at - this.#returnedAt < RETURN_INTERVAL) return;
    this.#returnedAt = at;
    this.#keep(caller);
  }

  /** Newest first. */
  list(): SeenCaller[] {
    return [...this.#seen.values()].sort((a, b) => b.lastSeen - a.lastSeen).map(describe);
  }

  #keep(caller: Caller): void {
    const { sha256 } = caller.certificate;
    const former = this.#seen.get(sha256);
    if (former !== undefined) this.#forget(former);
    else if (this.#seen.size >= this.#kept) this.#forget(oldest(this.#seen.values()));
    caller.kept = true;
    this.#seen.set(sha256, caller);
  }

  #forget(caller: Caller): void {
    caller.kept = false;
    this.#seen.delete(caller.certificate.sha256);
  }
}

/** The callers that several processes saw, newest first, at most as many as one process keeps. */
export function mergeCallers(lists: readonly (readonly SeenCaller[])[], kept: number = KEPT): SeenCaller[] {
  const byCertificate = new Map<string, SeenCaller>();
  for (const caller of lists.flat()) {
    // As in one process: what was verified under one anchor does not vouch for what was not.
    const key = `${caller.sha256} ${caller.verified} ${caller.anchorSha256}`;
    const known = byCertificate.get(key);
    byCertificate.set(key, known === undefined ? caller : joined(known, caller));
  }
  return [...byCertificate.values()].sort(byLastSeen).slice(0, kept);
}

function joined(one: SeenCaller, other: SeenCaller): SeenCaller {
  const [newer, older] = byLastSeen(one, other) <= 0 ? [one, other] : [other, one];
  return {
    ...newer,
    firstSeen: one.firstSeen < other.firstSeen ? one.firstSeen : other.firstSeen,
    openConnections: newer.openConnections + older.openConnections,
    connections: newer.connections + older.connections,
    requests: newer.requests + older.requests,
  };
}

/** ISO 8601 in UTC sorts as text. */
function byLastSeen(one: SeenCaller, other: SeenCaller): number {
  return one.lastSeen < other.lastSeen ? 1 : one.lastSeen > other.lastSeen ? -1 : 0;
}

function oldest(callers: Iterable<Caller>): Caller {
  return [...callers].reduce((one, other) => (other.lastSeen < one.lastSeen ? other : one));
}

function describe(caller: Caller): SeenCaller {
  const { certificate, verified, address, anchorSha256, openConnections, connections, requests } = caller;
  const { subject, issuer, serial, sha256, notBefore, notAfter } = certificate;
  return {
    subject: clip(subject),
    issuer: clip(issuer),
    serial: clip(serial),
    sha256,
    verified,
    notBefore: isoTime(notBefore),
    notAfter: isoTime(notAfter),
    firstSeen: isoTime(caller.firstSeen),
    lastSeen: isoTime(caller.lastSeen),
    address,
    anchorSha256,
    openConnections,
    connections,
    requests,
  };
}
