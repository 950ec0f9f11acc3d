import { ProxyError } from '../errors.js';

/** How far a request had come when it failed. */
export interface Progress {
  /** A connection to the application was there. */
  readonly connected: boolean;
}

const CLOSED: ReadonlySet<string> = new Set(['ECONNRESET', 'EPIPE', 'ECONNABORTED']);

/** Translates what Node says about a connection to the application, or about the answer that it parsed. */
export function upstreamError(cause: Error & { code?: string }, progress: Progress): ProxyError {
  if (cause instanceof ProxyError && (progress.connected || cause.code !== 'upstream_closed')) return cause;
  const code = cause.code ?? '';
  const message = cause.message === '' ? code : cause.message;
  const fail = (reason: ProxyError['code']): ProxyError =>
    new ProxyError(reason, 'upstream', 'forward', message, cause);
  if (code === 'ETIMEDOUT') return fail('upstream_timeout');
  if (!progress.connected) return fail('upstream_connect');
  return fail(code.startsWith('HPE_') ? 'upstream_protocol' : 'upstream_closed');
}

/** Whether the connection closed, as it does when the application drops an idle one just as we use it. */
export function isConnectionClosed(cause: Error & { code?: string }): boolean {
  return CLOSED.has(cause.code ?? '') || (cause instanceof ProxyError && cause.code === 'upstream_closed');
}
