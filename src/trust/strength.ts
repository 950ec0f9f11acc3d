import type { X509Certificate } from 'node:crypto';
import { expectTag, readDer } from '../identify/der.js';
import { dottedOid } from '../identify/object-identifier.js';

/** Bits of strength that OpenSSL's security levels 0 to 5 demand (SSL_CTX_set_security_level(3)). */
const LEVEL_BITS: readonly number[] = [0, 80, 112, 128, 192, 256];

/** Modulus length to strength, longest first (NIST SP 800-57 part 1, table 2, as OpenSSL has it). */
const RSA_BITS: readonly (readonly [modulus: number, bits: number])[] = [
  [15_360, 256],
  [7_680, 192],
  [3_072, 128],
  [2_048, 112],
  [1_024, 80],
];

/** Signature algorithms to the strength of their digest. OpenSSL 3 counts SHA-1 as 63 bits and MD5 as 39. */
const SIGNATURE_BITS: Readonly<Record<string, readonly [name: string, bits: number]>> = {
  '1.2.840.113549.1.1.4': ['MD5', 39],
  '1.2.840.113549.1.1.5': ['SHA-1', 63],
  '1.2.840.10045.4.1': ['SHA-1', 63],
};

/**
 * What OpenSSL will object to in this certificate at a security level, in words; empty when nothing is known.
 * @param level 0 to 5
 */
export function weaknesses(certificate: X509Certificate, level: number): string[] {
  const demanded = LEVEL_BITS[level] ?? 0;
  const found: string[] = [];
  if (keyBits(certificate) < demanded) found.push(`its key (${keyType(certificate)})`);
  const [digest, bits] = SIGNATURE_BITS[signatureOid(certificate)] ?? ['', Infinity];
  // Nobody relies on the signature that a root puts on itself, and OpenSSL does not judge it.
  if (bits < demanded && !certificate.checkIssued(certificate)) found.push(`its signature (${digest})`);
  return found;
}

/** The highest security level below `level` that has no objection, or null when `level` has none either. */
export function admittingLevel(certificate: X509Certificate, level: number): number | null {
  if (weaknesses(certificate, level).length === 0) return null;
  for (let lower = level - 1; lower > 0; lower -= 1) if (weaknesses(certificate, lower).length === 0) return lower;
  return 0;
}

/** `RSA 2048`, `EC prime256v1`, `ed25519`. */
export function keyType({ publicKey }: X509Certificate): string {
  const { modulusLength, namedCurve } = publicKey.asymmetricKeyDetails ?? {};
  if (modulusLength !== undefined) return `RSA ${modulusLength}`;
  return namedCurve === undefined ? String(publicKey.asymmetricKeyType) : `EC ${namedCurve}`;
}

function keyBits({ publicKey }: X509Certificate): number {
  const { modulusLength } = publicKey.asymmetricKeyDetails ?? {};
  // Curves below 160 bits are not worth a table: OpenSSL itself says no to them when the context is built.
  if (modulusLength === undefined) return Infinity;
  return RSA_BITS.find(([modulus]) => modulusLength >= modulus)?.[1] ?? 0;
}

function signatureOid(certificate: X509Certificate): string {
  const [, algorithm] = expectTag(readDer(certificate.raw), 0x30).children;
  const [id] = expectTag(algorithm, 0x30).children;
  return dottedOid(expectTag(id, 0x06).content);
}
