import { expectTag, readDer, type DerElement } from '../identify/der.js';
import { formatRfc2253, nameOf } from '../identify/distinguished-name.js';
import { readExtensions, type Extension } from '../identify/extensions.js';
import { isTime, readTime } from '../identify/time.js';
import { isDelta } from './crl-scope.js';
import { derOf } from './pem.js';
import type { PemBlock } from './pem.js';
import type { LoadedCrl } from './credentials.js';

const SEQUENCE = 0x30;
const INTEGER = 0x02;
const BIT_STRING = 0x03;
const EXTENSIONS = 0xa0;

/** A CRL taken apart (RFC 5280 section 5.1); the revoked certificates, of which there may be 100,000, are not decoded. */
export interface CrlParts {
  /** What the signature is about. */
  readonly signed: Uint8Array;
  readonly algorithm: DerElement;
  readonly signature: Uint8Array;
  /** RFC 2253. */
  readonly issuer: string;
  readonly thisUpdate: number;
  readonly nextUpdate: number | null;
  readonly revoked: DerElement | null;
  readonly extensions: readonly Extension[];
}

/**
 * Reads the facts about one CRL, and whether it is a delta list.
 * @throws Error when it is malformed
 */
export function readCrl(file: string, block: PemBlock): LoadedCrl & { readonly isDelta: boolean } {
  const { issuer, thisUpdate, nextUpdate, extensions } = readCrlParts(block);
  return { file, pem: block.pem, issuer, thisUpdate, nextUpdate, isDelta: isDelta(extensions) };
}

/** @throws Error when it is malformed */
export function readCrlParts(block: Pick<PemBlock, 'pem'>): CrlParts {
  const [list, algorithm, signature] = expectTag(readDer(derOf(block)), SEQUENCE).children;
  const fields = [...expectTag(list, SEQUENCE).children];
  if (fields[0]?.tag === INTEGER) fields.shift();
  const [, issuer, thisUpdate, ...optional] = fields;
  const nextUpdate = isTime(optional[0]) ? optional.shift() : undefined;
  const revoked = optional[0]?.tag === SEQUENCE ? optional.shift() : undefined;
  const extensions = optional[0]?.tag === EXTENSIONS ? optional.shift() : undefined;
  // What is not understood could be what limits the list.
  if (optional.length > 0) throw new Error('has an unknown field');
  return {
    signed: expectTag(list, SEQUENCE).bytes,
    algorithm: expectTag(algorithm, SEQUENCE),
    // A bit string begins with its number of unused bits, which is 0 here.
    signature: expectTag(signature, BIT_STRING).content.subarray(1),
    issuer: formatRfc2253(nameOf(issuer)),
    thisUpdate: readTime(thisUpdate),
    nextUpdate: nextUpdate === undefined ? null : readTime(nextUpdate),
    revoked: revoked ?? null,
    extensions: readExtensions(extensions),
  };
}
