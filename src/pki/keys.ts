import { createHash, createPublicKey, generateKeyPairSync, sign, type KeyObject } from 'node:crypto';
import { objectIdentifier, sequence } from './der.js';

export type KeyKind = 'rsa-2048' | 'rsa-1024' | 'p256' | 'ed25519';
export type Hash = 'sha256' | 'sha1';

export interface KeyPair {
  readonly publicKey: KeyObject;
  readonly privateKey: KeyObject;
}

/** RSA takes up to a second: make one pair and pass it to several certificates where the key does not matter. */
export function generateKeys(kind: KeyKind = 'p256'): KeyPair {
  if (kind === 'p256') return generateKeyPairSync('ec', { namedCurve: 'P-256' });
  if (kind === 'ed25519') return generateKeyPairSync('ed25519');
  return generateKeyPairSync('rsa', { modulusLength: kind === 'rsa-2048' ? 2048 : 1024 });
}

/** The pair of a private key alone. */
export function keyPairOf(privateKey: KeyObject): KeyPair {
  return { privateKey, publicKey: createPublicKey(privateKey) };
}

/** DER of the SubjectPublicKeyInfo. */
export function publicKeyInfo(key: KeyObject): Uint8Array {
  return key.export({ type: 'spki', format: 'der' });
}

/** 20 bytes that name a key (RFC 7093 §2 method 4 allows any hash of the SubjectPublicKeyInfo). */
export function keyIdentifier(key: KeyObject): Uint8Array {
  return createHash('sha1').update(publicKeyInfo(key)).digest();
}

const RSA: Readonly<Record<Hash, string>> = { sha256: '1.2.840.113549.1.1.11', sha1: '1.2.840.113549.1.1.5' };
const ECDSA: Readonly<Record<Hash, string>> = { sha256: '1.2.840.10045.4.3.2', sha1: '1.2.840.10045.4.1' };
const NULL = Uint8Array.of(5, 0);

/** DER of the AlgorithmIdentifier. @throws Error for a key that is neither RSA, EC nor Ed25519. */
export function signatureAlgorithm(key: KeyObject, hash: Hash): Uint8Array {
  switch (key.asymmetricKeyType) {
    case 'rsa':
      return sequence(objectIdentifier(RSA[hash]), NULL);
    case 'ec':
      return sequence(objectIdentifier(ECDSA[hash]));
    case 'ed25519':
      return sequence(objectIdentifier('1.3.101.112'));
    default:
      throw new Error(`cannot sign with a ${key.asymmetricKeyType ?? 'secret'} key`);
  }
}

export function signBytes(key: KeyObject, hash: Hash, bytes: Uint8Array): Uint8Array {
  return sign(key.asymmetricKeyType === 'ed25519' ? null : hash, bytes, key);
}
