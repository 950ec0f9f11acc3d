import { ProxyError } from '../errors.js';
import { FIELD_TEXT, TOKEN } from '../rewrite/field-grammar.js';

/** The head of an answer, and what it says about the body and the connection. */
export interface AnswerHead {
  /** 100 to 999. */
  readonly status: number;
  readonly reason: string;
  /** Flat list, in the order, case and number in which they came. */
  readonly headers: readonly string[];
  /** Bytes of the body; `CHUNKED` or `UNTIL_CLOSE` when that is not known ahead. */
  readonly length: number;
  /** Whether the connection may carry another request, as far as the application is concerned. */
  readonly keepAlive: boolean;
  /** Seconds after which the idle connection may be closed under our feet; infinite when the application does not say. */
  readonly keepAliveFor: number;
}

export const CHUNKED = -1;
export const UNTIL_CLOSE = -2;

/**
 * Reads the head of an answer, from the status line to the line end of its last header (RFC 9112 §4 and §5).
 * @param text latin1, ends with CRLF
 * @param toHead whether it answers a HEAD, which has no body whatever its headers say
 * @throws ProxyError `upstream_protocol`
 */
export function readAnswerHead(text: string, toHead: boolean): AnswerHead {
  const line = STATUS_LINE.exec(text);
  if (line === null) throw broken('an answer without a status line');
  const status = Number(line[2]);
  const headers: string[] = [];
  readFields(text, line[0].length, headers);
  const framing = readFraming(headers, line[1] === '0');
  const bodiless = status < 200 || status === 204 || status === 304;
  return {
    status,
    reason: line[3] ?? '',
    headers,
    length: bodiless || toHead ? 0 : framing.length,
    keepAlive: framing.keepAlive && framing.keepAliveFor > 0 && isCleanEnd(status, framing.length),
    keepAliveFor: framing.keepAliveFor,
  };
}

/**
 * Whether the answer ends where we think. Who tells the length of a body that a 204 must not have may well send it, as the
 * answer to the next request. Who answers a HEAD without any framing may end what GET would get by closing.
 */
function isCleanEnd(status: number, length: number): boolean {
  if (status === 304) return true;
  return status === 204 ? length === UNTIL_CLOSE || length === 0 : length !== UNTIL_CLOSE;
}

/**
 * Reads header lines, or those of a trailer section. Stricter than it has to be: a folded line, white space before the colon
 * and control characters are read differently by different programs.
 * @param text latin1; every line ends with CRLF
 * @param start where the first line begins
 * @param fields flat list to append to
 * @throws ProxyError `upstream_protocol`
 */
export function readFields(text: string, start: number, fields: string[]): void {
  for (let at = start; at < text.length;) {
    const end = text.indexOf('\r\n', at);
    const colon = text.indexOf(':', at);
    if (colon === -1 || colon > end) throw broken('an answer with a header line without a colon');
    const name = text.slice(at, colon);
    if (!TOKEN.test(name)) throw broken('an answer with a character in a header name that none may have');
    const value = trimmed(text, colon + 1, end);
    if (!FIELD_TEXT.test(value)) throw broken('an answer with a character in a header value that none may have');
    fields.push(name, value);
    at = end + 2;
  }
}

export function broken(message: string): ProxyError {
  return new ProxyError('upstream_protocol', 'upstream', 'forward', message);
}

/** HTTP/0.9 and 2.0 are not spoken here. Some leave out the space before an empty reason. */
const STATUS_LINE = /^HTTP\/1\.([01]) ([1-9]\d\d)(?: ([\t\x20-\x7e\x80-\xff]*))?\r\n/;

/**
 * Space and tab are all that counts as white space here: `trim` would also cut bytes of a text in latin1. A tab at the end
 * is refused: for Node's parser, `chunked` and a tab is another coding.
 */
function trimmed(text: string, from: number, to: number): string {
  let start = from;
  let end = to;
  while (start < end && isBlank(text.charCodeAt(start))) start += 1;
  while (end > start && text.charCodeAt(end - 1) === SPACE) end -= 1;
  if (end > start && isBlank(text.charCodeAt(end - 1))) throw broken('an answer with a header that ends in a tab');
  return text.slice(start, end);
}

const SPACE = 0x20;
const TAB = 0x09;

function isBlank(code: number): boolean {
  return code === SPACE || code === TAB;
}

interface Framing {
  readonly length: number;
  readonly keepAlive: boolean;
  readonly keepAliveFor: number;
}

/** What the headers that frame say, gathered. */
interface Framers {
  contentLength: string | null;
  transferEncoding: string | null;
  closes: boolean;
  keepAliveFor: number;
}

/** RFC 9112 §6.3 and §9.3. Two lengths, or a length and a coding, are two readings of where the answer ends. */
function readFraming(headers: readonly string[], isOld: boolean): Framing {
  // Whether an HTTP/1.0 server understood our HTTP/1.1 is not known, so nothing more is sent to it.
  const framers: Framers = { contentLength: null, transferEncoding: null, closes: isOld, keepAliveFor: Infinity };
  for (let index = 0; index < headers.length; index += 2) {
    gather(framers, headers[index] as string, headers[index + 1] as string);
  }
  const length = lengthOf(framers, isOld);
  return { length, keepAlive: !framers.closes, keepAliveFor: framers.keepAliveFor };
}

/** By length first: most names are none of these. */
function gather(framers: Framers, name: string, value: string): void {
  if (name.length === 10) gatherConnection(framers, name.toLowerCase(), value);
  else if (name.length === 14 && name.toLowerCase() === 'content-length') {
    if (framers.contentLength !== null) throw broken('an answer with two lengths');
    framers.contentLength = value;
  } else if (name.length === 17 && name.toLowerCase() === 'transfer-encoding') {
    framers.transferEncoding = framers.transferEncoding === null ? value : `${framers.transferEncoding},${value}`;
  }
}

function gatherConnection(framers: Framers, name: string, value: string): void {
  if (name === 'connection' && CLOSE.test(value)) framers.closes = true;
  const seconds = name === 'keep-alive' ? TIMEOUT.exec(value)?.[1] : undefined;
  if (seconds !== undefined) framers.keepAliveFor = Math.min(framers.keepAliveFor, Number(seconds) - MARGIN);
}

/** The application counts from when it sent the answer, and a request takes its time, too. Seconds. */
const MARGIN = 1;

const CLOSE = /(?:^|,)[ \t]*close[ \t]*(?:,|$)/i;
const TIMEOUT = /(?:^|[,;\s])timeout=(\d{1,9})(?:[,;\s]|$)/i;
const LENGTH = /^\d{1,15}$/;

function lengthOf({ contentLength, transferEncoding }: Framers, isOld: boolean): number {
  if (transferEncoding === null) {
    if (contentLength === null) return UNTIL_CLOSE;
    if (!LENGTH.test(contentLength)) throw broken('an answer with a length that is no number');
    return Number(contentLength);
  }
  if (contentLength !== null) throw broken('an answer with both a length and a transfer coding');
  // RFC 9112 §6.1: in HTTP/1.0 it is to be taken for faulty.
  if (isOld) throw broken('an answer with a transfer coding in HTTP/1.0');
  if (transferEncoding.toLowerCase() !== 'chunked') throw broken(`an answer in transfer coding ${transferEncoding}`);
  return CHUNKED;
}
