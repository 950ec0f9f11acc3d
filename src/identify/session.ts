import { expectTag, readDer, type DerElement } from './der.js';

/** What a session says about the handshake that began it. */
export interface SessionFacts {
  /** DER of the caller's certificate; null when it showed none. */
  readonly leaf: Buffer | null;
  /** OpenSSL's number for its complaint about it (x509_vfy.h); 0 for none. */
  readonly complaint: number;
}

const INTEGER = 0x02;
const SEQUENCE = 0x30;
const PEER_CERTIFICATE = 0xa3;
const VERIFY_RESULT = 0xa5;

/**
 * Reads OpenSSL's form of a session (i2d_SSL_SESSION(3)). It may come from a ticket, so only one whose seal was checked
 * is handed in here.
 * @throws UnreadableCertificateError when it is no such thing
 */
export function readSession(session: Uint8Array): SessionFacts {
  const fields = expectTag(readDer(session), SEQUENCE).children;
  const leaf = fields.find(({ tag }) => tag === PEER_CERTIFICATE);
  const complaint = fields.find(({ tag }) => tag === VERIFY_RESULT);
  return {
    leaf: leaf === undefined ? null : Buffer.from(leaf.content),
    // X509_V_OK is the default, which DER leaves out.
    complaint: complaint === undefined ? 0 : numberOf(complaint),
  };
}

function numberOf({ children }: DerElement): number {
  return parseInt(Buffer.from(expectTag(children[0], INTEGER).content).toString('hex'), 16);
}
