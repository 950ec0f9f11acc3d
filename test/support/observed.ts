import type { Connection, PeerIdentity } from '../../src/identify/peer-identity.js';
import { createLog, type Log, type LogLevel } from '../../src/observe/log.js';
import type { ConnectionRefusal, RequestRecord } from '../../src/observe/observer.js';

const CERTIFICATE = {
  der: new Uint8Array(),
  subject: 'CN=im.qq.com,O=Tencent',
  issuer: 'CN=IM CA',
  subjectLegacy: '/O=Tencent/CN=im.qq.com',
  commonNames: ['im.qq.com'],
  organizations: ['Tencent'],
  organizationalUnits: [],
  serial: '0A',
  notBefore: Date.parse('2025-01-01T00:00:00Z'),
  notAfter: Date.parse('2027-01-01T00:00:00Z'),
  hasUnknownCriticalExtension: false,
  subjectAltNames: [],
  sha256: 'ab'.repeat(32),
  sha1: 'cd'.repeat(20),
  spkiSha256: 'sha256:AAAA',
} as const;

/** An admitted connection, with parts of its identity or of itself replaced. */
export function aConnection(identity: Partial<PeerIdentity> = {}, connection: Partial<Connection> = {}): Connection {
  const tls = { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', serverName: null, sessionReused: false };
  return {
    id: 1,
    identity: {
      verify: 'SUCCESS',
      fault: null,
      certificate: CERTIFICATE,
      chain: [],
      anchorSha256: null,
      validUntil: Infinity,
      tls,
      ...identity,
    },
    remoteAddress: '192.0.2.7',
    remotePort: 40000,
    localPort: 8443,
    openedAt: 0,
    identityHeaders: [],
    anonymousHeaders: () => [],
    ...connection,
  };
}

/** A request that the application answered, with parts replaced. */
export function aRecord(record: Partial<RequestRecord> = {}): RequestRecord {
  return {
    connection: aConnection(),
    requestId: 'r-1',
    method: 'POST',
    target: '/im?SdkAppid=1&Sign=abc',
    httpVersion: '1.1',
    host: 'im.example.com',
    route: null,
    referer: null,
    userAgent: 'IM',
    rawHeaders: ['Host', 'im.example.com', 'User-Agent', 'IM'],
    status: 200,
    code: null,
    detail: null,
    outcome: 'ok',
    bytesIn: 10,
    bytesOut: 20,
    startedAt: Date.parse('2026-01-31T23:59:59.123Z'),
    durationMs: 5,
    upstreamMs: 3,
    upgraded: false,
    ...record,
  };
}

/** A caller whose certificate nobody here knows, with parts replaced. */
export function aRefusal(refusal: Partial<ConnectionRefusal> = {}): ConnectionRefusal {
  return {
    reason: 'untrusted_issuer',
    detail: 'unable to get local issuer certificate',
    remoteAddress: '192.0.2.9',
    remotePort: 50000,
    tlsVersion: 'TLSv1.2',
    serverName: 'im.example.com',
    certificate: CERTIFICATE,
    ...refusal,
  };
}

/** A log whose text can be read back; `lines` parses each line. */
export function collectingLog(level: LogLevel): {
  log: Log;
  text: () => string;
  lines: () => Record<string, unknown>[];
} {
  let text = '';
  const log = createLog({ level, pretty: false, destination: { write: (more) => (text += more) } });
  const lines = () =>
    text
      .split('\n')
      .slice(0, -1)
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  return { log, text: () => text, lines };
}
