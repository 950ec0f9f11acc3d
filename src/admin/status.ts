import type { X509Certificate } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import type { Config, Route } from '../config/config.js';
import type { AnchorUse } from '../observe/anchors.js';
import type { SeenCaller } from '../observe/callers.js';
import type { Interval } from '../observe/recent.js';
import type { Credentials, LoadedCa } from '../trust/credentials.js';
import type { ReloadOutcome } from '../trust/reloader.js';
import type { ServerPair } from '../trust/server-pair.js';

/** What `/status` is made from, as it is at the moment. */
export interface StatusParts {
  readonly version: string;
  readonly phase: string;
  /** Milliseconds since the epoch. */
  readonly startedAt: number;
  readonly now: number;
  readonly address: AddressInfo;
  readonly adminAddress: AddressInfo | null;
  /** Processes that serve; null when this one does. */
  readonly workers: readonly object[] | null;
  readonly connections: number;
  readonly tunnels: number;
  readonly upstream: object;
  /** Of the settings and files in force. */
  readonly trust: TrustDescription;
  readonly reloads: readonly ReloadOutcome[];
  /** Newest first. */
  readonly callers: readonly SeenCaller[];
  readonly anchors: readonly AnchorUse[];
  /** Oldest first. */
  readonly recent: readonly Interval[];
}

/** The answer to `GET /status`, which operators' scripts read: what is there stays there under its name. */
export function describeStatus(parts: StatusParts): object {
  const { trust, address, adminAddress, callers, anchors } = parts;
  const { clientCert, routes, serverCertificate, serverCertificates, cas, crls } = trust;
  return {
    version: parts.version,
    phase: parts.phase,
    startedAt: isoDate(parts.startedAt),
    now: isoDate(parts.now),
    listen: { host: address.address, port: address.port },
    admin: adminAddress === null ? null : { host: adminAddress.address, port: adminAddress.port },
    workers: parts.workers,
    connections: parts.connections,
    tunnels: parts.tunnels,
    upstream: parts.upstream,
    clientCert,
    routes,
    reloads: parts.reloads.map(({ at, ...outcome }) => ({ at: isoDate(at), ...outcome })),
    serverCertificate,
    serverCertificates,
    // Null for an intermediate: who comes by it is counted under its root.
    cas: cas.map((ca) => ({ ...ca, callers: usage(anchors.find(({ sha256 }) => sha256 === ca.sha256)) })),
    otherCallers: usage(anchors.find(({ sha256 }) => sha256 === null)),
    crls,
    lastClientCertificate: lastVerified(callers),
    callers,
    recent: parts.recent,
  };
}

/** What of the settings and files in force is shown. Of equal ones it is equal in every process. */
export interface TrustDescription {
  readonly clientCert: { readonly verify: string; readonly allowRules: number };
  readonly routes: readonly object[];
  /** The default. */
  readonly serverCertificate: object;
  /** All of them, the default first. */
  readonly serverCertificates: readonly object[];
  readonly cas: readonly { readonly sha256: string }[];
  readonly crls: readonly object[];
}

export function describeTrust({ clientCert, routes }: Config, credentials: Credentials): TrustDescription {
  const { verify, allow } = clientCert;
  return {
    clientCert: { verify, allowRules: allow.length },
    routes: routes.map(describeRoute),
    serverCertificate: describeServerCertificate(credentials.servers[0]),
    serverCertificates: credentials.servers.map((pair) => {
      return { file: pair.file, serverNames: pair.serverNames, ...describeServerCertificate(pair) };
    }),
    cas: credentials.cas.map(describeCa),
    crls: credentials.crls.map(({ file, issuer, thisUpdate, nextUpdate }) => ({
      file,
      issuer,
      thisUpdate: isoDate(thisUpdate),
      nextUpdate: nextUpdate === null ? null : isoDate(nextUpdate),
    })),
  };
}

function describeRoute({ name, clientCert: { verify, allow }, upstream: { url } }: Route) {
  return { name, verify, allowRules: allow.length, upstream: url };
}

function describeServerCertificate({ serverCertificate, serverSubject, serverAltNames }: ServerPair) {
  return {
    subject: serverSubject,
    subjectAltName: serverAltNames,
    notBefore: isoDate(Date.parse(serverCertificate.validFrom)),
    notAfter: isoDate(Date.parse(serverCertificate.validTo)),
    sha256: sha256Of(serverCertificate),
  };
}

function describeCa({ file, label, subject, notAfter, certificate }: LoadedCa) {
  return {
    file,
    label,
    subject,
    serial: certificate.serialNumber,
    sha256: sha256Of(certificate),
    notBefore: isoDate(Date.parse(certificate.validFrom)),
    notAfter: isoDate(notAfter),
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
