import type { ConnectionReason, RequestCode } from '../errors.js';
import type { Connection, PeerCertificate } from '../identify/peer-identity.js';

/** A connection that was refused. One record in the log, one count in the metrics, one entry in `/refusals`. */
export interface ConnectionRefusal {
  readonly reason: ConnectionReason;
  /** What exactly was wrong: OpenSSL's text, or ours. */
  readonly detail: string;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly tlsVersion: string | null;
  readonly serverName: string | null;
  /** What the caller presented, if anything readable. Unverified. */
  readonly certificate: Pick<PeerCertificate, 'subject' | 'issuer' | 'serial' | 'sha256' | 'notAfter'> | null;
}

/** What became of a request. */
export type Outcome = 'ok' | 'refused' | 'caller_aborted' | 'upstream_aborted';

/** A request at its end. One access record, one count. */
export interface RequestRecord {
  readonly connection: Connection;
  readonly requestId: string;
  readonly method: string;
  /** Request target as received; the access log masks secrets in its query. Hostile input. */
  readonly target: string;
  readonly httpVersion: string;
  readonly host: string | null;
  /** Name of the route that was taken; null for none, and for a request that was refused before. */
  readonly route: string | null;
  readonly referer: string | null;
  readonly userAgent: string | null;
  /** Flat list, as received; empty when it could not be read. For `$http_…` of a log format. Hostile input. */
  readonly rawHeaders: readonly string[];
  /** What the caller was sent; 0 when the caller left before a head was sent. */
  readonly status: number;
  /** Set when the status is ours, not the application's. */
  readonly code: RequestCode | null;
  /** For the log only: why. */
  readonly detail: string | null;
  readonly outcome: Outcome;
  /** Body bytes, without framing. */
  readonly bytesIn: number;
  readonly bytesOut: number;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly durationMs: number;
  /** From the forwarded head to the application's head; null when it was not asked or did not answer. */
  readonly upstreamMs: number | null;
  readonly upgraded: boolean;
}

/** Where the stages report to. The only thing they know of logging and metrics. */
export interface Observer {
  connectionAdmitted(connection: Connection): void;
  connectionClosed(connection: Connection): void;
  connectionRefused(refusal: ConnectionRefusal): void;
  requestFinished(record: RequestRecord): void;
  /** Something worth a log line that is neither a request nor a refusal: an attribute left out, a bug. */
  warn(message: string, fields?: Readonly<Record<string, unknown>>): void;
  error(message: string, error: unknown): void;
}
