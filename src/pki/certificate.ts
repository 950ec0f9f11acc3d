import { randomBytes, type KeyObject } from 'node:crypto';
import { bitString, element, integer, sequence, time, toPem } from './der.js';
import {
  authorityKeyIdentifier,
  basicConstraints,
  encodeExtension,
  extendedKeyUsage,
  keyUsage,
  subjectAltName,
  subjectKeyIdentifier,
  type AltName,
  type KeyUsageName,
  type RawExtension,
} from './extensions.js';
import { generateKeys, keyIdentifier, publicKeyInfo, signatureAlgorithm, signBytes } from './keys.js';
import type { Hash, KeyKind, KeyPair } from './keys.js';
import { encodeName, type NameInput } from './names.js';

const HOUR = 3_600_000;

/** What goes into one certificate. Everything but subject and `now` has a default that OpenSSL accepts. */
export interface CertificateOptions {
  readonly subject: NameInput;
  /** Milliseconds since the epoch; the default validity is from one hour before to one day after. */
  readonly now: number;
  readonly notBefore?: number;
  readonly notAfter?: number;
  /** Default: 16 random bytes. */
  readonly serial?: bigint;
  /** Reuse a pair (to save time, or to certify one key twice) … */
  readonly keys?: KeyPair;
  /** … or make one of this kind. Default p256. */
  readonly key?: KeyKind;
  readonly hash?: Hash;
  readonly san?: readonly AltName[];
  /** Names or dotted OIDs; absent means no extension. */
  readonly eku?: readonly string[];
  readonly keyUsage?: readonly KeyUsageName[];
  /** Null leaves the extension out. Default: CA for authorities, not CA for leaves. */
  readonly basicConstraints?: { readonly ca: boolean; readonly pathLength?: number } | null;
  /** False leaves out subject and authority key identifiers, so that chains are built by name alone. */
  readonly keyIdentifiers?: boolean;
  /** Added last, as they are. */
  readonly extensions?: readonly RawExtension[];
}

/** A certificate with its private key (PKCS #8). */
export interface Issued {
  readonly certPem: string;
  readonly certDer: Uint8Array;
  readonly keyPem: string;
  readonly key: KeyObject;
  readonly keys: KeyPair;
  readonly serial: bigint;
}

/** Who signs: for a self-signed certificate its own name and key. */
export interface Signer {
  /** DER. */
  readonly name: Uint8Array;
  readonly keys: KeyPair;
}

/** @param signer null makes the certificate self-signed. */
export function makeCertificate(options: CertificateOptions, signer: Signer | null): Issued {
  const keys = options.keys ?? generateKeys(options.key);
  const serial = options.serial ?? randomSerial();
  const by = signer ?? { name: encodeName(options.subject), keys };
  const certDer = signed(toBeSigned({ ...options, keys, serial }, by), by.keys.privateKey, options.hash ?? 'sha256');
  return { certPem: toPem('CERTIFICATE', certDer), certDer, keyPem: keyPem(keys), key: keys.privateKey, keys, serial };
}

/** What certificates and CRLs have in common: the content, the algorithm, the signature. */
export function signed(content: Uint8Array, key: KeyObject, hash: Hash): Uint8Array {
  return sequence(content, signatureAlgorithm(key, hash), bitString(signBytes(key, hash, content)));
}

/** RFC 5280 §4.1.2, version 3. */
function toBeSigned(
  options: CertificateOptions & { readonly keys: KeyPair; readonly serial: bigint },
  by: Signer,
): Uint8Array {
  const { now, notBefore = now - HOUR, notAfter = now + 24 * HOUR } = options;
  const extensions = extensionsOf(options, options.keys, by.keys).map((one) => encodeExtension(one));
  return sequence(
    element(0xa0, integer(2n)),
    integer(options.serial),
    signatureAlgorithm(by.keys.privateKey, options.hash ?? 'sha256'),
    by.name,
    sequence(time(notBefore), time(notAfter)),
    encodeName(options.subject),
    publicKeyInfo(options.keys.publicKey),
    ...(extensions.length === 0 ? [] : [element(0xa3, sequence(...extensions))]),
  );
}

function extensionsOf(options: CertificateOptions, own: KeyPair, signing: KeyPair): RawExtension[] {
  const basic = options.basicConstraints === undefined ? { ca: false } : options.basicConstraints;
  return [
    ...(basic === null ? [] : [basicConstraints(basic.ca, basic.pathLength)]),
    ...(options.keyUsage === undefined ? [] : [keyUsage(options.keyUsage)]),
    ...(options.eku === undefined ? [] : [extendedKeyUsage(options.eku)]),
    ...(options.san === undefined ? [] : [subjectAltName(options.san)]),
    ...(options.keyIdentifiers === false ? [] : identifiers(own, signing)),
    ...(options.extensions ?? []),
  ];
}

function identifiers(own: KeyPair, signing: KeyPair): RawExtension[] {
  return [subjectKeyIdentifier(keyIdentifier(own.publicKey)), authorityKeyIdentifier(keyIdentifier(signing.publicKey))];
}

function keyPem(keys: KeyPair): string {
  return keys.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString();
}

/** Positive and of full length: the first byte keeps its top bit clear and is never zero. */
function randomSerial(): bigint {
  const bytes = randomBytes(16);
  bytes[0] = ((bytes[0] ?? 0) & 0x3f) | 0x40;
  return BigInt(`0x${bytes.toString('hex')}`);
}
