/** A certificate that cannot be read whole. Its message is fixed text: nothing of the certificate is in it. */
export class UnreadableCertificateError extends Error {
  override readonly name = 'UnreadableCertificateError';
}

/** One DER element. */
export interface DerElement {
  /** The identifier octet: class, constructed bit and number. */
  readonly tag: number;
  /** The whole element. */
  readonly bytes: Uint8Array;
  readonly content: Uint8Array;
}

/**
 * Reads exactly one element. Strict DER (X.690 §10.1: definite, shortest lengths), where asn1js takes BER: a second
 * way to write the same name would be a second chance to be read differently from OpenSSL. It also decodes nothing
 * that is not asked for and does not recurse, since anybody can present a certificate.
 * @throws UnreadableCertificateError when it is malformed or anything follows it.
 */
export function readDer(bytes: Uint8Array): DerElement {
  const element = elementAt(bytes, 0);
  if (element.bytes.length !== bytes.length) throw new UnreadableCertificateError('bytes after the end of an element');
  return element;
}

/** The elements inside a constructed one. @throws UnreadableCertificateError */
export function readDerSequence(content: Uint8Array): DerElement[] {
  const elements: DerElement[] = [];
  for (let offset = 0; offset < content.length;) {
    const element = elementAt(content, offset);
    elements.push(element);
    offset += element.bytes.length;
  }
  return elements;
}

/** @throws UnreadableCertificateError when it is missing or has another tag. */
export function expectTag(element: DerElement | undefined, tag: number): DerElement {
  if (element?.tag !== tag) throw new UnreadableCertificateError('an element is missing or has an unexpected type');
  return element;
}

function elementAt(bytes: Uint8Array, offset: number): DerElement {
  const tag = octet(bytes, offset);
  // Multi-byte tags: nothing in a certificate has one.
  if ((tag & 0x1f) === 0x1f) throw new UnreadableCertificateError('an element has a multi-byte tag');
  const { length, size } = lengthAt(bytes, offset + 1);
  const start = offset + 1 + size;
  const end = start + length;
  if (end > bytes.length) throw new UnreadableCertificateError('an element is cut short');
  return { tag, bytes: bytes.subarray(offset, end), content: bytes.subarray(start, end) };
}

function lengthAt(bytes: Uint8Array, offset: number): { readonly length: number; readonly size: number } {
  const first = octet(bytes, offset);
  if (first < 0x80) return { length: first, size: 1 };
  const count = first & 0x7f;
  // 0x80 is BER's indefinite form. Four octets would be 16 MiB and more; TLS carries no such certificate.
  if (count === 0 || count > 3) throw new UnreadableCertificateError('an element has an unusable length');
  let length = 0;
  for (let index = 1; index <= count; index += 1) length = length * 256 + octet(bytes, offset + index);
  const shortest = length < 0x80 ? 0 : Math.ceil(Math.log2(length + 1) / 8);
  if (shortest !== count) throw new UnreadableCertificateError('an element has a padded length');
  return { length, size: 1 + count };
}

function octet(bytes: Uint8Array, offset: number): number {
  const value = bytes[offset];
  if (value === undefined) throw new UnreadableCertificateError('an element is cut short');
  return value;
}
