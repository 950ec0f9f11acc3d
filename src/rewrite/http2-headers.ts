import { FIELD_TEXT, TOKEN } from './field-grammar.js';

/** What Node's HTTP/2 takes as a header block: lower-case names, several values of one name as a list. */
export type Http2Headers = Record<string, string | string[]>;

/** Of one connection (RFC 9113 §8.2.2); Node refuses a block with them. `te` is written by whoever can read trailers. */
const OF_CONNECTION: ReadonlySet<string> = new Set([
  'connection',
  'keep-alive',
  'proxy-connection',
  'transfer-encoding',
  'upgrade',
  'http2-settings',
  'te',
]);

/**
 * Node sends these once or not at all, and HTTP/1.1 lets several pass. Joined they say the same (RFC 9110 §5.2), or, where two
 * make no sense, as little. Host and Content-Length are not here: two of them are two messages.
 */
const SENT_ONCE: ReadonlySet<string> = new Set([
  ...['access-control-allow-credentials', 'access-control-max-age', 'access-control-request-method', 'age'],
  ...['authorization', 'content-encoding', 'content-language', 'content-location', 'content-md5', 'content-range'],
  ...['content-type', 'date', 'dnt', 'etag', 'expires', 'from', 'if-match', 'if-modified-since', 'if-none-match'],
  ...['if-range', 'if-unmodified-since', 'last-modified', 'location', 'max-forwards', 'proxy-authorization', 'range'],
  ...['referer', 'retry-after', 'tk', 'upgrade-insecure-requests', 'user-agent', 'x-content-type-options'],
]);

/**
 * A flat list as a header block of HTTP/2 (RFC 9113 §8.2). Order and duplicates are kept but for `SENT_ONCE`, case cannot be.
 * @throws Error for what is no header. Node checks no values here, and separates them by NUL.
 */
export function toHttp2Headers(flat: readonly string[]): Http2Headers {
  const headers = Object.create(null) as Http2Headers;
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = (flat[index] as string).toLowerCase();
    const value = flat[index + 1] as string;
    if (!TOKEN.test(name) || !FIELD_TEXT.test(value)) throw new Error(`${JSON.stringify(name)} is no header`);
    if (OF_CONNECTION.has(name)) continue;
    const before = headers[name];
    if (before === undefined) headers[name] = value;
    else if (typeof before === 'string') headers[name] = SENT_ONCE.has(name) ? `${before}, ${value}` : [before, value];
    else before.push(value);
  }
  return headers;
}

/** A received block without its pseudo-headers, as a flat list. @param raw as Node hands it over, itself a flat list */
export function fromHttp2Headers(raw: readonly string[]): string[] {
  const flat: string[] = [];
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string;
    if (!name.startsWith(':')) flat.push(name, raw[index + 1] as string);
  }
  return flat;
}
