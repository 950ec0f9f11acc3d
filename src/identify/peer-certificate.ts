import { createHash } from 'node:crypto';
import { expectTag, UnreadableCertificateError, type DerElement } from './der.js';
import { attributeValues, formatOneline, formatRfc2253, nameOf, type NameAttribute } from './distinguished-name.js';
import { readExtensions, type Extension } from './extensions.js';
import type { PeerCertificate, SubjectAltName } from './peer-identity.js';
import { readSubjectAltName } from './subject-alt-name.js';
import { readTbsFields } from './tbs-certificate.js';
import { readTime } from './time.js';

export { UnreadableCertificateError } from './der.js';

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const EXTENSIONS = 0xa3;
const SUBJECT_ALT_NAME = '2.5.29.17';

/**
 * What OpenSSL 3 processes (X509_supported_extension): Netscape certificate type, key identifiers, key usage, alternative
 * name, basic and name constraints, CRL distribution points, the policy extensions, extended key usage, the RFC 3779
 * resources, proxy certificates and OCSP no-check.
 */
const SUPPORTED_EXTENSIONS: ReadonlySet<string> = new Set([
  ...[14, 15, 17, 19, 30, 31, 32, 33, 35, 36, 37, 54].map((arc) => `2.5.29.${arc}`),
  ...['2.16.840.1.113730.1.1', '1.3.6.1.5.5.7.48.1.5'],
  ...['1.3.6.1.5.5.7.1.7', '1.3.6.1.5.5.7.1.8', '1.3.6.1.5.5.7.1.14'],
]);

/**
 * Reads the identity out of a certificate's DER (RFC 5280 §4.1). It verifies nothing.
 * @throws UnreadableCertificateError when any part that makes up the identity is malformed: a certificate is read
 * whole or not at all, since a rule must never be judged by the half that could be read.
 */
export function readPeerCertificate(der: Uint8Array): PeerCertificate {
  return new ReadCertificate(der, readTbsFields(der));
}

class ReadCertificate implements PeerCertificate {
  readonly der: Uint8Array;
  readonly subject: string;
  readonly issuer: string;
  readonly commonNames: readonly string[];
  readonly organizations: readonly string[];
  readonly organizationalUnits: readonly string[];
  readonly serial: string;
  readonly notBefore: number;
  readonly notAfter: number;
  readonly subjectAltNames: readonly SubjectAltName[];
  readonly hasUnknownCriticalExtension: boolean;
  readonly #name: readonly NameAttribute[];
  readonly #publicKeyInfo: Uint8Array;
  // Filled on first use: few deployments ask for all of them, and every handshake would pay.
  #subjectLegacy: string | undefined;
  #sha256: string | undefined;
  #sha1: string | undefined;
  #spkiSha256: string | undefined;

  /** @param fields of the TBSCertificate, version left out. */
  constructor(der: Uint8Array, fields: readonly DerElement[]) {
    const [serial, , issuer, validity, subject, publicKeyInfo, ...optional] = fields;
    this.der = der;
    this.serial = serialText(expectTag(serial, INTEGER).content);
    this.issuer = formatRfc2253(nameOf(issuer));
    const [notBefore, notAfter] = expectTag(validity, SEQUENCE).children;
    this.notBefore = readTime(notBefore);
    this.notAfter = readTime(notAfter);
    this.#name = nameOf(subject);
    this.subject = formatRfc2253(this.#name);
    this.commonNames = attributeValues(this.#name, 'CN');
    this.organizations = attributeValues(this.#name, 'O');
    this.organizationalUnits = attributeValues(this.#name, 'OU');
    this.#publicKeyInfo = expectTag(publicKeyInfo, SEQUENCE).bytes;
    const extensions = readExtensions(optional.find(({ tag }) => tag === EXTENSIONS));
    this.subjectAltNames = findSubjectAltNames(extensions);
    this.hasUnknownCriticalExtension = extensions.some(({ id, critical }) => critical && !SUPPORTED_EXTENSIONS.has(id));
  }

  get subjectLegacy(): string {
    return (this.#subjectLegacy ??= formatOneline(this.#name));
  }

  get sha256(): string {
    return (this.#sha256 ??= createHash('sha256').update(this.der).digest('hex'));
  }

  get sha1(): string {
    return (this.#sha1 ??= createHash('sha1').update(this.der).digest('hex'));
  }

  get spkiSha256(): string {
    return (this.#spkiSha256 ??= `sha256:${createHash('sha256').update(this.#publicKeyInfo).digest('base64')}`);
  }
}

/**
 * Upper-case hex as nginx prints it, two digits a byte, negative ones with a minus sign. nginx breaks numbers of more
 * than 35 bytes with a backslash and a line end; we do not, since no header survives it.
 */
function serialText(content: Uint8Array): string {
  const hex = Buffer.from(content).toString('hex');
  if (hex === '') throw new UnreadableCertificateError('the serial number is empty');
  const value = BigInt.asIntN(content.length * 8, BigInt(`0x${hex}`));
  const digits = (value < 0n ? -value : value).toString(16).toUpperCase();
  return `${value < 0n ? '-' : ''}${digits.length % 2 === 0 ? '' : '0'}${digits}`;
}

function findSubjectAltNames(extensions: readonly Extension[]): readonly SubjectAltName[] {
  const lists = extensions.filter(({ id }) => id === SUBJECT_ALT_NAME);
  // RFC 5280 §4.2: at most one of each. With two, whoever reads the other one sees another caller.
  if (lists.length > 1) throw new UnreadableCertificateError('there is more than one subjectAltName extension');
  return lists.flatMap(({ value }) => readSubjectAltName(value));
}
