import type { Attribute } from '../config/config.js';
import type { PeerCertificate, PeerIdentity, SubjectAltName } from '../identify/peer-identity.js';
import { slashedName } from './name-parts.js';
import { traefikInfo } from './traefik-info.js';
import { xfccElement } from './xfcc.js';

/** A header value; null when the identity has no such attribute; or why it cannot be said safely. */
export type Value = string | null | { readonly unfit: string };

/** @param now milliseconds since the epoch. */
export type Format = (identity: PeerIdentity, now: number) => Value;

const DAY = 86_400_000;
const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];

/** How each attribute reads where a preset does not say otherwise: as nginx's variable of that name, if there is one. */
export const VALUES: Readonly<Record<Attribute, Format>> = {
  verify: ({ verify }) => verify,
  subject: certified(({ subject }) => rfc2253(subject)),
  issuer: certified(({ issuer }) => rfc2253(issuer)),
  subjectLegacy: certified(({ subjectLegacy }) => withoutTrailingSpace(subjectLegacy)),
  commonName: certified(commonName),
  serial: certified(({ serial }) => serial),
  sha256: certified(({ sha256 }) => sha256),
  sha1: certified(({ sha1 }) => sha1),
  spkiSha256: certified(({ spkiSha256 }) => spkiSha256),
  notBefore: certified(({ notBefore }) => opensslDate(notBefore)),
  notAfter: certified(({ notAfter }) => opensslDate(notAfter)),
  // Whole days, as nginx's $ssl_client_v_remain.
  daysRemaining: certified(({ notAfter }, now) => String(Math.max(0, Math.floor((notAfter - now) / DAY)))),
  san: certified(({ subjectAltNames }) => list(subjectAltNames, SAN_LABELS)),
  dnsNames: certified(({ subjectAltNames }) => list(subjectAltNames, { dns: '' })),
  uris: certified(({ subjectAltNames }) => list(subjectAltNames, { uri: '' })),
  emails: certified(({ subjectAltNames }) => list(subjectAltNames, { email: '' })),
  certPem: certified(({ der }) => encodeURIComponent(pem(der))),
  certDer: certified(({ der }) => byteSequence(der)),
  // RFC 9440 §2.3: absent rather than empty, and the leaf is not part of it.
  chainDer: ({ chain }) => (chain.length === 0 ? null : chain.map((der) => byteSequence(der)).join(', ')),
  xfcc: certified((certificate) => xfccElement(certificate) ?? { unfit: 'a URI or DNS name cannot be quoted safely' }),
  traefikCert: certified(({ der }) => Buffer.from(der).toString('base64')),
  traefikInfo: certified((certificate) => traefikInfo(certificate)),
  tlsVersion: ({ tls }) => tls.version,
  cipher: ({ tls }) => tls.cipher,
  serverName: ({ tls }) => tls.serverName,
  // nginx's $ssl_session_reused.
  sessionReused: ({ tls }) => (tls.sessionReused ? 'r' : '.'),
};

/** HAProxy's `ssl_fc`: always 1, for there is no other way in. */
export const haproxySecure: Format = () => '1';

/**
 * HAProxy's `ssl_c_verify`: OpenSSL's error number, 0 for success. HAProxy says 0 without a certificate as well, which
 * has let strangers in; here the header is absent then. Errors that cannot get this far are 1 (unspecified).
 */
export const haproxyVerify: Format = ({ verify }) => {
  if (verify === 'NONE') return null;
  if (verify === 'SUCCESS') return '0';
  return String(VERIFY_ERRORS.get(verify.slice('FAILED:'.length).replace('self signed', 'self-signed')) ?? 1);
};
export const haproxySubject = certified(({ subject }) => withoutTrailingSpace(slashedName(subject)));
export const haproxyIssuer = certified(({ issuer }) => withoutTrailingSpace(slashedName(issuer)));
export const haproxyNotBefore = certified(({ notBefore }) => compactDate(notBefore));
export const haproxyNotAfter = certified(({ notAfter }) => compactDate(notAfter));

