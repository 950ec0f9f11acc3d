import type { X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { Config } from '../config/config.js';
import type { AnchorUse } from '../observe/anchors.js';
import type { SeenCaller } from '../observe/callers.js';
import type { Interval } from '../observe/recent.js';
import type { Credentials, LoadedCa } from '../trust/credentials.js';
import type { ReloadOutcome } from '../trust/reloader.js';

/** What `/status` is made from, as it is at the moment. */
export interface StatusParts {
  readonly version: string;
  readonly phase: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly now: number;
  readonly address: AddressInfo;
  readonly adminAddress: AddressInfo | null;
  readonly connections: number;
  readonly tunnels: number;
  readonly upstream: object;
  /** Settings and files in force. */
  readonly config: Config;
  readonly credentials: Credentials;
  readonly reloads: readonly ReloadOutcome[];
  /** Newest first. */
  readonly callers: readonly SeenCaller[];
  readonly anchors: readonly AnchorUse[];
  /** Oldest first. */
  readonly recent: readonly Interval[];
}

/** The answer to `GET /status`, which operators' scripts read: what is there stays there under its name. */
export function describeStatus(parts: StatusParts): object {
  const { config, credentials, address, adminAddress, callers, anchors } = parts;
  const { verify, allow } = config.clientCert;
  return {
    version: parts.version,
    phase: parts.phase,
    startedAt: isoDate(parts.startedAt),
    now: isoDate(parts.now),
    listen: { host: address.address, port: address.port },
    admin: adminAddress === null ? null : { host: adminAddress.address, port: adminAddress.port },
    connections: parts.connections,
    tunnels: parts.tunnels,
    upstream: parts.upstream,
    clientCert: { verify, allowRules: allow.length },
    reloads: parts.reloads.map(({ at, ...outcome }) => ({ at: isoDate(at), ...outcome })),
    serverCertificate: describeServerCertificate(credentials),
    cas: credentials.cas.map((ca) => describeCa(ca, anchors)),
    otherCallers: usage(anchors.find(({ sha256 }) => sha256 === null)),
    crls: credentials.crls.map(({ file, issuer, thisUpdate, nextUpdate }) => ({
      file,
      issuer,
      thisUpdate: isoDate(thisUpdate),
      nextUpdate: nextUpdate === null ? null : isoDate(nextUpdate),
    })),
    lastClientCertificate: lastVerified(callers),
    callers,
    recent: parts.recent,
  };
}

function describeServerCertificate({ serverCertificate, serverSubject }: Credentials) {
  return {
    subject: serverSubject,
    subjectAltName: serverCertificate.subjectAltName ?? null,
    notBefore: isoDate(Date.parse(serverCertificate.validFrom)),
    notAfter: isoDate(Date.parse(serverCertificate.validTo)),
    sha256: sha256Of(serverCertificate),
  };
}

function describeCa({ file, label, subject, notAfter, certificate }: LoadedCa, anchors: readonly AnchorUse[]) {
  const own = sha256Of(certificate);
  return {
    file,
    label,
    subject,
    serial: certificate.serialNumber,
    sha256: own,
    notBefore: isoDate(Date.parse(certificate.validFrom)),
    notAfter: isoDate(notAfter),
    // Null for an intermediate: who comes by it is counted under its root.
    callers: usage(anchors.find(({ sha256 }) => sha256 === own)),
  };
}

function usage(use: AnchorUse | undefined) {
  if (use === undefined) return null;
  const { openConnections, connections, requests, lastUsed } = use;
  return { openConnections, connections, requests, lastUsed: lastUsed === 0 ? null : isoDate(lastUsed) };
}

function lastVerified(callers: readonly SeenCaller[]) {
  const last = callers.find(({ verified }) => verified);
  return last === undefined ? null : { subject: last.subject, notAfter: last.notAfter, lastSeen: last.lastSeen };
}

function sha256Of({ fingerprint256 }: X509Certificate): string {
  return fingerprint256.replaceAll(':', '').toLowerCase();
}

function isoDate(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
