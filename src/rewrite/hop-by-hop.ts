/**
 * Headers that belong to one connection and are never forwarded (RFC 9110 §7.6.1), by lower-case name. `Trailer` and
 * `TE` are among them: what is forwarded is framed anew, and the forwarder speaks for itself.
 */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'proxy-authenticate',
  'proxy-authorization',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);

/** Options of `Connection` that name no header. */
const OPTIONS: ReadonlySet<string> = new Set(['close', 'keep-alive', 'upgrade', '']);

/**
 * The headers that `Connection` names besides the fixed ones; null when there are none, which is nearly always.
 * @param tokens lower case
 */
export function namedByConnection(tokens: readonly string[]): ReadonlySet<string> | null {
  if (tokens.every((token) => OPTIONS.has(token))) return null;
  return new Set(tokens.filter((token) => !OPTIONS.has(token)));
}
