import type { CertificateFault } from '../errors.js';

/** One subjectAltName entry that rules and headers understand; every other kind is kept as `other`. */
export interface SubjectAltName {
  readonly type: 'dns' | 'uri' | 'email' | 'ip' | 'other';
  /** Text exactly as in the certificate (IP addresses in canonical text form); hostile input, never a header as is. */
  readonly value: string;
}

/** What is read once from a leaf certificate's DER. Every string is the certificate's own and therefore hostile. */
export interface PeerCertificate {
  readonly der: Uint8Array;
  /** RFC 2253 as `openssl x509 -nameopt RFC2253` prints it: pure printable ASCII. */
  readonly subject: string;
  readonly issuer: string;
  /** The `/C=…/O=…` form of OpenSSL's X509_NAME_oneline, which nginx gives as `$ssl_client_s_dn_legacy`. */
  readonly subjectLegacy: string;
  /** Decoded attribute values in the order of the certificate, for allow rules. */
  readonly commonNames: readonly string[];
  readonly organizations: readonly string[];
  readonly organizationalUnits: readonly string[];
  /** Upper-case hex as nginx's `$ssl_client_serial`. */
  readonly serial: string;
  /** Milliseconds since the epoch. */
  readonly notBefore: number;
  readonly notAfter: number;
  readonly subjectAltNames: readonly SubjectAltName[];
  /** Whether an extension is marked critical that OpenSSL does not process (RFC 5280 §4.2). */
  readonly hasUnknownCriticalExtension: boolean;
  /** Lower-case hex without colons. Computed on first use. */
  readonly sha256: string;
  readonly sha1: string;
  /** `sha256:<base64>` of the SubjectPublicKeyInfo. Computed on first use. */
  readonly spkiSha256: string;
}

/** OpenSSL's answer about the certificate in nginx's words (`$ssl_client_verify`). */
export type Verify = 'SUCCESS' | 'NONE' | `FAILED:${string}`;

/** Why a caller is not verified. */
export interface Fault {
  readonly reason: CertificateFault;
  /** OpenSSL's text, or ours; for the log only. */
  readonly detail: string;
}

/** Who is on the other end of one connection. Made once, by `listen`, after the verdict; immutable. */
export interface PeerIdentity {
  readonly verify: Verify;
  /** Null for a verified caller. Set for one who is let in all the same: some route asks for less. */
  readonly fault: Fault | null;
  /** The leaf; null when none was presented, or when it is worth nothing to any route. */
  readonly certificate: PeerCertificate | null;
  /** DER of the issuers that lead from the leaf to the trust anchor, leaf excluded, in TLS order. */
  readonly chain: readonly Uint8Array[];
  /** Lower-case hex of the trust anchor; null when the leaf was not verified. */
  readonly anchorSha256: string | null;
  /**
   * When the first certificate of leaf and path ends. Milliseconds since the epoch; of a leaf that was not verified its own
   * end, and Infinity without any.
   */
  readonly validUntil: number;
  readonly tls: {
    /** `TLSv1.3` */
    readonly version: string;
    /** OpenSSL's name: `TLS_AES_256_GCM_SHA384` */
    readonly cipher: string;
    /** SNI, lower case, or null. */
    readonly serverName: string | null;
    readonly sessionReused: boolean;
  };
}

/** An admitted connection, as every later stage sees it. */
export interface Connection {
  readonly id: number;
  readonly identity: PeerIdentity;
  readonly remoteAddress: string;
  readonly remotePort: number;
  readonly localPort: number;
  /** Milliseconds since the epoch. */
  readonly openedAt: number;
  /** Flat list name, value, name, value … of the identity headers; depends on the connection alone, so built once. */
  readonly identityHeaders: readonly string[];
  /** The same where nobody is asked who he is (`verify: off`); the same list each time. */
  anonymousHeaders(): readonly string[];
}
