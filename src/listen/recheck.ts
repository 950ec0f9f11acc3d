import { X509Certificate } from 'node:crypto';
import { asksNobody } from '../admit/standing.js';
import type { CertificateFault } from '../errors.js';
import type { PeerIdentity } from '../identify/peer-identity.js';
import { pathToAnchor } from './chain.js';
import type { Policy } from './verdict.js';

/** Why a caller that was let in would not be let in today. */
export interface Change {
  readonly code: CertificateFault;
  readonly detail: string;
}

/** Judges identities of open connections again, after bundle, CRLs or mode have changed, or a CRL has run out. */
export class Recheck {
  /** Many connections share few leaves. */
  private readonly known = new Map<string, Change | null>();

  /** @param now milliseconds since the epoch */
  constructor(
    private readonly policy: Policy,
    private readonly now: number,
  ) {}

  /**
   * Asks what OpenSSL would be asked in a new handshake, as far as a connection can be asked without one: presence, path,
   * depth, revocation. The rest comes with the next handshake, which is soon: these connections are told to close.
   */
  ask(identity: PeerIdentity): Change | null {
    const { modes } = this.policy;
    const { certificate } = identity;
    if (asksNobody(modes)) return null;
    if (certificate === null) return isForAnybody(identity, modes) ? null : NO_CERTIFICATE;
    if (identity.verify !== 'SUCCESS') return modes.has('optional-no-ca') ? null : UNTRUSTED;
    const known = this.known.get(certificate.sha256);
    if (known !== undefined) return known;
    const change = this.judge(identity, certificate.der);
    this.known.set(certificate.sha256, change);
    return change;
  }

  private judge({ chain }: PeerIdentity, der: Uint8Array): Change | null {
    const { anchors, depth, revocation } = this.policy;
    const leaf = new X509Certificate(der);
    const presented = chain.map((issuer) => new X509Certificate(issuer));
    const path = pathToAnchor(leaf, { presented, anchors, now: this.now });
    if (path === null) return UNTRUSTED;
    if (path.length - 1 > depth) return { code: 'chain_too_long', detail: 'certificate chain too long since a reload' };
    const finding = revocation(leaf, path, this.now);
    if (finding === null) return null;
    if (finding.reason === 'crl_expired') return { code: 'crl_expired', detail: finding.detail };
    return { code: codeOf(finding.reason), detail: `${finding.detail}, since a reload` };
  }
}

/** Whether somebody without a good certificate could come in: without any, or, where it is not asked for, with a bad one. */
function isForAnybody({ fault }: PeerIdentity, modes: Policy['modes']): boolean {
  if (modes.has('off')) return true;
  return fault?.reason === 'no_certificate' && (modes.has('optional') || modes.has('optional-no-ca'));
}

const NO_CERTIFICATE: Change = { code: 'no_certificate', detail: 'a certificate is required since a reload' };
const UNTRUSTED: Change = {
  code: 'untrusted_issuer',
  detail: 'no CA of the bundle leads to this certificate since a reload',
};

function codeOf(reason: string): Change['code'] {
  return reason === 'crl_missing' ? 'crl_missing' : 'revoked';
}