/** The five that `optional-no-ca` lets through, by OpenSSL 3's texts (1.1 wrote "self signed"). */
const VERIFY_ERRORS: ReadonlyMap<string, number> = new Map([
  ['self-signed certificate', 18],
  ['self-signed certificate in certificate chain', 19],
  ['unable to get local issuer certificate', 20],
  ['unable to verify the first certificate', 21],
  ['certificate not trusted', 27],
]);

const SAN_LABELS: Readonly<Partial<Record<SubjectAltName['type'], string>>> = {
  dns: 'DNS:',
  uri: 'URI:',
  ip: 'IP Address:',
  email: 'email:',
};

function certified(format: (certificate: PeerCertificate, now: number) => Value): Format {
  return ({ certificate }, now) => (certificate === null ? null : format(certificate, now));
}

/**
 * The most specific of several, which is the last in the certificate: `CN=Users,CN=Ann` of a directory means Ann, and
 * Go and the RFC 2253 text agree. The dialects have no escape for it.
 */
function commonName({ commonNames }: PeerCertificate): Value {
  const name = commonNames.at(-1);
  if (name === undefined || name === '') return null;
  return isPlain(name) ? name : { unfit: 'it is not plain printable ASCII, and there is no escape for it' };
}

/**
 * Labelled names joined with `, `, in certificate order; kinds without a label are not listed. One name with a comma
 * (or a space at its end, or anything but printable ASCII) makes the whole list unfit: it could pass for two names
 * (CVE-2021-44532), and quoting it would only help readers that expect quotes.
 */
function list(names: readonly SubjectAltName[], labels: Readonly<Partial<Record<string, string>>>): Value {
  const entries = names.filter(({ type }) => labels[type] !== undefined);
  if (entries.length === 0) return null;
  if (!entries.every(({ value }) => isPlain(value) && !value.includes(','))) {
    return { unfit: 'a name holds a comma or is not plain printable ASCII, and could pass for another' };
  }
  return entries.map(({ type, value }) => `${labels[type] ?? ''}${value}`).join(', ');
}

/** Printable ASCII without a space at either end, where HTTP would lose it; not empty. */
export function isPlain(value: string): boolean {
  return /^[!-~](?:[ -~]*[!-~])?$/.test(value);
}

/** A last escaped space becomes hex, which RFC 2253 calls equal: a header value cannot end in a space. */
function rfc2253(name: string): string | null {
  return name === '' ? null : name.replace(/\\ $/, '\\20');
}

function withoutTrailingSpace(name: string): string | null {
  return name === '' ? null : name.replace(/ $/, '\\x20');
}

/** OpenSSL's ASN1_TIME_print, and so nginx's `$ssl_client_v_end`: `Nov  4 11:00:00 2027 GMT`. */
function opensslDate(milliseconds: number): string {
  const date = new Date(milliseconds);
  const day = String(date.getUTCDate()).padStart(2, ' ');
  const time = date.toISOString().slice(11, 19);
  return `${MONTHS[date.getUTCMonth()] ?? ''} ${day} ${time} ${date.getUTCFullYear()} GMT`;
}

/** HAProxy's `YYMMDDhhmmssZ`. */
function compactDate(milliseconds: number): string {
  return `${new Date(milliseconds)
    .toISOString()
    .replace(/[-:T]|\.\d+/g, '')
    .slice(2)}`;
}

/** RFC 8941 §3.3.5. */
function byteSequence(der: Uint8Array): string {
  return `:${Buffer.from(der).toString('base64')}:`;
}

/** As nginx's `$ssl_client_escaped_cert` before escaping: 64 characters a line, a line end after the last. */
function pem(der: Uint8Array): string {
  const lines =
    Buffer.from(der)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`;
}
