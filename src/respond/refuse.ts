import type { ConnectionReason, RequestCode } from '../errors.js';
import { headText } from '../rewrite/flat-headers.js';
import { http2Refusal } from './http2-frames.js';
import type { Outgoing } from './relay.js';

/** What the caller sees of a refusal. The only place that invents a status. */
interface Answer {
  readonly status: number;
  /** nginx's title where nginx has one: people search for these words. */
  readonly title: string;
  /** Seconds. */
  readonly retryAfter?: number;
}

const CERTIFICATE_ERROR: Answer = { status: 400, title: 'The SSL certificate error' };
const HANDSHAKE_FAILED: Answer = { status: 400, title: 'Bad Request' };

/** Connections; nginx's 495, 496 and 497 are all sent as 400. */
const CONNECTION_ANSWERS: Readonly<Record<ConnectionReason, Answer>> = {
  no_certificate: { status: 400, title: 'No required SSL certificate was sent' },
  untrusted_issuer: CERTIFICATE_ERROR,
  self_signed: CERTIFICATE_ERROR,
  expired: CERTIFICATE_ERROR,
  not_yet_valid: CERTIFICATE_ERROR,
  revoked: CERTIFICATE_ERROR,
  crl_missing: CERTIFICATE_ERROR,
  crl_expired: CERTIFICATE_ERROR,
  wrong_purpose: CERTIFICATE_ERROR,
  weak_signature: CERTIFICATE_ERROR,
  chain_too_long: CERTIFICATE_ERROR,
  invalid: CERTIFICATE_ERROR,
  not_allowed: { status: 403, title: 'Forbidden' },
  plain_http: { status: 400, title: 'The plain HTTP request was sent to HTTPS port' },
  overloaded: { status: 503, title: 'Service Temporarily Unavailable', retryAfter: 1 },
  // Nobody can be answered here: TLS said what there is to say.
  handshake_timeout: HANDSHAKE_FAILED,
  tls_version: HANDSHAKE_FAILED,
  no_shared_cipher: HANDSHAKE_FAILED,
  handshake_failed: HANDSHAKE_FAILED,
  handshake_aborted: HANDSHAKE_FAILED,
  proxy_protocol: HANDSHAKE_FAILED,
  proxy_untrusted: HANDSHAKE_FAILED,
};

/** Requests of admitted connections. */
const REQUEST_ANSWERS: Readonly<Record<RequestCode, Answer>> = {
  bad_request: { status: 400, title: 'Bad Request' },
  headers_too_large: { status: 431, title: 'Request Header Fields Too Large' },
  uri_too_long: { status: 414, title: 'URI Too Long' },
  body_too_large: { status: 413, title: 'Content Too Large' },
  request_timeout: { status: 408, title: 'Request Timeout' },
  misdirected: { status: 421, title: 'Misdirected Request' },
  not_allowed: { status: 403, title: 'Forbidden' },
  expired: CERTIFICATE_ERROR,
  no_certificate: { status: 400, title: 'No required SSL certificate was sent' },
  untrusted_issuer: CERTIFICATE_ERROR,
  self_signed: CERTIFICATE_ERROR,
  not_yet_valid: CERTIFICATE_ERROR,
  revoked: CERTIFICATE_ERROR,
  crl_missing: CERTIFICATE_ERROR,
  crl_expired: CERTIFICATE_ERROR,
  wrong_purpose: CERTIFICATE_ERROR,
  weak_signature: CERTIFICATE_ERROR,
  chain_too_long: CERTIFICATE_ERROR,
  invalid: CERTIFICATE_ERROR,
  upstream_connect: { status: 502, title: 'Bad Gateway' },
  upstream_protocol: { status: 502, title: 'Bad Gateway' },
  upstream_closed: { status: 502, title: 'Bad Gateway' },
  upstream_timeout: { status: 504, title: 'Gateway Timeout' },
  draining: { status: 503, title: 'Service Temporarily Unavailable', retryAfter: 1 },
  overloaded: { status: 503, title: 'Service Temporarily Unavailable', retryAfter: 1 },
  internal: { status: 500, title: 'Internal Server Error' },
};

/** nginx's `upstream_connect` before the application has ever answered: it is starting, so ask again. */
const STARTING: Answer = { status: 503, title: 'Service Temporarily Unavailable', retryAfter: 1 };

const PHRASES: Readonly<Record<number, string>> = {
  301: 'Moved Permanently',
  400: 'Bad Request',
  403: 'Forbidden',
  408: 'Request Timeout',
  413: 'Content Too Large',
  414: 'URI Too Long',
  421: 'Misdirected Request',
  431: 'Request Header Fields Too Large',
  500: 'Internal Server Error',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
};

