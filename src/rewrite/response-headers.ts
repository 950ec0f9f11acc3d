import { ProxyError } from '../errors.js';
import { HOP_BY_HOP, namedByConnection } from './hop-by-hop.js';

/**
 * Removes what belongs to the connection to the application from its answer, and puts our request id in. Order, case
 * and duplicates (Set-Cookie) of the rest stay as they were.
 * @param received flat list
 * @param requestId null for a section that carries none (1xx, trailers)
 * @param status where it is known; it decides whether a length may be told
 * @throws ProxyError when the body could not be passed on as what it is
 */
export function rewriteResponseHeaders(received: readonly string[], requestId: string | null, status = 0): string[] {
  const bodiless = requestId === null || status === 204;
  const named = namedByConnection(connectionTokens(received));
  const headers: string[] = [];
  let coding = '';
  for (let index = 0; index + 1 < received.length; index += 2) {
    const name = received[index] as string;
    const lower = name.toLowerCase();
    if (lower === 'transfer-encoding') coding += `,${received[index + 1]}`;
    // RFC 9110 §8.6: no length in 1xx and 204; nor, by §6.5.1, in trailers.
    if (bodiless && lower === 'content-length') continue;
    if (HOP_BY_HOP.has(lower) || lower === 'x-request-id' || named?.has(lower) === true) continue;
    headers.push(name, received[index + 1] as string);
  }
  if (requestId === null) return headers;
  if (coding !== '' && status !== 101) refuseUnknownCoding(coding.slice(1));
  headers.push('X-Request-Id', requestId);
  return headers;
}

/**
 * The chunks are taken off and put on anew, and the header with them. Another coding beneath them would lose its only
 * mark, and nobody asked for one: `TE` is not forwarded.
 */
function refuseUnknownCoding(coding: string): void {
  if (coding.trim().toLowerCase() === 'chunked') return;
  throw new ProxyError('upstream_protocol', 'upstream', 'rewrite', `an answer in transfer coding ${coding}`);
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
