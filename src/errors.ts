/**
 * Every way in which a connection or a request can be refused, as closed lists: they are metric labels, log
 * fields and API for operators, so a code once published does not change its meaning.
 */

/** Why a connection was refused before any of it was read as HTTP. */
export const CONNECTION_REASONS = [
  'no_certificate',
  'untrusted_issuer',
  'self_signed',
  'expired',
  'not_yet_valid',
  'revoked',
  'crl_missing',
  'crl_expired',
  'wrong_purpose',
  'weak_signature',
  'chain_too_long',
  'invalid',
  'not_allowed',
  'plain_http',
  'handshake_timeout',
  'tls_version',
  'no_shared_cipher',
  'handshake_failed',
  'handshake_aborted',
  'overloaded',
  'proxy_protocol',
  'proxy_untrusted',
] as const;
export type ConnectionReason = (typeof CONNECTION_REASONS)[number];

/** Why a request of an admitted connection was refused, or could not be answered by the application. */
export const REQUEST_CODES = [
  'bad_request',
  'headers_too_large',
  'uri_too_long',
  'body_too_large',
  'request_timeout',
  'misdirected',
  'not_allowed',
  'expired',
  // About a connection that was let in for other routes, or before a reload or the end of a CRL.
  'no_certificate',
  'untrusted_issuer',
  'self_signed',
  'not_yet_valid',
  'revoked',
  'crl_missing',
  'crl_expired',
  'wrong_purpose',
  'weak_signature',
  'chain_too_long',
  'invalid',
  'upstream_connect',
  'upstream_protocol',
  'upstream_closed',
  'upstream_timeout',
  'draining',
  'overloaded',
  'internal',
] as const;
export type RequestCode = (typeof REQUEST_CODES)[number];

/** What can be wrong with a caller's certificate: one code, whether the connection is refused for it or a request. */
export type CertificateFault = ConnectionReason & Exclude<RequestCode, 'not_allowed' | 'overloaded'>;

/** Whose fault it is: the caller's, the application's, or ours. */
export type Side = 'downstream' | 'upstream' | 'internal';

/** The stage of a request's life (the folders of src/, in order) at which it failed. */
export type Stage = 'listen' | 'admit' | 'rewrite' | 'forward' | 'respond';

/** A request that cannot be answered by the application. `respond/refuse` maps `code` to a status. */
export class ProxyError extends Error {
  override readonly name = 'ProxyError';
  readonly code: RequestCode;
  readonly side: Side;
  readonly stage: Stage;

  /** @param message for the log; the caller only ever sees the code and a fixed sentence. */
  constructor(code: RequestCode, side: Side, stage: Stage, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.side = side;
    this.stage = stage;
  }
}

/** A setting, file or credential that does not permit a start (or a reload). Ends a command with exit code 78. */
export class ConfigError extends Error {
  override readonly name = 'ConfigError';

  /**
   * @param problems one sentence each, naming the setting or file, where it came from and what is allowed
   * @param includes what was read besides the settings file, as far as it is known: to be looked at until it is good
   */
  constructor(
    readonly problems: readonly string[],
    readonly includes: Includes = NO_INCLUDES,
  ) {
    super(problems.join('\n'));
  }
}

/** What a settings file consists of besides itself. Absolute names. */
export interface Includes {
  readonly files: readonly string[];
  /** Looked through for names that fit a pattern: a file more is an include more. */
  readonly directories: readonly string[];
}

export const NO_INCLUDES: Includes = { files: [], directories: [] };

/** A command line that cannot be understood. Ends a command with exit code 64. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}
