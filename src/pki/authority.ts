import { makeCertificate, type CertificateOptions, type Issued, type Signer } from './certificate.js';
import { makeCrl, type CrlOptions } from './crl.js';
import { encodeName } from './names.js';

/** A CA: its own certificate and key, and what it can sign. Nothing checks that what it signs makes sense. */
export interface Authority extends Issued {
  /** A leaf (or, with `basicConstraints`, anything). */
  issue(options: CertificateOptions): Issued;
  /**
   * An intermediate below this CA. Pass the `keys` and `subject` of an existing authority to certify it a second
   * time (cross-certification).
   */
  subordinate(options: CertificateOptions): Authority;
  /** PEM. */
  crl(options: CrlOptions): string;
}

const CA_DEFAULTS = {
  basicConstraints: { ca: true },
  keyUsage: ['keyCertSign', 'cRLSign'],
} as const satisfies Partial<CertificateOptions>;

/**
 * A self-signed root. Two authorities made with the same subject and different keys forge each other's issuer name;
 * with the same `keys` they are one CA under two certificates.
 */
export function createAuthority(options: CertificateOptions): Authority {
  return authority({ ...CA_DEFAULTS, ...options }, null);
}

/** A certificate that vouches for itself and is no CA. */
export function selfSigned(options: CertificateOptions): Issued {
  return makeCertificate(options, null);
}

function authority(options: CertificateOptions, parent: Signer | null): Authority {
  const own = makeCertificate(options, parent);
  const signer: Signer = { name: encodeName(options.subject), keys: own.keys };
  return {
    ...own,
    issue: (leaf) => makeCertificate(leaf, signer),
    subordinate: (lower) => authority({ ...CA_DEFAULTS, ...lower }, signer),
    crl: (crl) => makeCrl(crl, signer),
  };
}
