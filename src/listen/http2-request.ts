import { METHODS } from 'node:http';
import type { ServerHttp2Stream } from 'node:http2';
import type { Call, Incoming } from '../proxy.js';
import { fromHttp2Headers } from '../rewrite/http2-headers.js';

const KNOWN_METHODS: ReadonlySet<string> = new Set(METHODS);

/**
 * A request of HTTP/2 in the words of HTTP/1.1, so that every stage judges both by the same rules: the authority becomes
 * Host, the pieces of Cookie become one (RFC 9113 §8.2.3). What cannot be said in those words is a `problem`.
 *
 * Node's parser has reset a stream whose pseudo-headers are missing, repeated or misplaced, or that has headers of a
 * connection, upper case, or other bytes than its length said, before anybody hears of it.
 */
export class Http2Request implements Incoming {
  readonly method: string;
  readonly url: string;
  readonly httpVersion = '2.0';
  readonly rawHeaders: readonly string[];
  readonly hasBody: boolean;
  rawTrailers: readonly string[] = [];
  readonly problem: Call['refusal'];

  /** @param raw the header block as Node hands it over, a flat list with pseudo-headers */
  constructor(
    private readonly stream: ServerHttp2Stream,
    raw: readonly string[],
  ) {
    const pseudo = pseudoHeaders(raw);
    this.method = pseudo[':method'] ?? '';
    // CONNECT has no path; screening refuses it by its method.
    this.url = pseudo[':path'] ?? pseudo[':authority'] ?? '';
    this.hasBody = !stream.endAfterHeaders;
    this.rawHeaders = translate(fromHttp2Headers(raw), pseudo[':authority']);
    this.problem = problemOf(this.method, pseudo[':scheme']);
    stream.on('trailers', (_trailers: unknown, _flags: unknown, rawTrailers: readonly string[]) => {
      this.rawTrailers = fromHttp2Headers(rawTrailers);
    });
  }

  get complete(): boolean {
    return !this.hasBody || this.stream.readableEnded || this.stream.state.remoteClose === 1;
  }
}

function pseudoHeaders(raw: readonly string[]): Partial<Record<string, string>> {
  const found: Partial<Record<string, string>> = {};
  for (let index = 0; index + 1 < raw.length; index += 2) {
    const name = raw[index] as string;
    if (name.startsWith(':')) found[name] = raw[index + 1];
  }
  return found;
}

/**
 * The authority first, where HTTP/1.1 has its Host. A Host beside it that says the same is left out; any other stays, and
 * two of them are refused in screening as they are in HTTP/1.1 (RFC 9113 §8.3.1 leaves the choice to the reader).
 */
function translate(flat: readonly string[], authority: string | undefined): string[] {
  const headers = authority === undefined ? [] : ['host', authority];
  let cookieAt = -1;
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = flat[index] as string;
    const value = flat[index + 1] as string;
    if (name === 'host' && authority?.toLowerCase() === value.toLowerCase()) continue;
    if (name !== 'cookie' || cookieAt === -1) {
      if (name === 'cookie') cookieAt = headers.length + 1;
      headers.push(name, value);
    } else headers[cookieAt] = `${headers[cookieAt]}; ${value}`;
  }
  return headers;
}

/** Node's parser of HTTP/1.1 knows these methods and no others, and nobody here has come over plain HTTP. */
function problemOf(method: string, scheme: string | undefined): Call['refusal'] {
  if (!KNOWN_METHODS.has(method)) return { code: 'bad_request', detail: 'an unknown method' };
  if (scheme !== undefined && scheme !== 'https') return { code: 'bad_request', detail: ':scheme is not https' };
  return null;
}
