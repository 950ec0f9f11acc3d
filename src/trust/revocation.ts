import { verify as verifySignature, type X509Certificate } from 'node:crypto';
import { expectTag, readDer, readDerSequence, type DerElement } from '../identify/der.js';
import { formatRfc2253, readName } from '../identify/distinguished-name.js';
import type { LoadedCrl } from './credentials.js';
import { derOf, pemBlocks } from './pem.js';

/** What the CRLs say about a chain. */
export interface RevocationFinding {
  readonly reason: 'revoked' | 'crl_missing';
  readonly detail: string;
}

/** @param path issuers of the leaf in order, the anchor last */
export type RevocationCheck = (leaf: X509Certificate, path: readonly X509Certificate[]) => RevocationFinding | null;

/**
 * Looks the certificates of a chain up in the CRLs, whatever their nextUpdate says (`crlExpired: warn`).
 *
 * OpenSSL cannot be asked for that: of several errors it reports the last, so an expired CRL of an upper CA hides that
 * the leaf is revoked, and forgiving the one would forgive the other. As with OpenSSL's CRL_CHECK_ALL each CA of the
 * chain needs a CRL. One that is signed by somebody else, incremental, or limited in scope does not count.
 */
export function createRevocationCheck(crls: readonly LoadedCrl[]): RevocationCheck {
  const lists = crls.filter(({ isDelta }) => !isDelta).map(readList);
  return (leaf, path) => {
    const chain = [leaf, ...path];
    for (let index = 0; index < path.length; index += 1) {
      const finding = lookUp(chain[index] as X509Certificate, path[index] as X509Certificate, lists);
      if (finding !== null) return finding;
    }
    return null;
  };
}

interface RevocationList {
  readonly issuer: string;
  readonly revoked: ReadonlySet<string>;
  readonly signed: Uint8Array;
  readonly signature: Uint8Array;
  readonly algorithm: string;
  readonly limited: boolean;
}

function lookUp(
  certificate: X509Certificate,
  issuer: X509Certificate,
  lists: readonly RevocationList[],
): RevocationFinding | null {
  const issuerName = issuerOf(certificate);
  const usable = lists.filter((list) => !list.limited && list.issuer === issuerName && isSignedBy(list, issuer));
  if (usable.length === 0) return { reason: 'crl_missing', detail: 'unable to get certificate CRL' };
  const serial = serialOf(certificate);
  const isRevoked = usable.some(({ revoked }) => revoked.has(serial));
  return isRevoked ? { reason: 'revoked', detail: 'certificate revoked' } : null;
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const EXTENSIONS = 0xa0;

/** RFC 5280 §5.1. */
function readList({ pem }: LoadedCrl): RevocationList {
  const block = pemBlocks(Buffer.from(pem), 'X509 CRL')[0];
  const [signed, algorithm, signature] = readDerSequence(
    expectTag(readDer(block === undefined ? Buffer.alloc(0) : derOf(block)), SEQUENCE).content,
  );
  const fields = readDerSequence(expectTag(signed, SEQUENCE).content).filter(({ tag }) => tag !== INTEGER);
  const [, issuer, ...rest] = fields;
  const revoked = rest.find(({ tag }) => tag === SEQUENCE);
  return {
    issuer: formatRfc2253(readName(expectTag(issuer, SEQUENCE).bytes)),
    revoked: new Set(revoked === undefined ? [] : readDerSequence(revoked.content).map(serialOfEntry)),
    signed: (signed as DerElement).bytes,
    // A bit string begins with its number of unused bits, which is 0 here.
    signature: (signature?.content ?? new Uint8Array()).subarray(1),
    algorithm: oidOf(readDerSequence(expectTag(algorithm, SEQUENCE).content)[0]),
    limited: rest.some(isLimited),
  };
}

function serialOfEntry(entry: DerElement): string {
  const [serial] = readDerSequence(entry.content);
  return hex(expectTag(serial, INTEGER).content);
}

/** 2.5.29.28 issuingDistributionPoint: indirect, or about some of the certificates only (RFC 5280 §5.2.5). */
const ISSUING_DISTRIBUTION_POINT = '551d1c';

function isLimited({ tag, content }: DerElement): boolean {
  if (tag !== EXTENSIONS) return false;
  const extensions = readDerSequence(readDer(content).content);
  return extensions.some((extension) => oidOf(readDerSequence(extension.content)[0]) === ISSUING_DISTRIBUTION_POINT);
}

/** Digest by signature algorithm (hex of the OID's content): the RSA and ECDSA ones in use, and the EdDSA ones. */
const DIGESTS: ReadonlyMap<string, string | null> = new Map([
  ['2a864886f70d010105', 'sha1'],
  ['2a864886f70d01010b', 'sha256'],
  ['2a864886f70d01010c', 'sha384'],
  ['2a864886f70d01010d', 'sha512'],
  ['2a8648ce3d0401', 'sha1'],
  ['2a8648ce3d040302', 'sha256'],
  ['2a8648ce3d040303', 'sha384'],
  ['2a8648ce3d040304', 'sha512'],
  ['2b6570', null],
  ['2b6571', null],
]);

/** Verified once a CRL and issuer; a handshake must not pay for it again. */
const VERIFIED = new WeakMap<RevocationList, Map<string, boolean>>();

function isSignedBy(list: RevocationList, issuer: X509Certificate): boolean {
  const known = VERIFIED.get(list) ?? new Map<string, boolean>();
  VERIFIED.set(list, known);
  const key = issuer.fingerprint256;
  const result = known.get(key) ?? verifies(list, issuer);
  // Issuers come from verified chains, so there are few; the bound is for the case that one CA signs thousands.
  if (known.size < 1_000) known.set(key, result);
  return result;
}

function verifies(list: RevocationList, issuer: X509Certificate): boolean {
  const digest = DIGESTS.get(list.algorithm);
  return digest !== undefined && verifySignature(digest, list.signed, issuer.publicKey, list.signature);
}

/** Serial and issuer by their bytes, as OpenSSL compares them; Node's texts lose too much. */
function serialOf(certificate: X509Certificate): string {
  return hex(expectTag(tbsFields(certificate)[0], INTEGER).content);
}

function issuerOf(certificate: X509Certificate): string {
  return formatRfc2253(readName(expectTag(tbsFields(certificate)[2], SEQUENCE).bytes));
}

const VERSION = 0xa0;

function tbsFields(certificate: X509Certificate): DerElement[] {
  const [tbs] = readDerSequence(expectTag(readDer(certificate.raw), SEQUENCE).content);
  const fields = readDerSequence(expectTag(tbs, SEQUENCE).content);
  return fields[0]?.tag === VERSION ? fields.slice(1) : fields;
}

function oidOf(element: DerElement | undefined): string {
  return hex(element?.content ?? new Uint8Array());
}

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}
