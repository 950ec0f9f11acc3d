import { constants, verify, type KeyObject } from 'node:crypto';
import { expectTag, UnreadableCertificateError, type DerElement } from '../identify/der.js';
import { dottedOid } from '../identify/object-identifier.js';
import type { CrlParts } from './crl.js';

/** `unknown`: signed in a way that we do not know, so that the key may or may not be the right one. */
export type SignatureWord = 'good' | 'bad' | 'unknown';

/** Whether a CRL was signed with this key. */
export function verifyCrl({ algorithm, signed, signature }: CrlParts, key: KeyObject): SignatureWord {
  try {
    const scheme = schemeOf(algorithm);
    if (scheme === null) return 'unknown';
    return verify(scheme.digest, signed, keyFor(scheme, key), signature) ? 'good' : 'bad';
  } catch {
    // OpenSSL throws when the key is of another kind than the algorithm: a CA of the same name may have one.
    return 'bad';
  }
}

interface Scheme {
  /** Types of keys, by Node's names. */
  readonly keys: readonly string[];
  /** Null for EdDSA, which has none. */
  readonly digest: string | null;
  /** Bytes; null where the signature is no RSASSA-PSS. */
  readonly salt: number | null;
}

/** Whoever has a key of another kind signed it in no way that OpenSSL would take: Node goes by the key alone. */
function keyFor({ keys, salt }: Scheme, key: KeyObject): Parameters<typeof verify>[2] {
  if (!keys.includes(key.asymmetricKeyType ?? '')) throw malformed();
  return salt === null ? key : { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: salt };
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const NULL = 0x05;
const OBJECT_IDENTIFIER = 0x06;

/** Kind of key and digest by signature algorithm: the RSA and ECDSA ones in use, and the EdDSA ones. */
const SCHEMES: ReadonlyMap<string, readonly [string, string | null]> = new Map([
  ['1.2.840.113549.1.1.5', ['rsa', 'sha1']],
  ['1.2.840.113549.1.1.11', ['rsa', 'sha256']],
  ['1.2.840.113549.1.1.12', ['rsa', 'sha384']],
  ['1.2.840.113549.1.1.13', ['rsa', 'sha512']],
  ['1.2.840.10045.4.1', ['ec', 'sha1']],
  ['1.2.840.10045.4.3.2', ['ec', 'sha256']],
  ['1.2.840.10045.4.3.3', ['ec', 'sha384']],
  ['1.2.840.10045.4.3.4', ['ec', 'sha512']],
  ['1.3.101.112', ['ed25519', null]],
  ['1.3.101.113', ['ed448', null]],
]);
const RSASSA_PSS = '1.2.840.113549.1.1.10';

/** @returns null for one that is not known here @throws Error when it is malformed */
function schemeOf(algorithm: DerElement): Scheme | null {
  const [id, parameters] = algorithm.children;
  const name = oidOf(id);
  if (name === RSASSA_PSS) return pssScheme(parameters);
  const [kind, digest = null] = SCHEMES.get(name) ?? [];
  return kind === undefined ? null : { keys: [kind], digest, salt: null };
}

const HASHES: ReadonlyMap<string, string> = new Map([
  ['1.3.14.3.2.26', 'sha1'],
  ['2.16.840.1.101.3.4.2.4', 'sha224'],
  ['2.16.840.1.101.3.4.2.1', 'sha256'],
  ['2.16.840.1.101.3.4.2.2', 'sha384'],
  ['2.16.840.1.101.3.4.2.3', 'sha512'],
]);
const SHA1 = '1.3.14.3.2.26';
const MGF1 = '1.2.840.113549.1.1.8';

/** What stands where nothing is said, by the tags of RSASSA-PSS-params (RFC 4055 §3.1). */
const HASH_ALGORITHM = 0xa0;
const MASK_GENERATION = 0xa1;
const SALT_LENGTH = 0xa2;
const TRAILER_FIELD = 0xa3;
const DEFAULT_SALT = 20;

/** As OpenSSL reads them. A mask by another hash than the digest is legal, but Node cannot be told of it: not known here. */
function pssScheme(parameters: DerElement | undefined): Scheme | null {
  const fields = pssFields(expectTag(parameters, SEQUENCE).children);
  const hash = hashOf(fields.get(HASH_ALGORITHM));
  const mask = maskHashOf(fields.get(MASK_GENERATION));
  const salt = numberOf(fields.get(SALT_LENGTH), DEFAULT_SALT);
  if (numberOf(fields.get(TRAILER_FIELD), 1) !== 1) throw malformed();
  const digest = HASHES.get(hash);
  return digest === undefined || mask !== hash ? null : { keys: ['rsa', 'rsa-pss'], digest, salt };
}

/** Each at most once, in order, with one element inside. */
function pssFields(children: readonly DerElement[]): ReadonlyMap<number, DerElement> {
  let last = HASH_ALGORITHM - 1;
  return new Map(
    children.map(({ tag, children: [value, ...more] }) => {
      if (tag <= last || tag > TRAILER_FIELD || value === undefined || more.length > 0) throw malformed();
      last = tag;
      return [tag, value];
    }),
  );
}

function hashOf(algorithm: DerElement | undefined): string {
  if (algorithm === undefined) return SHA1;
  const [id, parameters, ...more] = expectTag(algorithm, SEQUENCE).children;
  if ((parameters?.tag ?? NULL) !== NULL || more.length > 0) throw malformed();
  return oidOf(id);
}

function maskHashOf(algorithm: DerElement | undefined): string {
  if (algorithm === undefined) return SHA1;
  const [id, hash, ...more] = expectTag(algorithm, SEQUENCE).children;
  // There is no other, for OpenSSL either.
  if (oidOf(id) !== MGF1 || hash === undefined || more.length > 0) throw malformed();
  return hashOf(hash);
}

/** No key has room for a salt of 64 KiB. */
const LONGEST_NUMBER = 2;

function numberOf(element: DerElement | undefined, absent: number): number {
  if (element === undefined) return absent;
  const { content } = expectTag(element, INTEGER);
  // Negative numbers have meanings of their own for OpenSSL: any salt, say.
  if (content.length === 0 || content.length > LONGEST_NUMBER || (content[0] ?? 0) > 0x7f) throw malformed();
  return Buffer.from(content).readUIntBE(0, content.length);
}

function oidOf(element: DerElement | undefined): string {
  return dottedOid(expectTag(element, OBJECT_IDENTIFIER).content);
}

function malformed(): UnreadableCertificateError {
  return new UnreadableCertificateError('a signature algorithm is malformed');
}
