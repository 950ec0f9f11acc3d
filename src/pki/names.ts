import { element, objectIdentifier, sequence } from './der.js';

const TYPES: Readonly<Record<string, string>> = {
  CN: '2.5.4.3',
  SN: '2.5.4.4',
  serialNumber: '2.5.4.5',
  C: '2.5.4.6',
  L: '2.5.4.7',
  ST: '2.5.4.8',
  street: '2.5.4.9',
  O: '2.5.4.10',
  OU: '2.5.4.11',
  title: '2.5.4.12',
  GN: '2.5.4.42',
  emailAddress: '1.2.840.113549.1.9.1',
  UID: '0.9.2342.19200300.100.1.1',
  DC: '0.9.2342.19200300.100.1.25',
};

const TAGS = { utf8: 12, numeric: 18, printable: 19, t61: 20, ia5: 22, universal: 28, bmp: 30 } as const;

/** How an attribute value is written; `der` means the bytes are the whole element, tag included. */
export type StringEncoding = keyof typeof TAGS | 'der';

/**
 * Type (short name or dotted OID), value, encoding (default utf8). Bytes are taken as the content as they are, so
 * that a value may break its type's rules.
 */
export type Attribute = readonly [type: string, value: string | Uint8Array, encoding?: StringEncoding];

/** A name in certificate order: `[['C', 'CN'], ['CN', 'im.qq.com']]`; `all` makes a multi-valued RDN. */
export type NameInput = readonly (Attribute | { readonly all: readonly Attribute[] })[];

/**
 * DER of the name. A multi-valued RDN keeps the given order, which DER would sort.
 * @throws Error for an attribute type that is neither a known short name nor a dotted OID.
 */
export function encodeName(input: NameInput): Uint8Array {
  return sequence(
    ...input.map((rdn) => element(0x31, ...('all' in rdn ? rdn.all : [rdn]).map((one) => encodeAttribute(one)))),
  );
}

function encodeAttribute([type, value, encoding = 'utf8']: Attribute): Uint8Array {
  const bytes = typeof value === 'string' ? encodeText(value, encoding) : value;
  return sequence(objectIdentifier(TYPES[type] ?? type), encoding === 'der' ? bytes : element(TAGS[encoding], bytes));
}

function encodeText(text: string, encoding: StringEncoding): Uint8Array {
  if (encoding === 'utf8') return Buffer.from(text, 'utf8');
  if (encoding === 'bmp') return Buffer.from(text, 'utf16le').swap16();
  if (encoding === 'universal') return encodeUniversal(text);
  return Buffer.from(text, 'latin1');
}

function encodeUniversal(text: string): Uint8Array {
  const points = Array.from(text, (character) => character.codePointAt(0) ?? 0);
  const bytes = Buffer.alloc(points.length * 4);
  points.forEach((point, index) => bytes.writeUInt32BE(point, index * 4));
  return bytes;
}
