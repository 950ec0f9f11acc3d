import type { PeerCertificate, SubjectAltName } from '../identify/peer-identity.js';
import { nameParts } from './name-parts.js';

/** Traefik's order. Of the last two it writes only the last value in the certificate. */
const MANY = ['DC', 'C', 'ST', 'L', 'O', 'OU'] as const;
const ISSUER_MANY = MANY.filter((type) => type !== 'OU');
const SINGLE = [
  ['serialNumber', 'SN'],
  ['CN', 'CN'],
] as const;

/**
 * Traefik's info header, escaped for a query: `Subject="C=…,CN=…";Issuer="…";SerialNumber="…";NB="…";NA="…";SAN="…"`.
 *
 * Traefik puts values between the quotes as they are, so that a common name of `";SAN="admin` forges a field once the
 * application has decoded the header. Here `"`, `;`, `,`, `\`, `%` and control characters of a value are percent-encoded
 * a second time inside; values without them, which is all that honest CAs issue, come out as Traefik writes them.
 */
export function traefikInfo(certificate: PeerCertificate): string {
  const sans = subjectAltNames(certificate.subjectAltNames);
  const fields = [
    field('Subject', nameText(certificate.subject, MANY)),
    field('Issuer', nameText(certificate.issuer, ISSUER_MANY)),
    field('SerialNumber', decimal(certificate.serial)),
    field('NB', String(Math.floor(certificate.notBefore / 1000))),
    field('NA', String(Math.floor(certificate.notAfter / 1000))),
    field('SAN', sans),
  ];
  return queryEscape(fields.filter((text) => text !== null).join(';'));
}

function field(name: string, value: string): string | null {
  return value === '' ? null : `${name}="${value}"`;
}

function nameText(name: string, many: readonly string[]): string {
  const parts = nameParts(name).filter(({ value }) => value !== null && value !== '');
  const repeated = many.flatMap((type) => parts.filter((part) => part.type === type).map((part) => [type, part.value]));
  const single = SINGLE.flatMap(([type, label]) => {
    const last = parts.findLast((part) => part.type === type);
    return last === undefined ? [] : [[label, last.value]];
  });
  return [...repeated, ...single].map(([type, value]) => `${type}=${inner(value ?? '')}`).join(',');
}

/** DNS names, addresses and URIs without a prefix, in Traefik's order. */
function subjectAltNames(names: readonly SubjectAltName[]): string {
  return (['dns', 'email', 'ip', 'uri'] as const)
    .flatMap((type) => names.filter((name) => name.type === type))
    .map(({ value }) => inner(value))
    .join(',');
}

function inner(value: string): string {
  return value.replace(/[\x00-\x1f",;\\%\x7f]/g, (character) => encodeURIComponent(character));
}

function decimal(serial: string): string {
  return serial.startsWith('-') ? `-${BigInt(`0x${serial.slice(1)}`)}` : String(BigInt(`0x${serial}`));
}

/** Go's url.QueryEscape: everything but letters, digits and `-_.~`; a space becomes `+`. */
function queryEscape(text: string): string {
  return encodeURIComponent(text)
    .replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`)
    .replaceAll('%20', '+');
}
