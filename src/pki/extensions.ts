import { isIPv4 } from 'node:net';
import { byteString, element, integer, objectIdentifier, sequence } from './der.js';
import { encodeName, type NameInput } from './names.js';

/** Strings become one byte per character, so that NUL, line ends and non-ASCII bytes can be written. */
export type AltName =
  | { readonly dns: string | Uint8Array }
  | { readonly uri: string | Uint8Array }
  | { readonly email: string | Uint8Array }
  /** Text, or the bytes as they are: a wrong number of them makes a malformed entry. */
  | { readonly ip: string | Uint8Array }
  | { readonly directoryName: NameInput }
  | { readonly registeredId: string }
  /** The type's OID, and the DER of the value. */
  | { readonly otherName: string; readonly value: Uint8Array }
  /** The whole GeneralName, tag included. */
  | { readonly der: Uint8Array };

/** An extension that nothing here has a name for, or a malformed one. */
export interface RawExtension {
  readonly oid: string;
  readonly critical?: boolean;
  readonly value: Uint8Array;
}

/** RFC 5280 §4.2.1.3, in the order of the bits. */
const KEY_USAGES = [
  'digitalSignature',
  'nonRepudiation',
  'keyEncipherment',
  'dataEncipherment',
  'keyAgreement',
  'keyCertSign',
  'cRLSign',
] as const;
export type KeyUsageName = (typeof KEY_USAGES)[number];

const PURPOSES: Readonly<Record<string, string>> = {
  any: '2.5.29.37.0',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
  codeSigning: '1.3.6.1.5.5.7.3.3',
  emailProtection: '1.3.6.1.5.5.7.3.4',
};

/** DER of an extension. */
export function encodeExtension({ oid, critical = false, value }: RawExtension): Uint8Array {
  const flag = critical ? [element(1, Uint8Array.of(0xff))] : [];
  return sequence(objectIdentifier(oid), ...flag, element(4, value));
}

/** cA is FALSE by default, and DER leaves out what is default. */
export function basicConstraints(ca: boolean, pathLength?: number): RawExtension {
  const flag = ca ? [element(1, Uint8Array.of(0xff))] : [];
  const length = pathLength === undefined ? [] : [integer(BigInt(pathLength))];
  return { oid: '2.5.29.19', critical: true, value: sequence(...flag, ...length) };
}

/** A BIT STRING with named bits: the first is the highest, trailing zeros are cut. */
export function keyUsage(names: readonly KeyUsageName[]): RawExtension {
  const bits = names.map((name) => KEY_USAGES.indexOf(name));
  const byte = bits.reduce((all, bit) => all | (0x80 >> bit), 0);
  const unused = 7 - Math.max(...bits);
  return { oid: '2.5.29.15', critical: true, value: element(3, Uint8Array.of(unused, byte)) };
}

/** @param purposes names (`clientAuth`) or dotted OIDs. */
export function extendedKeyUsage(purposes: readonly string[]): RawExtension {
  const value = sequence(...purposes.map((name) => objectIdentifier(PURPOSES[name] ?? name)));
  return { oid: '2.5.29.37', value };
}

export function subjectKeyIdentifier(id: Uint8Array): RawExtension {
  return { oid: '2.5.29.14', value: element(4, id) };
}

export function authorityKeyIdentifier(id: Uint8Array): RawExtension {
  return { oid: '2.5.29.35', value: sequence(element(0x80, id)) };
}

export function subjectAltName(names: readonly AltName[]): RawExtension {
  return { oid: '2.5.29.17', value: sequence(...names.map((name) => generalName(name))) };
}

function generalName(name: AltName): Uint8Array {
  if ('dns' in name) return element(0x82, byteString(name.dns));
  if ('uri' in name) return element(0x86, byteString(name.uri));
  if ('email' in name) return element(0x81, byteString(name.email));
  if ('ip' in name) return element(0x87, typeof name.ip === 'string' ? addressBytes(name.ip) : name.ip);
  if ('directoryName' in name) return element(0xa4, encodeName(name.directoryName));
  if ('registeredId' in name) return element(0x88, objectIdentifier(name.registeredId).subarray(2));
  if ('otherName' in name) return element(0xa0, objectIdentifier(name.otherName), element(0xa0, name.value));
  return name.der;
}

function addressBytes(text: string): Uint8Array {
  if (isIPv4(text)) return Uint8Array.from(text.split('.').map(Number));
  const [head = '', tail] = text.split('::');
  const before = head === '' ? [] : head.split(':');
  const after = tail === undefined || tail === '' ? [] : tail.split(':');
  const zeros = Array<string>(8 - before.length - after.length).fill('0');
  const groups = tail === undefined ? before : [...before, ...zeros, ...after];
  return Uint8Array.from(groups.map((group) => parseInt(group, 16)).flatMap((group) => [group >> 8, group & 0xff]));
}