export interface RequestRefusal {
  readonly code: RequestCode;
  readonly requestId: string;
  /** Whether the caller's Accept asks for JSON. */
  readonly json: boolean;
  /** Tell the caller to close: framing or trust is lost. */
  readonly close: boolean;
  /** The application was never reachable yet. */
  readonly starting: boolean;
}

/** The status that a code is answered with. */
export function statusOf(code: RequestCode, starting = false): number {
  return answerTo(code, starting).status;
}

function answerTo(code: RequestCode, starting: boolean): Answer {
  return code === 'upstream_connect' && starting ? STARTING : REQUEST_ANSWERS[code];
}

/** Answers a request of an admitted connection. The response must not have been started. */
export function refuse(response: Outgoing, refusal: RequestRefusal): void {
  const answer = answerTo(refusal.code, refusal.starting);
  const body = refusal.json ? jsonBody(answer, refusal) : page(answer, refusal.code);
  const headers = headersFor(answer, body, refusal.json ? 'application/json' : 'text/html');
  headers.push('X-Request-Id', refusal.requestId);
  if (refusal.close) headers.push('Connection', 'close');
  response.writeHead(answer.status, PHRASES[answer.status], headers);
  response.end(body);
}

function headersFor(answer: Answer, body: string, type: string): string[] {
  const headers = [
    'Content-Type',
    type,
    'Content-Length',
    String(Buffer.byteLength(body)),
    'Cache-Control',
    'no-store',
  ];
  if (answer.retryAfter !== undefined) headers.push('Retry-After', String(answer.retryAfter));
  return headers;
}

function jsonBody(answer: Answer, { code, requestId }: Pick<RequestRefusal, 'code' | 'requestId'>): string {
  return `${JSON.stringify({ error: { code, message: answer.title, requestId } })}\n`;
}

/** @param code from a closed list: nothing of the caller's is ever put into a page. */
function page(answer: Answer, code: string): string {
  const phrase = PHRASES[answer.status] ?? '';
  return [
    '<!DOCTYPE html>',
    `<html lang="en"><head><meta charset="utf-8"><title>${answer.status} ${answer.title}</title></head>`,
    `<body><h1>${answer.status} ${phrase}</h1><p>${answer.title}</p><hr><p><code>${code}</code> &middot; mtls-sidecar</p></body></html>`,
    '',
  ].join('\n');
}

/** The whole answer to a connection that never reaches the HTTP parser, as bytes. */
export function connectionRefusal(reason: ConnectionReason): Buffer {
  const answer = CONNECTION_ANSWERS[reason];
  return rawAnswer(answer, { type: 'text/html', body: page(answer, reason), extra: [] });
}

/** The same, where HTTP/2 was agreed on in the handshake; it begins with `HTTP2_GREETING`, which is said before. */
export function http2ConnectionRefusal(reason: ConnectionReason): Buffer {
  const answer = CONNECTION_ANSWERS[reason];
  const body = page(answer, reason);
  return http2Refusal(answer.status, headersFor(answer, body, 'text/html'), Buffer.from(body));
}

/** Whom a refusal is written to by hand. */
export interface UnparsedRefusal {
  readonly requestId: string;
  readonly json?: boolean;
  readonly starting?: boolean;
}

/** The whole answer to a request for which there is no ServerResponse (unreadable, or an Upgrade), as bytes. */
export function unparsedRefusal(
  code: RequestCode,
  { requestId, json = false, starting = false }: UnparsedRefusal,
): Buffer {
  const answer = answerTo(code, starting);
  const extra = ['X-Request-Id', requestId];
  if (!json) return rawAnswer(answer, { type: 'text/html', body: page(answer, code), extra });
  return rawAnswer(answer, { type: 'application/json', body: jsonBody(answer, { code, requestId }), extra });
}

/**
 * The answer to plain HTTP on the TLS port when `listen.plainHttp` is `redirect`.
 * @param location an absolute https URL of checked characters
 */
export function redirectToHttps(location: string): Buffer {
  const answer = { status: 301, title: 'Moved Permanently' };
  return rawAnswer(answer, { type: 'text/html', body: page(answer, 'plain_http'), extra: ['Location', location] });
}

interface RawContent {
  readonly type: string;
  readonly body: string;
  readonly extra: readonly string[];
}

function rawAnswer(answer: Answer, { type, body, extra }: RawContent): Buffer {
  const headers = [...headersFor(answer, body, type), ...extra, 'Connection', 'close'];
  const line = `HTTP/1.1 ${answer.status} ${PHRASES[answer.status] ?? ''}`;
  return Buffer.from(headText(line, headers) + body, 'utf8');
}
