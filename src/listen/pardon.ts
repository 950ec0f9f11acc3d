import type { X509Certificate } from 'node:crypto';
import { basicConstraints } from '../identify/basic-constraints.js';
import { readPeerCertificate } from '../identify/peer-certificate.js';

const INTEGER = 0x02;

/**
 * What OpenSSL may have found wrong with a chain before it complained about a purpose, which is all that it tells: of
 * several errors it reports the last. Whoever forgives the purpose without asking again lets one caller issue
 * certificates for others.
 *
 * These are the other checks of OpenSSL's check_extensions. Those of strength, revocation, signatures, dates and names
 * come later, so they are not hidden.
 * @param path issuers of the leaf in order, the anchor last
 * @returns OpenSSL's words, or null
 */
export function hiddenProblem(leaf: X509Certificate, path: readonly X509Certificate[]): string | null {
  const chain = [leaf, ...path];
  if (chain.some(({ raw }) => readPeerCertificate(raw).hasUnknownCriticalExtension)) {
    return 'unhandled critical extension';
  }
  // Among them whoever issued a proxy certificate (RFC 3820).
  if (!path.every(({ ca }) => ca)) return 'invalid CA certificate';
  return path.every((issuer, below) => below <= pathLengthOf(issuer)) ? null : 'path length constraint exceeded';
}

/** How many certificates may stand between this CA and a leaf. */
function pathLengthOf(issuer: X509Certificate): number {
  const length = basicConstraints(issuer.raw).find(({ tag }) => tag === INTEGER);
  return length === undefined ? Infinity : parseInt(Buffer.from(length.content).toString('hex'), 16);
}
