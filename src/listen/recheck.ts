import { X509Certificate } from 'node:crypto';
import { asksNobody } from '../admit/standing.js';
import type { CertificateFault } from '../errors.js';
import type { PeerCertificate, PeerIdentity } from '../identify/peer-identity.js';
import { endOfPath, pathToAnchor } from './chain.js';
import type { Policy } from './verdict.js';

/** Why a caller that was let in would not be let in today. */
export interface Change {
  readonly code: CertificateFault;
  readonly detail: string;
}

/** What is to be said today about a caller that was let in. */
export interface Judgement {
  /** Null when it would still be let in, but for what has ended. */
  readonly change: Change | null;
  /** Whether a handshake alone can tell, in which OpenSSL is asked about CRLs that cannot be evaluated here. */
  readonly isUnclear: boolean;
  /** As `PeerIdentity` has it, by the path of today. */
  readonly validUntil: number;
}

/** Judges identities of open connections again, after bundle, CRLs or mode have changed, or a CRL has run out. */
export class Recheck {
  /** Many connections share few leaves. */
  private readonly known = new Map<string, Judgement>();

  /** @param now milliseconds since the epoch */
  constructor(
    private readonly policy: Policy,
    private readonly now: number,
  ) {}

  /**
   * Asks what OpenSSL would be asked in a new handshake, as far as a connection can be asked without one: presence, path,
   * depth, revocation, and when it ends. The rest comes with the next handshake, which is soon: these connections are told to close.
   */
  ask(identity: PeerIdentity): Judgement {
    const { certificate, validUntil } = identity;
    if (certificate === null || identity.verify !== 'SUCCESS') {
      return { change: this.changeFor(identity), isUnclear: false, validUntil };
    }
    if (asksNobody(this.policy.modes)) return { change: null, isUnclear: false, validUntil };
    const key = `${certificate.sha256} ${validUntil}`;
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const judgement = this.judgeOrDistrust(identity, certificate);
    this.known.set(key, judgement);
    return judgement;
  }

  /** For whoever is not verified. */
  private changeFor(identity: PeerIdentity): Change | null {
    const { modes } = this.policy;
    if (asksNobody(modes)) return null;
    if (identity.certificate === null) return isForAnybody(identity, modes) ? null : NO_CERTIFICATE;
    return modes.has('optional-no-ca') ? null : UNTRUSTED;
  }

  /**
   * OpenSSL forgives encodings that our readers do not, so a certificate that it let in may be unreadable to them. Everybody behind this
   * caller has to be asked all the same.
   */
  private judgeOrDistrust(identity: PeerIdentity, certificate: PeerCertificate): Judgement {
    try {
      return this.judge(identity, certificate);
    } catch (error) {
      const detail = `cannot be judged since a reload: ${(error as Error).message}`;
      return { change: { code: 'invalid', detail }, isUnclear: false, validUntil: identity.validUntil };
    }
  }

  private judge(identity: PeerIdentity, { der, notAfter }: PeerCertificate): Judgement {
    const leaf = new X509Certificate(der);
    const path = this.pathOf(identity, leaf);
    if (path === null) return { change: UNTRUSTED, isUnclear: false, validUntil: identity.validUntil };
    return { ...this.findingAbout(leaf, path), validUntil: Math.min(notAfter, endOfPath(path)) };
  }

  /** A path that has but ended is one all the same: its caller is told that, and stays where nobody is asked. */
  private pathOf({ chain, validUntil }: PeerIdentity, leaf: X509Certificate): X509Certificate[] | null {
    const { anchors } = this.policy;
    const presented = chain.map((issuer) => new X509Certificate(issuer));
    const path = pathToAnchor(leaf, { presented, anchors, now: this.now });
    if (path !== null || validUntil >= this.now) return path;
    return pathToAnchor(leaf, { presented, anchors, now: validUntil });
  }

  private findingAbout(leaf: X509Certificate, path: readonly X509Certificate[]): Omit<Judgement, 'validUntil'> {
    const { depth, revocation, readsCrls } = this.policy;
    if (path.length - 1 > depth) return { change: TOO_LONG, isUnclear: false };
    const finding = revocation(leaf, path, this.now);
    if (finding === null) return { change: null, isUnclear: false };
    // Where OpenSSL was not given the CRLs, nobody else will be asked.
    if (finding.unclear === true && !readsCrls) return { change: null, isUnclear: true };
    const { reason: code, detail } = finding;
    const change = code === 'crl_expired' ? { code, detail } : { code, detail: `${detail}, since a reload` };
    return { change, isUnclear: false };
  }
}

/** Whether somebody without a good certificate could come in: without any, or, where it is not asked for, with a bad one. */
function isForAnybody({ fault }: PeerIdentity, modes: Policy['modes']): boolean {
  if (modes.has('off')) return true;
  return fault?.reason === 'no_certificate' && (modes.has('optional') || modes.has('optional-no-ca'));
}

const NO_CERTIFICATE: Change = { code: 'no_certificate', detail: 'a certificate is required since a reload' };
const TOO_LONG: Change = { code: 'chain_too_long', detail: 'certificate chain too long since a reload' };
const UNTRUSTED: Change = {
  code: 'untrusted_issuer',
  detail: 'no CA of the bundle leads to this certificate since a reload',
};
