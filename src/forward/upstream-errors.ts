import { ProxyError } from '../errors.js';

/** How far a request had come when it failed. */
export interface Progress {
  /** A connection to the application was there and the request was written to it. */
  readonly connected: boolean;
}

const TIMEOUTS: ReadonlySet<string> = new Set([
  'UND_ERR_CONNECT_TIMEOUT',
  'UND_ERR_HEADERS_TIMEOUT',
  'UND_ERR_BODY_TIMEOUT',
  'ETIMEDOUT',
]);

const CLOSED: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);

const PROTOCOL: ReadonlySet<string> = new Set([
  'UND_ERR_HEADERS_OVERFLOW',
  'UND_ERR_RES_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_RES_EXCEEDED_MAX_SIZE',
]);

/** Ours, found in the request that we were about to send: the application is not to blame. */
const OURS: ReadonlySet<string> = new Set([
  'UND_ERR_INVALID_ARG',
  'UND_ERR_NOT_SUPPORTED',
  'UND_ERR_REQ_CONTENT_LENGTH_MISMATCH',
  'UND_ERR_DESTROYED',
  'UND_ERR_CLOSED',
]);

/** Translates what undici or Node says about the exchange with the application. */
export function upstreamError(cause: Error & { code?: string }, progress: Progress): ProxyError {
  if (cause instanceof ProxyError) return cause;
  const code = cause.code ?? '';
  const message = cause.message === '' ? code : cause.message;
  if (OURS.has(code)) return new ProxyError('internal', 'internal', 'forward', message, cause);
  if (TIMEOUTS.has(code)) return new ProxyError('upstream_timeout', 'upstream', 'forward', message, cause);
  if (!progress.connected) return new ProxyError('upstream_connect', 'upstream', 'forward', message, cause);
  return new ProxyError(
    isProtocolError(cause) ? 'upstream_protocol' : 'upstream_closed',
    'upstream',
    'forward',
    message,
    cause,
  );
}

function isProtocolError({ code = '', name, message }: Error & { code?: string }): boolean {
  // undici means to give its parser's errors a code of `HPE_…`, but in 7.30 it is undefined.
  if (name === 'HTTPParserError' || code.startsWith('HPE_') || PROTOCOL.has(code)) return true;
  // undici's words for bytes outside an answer, a 100 unasked and a 101 unasked.
  return code === 'UND_ERR_SOCKET' && (message === 'bad response' || message === 'bad upgrade');
}

/** Whether the connection closed, as it does when the application drops an idle one just as we use it. */
export function isConnectionClosed(cause: Error & { code?: string }): boolean {
  if (CLOSED.has(cause.code ?? '')) return true;
  return cause.code === 'UND_ERR_SOCKET' && !isProtocolError(cause);
}
