/** Names of OpenSSL differ between its versions; the ends of them do not. */
const FAILURES: readonly (readonly [end: RegExp, reason: string, detail: string])[] = [
  [/(?:PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|NO_PROTOCOLS_AVAILABLE)$/, 'tls_version', 'no TLS version in common'],
  [/(?:HANDSHAKE_FAILURE|NO_SHARED_CIPHER|NO_CIPHERS_AVAILABLE)$/, 'no_shared_cipher', 'no cipher in common'],
  [
    /(?:WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|RECORD_LAYER_FAILURE)$/,
    'no_tls',
    'it does not speak TLS',
  ],
  [/CERTIFICATE_REQUIRED$/, 'no_certificate', 'it wants a certificate'],
  [/UNKNOWN_CA$/, 'untrusted_issuer', 'it does not know the CA of the caller'],
  [/CERTIFICATE_EXPIRED$/, 'expired', 'it calls the certificate expired'],
  [/CERTIFICATE_REVOKED$/, 'revoked', 'it calls the certificate revoked'],
  [/(?:BAD_CERTIFICATE|UNSUPPORTED_CERTIFICATE|CERTIFICATE_UNKNOWN)$/, 'invalid', 'it does not take the certificate'],
  [/^(?:ECONNRESET|EPIPE)$/, 'connection_closed', 'it closed the connection'],
  [/^ABORT_ERR$/, 'timeout', 'it said nothing in time'],
];

/** Why a TLS connection came to nothing: a code, and words. */
export function tlsFailure(error: Error & { code?: string | number }): {
  readonly reason: string;
  readonly detail: string;
} {
  const code = String(error.code ?? '');
  const known = FAILURES.find(([end]) => end.test(code));
  if (known === undefined) return { reason: 'handshake_failed', detail: code === '' ? error.message : code };
  const [, reason, detail] = known;
  return { reason, detail: `${detail} (${code})` };
}
