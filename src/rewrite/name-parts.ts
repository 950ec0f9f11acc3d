/** One attribute of a distinguished name. */
export interface NamePart {
  /** `CN`, or a dotted OID. */
  readonly type: string;
  /** Decoded; null when the certificate has no string there. */
  readonly value: string | null;
}

/**
 * Takes apart the RFC 2253 text of a PeerCertificate, least specific attribute first (certificate order). That text is
 * our own and complete: every special character in it is escaped, so a value cannot end its attribute.
 */
export function nameParts(text: string): readonly NamePart[] {
  const pieces = text.match(/(?:\\[0-9A-F]{2}|\\.|[^,+\\])+/g) ?? [];
  return pieces.map((piece) => namePart(piece)).reverse();
}

function namePart(piece: string): NamePart {
  const equals = piece.indexOf('=');
  const value = piece.slice(equals + 1);
  // `#` and hex digits is the DER of something else; a string that begins with `#` has it escaped, or stands alone.
  const isDump = value.startsWith('#') && value.length > 1;
  return { type: piece.slice(0, equals), value: isDump ? null : unescaped(value) };
}

function unescaped(value: string): string {
  const bytes = value.replace(
    /\\(?:([0-9A-F]{2})|(.))/g,
    (_, hex: string | undefined, character: string | undefined) =>
      hex === undefined ? (character ?? '') : String.fromCharCode(parseInt(hex, 16)),
  );
  return Buffer.from(bytes, 'latin1').toString('utf8');
}

/**
 * `/C=CN/O=Tencent/CN=im.qq.com`, as HAProxy's `ssl_c_s_dn` prints it. HAProxy escapes nothing; here `/` and `\` in a
 * value get a backslash and other bytes become `\xE5`, or a common name of `x/O=Admin` would forge an attribute.
 */
export function slashedName(text: string): string {
  return nameParts(text)
    .map(({ type, value }) => `/${type}=${value === null ? '' : escapeSlashed(value)}`)
    .join('');
}

function escapeSlashed(value: string): string {
  return Array.from(Buffer.from(value, 'utf8'), (byte) => {
    if (byte < 0x20 || byte > 0x7e) return `\\x${byte.toString(16).toUpperCase().padStart(2, '0')}`;
    return byte === 0x2f || byte === 0x5c ? `\\${String.fromCharCode(byte)}` : String.fromCharCode(byte);
  }).join('');
}
