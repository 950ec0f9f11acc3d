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
  let text = `${method} ${target} HTTP/1.1\r\n${lines}`;
  if (request.expectsContinue) text += 'Expect: 100-continue\r\n';
  if (request.body === null) {
    // RFC 9110 §8.6; without it some applications answer 411.
    if (CONTENT_METHODS.has(method)) text += 'Content-Length: 0\r\n';
  } else {
    text += request.contentLength === null ? CHUNKED_LINE : `Content-Length: ${request.contentLength}\r\n`;
  }
  return `${text}\r\n`;
}

const ofConnection = new WeakMap<readonly string[], string>();

/** Looked at and put together once a connection. */
function identityLines(flat: readonly string[]): string {
  let text = ofConnection.get(flat);
  if (text === undefined) {
    // Copied, so that V8 keeps one string and not the tree of its parts.
    text = Buffer.from(fieldLines(flat), 'latin1').toString('latin1');
    ofConnection.set(flat, text);
  }
  return text;
}

/** @throws ProxyError `internal`, when a part cannot be sent */
export function fieldLines(flat: readonly string[]): string {
  let text = '';
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = flat[index] as string;
    const value = flat[index + 1] as string;
    if (!TOKEN.test(name) || !FIELD_TEXT.test(value)) throw unsendable('header');
    text += `${name}: ${value}\r\n`;
  }
  return text;
}

function unsendable(what: string): ProxyError {
  return new ProxyError('internal', 'internal', 'forward', `a ${what} that cannot be sent`);
}

const NO_TARGET = /^$|[^\x21-\x7e\x80-\xff]/;

const CHUNKED_LINE = 'Transfer-Encoding: chunked\r\n';
const CONTENT_METHODS: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);
