import { verify as verifySignature, type X509Certificate } from 'node:crypto';
import { expectTag, type DerElement } from '../identify/der.js';
import { formatRfc2253, nameOf } from '../identify/distinguished-name.js';
import type { Extension } from '../identify/extensions.js';
import { dottedOid } from '../identify/object-identifier.js';
import { readTbsFields } from '../identify/tbs-certificate.js';
import type { LoadedCrl } from './credentials.js';
import { readCrlParts, type CrlParts } from './crl.js';

/** What the CRLs say about a chain. */
export interface RevocationFinding {
  readonly reason: 'revoked' | 'crl_missing' | 'crl_expired';
  readonly detail: string;
}

/**
 * @param path issuers of the leaf in order, the anchor last
 * @param now milliseconds since the epoch
 */
export type RevocationCheck = (
  leaf: X509Certificate,
  path: readonly X509Certificate[],
  now: number,
) => RevocationFinding | null;

/**
 * Looks the certificates of a chain up in the CRLs.
 *
 * OpenSSL cannot be asked to overlook that a list has expired: of several errors it reports the last, so an expired CRL of
 * an upper CA hides that the leaf is revoked, and forgiving the one would forgive the other. As with OpenSSL's
 * CRL_CHECK_ALL each CA of the chain needs a CRL. One that is signed by somebody else, incremental, or limited in scope
 * does not count.
 * @param expired what lists past their nextUpdate mean, as `clientCert.crlExpired`
 * @throws Error when a list is malformed
 */
export function createRevocationCheck(crls: readonly LoadedCrl[], expired: 'refuse' | 'warn'): RevocationCheck {
  const lists = crls.filter(({ isDelta }) => !isDelta).map(listOf);
  return (leaf, path, now) => {
    const chain = [leaf, ...path];
    // Under `warn` no list is ever too old.
    const at = expired === 'warn' ? -Infinity : now;
    for (let index = 0; index < path.length; index += 1) {
      const pair = { certificate: chain[index] as X509Certificate, issuer: path[index] as X509Certificate };
      const finding = lookUp(pair, lists, at);
      if (finding !== null) return finding;
    }
    return null;
  };
}

interface RevocationList {
  readonly parts: CrlParts;
  /** Serial numbers in hex. */
  readonly revoked: ReadonlySet<string>;
  readonly limited: boolean;
}

function lookUp(
  { certificate, issuer }: { readonly certificate: X509Certificate; readonly issuer: X509Certificate },
  lists: readonly RevocationList[],
  now: number,
): RevocationFinding | null {
  // By their bytes, as OpenSSL compares them; Node's texts lose too much.
  const [serial, , issuerName] = readTbsFields(certificate.raw);
  const name = formatRfc2253(nameOf(issuerName));
  const usable = lists.filter((list) => !list.limited && list.parts.issuer === name && isSignedBy(list, issuer));
  if (usable.length === 0) return { reason: 'crl_missing', detail: 'unable to get certificate CRL' };
  if (usable.some(({ revoked }) => revoked.has(serialText(serial)))) {
    return { reason: 'revoked', detail: 'certificate revoked' };
  }
  const isCovered = usable.some(({ parts: { nextUpdate } }) => nextUpdate === null || nextUpdate >= now);
  return isCovered ? null : { reason: 'crl_expired', detail: 'CRL has expired' };
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const OBJECT_IDENTIFIER = 0x06;

/** Read once: 100,000 entries take about 0.2 s, and a list is read to prove it before it is put to use. */
const READ = new WeakMap<LoadedCrl, RevocationList>();

function listOf(crl: LoadedCrl): RevocationList {
  const known = READ.get(crl);
  if (known !== undefined) return known;
  const parts = readCrlParts(crl);
  const list = { parts, revoked: revokedSerials(parts.revoked), limited: parts.extensions.some(isLimiting) };
  READ.set(crl, list);
  return list;
}

/** Only the first element of an entry is read, and no entry is kept: there may be 100,000 of them. */
function revokedSerials(revoked: DerElement | null): ReadonlySet<string> {
  const serials = new Set<string>();
  for (const entry of revoked?.eachChild() ?? []) serials.add(serialOfEntry(entry));
  return serials;
}

function serialOfEntry(entry: DerElement): string {
  return serialText(expectTag(entry, SEQUENCE).eachChild().next().value);
}

function serialText(serial: DerElement | undefined): string {
  return Buffer.from(expectTag(serial, INTEGER).content).toString('hex');
}

/** Indirect, or about some of the certificates only (RFC 5280 §5.2.5). */
const ISSUING_DISTRIBUTION_POINT = '2.5.29.28';
/** CRL number and authority key identifier, which narrow nothing. */
const HARMLESS: ReadonlySet<string> = new Set(['2.5.29.20', '2.5.29.35']);

/** RFC 5280 §5.2: a list with a critical extension that is not understood must not be used. */
function isLimiting({ id, critical }: Extension): boolean {
  return id === ISSUING_DISTRIBUTION_POINT || (critical && !HARMLESS.has(id));
}

/** Digest by signature algorithm: the RSA and ECDSA ones in use, and the EdDSA ones, which have none. */
const DIGESTS: ReadonlyMap<string, string | null> = new Map([
  ['1.2.840.113549.1.1.5', 'sha1'],
  ['1.2.840.113549.1.1.11', 'sha256'],
  ['1.2.840.113549.1.1.12', 'sha384'],
  ['1.2.840.113549.1.1.13', 'sha512'],
  ['1.2.840.10045.4.1', 'sha1'],
  ['1.2.840.10045.4.3.2', 'sha256'],
  ['1.2.840.10045.4.3.3', 'sha384'],
  ['1.2.840.10045.4.3.4', 'sha512'],
  ['1.3.101.112', null],
  ['1.3.101.113', null],
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

function verifies({ parts }: RevocationList, issuer: X509Certificate): boolean {
  const [id] = parts.algorithm.children;
  const digest = DIGESTS.get(dottedOid(expectTag(id, OBJECT_IDENTIFIER).content));
  if (digest === undefined) return false;
  try {
    return verifySignature(digest, parts.signed, issuer.publicKey, parts.signature);
  } catch {
    // OpenSSL throws when the key is of another kind than the algorithm: a CA of the same name may have one.
    return false;
  }
}
