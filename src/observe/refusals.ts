import type { ConnectionReason, RequestCode } from '../errors.js';
import { maskQuery } from './mask.js';
import type { ConnectionRefusal, RequestRecord } from './observer.js';
import { clip, peerAddress } from './text.js';
import { isoTime } from './timestamps.js';

/** A refused connection as logged and as `/refusals` shows it. Certificate fields are unverified. */
export interface RefusedConnection {
  readonly kind: 'connection';
  /** ISO 8601 UTC */
  readonly time: string;
  readonly reason: ConnectionReason;
  readonly detail: string;
  /** `address:port` */
  readonly peer: string;
  readonly tlsVersion: string | null;
  readonly serverName: string | null;
  readonly subject: string | null;
  readonly issuer: string | null;
  readonly serial: string | null;
  readonly sha256: string | null;
  /** ISO 8601 UTC */
  readonly notAfter: string | null;
}

/** A request whose status was ours, not the application's. */
export interface RefusedRequest {
  readonly kind: 'request';
  readonly time: string;
  readonly code: RequestCode;
  readonly detail: string | null;
  readonly status: number;
  readonly requestId: string;
  readonly peer: string;
  readonly method: string;
  /** Secrets in the query masked. */
  readonly path: string;
  readonly host: string | null;
  readonly route: string | null;
  readonly subject: string | null;
  readonly serial: string | null;
}

/** The last refusals, for an operator who wants to know why a caller is turned away without searching the log. */
export interface Refusals {
  add(refusal: RefusedConnection | RefusedRequest): void;
  /** Newest first. */
  list(): (RefusedConnection | RefusedRequest)[];
}

const KEPT = 200;

/**
 * Keeps the last 200 refused connections and the last 200 refused requests. Apart, because an application that is
 * down refuses every request, which must not push out the one certificate somebody is looking for.
 */
export function createRefusals(kept: number = KEPT): Refusals {
  let sequence = 0;
  const rings = { connection: new Ring(kept), request: new Ring(kept) };
  return {
    add: (refusal) => rings[refusal.kind].push({ sequence: sequence++, refusal }),
    list: () => {
      const entries = [...rings.connection.entries(), ...rings.request.entries()];
      return entries.sort((a, b) => b.sequence - a.sequence).map((entry) => entry.refusal);
    },
  };
}

/** The refusals of several processes, newest first, at most as many as one process keeps. */
export function mergeRefusals<R extends Pick<RefusedConnection | RefusedRequest, 'kind' | 'time'>>(
  lists: readonly (readonly R[])[],
  kept: number = KEPT,
): R[] {
  // ISO 8601 in UTC sorts as text.
  const all = lists.flat().sort((a, b) => (a.time < b.time ? 1 : a.time > b.time ? -1 : 0));
  const room = { connection: kept, request: kept };
  return all.filter(({ kind }) => room[kind]-- > 0);
}

interface Entry {
  readonly sequence: number;
  readonly refusal: RefusedConnection | RefusedRequest;
}

class Ring {
  readonly #size: number;
  readonly #entries: Entry[] = [];
  #next = 0;

  constructor(size: number) {
    this.#size = size;
  }

  push(entry: Entry): void {
    this.#entries[this.#next] = entry;
    this.#next = (this.#next + 1) % this.#size;
  }

  entries(): readonly Entry[] {
    return this.#entries;
  }
}

/** @param now milliseconds since the epoch */
export function describeRefusedConnection(refusal: ConnectionRefusal, now: number): RefusedConnection {
  const { certificate } = refusal;
  return {
    kind: 'connection',
    time: isoTime(now),
    reason: refusal.reason,
    detail: clip(refusal.detail),
    peer: peerAddress(refusal.remoteAddress, refusal.remotePort),
    tlsVersion: refusal.tlsVersion,
    serverName: clipped(refusal.serverName),
    subject: clipped(certificate?.subject),
    issuer: clipped(certificate?.issuer),
    serial: clipped(certificate?.serial),
    sha256: certificate?.sha256 ?? null,
    notAfter: certificate ? isoTime(certificate.notAfter) : null,
  };
}

/** @returns null when the application's answer was passed on, so nothing was refused */
export function describeRefusedRequest(record: RequestRecord): RefusedRequest | null {
  if (record.code === null) return null;
  const { connection } = record;
  return {
    kind: 'request',
    time: isoTime(record.startedAt + record.durationMs),
    code: record.code,
    detail: clipped(record.detail),
    status: record.status,
    requestId: clip(record.requestId),
    peer: peerAddress(connection.remoteAddress, connection.remotePort),
    method: clip(record.method),
    path: clip(maskQuery(record.target)),
    host: clipped(record.host),
    route: record.route,
    subject: clipped(connection.identity.certificate?.subject),
    serial: clipped(connection.identity.certificate?.serial),
  };
}

function clipped(text: string | null | undefined): string | null {
  return text === null || text === undefined ? null : clip(text);
}
