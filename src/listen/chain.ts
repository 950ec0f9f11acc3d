import type { X509Certificate } from 'node:crypto';

/**
 * Signature checks that one chain may cost. Honest chains need one a certificate; the bound stops a caller who presents
 * many look-alikes (same names, other keys) to make us search.
 */
const MAX_CHECKS = 64;

/** Where issuers are looked for. */
export interface Issuers {
  readonly presented: readonly X509Certificate[];
  readonly anchors: readonly X509Certificate[];
  /** Milliseconds since the epoch. */
  readonly now: number;
}

interface Search extends Issuers {
  checks: number;
}

/**
 * The certificates that lead from a leaf to a self-signed certificate of the trust bundle: intermediates in TLS order,
 * the anchor last. Empty when the leaf itself is that anchor; null when there is no such path.
 *
 * As OpenSSL does, issuers out of the bundle are preferred to presented ones, and an intermediate that stands in the
 * bundle still counts as an intermediate. Signatures and dates are checked, strength is not: this finds the path that
 * OpenSSL verified, which Node does not tell.
 */
export function pathToAnchor(leaf: X509Certificate, issuers: Issuers): X509Certificate[] | null {
  if (isSelfIssued(leaf)) return issuers.anchors.some((anchor) => sameCertificate(anchor, leaf)) ? [] : null;
  return follow(leaf, [], { ...issuers, checks: 0 });
}

/** Whether all of a path is valid at a time. */
export function isPathValid(path: readonly X509Certificate[], now: number): boolean {
  return path.every((issuer) => isValid(issuer, now));
}

/**
 * Whether OpenSSL must have taken this path. It never tries a second way, so that of two look-alike issuers it may have
 * judged the one that we did not follow.
 */
export function isOnlyPath(
  leaf: X509Certificate,
  path: readonly X509Certificate[],
  { presented, anchors }: Issuers,
): boolean {
  return path.every((issuer, index) => {
    const subject = path[index - 1] ?? leaf;
    const trusted = anchors.filter((anchor) => subject.checkIssued(anchor));
    // Of two roots with one name and key (the old and the renewed) either will do.
    if (trusted.length > 0) return trusted.length === 1 || trusted.every(isSelfIssued);
    return presented.every((candidate) => !subject.checkIssued(candidate) || sameCertificate(candidate, issuer));
  });
}

/** When the first certificate of a path ends. Milliseconds since the epoch; Infinity for a path of none. */
export function endOfPath(path: readonly X509Certificate[]): number {
  return Math.min(...path.map((issuer) => validityOf(issuer).to));
}

/**
 * A bundle in which a CA and its renewals have changed places, so that a path leads over the one that lasts. All else stays in
 * order: a CA that another one has certified as well would make the paths longer.
 */
export function lastingFirst(bundle: readonly X509Certificate[]): readonly X509Certificate[] {
  const left = bundle.toSorted((one, other) => validityOf(other).to - validityOf(one).to);
  return bundle.flatMap((ca) => {
    const next = left.findIndex((other) => isSameCa(ca, other));
    return left.splice(next, 1);
  });
}

function isSameCa(one: X509Certificate, other: X509Certificate): boolean {
  if (sameCertificate(one, other)) return true;
  return one.subject === other.subject && one.issuer === other.issuer && one.publicKey.equals(other.publicKey);
}

function follow(current: X509Certificate, path: X509Certificate[], search: Search): X509Certificate[] | null {
  for (const anchor of search.anchors) {
    if (!issued(anchor, current, search)) continue;
    if (isSelfIssued(anchor)) return [...path, anchor];
    const found = followUnlessSeen(anchor, path, search);
    if (found !== null) return found;
  }
  for (const candidate of search.presented) {
    // A self-signed certificate that the caller brought is no anchor, however it is named; another caller's is no CA.
    if (isSelfIssued(candidate) || !candidate.ca || !issued(candidate, current, search)) continue;
    const found = followUnlessSeen(candidate, path, search);
    if (found !== null) return found;
  }
  return null;
}

function followUnlessSeen(next: X509Certificate, path: X509Certificate[], search: Search): X509Certificate[] | null {
  return path.some((seen) => sameCertificate(seen, next)) ? null : follow(next, [...path, next], search);
}

function issued(issuer: X509Certificate, subject: X509Certificate, search: Search): boolean {
  if (!subject.checkIssued(issuer) || !isValid(issuer, search.now)) return false;
  search.checks += 1;
  return search.checks <= MAX_CHECKS && subject.verify(issuer.publicKey);
}

function isValid(certificate: X509Certificate, now: number): boolean {
  const { from, to } = validityOf(certificate);
  return from <= now && now <= to;
}

/** Milliseconds since the epoch. */
interface Validity {
  readonly from: number;
  readonly to: number;
}

/** Node shows dates as text. Paths of known callers are asked for them several times a handshake. */
const validities = new WeakMap<X509Certificate, Validity>();

function validityOf(certificate: X509Certificate): Validity {
  const read = validities.get(certificate);
  if (read !== undefined) return read;
  const validity = { from: Date.parse(certificate.validFrom), to: Date.parse(certificate.validTo) };
  validities.set(certificate, validity);
  return validity;
}

function isSelfIssued(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate);
}

function sameCertificate(a: X509Certificate, b: X509Certificate): boolean {
  return a.raw.equals(b.raw);
}
