import { expectTag, readDer, type DerElement } from './der.js';
import { readExtensions } from './extensions.js';
import { readTbsFields } from './tbs-certificate.js';

const SEQUENCE = 0x30;
const BOOLEAN = 0x01;
const EXTENSIONS = 0xa3;
const BASIC_CONSTRAINTS = '2.5.29.19';

/**
 * What a certificate says about being a CA (RFC 5280 §4.2.1.9), element by element; nothing where it says nothing.
 * @throws UnreadableCertificateError
 */
export function basicConstraints(der: Uint8Array): readonly DerElement[] {
  const wrapper = readTbsFields(der).find(({ tag }) => tag === EXTENSIONS);
  const extension = readExtensions(wrapper).find(({ id }) => id === BASIC_CONSTRAINTS);
  return extension === undefined ? [] : expectTag(readDer(extension.value), SEQUENCE).children;
}

/**
 * Whether a certificate is one of a CA, as OpenSSL means it when a CRL is about CAs or about all others. Node's `ca` also asks
 * whether the key may sign certificates.
 */
export function isAuthority(der: Uint8Array): boolean {
  const [flag] = basicConstraints(der);
  return flag?.tag === BOOLEAN && flag.content[0] !== 0;
}
