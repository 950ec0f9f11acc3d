/**
 * One DER element: tag, shortest length, content. Written here by hand because an ASN.1 library decodes and corrects
 * what it is given, and half of what the tests need is certificates that no library would make.
 */
export function element(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const body = Buffer.concat(content);
  return Buffer.concat([Uint8Array.of(tag), lengthOctets(body.length), body]);
}

export function sequence(...content: readonly Uint8Array[]): Uint8Array {
  return element(0x30, ...content);
}

/** INTEGER: two's complement, shortest form. */
export function integer(value: bigint): Uint8Array {
  let size = 1;
  while (BigInt.asIntN(size * 8, value) !== value) size += 1;
  const hex = BigInt.asUintN(size * 8, value).toString(16);
  return element(2, Buffer.from(hex.padStart(size * 2, '0'), 'hex'));
}

/** BIT STRING of whole bytes. */
export function bitString(bytes: Uint8Array): Uint8Array {
  return element(3, Uint8Array.of(0), bytes);
}

/** OBJECT IDENTIFIER, arcs of any size. @throws Error unless it is a dotted OID. */
export function objectIdentifier(oid: string): Uint8Array {
  if (!/^[0-2](\.\d+)+$/.test(oid)) throw new Error(`${oid} is no object identifier`);
  const [first = 0n, second = 0n, ...rest] = oid.split('.').map(BigInt);
  return element(6, Uint8Array.from([first * 40n + second, ...rest].flatMap((arc) => base128(arc))));
}

/** RFC 5280 §4.1.2.5: UTCTime from 1950 to 2049, GeneralizedTime for what it cannot say. */
export function time(milliseconds: number): Uint8Array {
  const date = new Date(milliseconds);
  const digits = `${date.toISOString().replace(/[-:T]|\..*/g, '')}Z`;
  const year = date.getUTCFullYear();
  return year < 1950 || year > 2049 ? element(24, Buffer.from(digits)) : element(23, Buffer.from(digits.slice(2)));
}

/** Text as one byte per character, so that a test can write any byte (`\xff`, NUL) where ASCII is expected. */
export function byteString(value: string | Uint8Array): Uint8Array {
  return typeof value === 'string' ? Buffer.from(value, 'latin1') : value;
}

/** PEM with 64 characters a line. */
export function toPem(label: string, der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n`;
}

function lengthOctets(length: number): Uint8Array {
  if (length < 0x80) return Uint8Array.of(length);
  const hex = length.toString(16);
  const octets = Buffer.from(hex.length % 2 === 0 ? hex : `0${hex}`, 'hex');
  return Buffer.concat([Uint8Array.of(0x80 | octets.length), octets]);
}

function base128(arc: bigint): number[] {
  const octets = [Number(arc & 0x7fn)];
  for (let rest = arc >> 7n; rest > 0n; rest >>= 7n) octets.unshift(Number(rest & 0x7fn) | 0x80);
  return octets;
}
