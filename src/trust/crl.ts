import { AsnConvert } from '@peculiar/asn1-schema';
import { Time } from '@peculiar/asn1-x509';
import { expectTag, readDer, readDerSequence } from '../identify/der.js';
import type { DerElement } from '../identify/der.js';
import { formatRfc2253, readName } from '../identify/distinguished-name.js';
import { derOf } from './pem.js';
import type { PemBlock } from './pem.js';
import type { LoadedCrl } from './credentials.js';

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;
const EXTENSIONS = 0xa0;
/** 2.5.29.27, deltaCRLIndicator (RFC 5280 section 5.2.4). */
const DELTA_CRL_INDICATOR = '551d1b';

/**
 * Reads the facts about one CRL (RFC 5280 section 5.1) without decoding the revoked certificates, of which there may be
 * hundreds of thousands. OpenSSL reads those itself.
 * @throws Error when it is malformed
 */
export function readCrl(file: string, block: PemBlock): LoadedCrl {
  const [list] = readDerSequence(expectTag(readDer(derOf(block)), SEQUENCE).content);
  const fields = readDerSequence(expectTag(list, SEQUENCE).content);
  const [, issuer, thisUpdate, ...rest] = fields[0]?.tag === INTEGER ? fields.slice(1) : fields;
  return {
    file,
    pem: block.pem,
    issuer: formatRfc2253(readName(expectTag(issuer, SEQUENCE).bytes)),
    thisUpdate: readTime(thisUpdate),
    nextUpdate: isTime(rest[0]) ? readTime(rest[0]) : null,
    isDelta: rest.some(hasDeltaIndicator),
  };
}

function isTime(element: DerElement | undefined): boolean {
  return element?.tag === UTC_TIME || element?.tag === GENERALIZED_TIME;
}

function readTime(element: DerElement | undefined): number {
  if (element === undefined || !isTime(element)) throw new Error('has no thisUpdate');
  const milliseconds = AsnConvert.parse(element.bytes, Time).getTime().getTime();
  // NaN would compare as never expired.
  if (Number.isNaN(milliseconds)) throw new Error('has a date that does not exist');
  return milliseconds;
}

function hasDeltaIndicator(element: DerElement): boolean {
  if (element.tag !== EXTENSIONS) return false;
  const extensions = readDerSequence(readDer(element.content).content);
  return extensions.some(({ content }) => {
    const [id] = readDerSequence(content);
    return Buffer.from(id?.content ?? []).toString('hex') === DELTA_CRL_INDICATOR;
  });
}
