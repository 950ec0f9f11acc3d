import type { Config } from '../config/config.js';
import type { PeerIdentity } from '../identify/peer-identity.js';
import { nginxEscape, type Escape } from './escapes.js';
import { compileFormat, requestLine, statusShown } from './log-format.js';
import type { Log } from './log.js';
import { maskQuery } from './mask.js';
import type { RequestRecord } from './observer.js';
import { clip, jsonNumber, jsonString, jsonStringOrNull, jsonText, peerAddress } from './text.js';
import { clfTime, isoTime } from './timestamps.js';

/** Writes one line per request. */
export interface AccessLog {
  /** Whether a line says which code a refusal had. The combined format has no place for it. */
  readonly carriesCode: boolean;
  write(record: RequestRecord): void;
}

/** How access lines look: JSON, nginx's combined line, or a template with nginx's variables. */
export type AccessForm = 'json' | 'combined' | { readonly template: string; readonly escape: Escape };

/** The form that the settings ask for; null for no lines at all. */
export function accessForm({ access, format, escape }: Config['log']): AccessForm | null {
  if (access === false) return null;
  if (format !== null) return { template: format, escape };
  return access === true ? 'json' : access;
}

/**
 * @param form `json`: see {@link formatJson}; `combined`: see {@link formatCombined}
 * @param worker number of the process among several, for `json`
 *
 * Lines follow the log's level: at `info` all are written, at `warn` only those (of `json`) with a code, that is, those
 * whose status is ours and not the application's.
 */
export function createAccessLog(form: AccessForm, log: Log, worker: number | null = null): AccessLog {
  if (form !== 'json') {
    const format = form === 'combined' ? formatCombined : compileFormat(form.template, form.escape);
    const write = (record: RequestRecord) => {
      if (log.enabled('info')) log.line(format(record));
    };
    return { carriesCode: false, write };
  }
  const ending = worker === null ? ENDING : `,"worker":${worker}${ENDING}`;
  const write = (record: RequestRecord) => {
    if (log.enabled(levelOf(record))) log.line(formatJson(record, ending));
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
 * | `route` | name of the route in `routes`; `null` for none |
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
 * | `worker` | with several workers alone: the number of the one that served |
 * | `msg` | `request` |
 *
 * Made by hand: 1.5 µs, against 5 µs for the same fields through pino. Each piece is two strings more until the line is written, so what
 * stands between two values is a piece with one of them where it can be.
 */
export function formatJson(record: RequestRecord, ending = ENDING): string {
  const { remoteAddress, remotePort, identity } = record.connection;
  return (
    BEGINNINGS[levelOf(record)] +
    `${isoTime(record.startedAt + record.durationMs)}","requestId":"${jsonText(record.requestId)}` +
    `","method":"${jsonText(record.method)}","path":"${jsonText(maskQuery(record.target))}${endFields(record)}` +
    `${jsonNumber(record.bytesIn)},"bytesOut":${jsonNumber(record.bytesOut)}` +
    `,"durationMs":${jsonNumber(record.durationMs)},"upstreamMs":${jsonNumber(record.upstreamMs)}` +
    (record.upgraded ? ',"upgraded":true,"userAgent":' : ',"upgraded":false,"userAgent":') +
    `${jsonStringOrNull(record.userAgent)}` +
    `,"peer":"${jsonText(peerAddress(remoteAddress, remotePort))}${identityFields(identity)}${ending}`
  );
}

const BEGINNINGS = { info: '{"level":"info","time":"', warn: '{"level":"warn","time":"' } as const;
const ENDING = ',"msg":"request"}';

type EndFields = Pick<RequestRecord, 'httpVersion' | 'host' | 'route' | 'status' | 'code' | 'detail' | 'outcome'>;

let lastEnd: { readonly record: EndFields; readonly text: string } | null = null;

/**
 * From the end of the path to the first value that is never the same. Kept from one record to the next: what the application answers mostly
 * ends like the request before.
 */
function endFields(record: EndFields): string {
  if (record.code !== null) return buildEndFields(record);
  if (lastEnd === null || !endsAlike(record, lastEnd.record)) {
    const { httpVersion, host, route, status, code, detail, outcome } = record;
    // Copied, so that V8 keeps one string and not the tree of its parts.
    const text = Buffer.from(buildEndFields(record)).toString();
    lastEnd = { record: { httpVersion, host, route, status, code, detail, outcome }, text };
  }
  return lastEnd.text;
}

function buildEndFields({ httpVersion, host, route, status, code, detail, outcome }: EndFields): string {
  return (
    `","httpVersion":${jsonString(httpVersion)},"host":${jsonStringOrNull(host)},"route":${jsonStringOrNull(route)}` +
    `,"status":${jsonNumber(status)},"code":${jsonStringOrNull(code)},"detail":${jsonStringOrNull(detail)}` +
    `,"outcome":"${outcome}","bytesIn":`
  );
}

function endsAlike(one: EndFields, other: EndFields): boolean {
  return (
    one.status === other.status &&
    one.detail === other.detail &&
    one.outcome === other.outcome &&
    one.host === other.host &&
    one.route === other.route &&
    one.httpVersion === other.httpVersion
  );
}

const fieldsOfIdentity = new WeakMap<PeerIdentity, string>();

/** From the end of the peer on. Built once for all connections that share it. */
function identityFields(identity: PeerIdentity): string {
  let fields = fieldsOfIdentity.get(identity);
  if (fields === undefined) {
    // Copied, so that V8 keeps one string and not the tree of its parts.
    fields = Buffer.from(buildIdentityFields(identity)).toString();
    fieldsOfIdentity.set(identity, fields);
  }
  return fields;
}

function buildIdentityFields({ certificate, tls }: PeerIdentity): string {
  const subject = certificate && clip(certificate.subject);
  return (
    `","subject":${jsonStringOrNull(subject)}` +
    `,"serial":${jsonStringOrNull(certificate && clip(certificate.serial))}` +
    `,"sha256":${jsonStringOrNull(certificate && certificate.sha256)}` +
    `,"tlsVersion":${jsonString(tls.version)},"sessionReused":${tls.sessionReused}`
  );
}

/**
 * nginx's `combined` line, byte for byte, so that whatever reads nginx's log reads this one:
 * `$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"`.
 * `$remote_user` is always `-`: who called is in the certificate. Secrets in queries are masked, the referer's too.
 */
export function formatCombined(record: RequestRecord): string {
  const { connection, status } = record;
  const referer = record.referer === null ? '-' : nginxEscape(maskQuery(record.referer));
  const userAgent = record.userAgent === null ? '-' : nginxEscape(record.userAgent);
  const time = clfTime(record.startedAt + record.durationMs);
  return (
    `${nginxEscape(connection.remoteAddress)} - - [${time}] "${nginxEscape(requestLine(record))}"` +
    ` ${statusShown(status)} ${record.bytesOut} "${referer}" "${userAgent}"`
  );
}
