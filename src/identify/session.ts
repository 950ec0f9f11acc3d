import { UnreadableCertificateError } from './der.js';

/** What a session says about the handshake that began it. */
export interface SessionFacts {
  /** DER of the caller's certificate, within the session; null when it showed none. */
  readonly leaf: Uint8Array | null;
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
 *
 * Stepped over by hand, since each handshake does it, a resumed one twice: as a tree of elements, like a certificate, it took
 * as long as opening the ticket. Whether it is strict DER need not be asked of what OpenSSL has written itself.
 * @throws UnreadableCertificateError when it is no such thing
 */
export function readSession(session: Uint8Array): SessionFacts {
  const whole = elementAt(session, 0, session.length);
  if (whole.tag !== SEQUENCE || whole.end !== session.length) throw unreadable();
  let leaf: Uint8Array | null = null;
  // X509_V_OK is the default, which DER leaves out.
  let complaint = 0;
  for (let at = whole.start; at < whole.end;) {
    const field = elementAt(session, at, whole.end);
    if (field.tag === PEER_CERTIFICATE) leaf = session.subarray(field.start, field.end);
    if (field.tag === VERIFY_RESULT) complaint = numberIn(session, field);
    at = field.end;
  }
  return { leaf, complaint };
}

/** An element: its identifier octet, and where its content stands. */
interface Field {
  readonly tag: number;
  readonly start: number;
  readonly end: number;
}

/** @throws UnreadableCertificateError when it reaches beyond the end of what is around it, or its tag cannot be told */
function elementAt(bytes: Uint8Array, at: number, limit: number): Field {
  const tag = bytes[at] ?? NaN;
  // A tag of several octets: OpenSSL has none, and to step over it by its first alone would be to step into its content.
  if ((tag & LONG_TAG) === LONG_TAG) throw unreadable();
  let length = bytes[at + 1] ?? NaN;
  let start = at + 2;
  if (length >= LONG_FORM) {
    const octets = length - LONG_FORM;
    length = octets === 0 ? NaN : 0;
    for (const last = start + octets; start < last; start++) length = length * 256 + (bytes[start] ?? NaN);
  }
  const end = start + length;
  // Not the other way round: what is missing is NaN, and nothing is true of that.
  if (!(end <= limit)) throw unreadable();
  return { tag, start, end };
}

const LONG_TAG = 0x1f;
const LONG_FORM = 0x80;

function numberIn(bytes: Uint8Array, field: Field): number {
  const { tag, start, end } = elementAt(bytes, field.start, field.end);
  if (tag !== INTEGER) throw unreadable();
  return parseInt(Buffer.from(bytes.subarray(start, end)).toString('hex'), 16);
}

function unreadable(): Error {
  return new UnreadableCertificateError('a session cannot be read');
}
