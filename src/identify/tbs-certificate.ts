import { expectTag, readDer, type DerElement } from './der.js';

const SEQUENCE = 0x30;
const VERSION = 0xa0;

/**
 * The fields of a certificate (RFC 5280 §4.1) without the optional version: serial, signature algorithm, issuer, validity,
 * subject, public key, and what is optional behind them.
 * @throws UnreadableCertificateError
 */
export function readTbsFields(der: Uint8Array): readonly DerElement[] {
  const [tbs] = expectTag(readDer(der), SEQUENCE).children;
  const fields = expectTag(tbs, SEQUENCE).children;
  return fields[0]?.tag === VERSION ? fields.slice(1) : fields;
}
