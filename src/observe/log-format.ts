import type { Connection, PeerIdentity } from '../identify/peer-identity.js';
import { parseTemplate, type LogVariable, type TemplatePart } from '../nginx/log-template.js';
import { VALUES } from '../rewrite/identity-values.js';
import { ABSENT, ESCAPES, type Escape } from './escapes.js';
import { maskQuery } from './mask.js';
import type { RequestRecord } from './observer.js';
import { clfTime, isoLocalTime } from './timestamps.js';

/** nginx's own status for a caller that left before it was answered. */
const CLIENT_CLOSED_REQUEST = 499;

type Reader = (record: RequestRecord) => string | null;

/** What nginx's variables of these names hold; null is what nginx calls not found. Secrets in queries are masked. */
const READERS: Readonly<Record<LogVariable, Reader>> = {
  args: queryOf,
  body_bytes_sent: ({ bytesOut }) => String(bytesOut),
  connection: ({ connection }) => String(connection.id),
  content_length: headerReader('content-length'),
  content_type: headerReader('content-type'),
  host: ({ host }) => host?.toLowerCase().replace(/\.?(?::\d*)?$/, '') ?? null,
  https: () => 'on',
  is_args: (record) => (queryOf(record) === null ? '' : '?'),
  msec: (record) => seconds(endOf(record)),
  pipe: () => '.',
  query_string: queryOf,
  remote_addr: ({ connection }) => connection.remoteAddress,
  remote_port: ({ connection }) => String(connection.remotePort),
  remote_user: () => null,
  request: requestLine,
  request_id: ({ requestId }) => requestId,
  request_method: ({ method }) => method || null,
  request_time: ({ durationMs }) => seconds(durationMs),
  // Of a URL as target nginx logs the path.
  request_uri: ({ target }) => maskQuery(target.replace(/^https?:\/\/[^/?]*/i, '')) || null,
  scheme: () => 'https',
  server_port: ({ connection }) => String(connection.localPort),
  server_protocol: ({ httpVersion }) => (httpVersion === '' ? null : `HTTP/${httpVersion}`),
  ssl_cipher: ofIdentity(({ tls }) => tls.cipher),
  ssl_client_fingerprint: ofIdentity((identity) => attribute('sha1', identity)),
  ssl_client_i_dn: ofIdentity((identity) => attribute('issuer', identity)),
  ssl_client_s_dn: ofIdentity((identity) => attribute('subject', identity)),
  ssl_client_s_dn_legacy: ofIdentity((identity) => attribute('subjectLegacy', identity)),
  ssl_client_serial: ofIdentity((identity) => attribute('serial', identity)),
  ssl_client_v_end: ofIdentity((identity) => attribute('notAfter', identity)),
  ssl_client_v_remain: (record) => attribute('daysRemaining', record.connection.identity, endOf(record)),
  ssl_client_v_start: ofIdentity((identity) => attribute('notBefore', identity)),
  ssl_client_verify: ofIdentity(({ verify }) => verify),
  ssl_protocol: ofIdentity(({ tls }) => tls.version),
  ssl_server_name: ofIdentity(({ tls }) => tls.serverName),
  ssl_session_reused: ofIdentity(({ tls }) => (tls.sessionReused ? 'r' : '.')),
  status: ({ status }) => String(statusShown(status)),
  time_iso8601: (record) => isoLocalTime(endOf(record)),
  time_local: (record) => clfTime(endOf(record)),
  upstream_header_time: ({ upstreamMs }) => (upstreamMs === null ? null : seconds(upstreamMs)),
  upstream_status: ({ status, code }) => (code === null && status !== 0 ? String(status) : null),
};

/** Makes the function that writes one line. @throws Error naming a variable that is not known */
export function compileFormat(template: string, escape: Escape): (record: RequestRecord) => string {
  const writers = parseTemplate(template).map((part) => writerOf(part, escape));
  return (record) => writers.map((write) => write(record)).join('');
}

/** `GET /im?a=b HTTP/1.1`; empty when the request could not be read. */
export function requestLine({ method, target, httpVersion }: RequestRecord): string {
  if (method === '') return '';
  return `${method} ${maskQuery(target)} HTTP/${httpVersion}`;
}

/** The status as nginx would log it. */
export function statusShown(status: number): number {
  return status === 0 ? CLIENT_CLOSED_REQUEST : status;
}

function writerOf(part: TemplatePart, escape: Escape): (record: RequestRecord) => string {
  if (part.kind === 'text') return () => part.text;
  const read = part.kind === 'variable' ? READERS[part.name] : headerReader(part.name);
  return (record) => {
    const value = read(record);
    return value === null ? ABSENT[escape] : ESCAPES[escape](value);
  };
}

/** Several of a name are joined, as nginx does since 1.23. */
function headerReader(name: string): Reader {
  return ({ rawHeaders }) => {
    const values: string[] = [];
    for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
      if (rawHeaders[index]?.toLowerCase() === name) values.push(rawHeaders[index + 1] as string);
    }
    if (values.length === 0) return null;
    return name === 'referer' ? maskQuery(values.join(', ')) : values.join(', ');
  };
}

function queryOf({ target }: RequestRecord): string | null {
  const masked = maskQuery(target);
  const question = masked.indexOf('?');
  // An empty query is none, as in nginx.
  return question === -1 ? null : masked.slice(question + 1) || null;
}

function endOf({ startedAt, durationMs }: RequestRecord): number {
  return startedAt + durationMs;
}

/** `0.012`: nginx's `%T.%03M`. */
function seconds(milliseconds: number): string {
  const whole = Math.max(0, Math.floor(milliseconds));
  return `${Math.floor(whole / 1000)}.${String(whole % 1000).padStart(3, '0')}`;
}

function ofIdentity(read: (identity: PeerIdentity) => string | null): Reader {
  return ({ connection }: { readonly connection: Connection }) => read(connection.identity);
}

/** A value that cannot be written safely is left out, as in a header. */
function attribute(name: keyof typeof VALUES, identity: PeerIdentity, now = 0): string | null {
  const value = VALUES[name](identity, now);
  return typeof value === 'string' ? value : null;
}
