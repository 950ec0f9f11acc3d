import { UnreadableCertificateError } from './der.js';

/** OpenSSL's limit (CVE-2023-2650): turning arcs of any size into decimals takes time quadratic in their length. */
const MAX_BYTES = 586;

/**
 * The dotted form of an OBJECT IDENTIFIER's content. Arcs may be of any size (UUID arcs have 128 bits).
 * @throws UnreadableCertificateError for an empty, unfinished, padded or overlong one.
 */
export function dottedOid(content: Uint8Array): string {
  const last = content.at(-1);
  if (last === undefined || last >= 0x80 || content.length > MAX_BYTES) throw malformed();
  const [head = 0n, ...rest] = arcs(content);
  const first = head < 80n ? head / 40n : 2n;
  return [first, head - first * 40n, ...rest].join('.');
}

function arcs(content: Uint8Array): bigint[] {
  const values: bigint[] = [];
  let value = 0n;
  let fresh = true;
  for (const octet of content) {
    // X.690 §8.19.2: a leading 0x80 pads an arc.
    if (fresh && octet === 0x80) throw malformed();
    value = (value << 7n) | BigInt(octet & 0x7f);
    fresh = octet < 0x80;
    if (!fresh) continue;
    values.push(value);
    value = 0n;
  }
  return values;
}

function malformed(): UnreadableCertificateError {
  return new UnreadableCertificateError('an object identifier is malformed');
}
