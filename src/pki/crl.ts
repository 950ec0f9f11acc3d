import { signed, type Signer } from './certificate.js';
import { element, integer, sequence, time, toPem } from './der.js';
import { authorityKeyIdentifier, encodeExtension, type RawExtension } from './extensions.js';
import { keyIdentifier, signatureAlgorithm, type Hash } from './keys.js';

const HOUR = 3_600_000;

/** RFC 5280 §5.3.1. */
const REASONS = {
  unspecified: 0,
  keyCompromise: 1,
  cACompromise: 2,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
  certificateHold: 6,
  removeFromCRL: 8,
  privilegeWithdrawn: 9,
  aACompromise: 10,
} as const;

export interface Revocation {
  readonly serial: bigint;
  /** Milliseconds since the epoch; default: thisUpdate. */
  readonly at?: number;
  readonly reason?: keyof typeof REASONS;
}

export interface CrlOptions {
  /** Milliseconds since the epoch; the default CRL is from one hour before to one day after. */
  readonly now: number;
  readonly thisUpdate?: number;
  /** Null leaves the field out. */
  readonly nextUpdate?: number | null;
  readonly revoked?: readonly (bigint | Revocation)[];
  /** Default 1. */
  readonly number?: bigint;
  /** The number of the base CRL: makes it a delta CRL. */
  readonly deltaOf?: bigint;
  readonly hash?: Hash;
  readonly extensions?: readonly RawExtension[];
}

/** A CRL in PEM, signed by `signer` in its own name. */
export function makeCrl(options: CrlOptions, signer: Signer): string {
  const hash = options.hash ?? 'sha256';
  const key = signer.keys.privateKey;
  return toPem('X509 CRL', signed(toBeSigned(options, signer, signatureAlgorithm(key, hash)), key, hash));
}

/** RFC 5280 §5.1.2, version 2. */
function toBeSigned(options: CrlOptions, signer: Signer, algorithm: Uint8Array): Uint8Array {
  const { now, thisUpdate = now - HOUR, nextUpdate = now + 24 * HOUR } = options;
  const revoked = (options.revoked ?? []).map((one) =>
    entry(typeof one === 'bigint' ? { serial: one } : one, thisUpdate),
  );
  return sequence(
    integer(1n),
    algorithm,
    signer.name,
    time(thisUpdate),
    ...(nextUpdate === null ? [] : [time(nextUpdate)]),
    // RFC 5280 §5.1.2.6: absent rather than empty.
    ...(revoked.length === 0 ? [] : [sequence(...revoked)]),
    element(0xa0, sequence(...extensionsOf(options, signer).map((one) => encodeExtension(one)))),
  );
}

function entry({ serial, at, reason }: Revocation, thisUpdate: number): Uint8Array {
  const extensions = reason === undefined ? [] : [sequence(encodeExtension(reasonCode(reason)))];
  return sequence(integer(serial), time(at ?? thisUpdate), ...extensions);
}

function reasonCode(reason: keyof typeof REASONS): RawExtension {
  return { oid: '2.5.29.21', value: element(10, Uint8Array.of(REASONS[reason])) };
}

function extensionsOf(options: CrlOptions, signer: Signer): RawExtension[] {
  const delta = options.deltaOf;
  return [
    authorityKeyIdentifier(keyIdentifier(signer.keys.publicKey)),
    { oid: '2.5.29.20', value: integer(options.number ?? 1n) },
    ...(delta === undefined ? [] : [{ oid: '2.5.29.27', critical: true, value: integer(delta) }]),
    ...(options.extensions ?? []),
  ];
}
