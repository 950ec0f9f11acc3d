import { HOP_BY_HOP, namedByConnection } from './hop-by-hop.js';

/**
 * Removes what belongs to the connection to the application from its answer, and puts our request id in. Order, case
 * and duplicates (Set-Cookie) of the rest stay as they were.
 * @param received flat list
 * @param requestId null for a section that carries none (1xx, trailers)
 */
export function rewriteResponseHeaders(received: readonly string[], requestId: string | null): string[] {
  const named = namedByConnection(connectionTokens(received));
  const headers: string[] = [];
  for (let index = 0; index + 1 < received.length; index += 2) {
    const name = received[index] as string;
    const lower = name.toLowerCase();
    if (HOP_BY_HOP.has(lower) || lower === 'x-request-id' || named?.has(lower) === true) continue;
    headers.push(name, received[index + 1] as string);
  }
  if (requestId !== null) headers.push('X-Request-Id', requestId);
  return headers;
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
