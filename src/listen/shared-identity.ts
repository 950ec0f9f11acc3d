import type { PeerCertificate, PeerIdentity } from '../identify/peer-identity.js';

/** More than one caller's programs differ in; a caller may ask for any name, and each would stay. */
const KEPT = 8;

/** By the certificate as `KnownCallers` keeps it, and for as long. */
const identities = new WeakMap<PeerCertificate, PeerIdentity[]>();

/**
 * The one value for all connections of which the same is known. Most of thousands that stay open are of a few callers, and
 * what is made of an identity (its headers, its standing) is made once with it.
 * @returns an equal identity, or this one
 */
export function sharedIdentity(identity: PeerIdentity): PeerIdentity {
  const { certificate } = identity;
  if (certificate === null || identity.fault !== null) return identity;
  const known = identities.get(certificate) ?? [];
  const same = known.find((other) => isSame(other, identity));
  if (same !== undefined) return same;
  identities.set(certificate, [identity, ...known].slice(0, KEPT));
  return identity;
}

/** Of two verified identities of one certificate. When they end follows from the rest. */
function isSame(one: PeerIdentity, other: PeerIdentity): boolean {
  return (
    one.verify === other.verify &&
    one.anchorSha256 === other.anchorSha256 &&
    one.tls.version === other.tls.version &&
    one.tls.cipher === other.tls.cipher &&
    one.tls.serverName === other.tls.serverName &&
    one.tls.sessionReused === other.tls.sessionReused &&
    one.chain.length === other.chain.length &&
    one.chain.every((issuer, index) => Buffer.compare(issuer, other.chain[index] as Uint8Array) === 0)
  );
}
