import { ProxyError } from '../errors.js';
import { HOP_BY_HOP, namedByConnection } from './hop-by-hop.js';

/**
 * Removes what belongs to the connection to the application from its answer, and puts our request id in. Order, case
 * and duplicates (Set-Cookie) of the rest stay as they were.
 * @param received flat list
 * @param requestId null for a section that carries none (1xx, trailers)
 * @param status where it is known; it decides whether a length may be told
 * @throws ProxyError when the body could not be passed on as what it is, or the status is none
 */
export function rewriteResponseHeaders(received: readonly string[], requestId: string | null, status = 0): string[] {
  const bodiless = requestId === null || status === 204 || status === 205;
  const named = namedByConnection(connectionTokens(received));
  const headers: string[] = [];
  let coding = '';
  for (let index = 0; index + 1 < received.length; index += 2) {
    const name = received[index] as string;
    const lower = name.toLowerCase();
    if (lower === 'transfer-encoding') coding += `,${received[index + 1]}`;
    // RFC 9110 §8.6: no length in 1xx and 204; nor, by §6.5.1, in trailers. That of a 205 is ours to tell.
    if (bodiless && lower === 'content-length') continue;
    if (HOP_BY_HOP.has(lower) || lower === 'x-request-id' || named?.has(lower) === true) continue;
    headers.push(name, received[index + 1] as string);
  }
  if (requestId === null) return headers;
  refuseUnfit(status, coding);
  if (status === 205) headers.push('Content-Length', '0');
  headers.push('X-Request-Id', requestId);
  return headers;
}

/** @param codings a comma before each */
function refuseUnfit(status: number, codings: string): void {
  // RFC 9110 §15. Some use such numbers for errors of their own, and HTTP/2 does not carry them.
  if (status > 599) throw unfit(`an answer with status ${status}`);
  // The chunks are taken off and put on anew, and the header with them. Another coding beneath them would lose its only
  // mark, and nobody asked for one: `TE` is not forwarded.
  if (codings === '' || status === 101 || codings.slice(1).trim().toLowerCase() === 'chunked') return;
  throw unfit(`an answer in transfer coding ${codings.slice(1)}`);
}

function unfit(message: string): ProxyError {
  return new ProxyError('upstream_protocol', 'upstream', 'rewrite', message);
}

const NONE: readonly string[] = [];

function connectionTokens(received: readonly string[]): readonly string[] {
  let tokens = NONE;
  for (let index = 0; index + 1 < received.length; index += 2) {
    const name = received[index] as string;
    if (name.length !== 10 || name.toLowerCase() !== 'connection') continue;
    tokens = [...tokens, ...(received[index + 1] as string).split(',').map((token) => token.trim().toLowerCase())];
  }
  return tokens;
}
