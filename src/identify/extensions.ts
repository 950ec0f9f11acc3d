import { expectTag, UnreadableCertificateError, type DerElement } from './der.js';
import { dottedOid } from './object-identifier.js';

const SEQUENCE = 0x30;
const OCTET_STRING = 0x04;
const OBJECT_IDENTIFIER = 0x06;
const BOOLEAN = 0x01;

/** RFC 5280 §4.2. */
export interface Extension {
  /** Dotted OID. */
  readonly id: string;
  readonly critical: boolean;
  readonly value: Uint8Array;
}

/**
 * @param wrapper the explicitly tagged list of a certificate or CRL
 * @throws UnreadableCertificateError
 */
export function readExtensions(wrapper: DerElement | undefined): readonly Extension[] {
  if (wrapper === undefined) return [];
  const [list, ...more] = wrapper.children;
  if (more.length > 0) throw malformed();
  return expectTag(list, SEQUENCE).children.map((extension) => readExtension(extension));
}

function readExtension(extension: DerElement): Extension {
  const [id, ...rest] = expectTag(extension, SEQUENCE).children;
  const flag = rest[0]?.tag === BOOLEAN ? rest[0] : null;
  const [value, ...more] = flag === null ? rest : rest.slice(1);
  if (more.length > 0) throw malformed();
  return {
    id: dottedOid(expectTag(id, OBJECT_IDENTIFIER).content),
    // Anything but FALSE, so that a malformed flag errs towards critical.
    critical: flag !== null && (flag.content.length !== 1 || flag.content[0] !== 0),
    value: expectTag(value, OCTET_STRING).content,
  };
}

function malformed(): UnreadableCertificateError {
  return new UnreadableCertificateError('an extension is malformed');
}
