import { SHORT_NAMES } from './attribute-types.js';
import { expectTag, readDer, UnreadableCertificateError, type DerElement } from './der.js';
import { dottedOid } from './object-identifier.js';

/** One attribute of a distinguished name, in certificate order. */
export interface NameAttribute {
  /** Index of its RDN: attributes of one multi-valued RDN share it. */
  readonly rdn: number;
  /** OpenSSL's short name (`CN`), or the dotted OID of a type that has none. */
  readonly type: string;
  /** Whether `type` is a short name. */
  readonly known: boolean;
  /** The decoded value; null when its type is no string type. */
  readonly text: string | null;
  readonly value: DerElement;
}

const SEQUENCE = 0x30;
const SET = 0x31;
const OBJECT_IDENTIFIER = 0x06;
const BIT_STRING = 0x03;

/** `X509_NAME_print_ex` and `X509_NAME_oneline` write the type into a buffer of 80 bytes, NUL included. */
const MAX_TYPE = 79;

/**
 * Reads the DER of an X.501 Name.
 * @throws UnreadableCertificateError when it is malformed, or a string breaks its type's encoding.
 */
export function readName(der: Uint8Array): readonly NameAttribute[] {
  return nameOf(readDer(der));
}

/** As `readName`, for a name that stands in something larger. @throws UnreadableCertificateError */
export function nameOf(element: DerElement | undefined): readonly NameAttribute[] {
  const rdns = expectTag(element, SEQUENCE).children;
  return rdns.flatMap((rdn, index) => expectTag(rdn, SET).children.map((pair) => readAttribute(pair, index)));
}

/**
 * RFC 2253 byte for byte as `openssl x509 -nameopt RFC2253` and nginx's `$ssl_client_s_dn` print it: most specific
 * RDN first (and so reversed inside a multi-valued one), non-ASCII as `\E5\8D`, unknown types dotted with the DER of
 * the value. The result is printable ASCII whatever the certificate says.
 */
export function formatRfc2253(name: readonly NameAttribute[]): string {
  let text = '';
  let previous = -1;
  for (const attribute of name.toReversed()) {
    if (previous !== -1) text += previous === attribute.rdn ? '+' : ',';
    text += `${attribute.type.slice(0, MAX_TYPE)}=${rfc2253Value(attribute)}`;
    previous = attribute.rdn;
  }
  return text;
}

/**
 * The `/C=…/O=…` form of OpenSSL 3's X509_NAME_oneline: certificate order, `+` inside a multi-valued RDN, `/` and `+`
 * in a value escaped, other bytes as `\xE5`. It does not escape the backslash itself, so `\xE5` typed into a
 * certificate looks the same: prefer RFC 2253 where a decision hangs on it.
 */
export function formatOneline(name: readonly NameAttribute[]): string {
  let text = '';
  let previous = -1;
  for (const attribute of name) {
    const separator = previous === attribute.rdn ? '+' : '/';
    text += `${separator}${attribute.type.slice(0, MAX_TYPE)}=${onelineValue(attribute.value)}`;
    previous = attribute.rdn;
  }
  return text;
}

/** The decoded values of one attribute type (`CN`), in certificate order; values of no string type are left out. */
export function attributeValues(name: readonly NameAttribute[], type: string): string[] {
  return name.flatMap((attribute) => (attribute.type === type && attribute.text !== null ? [attribute.text] : []));
}

function readAttribute(pair: DerElement, rdn: number): NameAttribute {
  const [typeElement, value, ...more] = expectTag(pair, SEQUENCE).children;
  const oid = dottedOid(expectTag(typeElement, OBJECT_IDENTIFIER).content);
  if (value === undefined || more.length > 0) throw new UnreadableCertificateError('a name attribute is malformed');
  const shortName = SHORT_NAMES.get(oid);
  return { rdn, type: shortName ?? oid, known: shortName !== undefined, text: decodeText(value), value };
}

/** Null for what is no string type. The other ASN.1 string types cannot occur: OpenSSL refuses them in a name. */
function decodeText({ tag, content }: DerElement): string | null {
  switch (tag) {
    case 12:
      return decodeWith('utf-8', content);
    case 18: // NumericString
    case 19: // PrintableString
    case 20: // T61String: Latin-1 in practice, and for OpenSSL
    case 22: // IA5String
      return Buffer.from(content).toString('latin1');
    case 28:
      return decodeUniversal(content);
    case 30:
      return decodeBmp(content);
    default:
      return null;
  }
}

function decodeWith(encoding: 'utf-8' | 'utf-16be', content: Uint8Array): string {
  try {
    return new TextDecoder(encoding, { fatal: true, ignoreBOM: true }).decode(content);
  } catch {
    throw malformedString();
  }
}

/** Two bytes a character; surrogates are not part of BMPString, and OpenSSL refuses them. */
function decodeBmp(content: Uint8Array): string {
  if (content.length % 2 !== 0) throw malformedString();
  const text = Buffer.from(content).swap16().toString('utf16le');
  if (/[\ud800-\udfff]/.test(text)) throw malformedString();
  return text;
}

function decodeUniversal(content: Uint8Array): string {
  if (content.length % 4 !== 0) throw malformedString();
  const bytes = Buffer.from(content);
  let text = '';
  for (let offset = 0; offset < bytes.length; offset += 4) {
    const point = bytes.readUInt32BE(offset);
    if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) throw malformedString();
    text += String.fromCodePoint(point);
  }
  return text;
}

function malformedString(): UnreadableCertificateError {
  return new UnreadableCertificateError('a string in a name breaks its encoding');
}

function rfc2253Value({ known, text, value }: NameAttribute): string {
  if (!known || text === null) return `#${Buffer.from(value.bytes).toString('hex').toUpperCase()}`;
  const bytes = Buffer.from(text, 'utf8');
  let escaped = '';
  for (const [index, byte] of bytes.entries()) escaped += escapeByte(byte, index, bytes.length - 1);
  return escaped;
}

function escapeByte(byte: number, index: number, last: number): string {
  if (byte < 0x20 || byte > 0x7e) return `\\${hexOctet(byte)}`;
  const character = String.fromCharCode(byte);
  // OpenSSL tests a lone character by the rule for the last one alone, so that a value of just `#` stays bare.
  const first = index === 0 && last !== 0;
  const special =
    ',+"\\<>;'.includes(character) ||
    (character === ' ' && (index === 0 || index === last)) ||
    (character === '#' && first);
  return special ? `\\${character}` : character;
}

function onelineValue(value: DerElement): string {
  let text = '';
  for (const byte of onelineBytes(value)) {
    if (byte < 0x20 || byte > 0x7e) text += `\\x${hexOctet(byte)}`;
    else text += byte === 0x2f || byte === 0x2b ? `\\${String.fromCharCode(byte)}` : String.fromCharCode(byte);
  }
  return text;
}

/** What OpenSSL keeps as the value's data: no count of unused bits, and a SEQUENCE with its header. */
function onelineBytes({ tag, bytes, content }: DerElement): Uint8Array {
  if (tag === BIT_STRING) return content.subarray(1);
  return tag === SEQUENCE ? bytes : content;
}

function hexOctet(byte: number): string {
  return byte.toString(16).toUpperCase().padStart(2, '0');
}
