import type { Connection } from '../identify/peer-identity.js';
import type { Log } from './log.js';
import { maskQuery } from './mask.js';
import type { RequestRecord } from './observer.js';
import { clip, jsonNumber, jsonString, jsonStringOrNull, peerAddress } from './text.js';
import { clfTime, isoTime } from './timestamps.js';

/** Writes one line per request. */
export interface AccessLog {
  /** Whether a line says which code a refusal had. The combined format has no place for it. */
  readonly carriesCode: boolean;
  write(record: RequestRecord): void;
}

/**
 * @param format `json`: see {@link formatJson}; `combined`: see {@link formatCombined}
 *
 * Lines follow the log's level: at `info` all are written, at `warn` only those (of `json`) with a code, that is, those
 * whose status is ours and not the application's.
 */
export function createAccessLog(format: 'json' | 'combined', log: Log): AccessLog {
  if (format === 'combined') {
    const write = (record: RequestRecord) => {
      if (log.enabled('info')) log.line(formatCombined(record));
    };
    return { carriesCode: false, write };
  }
  const write = (record: RequestRecord) => {
    if (log.enabled(levelOf(record))) log.line(formatJson(record));
  };
  return { carriesCode: true, write };
}

function levelOf(record: RequestRecord): 'info' | 'warn' {
  return record.code === null ? 'info' : 'warn';
}

/**
 * One JSON object. Names do not change meaning once published; every field is always there, `null` when unknown.
 *
 * | field | what |
 * |---|---|
 * | `level` | `info`, or `warn` when `code` is set |
 * | `time` | end of the request, ISO 8601 UTC |
 * | `requestId` | the `X-Request-Id` that the application and the caller saw |
 * | `method`, `path`, `httpVersion`, `host` | as received; secrets in the query of `path` masked |
 * | `status` | what the caller was sent; 0 when it left before |
 * | `code`, `detail` | set when the status is ours: which refusal, and why |
 * | `outcome` | `ok`, `refused`, `caller_aborted`, `upstream_aborted` |
 * | `bytesIn`, `bytesOut` | body bytes from and to the caller |
 * | `durationMs`, `upstreamMs` | milliseconds in all, and until the application's head |
 * | `upgraded` | whether it became a tunnel (WebSocket) |
 * | `userAgent` | as received |
 * | `peer` | `address:port` |
 * | `subject`, `serial`, `sha256` | of the client certificate: RFC 2253, hex, lower-case hex |
 * | `tlsVersion`, `sessionReused` | of the connection |
 * | `msg` | `request` |
 *
 * Made by hand: 1.5 µs, against 5 µs for the same fields through pino.
 */
export function formatJson(record: RequestRecord): string {
  return (
    `{"level":"${levelOf(record)}","time":"${isoTime(record.startedAt + record.durationMs)}"` +
    `,"requestId":${jsonString(record.requestId)},"method":${jsonString(record.method)}` +
    `,"path":${jsonString(maskQuery(record.target))},"httpVersion":${jsonString(record.httpVersion)}` +
    `,"host":${jsonStringOrNull(record.host)},"status":${jsonNumber(record.status)}` +
    `,"code":${jsonStringOrNull(record.code)},"detail":${jsonStringOrNull(record.detail)}` +
    `,"outcome":"${record.outcome}","bytesIn":${jsonNumber(record.bytesIn)},"bytesOut":${jsonNumber(record.bytesOut)}` +
    `,"durationMs":${jsonNumber(record.durationMs)},"upstreamMs":${jsonNumber(record.upstreamMs)}` +
    `,"upgraded":${record.upgraded},"userAgent":${jsonStringOrNull(record.userAgent)}` +
    `${connectionFields(record.connection)},"msg":"request"}`
  );
}

const fieldsOfConnection = new WeakMap<Connection, string>();

/** Built once a connection, which carries up to a thousand requests. */
function connectionFields(connection: Connection): string {
  let fields = fieldsOfConnection.get(connection);
  if (fields === undefined) {
    fields = buildConnectionFields(connection);
    fieldsOfConnection.set(connection, fields);
  }
  return fields;
}

function buildConnectionFields({ remoteAddress, remotePort, identity }: Connection): string {
  const { certificate, tls } = identity;
  const subject = certificate && clip(certificate.subject);
  return (
    `,"peer":${jsonString(peerAddress(remoteAddress, remotePort))},"subject":${jsonStringOrNull(subject)}` +
    `,"serial":${jsonStringOrNull(certificate && clip(certificate.serial))}` +
    `,"sha256":${jsonStringOrNull(certificate && certificate.sha256)}` +
    `,"tlsVersion":${jsonString(tls.version)},"sessionReused":${tls.sessionReused}`
  );
}

/** nginx's own status for a caller that left before it was answered. */
const CLIENT_CLOSED_REQUEST = '499';

/**
 * nginx's `combined` line, byte for byte, so that whatever reads nginx's log reads this one:
 * `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
 * `$remote_user` is always `-`: who called is in the certificate. Secrets in queries are masked, the referer's too.
 */
export function formatCombined(record: RequestRecord): string {
  const { connection, method, target, httpVersion, status } = record;
  const request = nginxEscape(`${method} ${maskQuery(target)} HTTP/${httpVersion}`);
  const shown = status === 0 ? CLIENT_CLOSED_REQUEST : String(status);
  const referer = record.referer === null ? '-' : nginxEscape(maskQuery(record.referer));
  const userAgent = record.userAgent === null ? '-' : nginxEscape(record.userAgent);
  const time = clfTime(record.startedAt + record.durationMs);
  return (
    `${nginxEscape(connection.remoteAddress)} - - [${time}] "${request}" ${shown} ${record.bytesOut}` +
    ` "${referer}" "${userAgent}"`
  );
}

const NGINX_ESCAPES = /["\\]|[^ -~]/;
const EVERY_NGINX_ESCAPE = new RegExp(NGINX_ESCAPES, 'g');

/** nginx's `escape=default` (ngx_http_log_escape): `"`, `\`, and bytes below 32 or above 126 as `\xXX`. */
function nginxEscape(text: string): string {
  if (!NGINX_ESCAPES.test(text)) return text;
  return text.replace(EVERY_NGINX_ESCAPE, (char) => {
    // Node reads header bytes as Latin-1, so a character is the byte that was on the wire.
    return `\\x${(char.charCodeAt(0) & 0xff).toString(16).toUpperCase().padStart(2, '0')}`;
  });
}
