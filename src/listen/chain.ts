import type { X509Certificate } from 'node:crypto';

/**
 * Signature checks that one chain may cost. Honest chains need one a certificate; the bound stops a caller who presents
 * many look-alikes (same names, other keys) to make us search.
 */
const MAX_CHECKS = 64;

interface Search {
  readonly presented: readonly X509Certificate[];
  readonly anchors: readonly X509Certificate[];
  checks: number;
}

/**
 * The certificates that lead from a leaf to a self-signed certificate of the trust bundle: intermediates in TLS order,
 * the anchor last. Empty when the leaf itself is that anchor; null when there is no such path.
 *
 * As OpenSSL does, issuers out of the bundle are preferred to presented ones, and an intermediate that stands in the
 * bundle still counts as an intermediate. Signatures are checked, validity is not: this finds the path that OpenSSL
 * verified, which Node does not tell.
 */
export function pathToAnchor(
  leaf: X509Certificate,
  presented: readonly X509Certificate[],
  anchors: readonly X509Certificate[],
): X509Certificate[] | null {
  if (isSelfIssued(leaf)) return anchors.some((anchor) => sameCertificate(anchor, leaf)) ? [] : null;
  return follow(leaf, [], { presented, anchors, checks: 0 });
}

function follow(current: X509Certificate, path: X509Certificate[], search: Search): X509Certificate[] | null {
  for (const anchor of search.anchors) {
    if (!issued(anchor, current, search)) continue;
    if (isSelfIssued(anchor)) return [...path, anchor];
    const found = followUnlessSeen(anchor, path, search);
    if (found !== null) return found;
  }
  for (const candidate of search.presented) {
    // A self-signed certificate that the caller brought is no anchor, however it is named.
    if (isSelfIssued(candidate) || !issued(candidate, current, search)) continue;
    const found = followUnlessSeen(candidate, path, search);
    if (found !== null) return found;
  }
  return null;
}

function followUnlessSeen(next: X509Certificate, path: X509Certificate[], search: Search): X509Certificate[] | null {
  return path.some((seen) => sameCertificate(seen, next)) ? null : follow(next, [...path, next], search);
}

function issued(issuer: X509Certificate, subject: X509Certificate, search: Search): boolean {
  if (!subject.checkIssued(issuer)) return false;
  search.checks += 1;
  return search.checks <= MAX_CHECKS && subject.verify(issuer.publicKey);
}

function isSelfIssued(certificate: X509Certificate): boolean {
  return certificate.checkIssued(certificate);
}

function sameCertificate(a: X509Certificate, b: X509Certificate): boolean {
  return a.raw.equals(b.raw);
}
