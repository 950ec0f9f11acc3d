import { isAuthority } from '../identify/basic-constraints.js';
import { expectTag, readDer, UnreadableCertificateError, type DerElement } from '../identify/der.js';
import type { Extension } from '../identify/extensions.js';

/** Which certificates of its issuer a list speaks for; or why that cannot be said here. */
export type Scope =
  { readonly of: 'all' | 'users' | 'authorities' | 'attributes' } | { readonly of: 'unclear'; readonly why: string };

/** Whether a list speaks for a certificate (DER) of its issuer, as OpenSSL has it (crl_crldp_check). */
export function covers({ of }: Scope, certificate: Uint8Array): boolean {
  if (of === 'all') return true;
  return (of === 'users' || of === 'authorities') && isAuthority(certificate) === (of === 'authorities');
}

const DELTA_CRL_INDICATOR = '2.5.29.27';
const ISSUING_DISTRIBUTION_POINT = '2.5.29.28';
/** CRL number, issuing distribution point and authority key identifier. */
const UNDERSTOOD: ReadonlySet<string> = new Set(['2.5.29.20', ISSUING_DISTRIBUTION_POINT, '2.5.29.35']);

/** Whether a list only says what has changed since another (RFC 5280 §5.2.4). */
export function isDelta(extensions: readonly Extension[]): boolean {
  return extensions.some(({ id }) => id === DELTA_CRL_INDICATOR);
}

/** RFC 5280 §5.2: a list with a critical extension that is not understood must not be used. */
export function scopeOf(extensions: readonly Extension[]): Scope {
  if (isDelta(extensions)) return unclear('is a delta list');
  const strange = extensions.find(({ id, critical }) => critical && !UNDERSTOOD.has(id));
  if (strange !== undefined) return unclear(`has a critical extension that is not understood (${strange.id})`);
  const [point, ...more] = extensions.filter(({ id }) => id === ISSUING_DISTRIBUTION_POINT);
  if (point === undefined) return { of: 'all' };
  return more.length > 0 ? MALFORMED : scopeOfPoint(point);
}

const SEQUENCE = 0x30;

/** RFC 5280 §5.2.5. */
const SCOPES: ReadonlyMap<number, Scope> = new Map([
  [0x81, { of: 'users' }],
  [0x82, { of: 'authorities' }],
  [0x85, { of: 'attributes' }],
]);

function scopeOfPoint({ value }: Extension): Scope {
  try {
    const limits = expectTag(readDer(value), SEQUENCE).children.filter((limit) => !isFalse(limit));
    const [scope, ...more] = limits.map(({ tag }) => SCOPES.get(tag) ?? BEYOND);
    if (scope === undefined) return { of: 'all' };
    return more.length === 0 ? scope : BEYOND;
  } catch {
    return MALFORMED;
  }
}

/** DER leaves out what is FALSE; OpenSSL reads it all the same. */
function isFalse({ tag, content }: DerElement): boolean {
  if (!SCOPES.has(tag)) return false;
  if (content.length !== 1) throw new UnreadableCertificateError('a flag is malformed');
  return content[0] === 0;
}

function unclear(why: string): Scope {
  return { of: 'unclear', why };
}

const BEYOND = unclear('is about some distribution points, reasons or issuers only (issuingDistributionPoint)');
const MALFORMED = unclear('has a malformed issuingDistributionPoint');
