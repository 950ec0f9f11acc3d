import type { CertificateFault, ConnectionReason } from '../errors.js';
import { CROWDED_OUT } from './hallway.js';

interface Meaning {
  readonly reason: CertificateFault;
  /** OpenSSL 3's own sentence (`X509_verify_cert_error_string`), which nginx prints after `FAILED:`. */
  readonly text: string;
}

/** Node's name of an OpenSSL verification error → our closed list and OpenSSL's words. */
const MEANINGS: Readonly<Record<string, Meaning>> = {
  UNABLE_TO_GET_ISSUER_CERT: { reason: 'untrusted_issuer', text: 'unable to get issuer certificate' },
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: { reason: 'untrusted_issuer', text: 'unable to get local issuer certificate' },
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: { reason: 'untrusted_issuer', text: 'unable to verify the first certificate' },
  CERT_UNTRUSTED: { reason: 'untrusted_issuer', text: 'certificate not trusted' },
  DEPTH_ZERO_SELF_SIGNED_CERT: { reason: 'self_signed', text: 'self-signed certificate' },
  SELF_SIGNED_CERT_IN_CHAIN: { reason: 'self_signed', text: 'self-signed certificate in certificate chain' },
  CERT_HAS_EXPIRED: { reason: 'expired', text: 'certificate has expired' },
  CERT_NOT_YET_VALID: { reason: 'not_yet_valid', text: 'certificate is not yet valid' },
  CERT_REVOKED: { reason: 'revoked', text: 'certificate revoked' },
  UNABLE_TO_GET_CRL: { reason: 'crl_missing', text: 'unable to get certificate CRL' },
  CRL_HAS_EXPIRED: { reason: 'crl_expired', text: 'CRL has expired' },
  INVALID_PURPOSE: { reason: 'wrong_purpose', text: 'unsuitable certificate purpose' },
  CERT_CHAIN_TOO_LONG: { reason: 'chain_too_long', text: 'certificate chain too long' },
  PATH_LENGTH_EXCEEDED: { reason: 'chain_too_long', text: 'path length constraint exceeded' },
};

/** Node has no name for OpenSSL's security-level errors (66 to 68): they arrive as UNSPECIFIED and are told by their text. */
const WEAK = /key too weak|digest algorithm too weak/;

/** Newer Node versions append advice for clients to OpenSSL's sentence. */
const NODE_ADVICE = /; if the root CA is installed locally.*$/s;

/** Translates what OpenSSL, through Node, says about a presented certificate. */
export function explainVerifyError(error: { readonly code: string; readonly text: string }): Meaning {
  const known = MEANINGS[error.code];
  if (known !== undefined) return known;
  const text = error.text.replace(NODE_ADVICE, '');
  return { reason: WEAK.test(text) ? 'weak_signature' : 'invalid', text };
}

/** The five issuer errors that nginx's `optional_no_ca` lets through (ngx_ssl_verify_error_optional). */
const OPTIONAL_NO_CA: ReadonlySet<string> = new Set([
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'CERT_UNTRUSTED',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);

/** The same by OpenSSL's numbers (x509_vfy.h), as a session keeps them. */
export const ISSUER_ERRORS: ReadonlySet<number> = new Set([18, 19, 20, 21, 27]);

/** OpenSSL's number for a certificate that is for another purpose. */
export const INVALID_PURPOSE = 26;

/** Whether `verify: optional-no-ca` passes this error. */
export function isIssuerError(code: string): boolean {
  return OPTIONAL_NO_CA.has(code);
}

/** Whether there is a setting that passes this error. */
export function isForgivable(code: string): boolean {
  return isIssuerError(code) || code === 'INVALID_PURPOSE';
}

/**
 * A failed handshake, before any certificate could be judged.
 * @param isAnswered whether our hello has been sent. A record of another version behind it is the farewell of a caller that
 *   does not speak the version in it; before it, of somebody who does not speak TLS.
 */
export function explainHandshakeError(error: Error & { code?: string }, isAnswered = false): ConnectionReason {
  if (isAnswered && error.code === 'ERR_SSL_WRONG_VERSION_NUMBER') return 'tls_version';
  return HANDSHAKE_REASONS[error.code ?? ''] ?? 'handshake_failed';
}

const HANDSHAKE_REASONS: Readonly<Record<string, ConnectionReason>> = {
  [CROWDED_OUT]: 'overloaded',
  ERR_SSL_HTTP_REQUEST: 'plain_http',
  ERR_SSL_UNSUPPORTED_PROTOCOL: 'tls_version',
  ERR_SSL_WRONG_SSL_VERSION: 'tls_version',
  ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION: 'tls_version',
  ERR_SSL_NO_SHARED_CIPHER: 'no_shared_cipher',
  ERR_SSL_NO_SUITABLE_SIGNATURE_ALGORITHM: 'no_shared_cipher',
  ECONNRESET: 'handshake_aborted',
  EPIPE: 'handshake_aborted',
};
