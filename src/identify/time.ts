import { UnreadableCertificateError, type DerElement } from './der.js';

const UTC_TIME = 0x17;
const GENERALIZED_TIME = 0x18;

export function isTime(element: DerElement | undefined): element is DerElement {
  return element?.tag === UTC_TIME || element?.tag === GENERALIZED_TIME;
}

/**
 * Milliseconds since the epoch. RFC 5280 §4.1.2.5: seconds are required and so is Z; two-digit years from 50 belong to
 * the last century.
 * @throws UnreadableCertificateError
 */
export function readTime(element: DerElement | undefined): number {
  const parts = isTime(element) ? /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(fullText(element)) : null;
  if (parts === null) throw new UnreadableCertificateError('a date is malformed');
  const [, year, month, day, hour, minute, second] = parts;
  const time = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
  // Date.parse takes 30 February for 2 March.
  if (new Date(time).getUTCDate() !== Number(day)) throw new UnreadableCertificateError('a date does not exist');
  return time;
}

function fullText({ tag, content }: DerElement): string {
  const text = Buffer.from(content).toString('latin1');
  if (tag === GENERALIZED_TIME) return text;
  return (Number(text.slice(0, 2)) < 50 ? '20' : '19') + text;
}
