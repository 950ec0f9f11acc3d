import { constants, sign, type KeyObject } from 'node:crypto';
import { readDer } from '../../src/identify/der.js';
import { bitString, element, integer, objectIdentifier, sequence, toPem } from '../../src/pki/der.js';
import { readCrlParts } from '../../src/trust/crl.js';
import type { RawExtension } from './pki.js';

const TRUE = Uint8Array.of(0xff);
const LIMITS = { users: 0x81, authorities: 0x82, indirect: 0x84, attributes: 0x85 } as const;

/** The extension of a list that is about some certificates of its issuer (RFC 5280 §5.2.5). */
export function about(limit: keyof typeof LIMITS): RawExtension {
  return { oid: '2.5.29.28', critical: true, value: sequence(element(LIMITS[limit], TRUE)) };
}

const NULL = Uint8Array.of(5, 0);
const HASHES: Readonly<Record<string, string>> = {
  sha1: '1.3.14.3.2.26',
  sha224: '2.16.840.1.101.3.4.2.4',
  sha256: '2.16.840.1.101.3.4.2.1',
  sha384: '2.16.840.1.101.3.4.2.2',
  sha512: '2.16.840.1.101.3.4.2.3',
};

/** Fields of RSASSA-PSS-params (RFC 4055 §3.1). @param hash a name, or a dotted OID */
export const pssHash = (hash: string): Uint8Array => element(0xa0, hashAlgorithm(hash));
export const pssMask = (hash: string, mgf = '1.2.840.113549.1.1.8'): Uint8Array =>
  element(0xa1, sequence(objectIdentifier(mgf), hashAlgorithm(hash)));
export const pssNumber = (field: 2 | 3, value: bigint): Uint8Array => element(0xa0 + field, integer(value));
export const pssParameters = (...fields: readonly Uint8Array[]): Uint8Array => sequence(...fields);

function hashAlgorithm(hash: string): Uint8Array {
  return sequence(objectIdentifier(HASHES[hash] ?? hash), NULL);
}

export interface PssOptions {
  readonly hash: string;
  /** Bytes. */
  readonly salt: number;
  /** Instead of those that tell what was done. */
  readonly parameters?: Uint8Array;
}

/** The same list, signed again with RSASSA-PSS (with a key of another kind: as that signs). */
export function signedPss(pem: string, key: KeyObject, { hash, salt, parameters }: PssOptions): string {
  const told = parameters ?? pssParameters(pssHash(hash), pssMask(hash), pssNumber(2, BigInt(salt)));
  const algorithm = sequence(objectIdentifier('1.2.840.113549.1.1.10'), told);
  const isRsa = key.asymmetricKeyType?.startsWith('rsa') === true;
  const pss = isRsa ? { padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: salt } : {};
  return signedBy(pem, algorithm, (content) => sign(hash, content, { key, ...pss }));
}

/** The same list, signed again in a way that OpenSSL knows and ours does not: with SHA-224. */
export function signedSha224(pem: string, key: KeyObject): string {
  const algorithm =
    key.asymmetricKeyType === 'rsa'
      ? sequence(objectIdentifier('1.2.840.113549.1.1.14'), NULL)
      : sequence(objectIdentifier('1.2.840.10045.4.3.1'));
  return signedBy(pem, algorithm, (content) => sign('sha224', content, key));
}

function signedBy(pem: string, algorithm: Uint8Array, signatureOf: (content: Uint8Array) => Uint8Array): string {
  const [version, , ...rest] = readDer(readCrlParts({ pem }).signed).children.map(({ bytes }) => bytes);
  const content = sequence(version ?? NULL, algorithm, ...rest);
  return toPem('X509 CRL', sequence(content, algorithm, bitString(signatureOf(content))));
}
