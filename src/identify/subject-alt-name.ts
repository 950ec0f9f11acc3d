import { expectTag, readDer, UnreadableCertificateError, type DerElement } from './der.js';
import { formatRfc2253, nameOf } from './distinguished-name.js';
import { dottedOid } from './object-identifier.js';
import type { SubjectAltName } from './peer-identity.js';

/**
 * Reads the value of a subjectAltName extension, in certificate order. DNS names, URIs and addresses keep one
 * character per byte, NUL and line ends included; kinds that no rule understands become `other` with a description.
 * @throws UnreadableCertificateError when any entry is malformed: half a list is no identity.
 */
export function readSubjectAltName(der: Uint8Array): readonly SubjectAltName[] {
  return expectTag(readDer(der), 0x30).children.map((entry) => readGeneralName(entry));
}

/** RFC 5280 §4.2.1.6; tags are context-specific, constructed where the choice is. */
function readGeneralName(entry: DerElement): SubjectAltName {
  const { tag, content } = entry;
  switch (tag) {
    case 0x82:
      return { type: 'dns', value: byteText(content) };
    case 0x86:
      return { type: 'uri', value: byteText(content) };
    case 0x81:
      return { type: 'email', value: byteText(content) };
    case 0x87:
      return { type: 'ip', value: addressText(content) };
    default:
      return { type: 'other', value: otherText(entry) };
  }
}

function otherText(entry: DerElement): string {
  switch (entry.tag) {
    case 0xa0:
      return `otherName:${dottedOid(expectTag(entry.children[0], 0x06).content)}`;
    case 0xa3:
      return 'x400Address';
    case 0xa4:
      return `directoryName:${formatRfc2253(nameOf(onlyChild(entry)))}`;
    case 0xa5:
      return 'ediPartyName';
    case 0x88:
      return `registeredID:${dottedOid(entry.content)}`;
    default:
      throw new UnreadableCertificateError('a subjectAltName entry has an unknown type');
  }
}

/** A choice cannot be tagged implicitly, so that a directory name has a wrapper of its own. */
function onlyChild({ children }: DerElement): DerElement | undefined {
  return children.length === 1 ? children[0] : undefined;
}

/** Latin-1, so that every byte of a string that ought to be ASCII stays distinct. */
function byteText(content: Uint8Array): string {
  return Buffer.from(content).toString('latin1');
}

/** Dotted IPv4, or IPv6 as RFC 5952 writes it. */
function addressText(content: Uint8Array): string {
  if (content.length === 4) return content.join('.');
  if (content.length !== 16) throw new UnreadableCertificateError('an IP address has a wrong length');
  const groups = Array.from({ length: 8 }, (_, index) => groupAt(content, index));
  // RFC 5952 §5: an IPv4-mapped address keeps its dotted tail.
  const mapped = groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff;
  return mapped ? `::ffff:${content.subarray(12).join('.')}` : compressed(groups);
}

function groupAt(content: Uint8Array, index: number): number {
  return (content[index * 2] ?? 0) * 256 + (content[index * 2 + 1] ?? 0);
}

/** RFC 5952 §4.2: the first longest run of two or more zero groups becomes `::`. */
function compressed(groups: readonly number[]): string {
  const { start, length } = longestZeroRun(groups);
  const hex = groups.map((group) => group.toString(16));
  if (length < 2) return hex.join(':');
  return `${hex.slice(0, start).join(':')}::${hex.slice(start + length).join(':')}`;
}

function longestZeroRun(groups: readonly number[]): { readonly start: number; readonly length: number } {
  let best = { start: 0, length: 0 };
  let start = 0;
  for (const [index, group] of groups.entries()) {
    if (group !== 0) start = index + 1;
    else if (index + 1 - start > best.length) best = { start, length: index + 1 - start };
  }
  return best;
}
