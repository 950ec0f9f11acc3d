import { BaseBlock } from 'asn1js';

/** A certificate that cannot be read whole. Its message is fixed text: nothing of the certificate is in it. */
export class UnreadableCertificateError extends Error {
  override readonly name = 'UnreadableCertificateError';
}

/** One DER element. What is inside it is decoded when somebody asks, and once. */
export class DerElement {
  #children: readonly DerElement[] | undefined;

  constructor(
    /** The identifier octet: class, constructed bit and number. */
    readonly tag: number,
    /** The whole element. */
    readonly bytes: Uint8Array,
    readonly content: Uint8Array,
  ) {}

  /** The elements inside. @throws UnreadableCertificateError when it is primitive or they do not fill it exactly. */
  get children(): readonly DerElement[] {
    return (this.#children ??= [...this.eachChild()]);
  }

  /** As `children`, one by one and not kept: for lists of hundreds of thousands. @throws UnreadableCertificateError */
  *eachChild(): Generator<DerElement, undefined> {
    if ((this.tag & CONSTRUCTED) === 0) throw new UnreadableCertificateError('an element has no elements inside');
    const decoder = new BaseBlock();
    for (let offset = 0; offset < this.content.length;) {
      const child = elementAt(this.content, offset, decoder);
      yield child;
      offset += child.bytes.length;
    }
  }
}

const CONSTRUCTED = 0x20;

/**
 * Reads exactly one element.
 * @throws UnreadableCertificateError when it is malformed or anything follows it.
 */
export function readDer(bytes: Uint8Array): DerElement {
  // asn1js would make a plain view of a Buffer twice an element.
  const view = new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  const element = elementAt(view, 0, new BaseBlock());
  if (element.bytes.length !== view.length) throw new UnreadableCertificateError('bytes after the end of an element');
  return element;
}

/** @throws UnreadableCertificateError when it is missing or has another tag. */
export function expectTag(element: DerElement | undefined, tag: number): DerElement {
  if (element?.tag !== tag) throw new UnreadableCertificateError('an element is missing or has an unexpected type');
  return element;
}

/**
 * asn1js decodes identifier and length, and nothing else. Its `fromBER` decodes the values of the whole tree as well:
 * a caller whom nobody has verified yet could keep it busy for 5 seconds with a BOOLEAN of 100 KB, and it lets an
 * element reach beyond the end of the one around it. It also takes BER where this takes DER (X.690 §10) only: a second
 * way to write the same name would be a second chance to be read differently from OpenSSL.
 * @param decoder serves neighbours only: asn1js collects warnings in it, even about proper lengths
 */
function elementAt(bytes: Uint8Array, offset: number, { idBlock, lenBlock }: BaseBlock): DerElement {
  const lengthAt = idBlock.fromBER(bytes, offset, bytes.length - offset);
  // Multi-byte tags: nothing in a certificate has one.
  if (lengthAt !== offset + 1 || !hasDerForm(idBlock))
    throw new UnreadableCertificateError('an element has no valid tag');
  const start = lenBlock.fromBER(bytes, lengthAt, bytes.length - lengthAt);
  if (start === -1 || lenBlock.isIndefiniteForm || lenBlock.blockLength !== shortestForm(lenBlock.length)) {
    throw new UnreadableCertificateError('an element has no valid length');
  }
  const end = start + lenBlock.length;
  if (end > bytes.length) throw new UnreadableCertificateError('an element is cut short');
  return new DerElement(bytes[offset] ?? 0, bytes.subarray(offset, end), bytes.subarray(start, end));
}

const UNIVERSAL = 1;
/** BER lets these be written in pieces; DER does not (X.690 §10.2). The other primitive types asn1js refuses itself. */
const STRING_TYPES: ReadonlySet<number> = new Set([3, 4, 12, 18, 19, 20, 21, 22, 25, 26, 27, 28, 30]);
const SEQUENCE_OR_SET: ReadonlySet<number> = new Set([16, 17]);

/** Number 0 is BER's end-of-contents, which asn1js steps over without its content. */
function hasDerForm({ tagClass, tagNumber, isConstructed }: BaseBlock['idBlock']): boolean {
  if (tagClass !== UNIVERSAL) return true;
  return tagNumber !== 0 && !(isConstructed ? STRING_TYPES : SEQUENCE_OR_SET).has(tagNumber);
}

/** How many octets DER spends on a length. */
function shortestForm(length: number): number {
  let octets = 1;
  if (length >= 0x80) for (let rest = length; rest > 0; rest = Math.floor(rest / 256)) octets += 1;
  return octets;
}
