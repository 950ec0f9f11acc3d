import { ProxyError } from '../errors.js';
import { FIELD_TEXT, TOKEN } from '../rewrite/field-grammar.js';
import type { ForwardRequest } from './exchange.js';

/**
 * A request's head as it goes over the wire.
 *
 * Every part is looked at once more, whoever made it: a line end in any of them would be another request.
 * @returns latin1 text, with the empty line
 * @throws ProxyError `internal`, when a part cannot be sent
 */
export function requestHead(request: ForwardRequest): string {
  const { method, target } = request;
  if (!TOKEN.test(method)) throw unsendable('method');
  if (NO_TARGET.test(target)) throw unsendable('target');
  const lines = fieldLines(request.headers) + identityLines(request.identityHeaders);
  let text = `${method} ${target} HTTP/1.1${lines}`;
  if (request.expectsContinue) text += '\r\nExpect: 100-continue';
  if (request.body === null) {
    // RFC 9110 §8.6; without it some applications answer 411.
    if (CONTENT_METHODS.has(method)) text += '\r\nContent-Length: 0';
  } else {
    text += request.contentLength === null ? CHUNKED_LINE : `\r\nContent-Length: ${request.contentLength}`;
  }
  return `${text}\r\n\r\n`;
}

const ofConnection = new WeakMap<readonly string[], string>();

/** Looked at and put together once a connection. */
function identityLines(flat: readonly string[]): string {
  let text = ofConnection.get(flat);
  if (text === undefined) {
    text = copied(fieldLines(flat));
    ofConnection.set(flat, text);
  }
  return text;
}

/** Each behind a line end. @throws ProxyError `internal`, when a part cannot be sent */
export function fieldLines(flat: readonly string[]): string {
  let text = '';
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = flat[index] as string;
    const value = flat[index + 1] as string;
    if (!FIELD_TEXT.test(value)) throw unsendable('header');
    // One after the other: put together first, a line would be a string of its own.
    text = text + beginningOf(name) + value;
  }
  return text;
}

/** How the lines of names seen before begin. Bounded: names are the caller's to invent. */
const BEGINNINGS = new Map<string, string>();
const CAPACITY = 512;
const LONGEST_KEPT = 64;

/** Line end, name and colon: each part more would be another string of each request. */
function beginningOf(name: string): string {
  const known = BEGINNINGS.get(name);
  if (known !== undefined) return known;
  if (!TOKEN.test(name)) throw unsendable('header');
  const beginning = `\r\n${name}: `;
  if (BEGINNINGS.size >= CAPACITY || name.length >= LONGEST_KEPT) return beginning;
  const kept = copied(beginning);
  BEGINNINGS.set(name, kept);
  return kept;
}

/** V8 keeps one string of it, and not the tree of its parts. */
function copied(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1');
}

function unsendable(what: string): ProxyError {
  return new ProxyError('internal', 'internal', 'forward', `a ${what} that cannot be sent`);
}

const NO_TARGET = /^$|[^\x21-\x7e\x80-\xff]/;

const CHUNKED_LINE = '\r\nTransfer-Encoding: chunked';
const CONTENT_METHODS: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);
