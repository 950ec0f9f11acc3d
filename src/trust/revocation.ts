import type { X509Certificate } from 'node:crypto';
import { expectTag, type DerElement } from '../identify/der.js';
import { formatRfc2253, nameOf } from '../identify/distinguished-name.js';
import { readTbsFields } from '../identify/tbs-certificate.js';
import type { LoadedCrl } from './credentials.js';
import { covers, scopeOf, type Scope } from './crl-scope.js';
import { verifyCrl, type SignatureWord } from './crl-signature.js';
import { readCrlParts, type CrlParts } from './crl.js';

/** What the CRLs say about a chain. */
export interface RevocationFinding {
  readonly reason: 'revoked' | 'crl_missing' | 'crl_expired';
  readonly detail: string;
  /** A CA has lists, but none that can be evaluated here: OpenSSL may know more. Nobody is let in by it. */
  readonly unclear?: true;
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
 * CRL_CHECK_ALL each CA of the chain needs a CRL. One that is signed by somebody else does not count, nor does one that is
 * about other certificates.
 * @param expired what lists past their nextUpdate mean, as `clientCert.crlExpired`
 * @throws Error when a list is malformed
 */
export function createRevocationCheck(crls: readonly LoadedCrl[], expired: 'refuse' | 'warn'): RevocationCheck {
  const lists = crls.map(listOf);
  return (leaf, path, now) => {
    const chain = [leaf, ...path];
    // Under `warn` no list is ever too old, and OpenSSL is given none.
    const isAlone = expired === 'warn';
    const at = isAlone ? -Infinity : now;
    let doubt: RevocationFinding | null = null;
    for (let index = 0; index < path.length; index += 1) {
      const [certificate, issuer] = [chain[index] as X509Certificate, path[index] as X509Certificate];
      const finding = lookUp({ certificate, issuer, now: at, isAlone }, lists);
      if (finding !== null && finding.unclear !== true) return finding;
      // What is certain higher up counts for more.
      doubt ??= finding;
    }
    return doubt;
  };
}

/**
 * Whether a list was signed by somebody else than the CAs of its name.
 * @param namesakes certificates of these CAs; with none of them nothing can be said
 */
export function isForeign(crl: LoadedCrl, namesakes: readonly X509Certificate[]): boolean {
  const list = listOf(crl);
  return namesakes.length > 0 && namesakes.every((issuer) => signatureOf(list, issuer) === 'bad');
}

/** Which certificates a list speaks for, or why that cannot be said. @param namesakes as for `isForeign` */
export function scopeOfList(crl: LoadedCrl, namesakes: readonly X509Certificate[]): Scope {
  const list = listOf(crl);
  const isUnverified = namesakes.length > 0 && namesakes.every((issuer) => signatureOf(list, issuer) !== 'good');
  return isUnverified ? { of: 'unclear', why: 'is signed in a way that is not understood' } : list.scope;
}

interface RevocationList {
  readonly parts: CrlParts;
  /** Serial numbers in hex. */
  readonly revoked: ReadonlySet<string>;
  readonly scope: Scope;
}

const MISSING: RevocationFinding = { reason: 'crl_missing', detail: 'unable to get certificate CRL' };
const UNCLEAR: RevocationFinding = {
  reason: 'crl_missing',
  detail: 'no certificate CRL of this CA can be evaluated here',
  unclear: true,
};

interface Question {
  readonly certificate: X509Certificate;
  readonly issuer: X509Certificate;
  /** Milliseconds since the epoch. */
  readonly now: number;
  /** Whether nobody else is asked. */
  readonly isAlone: boolean;
}

function lookUp(
  { certificate, issuer, now, isAlone }: Question,
  lists: readonly RevocationList[],
): RevocationFinding | null {
  const { serial, issuerName } = identifiersOf(certificate);
  const own = lists.filter(({ parts }) => parts.issuer === issuerName);
  const signed = own.filter((list) => signatureOf(list, issuer) !== 'bad');
  const clear = signed.filter((list) => list.scope.of !== 'unclear' && signatureOf(list, issuer) === 'good');
  const usable = clear.filter(({ scope }) => covers(scope, certificate.raw));
  if (usable.length === 0) return clear.length < signed.length ? UNCLEAR : MISSING;
  if (usable.some(({ revoked }) => revoked.has(serial))) return { reason: 'revoked', detail: 'certificate revoked' };
  const isCovered = usable.some(({ parts: { nextUpdate } }) => nextUpdate === null || nextUpdate >= now);
  if (!isCovered) return { reason: 'crl_expired', detail: 'CRL has expired' };
  // OpenSSL may go by one of these. Where it is not asked, another list that says nothing against the caller has to do.
  return !isAlone && clear.length < signed.length ? UNCLEAR : null;
}

/** What a certificate is looked up by. */
interface Identifiers {
  readonly serial: string;
  readonly issuerName: string;
}

/** Paths of known callers are asked for them twice a resumed handshake. */
const identifiers = new WeakMap<X509Certificate, Identifiers>();

function identifiersOf(certificate: X509Certificate): Identifiers {
  const known = identifiers.get(certificate);
  if (known !== undefined) return known;
  // By their bytes, as OpenSSL compares them; Node's texts lose too much.
  const [serial, , issuerName] = readTbsFields(certificate.raw);
  const read = { serial: serialText(serial), issuerName: formatRfc2253(nameOf(issuerName)) };
  identifiers.set(certificate, read);
  return read;
}

const SEQUENCE = 0x30;
const INTEGER = 0x02;

/** Read once: 100,000 entries take about 0.2 s, and a list is read to prove it before it is put to use. */
const READ = new WeakMap<LoadedCrl, RevocationList>();

function listOf(crl: LoadedCrl): RevocationList {
  const known = READ.get(crl);
  if (known !== undefined) return known;
  const parts = readCrlParts(crl);
  const list = { parts, revoked: revokedSerials(parts.revoked), scope: scopeOf(parts.extensions) };
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

/** Verified once a CRL and issuer; a handshake must not pay for it again. */
const VERIFIED = new WeakMap<RevocationList, Map<string, SignatureWord>>();

function signatureOf(list: RevocationList, issuer: X509Certificate): SignatureWord {
  const known = VERIFIED.get(list) ?? new Map<string, SignatureWord>();
  VERIFIED.set(list, known);
  const key = issuer.fingerprint256;
  const result = known.get(key) ?? verifyCrl(list.parts, issuer.publicKey);
  // Issuers come from verified chains, so there are few; the bound is for the case that one CA signs thousands.
  if (known.size < 1_000) known.set(key, result);
  return result;
}
