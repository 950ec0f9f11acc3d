import type { RequestCode } from '../errors.js';

/** The head of a request as Node's parser delivers it. */
export interface RequestHead {
  readonly method: string;
  readonly target: string;
  readonly httpVersion: string;
  /** Flat list name, value, name, value … in the order and case of the wire. */
  readonly rawHeaders: readonly string[];
  /**
   * Whether a body follows, as a flag of HTTP/2 says. Left out by HTTP/1.1, whose headers say it: this, and not the version, tells which of the
   * two it is, for a caller of HTTP/1.1 can write any version into its request line.
   */
  readonly hasBody?: boolean | undefined;
}

/** What may be forwarded at all, whoever sends it. */
export interface ScreenRules {
  /** Whether a name (lower case) is one of ours; null when all are. */
  readonly isServed: ((name: string) => boolean) | null;
  readonly underscores: 'drop' | 'reject' | 'keep';
  /** Bytes. */
  readonly maxHead: number;
}

/** A request that has exactly one meaning. */
export interface ScreenedRequest {
  readonly ok: true;
  readonly method: string;
  /** Origin form, or `*`; an absolute form is reduced to it. */
  readonly target: string;
  readonly host: string;
  readonly body: 'none' | 'length' | 'chunked';
  /** Bytes; 0 for `none`, -1 for `chunked`. */
  readonly contentLength: number;
  /** Lower-case names that `Connection` lists, `close` and `keep-alive` included. */
  readonly connectionTokens: readonly string[];
  readonly expectsContinue: boolean;
  readonly announcesTrailers: boolean;
  /** Of the caller's X-Request-Id, when it is fit to be kept. */
  readonly requestId: string | null;
}

export interface Problem {
  readonly ok: false;
  readonly code: RequestCode;
  readonly detail: string;
}

/** nginx's `large_client_header_buffers 4 8k`: a request line longer than one buffer is a 414. */
const MAX_TARGET = 8192;
const NONE: readonly string[] = [];
const VERSIONS: ReadonlySet<string> = new Set(['1.1', '1.0']);

/**
 * Decides whether a request can be read in only one way (RFC 9112 §3, §6; RFC 9110 §7.2).
 *
 * Node's parser has refused the grosser ambiguities already. What it lets pass and two programs may read differently is
 * refused here; some checks repeat the parser's on purpose, since it is replaced with every Node release.
 */
export function screen(head: RequestHead, rules: ScreenRules, serverName: string | null): ScreenedRequest | Problem {
  if (head.hasBody === undefined && !VERSIONS.has(head.httpVersion)) return bad(`HTTP version ${head.httpVersion}`);
  // Before the headers, whose size it is part of.
  if (head.target.length > MAX_TARGET) {
    return problem('uri_too_long', `${head.target.length} bytes, ${MAX_TARGET} allowed`);
  }
  const fields = readFields(head, rules);
  if ('code' in fields) return fields;
  const target = readTarget(head, fields.host);
  if (typeof target !== 'string') return target;
  const fault = pathFault(target);
  if (fault !== null) return bad(fault);
  const framing = readFraming(head, fields);
  if ('code' in framing) return framing;
  return misdirected(fields.host, rules.isServed, serverName) ?? screened({ head, target, fields, framing });
}

/** Asked when the route is known: each may have a limit of its own. @param maxBody bytes; 0 means no limit */
export function oversized({ contentLength }: ScreenedRequest, maxBody: number): Problem | null {
  if (maxBody === 0 || contentLength <= maxBody) return null;
  return problem('body_too_large', `${contentLength} bytes announced, ${maxBody} allowed`);
}

interface Fields {
  size: number;
  host: string;
  hosts: number;
  contentLength: string | null;
  contentLengths: number;
  transferEncoding: string | null;
  connection: string | null;
  expect: string | null;
  requestId: string | null;
  trailer: boolean;
  ambiguous: string | null;
}

type Reader = (fields: Fields, value: string) => void;

/** The headers that decide anything, by lower-case name. */
const READERS: ReadonlyMap<string, Reader> = new Map<string, Reader>(
  Object.entries<Reader>({
    host: (fields, value) => {
      fields.host = value;
      fields.hosts += 1;
    },
    'content-length': (fields, value) => {
      fields.contentLength = value;
      fields.contentLengths += 1;
    },
    'transfer-encoding': (fields, value) => {
      fields.transferEncoding = joined(fields.transferEncoding, value);
    },
    connection: (fields, value) => {
      fields.connection = joined(fields.connection, value);
    },
    expect: (fields, value) => {
      fields.expect = joined(fields.expect, value);
    },
    'x-request-id': (fields, value) => {
      fields.requestId = joined(fields.requestId, value);
    },
    trailer: (fields) => {
      fields.trailer = true;
    },
  }),
);

function joined(before: string | null, value: string): string {
  return before === null ? value : `${before}, ${value}`;
}

function readFields(head: RequestHead, rules: ScreenRules): Fields | Problem {
  const fields = emptyFields(head.method.length + head.target.length + 12);
  const { rawHeaders } = head;
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    const value = rawHeaders[index + 1] as string;
    fields.size += name.length + value.length + 4;
    READERS.get(lowerCase(name))?.(fields, value);
    if (fields.ambiguous === null && isAmbiguousName(name)) fields.ambiguous = name;
  }
  return checkFields(fields, rules);
}

function emptyFields(size: number): Fields {
  return {
    size,
    host: '',
    hosts: 0,
    contentLength: null,
    contentLengths: 0,
    transferEncoding: null,
    connection: null,
    expect: null,
    requestId: null,
    trailer: false,
    ambiguous: null,
  };
}

function checkFields(fields: Fields, rules: ScreenRules): Fields | Problem {
  if (fields.size > rules.maxHead) {
    return problem('headers_too_large', `${fields.size} bytes of header, ${rules.maxHead} allowed`);
  }
  if (fields.hosts !== 1) return bad(`${fields.hosts} Host headers`);
  if (!VALID_HOST.test(fields.host)) return bad('Host is not a host name');
  if (rules.underscores === 'reject' && fields.ambiguous !== null) return bad('a header name holds "_" or "."');
  return fields;
}

/**
 * RFC 3986 §3.2: a name, an IPv4 address or a bracketed IPv6 address, and a port. No user, no white space, not empty. No `..`
 * either, which nginx refuses, too: some applications look for a directory of that name.
 */
const VALID_HOST = /^(?!.*\.\.)(?:[A-Za-z0-9._~%!$&'()*+,;=-]+|\[[0-9A-Fa-f:.]+\])(?::\d{0,5})?$/;

/** Lower-case forms of header names seen before. Bounded: names are the caller's to invent. */
const LOWER = new Map<string, string>();
const LOWER_CAPACITY = 256;

function lowerCase(name: string): string {
  const known = LOWER.get(name);
  if (known !== undefined) return known;
  const lower = name.toLowerCase();
  if (LOWER.size < LOWER_CAPACITY && name.length < 64) LOWER.set(name, lower);
  return lower;
}

/** Application servers in the CGI tradition read `-`, `_` and often `.` as the same letter. */
function isAmbiguousName(name: string): boolean {
  return name.includes('_') || name.includes('.');
}

/** RFC 9112 §3.2. The authority form belongs to CONNECT, which a reverse proxy has no use for. */
function readTarget({ method, target, hasBody }: RequestHead, host: string): string | Problem {
  if (method === 'CONNECT') return bad('CONNECT is not served');
  // Its answer would hand the identity headers back to the caller. nginx refuses it, too.
  if (method === 'TRACE') return bad('TRACE is not served');
  if (target.includes('#')) return bad('the target holds a fragment');
  if (hasBody !== undefined) return readPath(method, target);
  if (target.startsWith('/')) return target;
  if (target === '*' && method === 'OPTIONS') return target;
  return reduceAbsoluteForm(target, host);
}

/**
 * RFC 9113 §8.3.1. An HTTP/2 parser takes bytes that would end a request line of HTTP/1.1: whoever lets a space through
 * lets the caller write the rest of that line.
 */
function readPath(method: string, target: string): string | Problem {
  const isPath = target.startsWith('/') || (target === '*' && method === 'OPTIONS');
  return isPath && /^[!-~]+$/.test(target) ? target : bad(':path is not a path of visible characters');
}

const ABSOLUTE_FORM = /^https?:\/\/([^/?]*)(\/[^?]*)?(\?.*)?$/i;

/** RFC 9112 §3.2.2 lets the authority of the target win over Host. Two that differ are two readings, so refused. */
function reduceAbsoluteForm(target: string, host: string): string | Problem {
  const match = ABSOLUTE_FORM.exec(target);
  if (match === null) return bad('the target is neither a path nor a URL');
  const [, authority, path, query] = match;
  if (authority?.toLowerCase() !== host.toLowerCase()) return bad('the authority of the target differs from Host');
  return `${path ?? '/'}${query ?? ''}`;
}

/**
 * What no application has a meaning for, and what has led many out of their directories: a path that climbs above its
 * root, an encoded NUL, a `%` that encodes nothing. nginx refuses these as well, so applications behind it never had to.
 * Everything else goes on as it came.
 */
function pathFault(target: string): string | null {
  const end = target.indexOf('?');
  const path = end === -1 ? target : target.slice(0, end);
  if (/%(?![0-9A-Fa-f]{2})/.test(path)) return 'a malformed escape in the path';
  if (path.includes('%00')) return 'an encoded NUL in the path';
  return climbs(path) ? 'the path climbs above its root' : null;
}

/** Encoded dots and slashes count, since applications decode before they resolve; empty segments are no directories. */
function climbs(path: string): boolean {
  if (!/\.\.|%2e/i.test(path)) return false;
  let depth = 0;
  for (const segment of path.replace(/%2e/gi, '.').replace(/%2f/gi, '/').split('/')) {
    if (segment === '..') depth -= 1;
    else if (segment !== '' && segment !== '.') depth += 1;
    if (depth < 0) return true;
  }
  return false;
}

interface Framing {
  readonly body: ScreenedRequest['body'];
  readonly contentLength: number;
}

/** RFC 9112 §6.1, §6.3: one length, or exactly `chunked` from an HTTP/1.1 caller, never both. */
function readFraming(head: RequestHead, fields: Fields): Framing | Problem {
  const { contentLength, contentLengths, transferEncoding } = fields;
  if (head.hasBody !== undefined) return readFrames(head.hasBody, fields);
  if (transferEncoding !== null) {
    if (contentLength !== null) return bad('both Content-Length and Transfer-Encoding');
    if (head.httpVersion !== '1.1') return bad('Transfer-Encoding in HTTP/1.0');
    if (transferEncoding.toLowerCase() !== 'chunked') return bad('a Transfer-Encoding other than chunked');
    return UNKNOWN_BODY;
  }
  if (contentLength === null) return NO_BODY;
  const length = lengthOf(contentLength, contentLengths);
  if (length === null) return ODD_LENGTH;
  return length === 0 ? NO_BODY : { body: 'length', contentLength: length };
}

/** RFC 9113 §8.1.1, §8.2.2: frames delimit the body; a length besides must be that of all of them, which the parser counts. */
function readFrames(hasBody: boolean, { contentLength, contentLengths, transferEncoding }: Fields): Framing | Problem {
  if (transferEncoding !== null) return bad('a Transfer-Encoding in HTTP/2');
  if (contentLength === null) return hasBody ? UNKNOWN_BODY : NO_BODY;
  const length = lengthOf(contentLength, contentLengths);
  if (length === null) return ODD_LENGTH;
  if (!hasBody) return length > 0 ? bad('a Content-Length without a body') : NO_BODY;
  // None is announced, and more may come: chunked, the application does not take it for whole before the caller has said so.
  return length === 0 ? UNKNOWN_BODY : { body: 'length', contentLength: length };
}

/** Null for several, and for what is no plain number that a double can hold. */
function lengthOf(written: string, count: number): number | null {
  return count > 1 || !/^\d{1,15}$/.test(written) ? null : Number(written);
}

const NO_BODY: Framing = { body: 'none', contentLength: 0 };
const UNKNOWN_BODY: Framing = { body: 'chunked', contentLength: -1 };
const ODD_LENGTH = bad('several or malformed Content-Length');

function misdirected(host: string, isServed: ScreenRules['isServed'], serverName: string | null): Problem | null {
  if (isServed === null) return null;
  const name = hostName(host);
  if (!isServed(name)) return problem('misdirected', 'Host is not one of listen.serverNames');
  // The certificate was chosen, and perhaps verified against, another name than the one now asked for.
  if (serverName !== null && serverName !== name) return problem('misdirected', 'Host differs from SNI');
  return null;
}

/** The name in a Host: lower case, without port and the dot of the root. */
export function hostName(host: string): string {
  const bracket = host.indexOf(']');
  const colon = host.indexOf(':', bracket + 1);
  const name = (colon === -1 ? host : host.slice(0, colon)).toLowerCase();
  return name.endsWith('.') ? name.slice(0, -1) : name;
}

interface Parts {
  readonly head: RequestHead;
  readonly target: string;
  readonly fields: Fields;
  readonly framing: Framing;
}

function screened({ head, target, fields, framing }: Parts): ScreenedRequest {
  return {
    ok: true,
    method: head.method,
    target,
    host: fields.host,
    body: framing.body,
    contentLength: framing.contentLength,
    connectionTokens: fields.connection === null ? NONE : listTokens(fields.connection),
    // Other expectations mean nothing to anybody (RFC 9110 §10.1.1) and are dropped, as nginx does.
    expectsContinue: fields.expect?.toLowerCase() === '100-continue',
    // HTTP/2 has room for them behind every body, announced or not.
    announcesTrailers: (fields.trailer || head.hasBody !== undefined) && framing.body === 'chunked',
    requestId: fields.requestId !== null && REQUEST_ID.test(fields.requestId) ? fields.requestId : null,
  };
}

/** RFC 9110 §5.6.2 token, so that it can stand in a header, a log line and a command line alike. */
const REQUEST_ID = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;

function listTokens(value: string): readonly string[] {
  return value.split(',').map((token) => token.trim().toLowerCase());
}

function bad(detail: string): Problem {
  return problem('bad_request', detail);
}

function problem(code: RequestCode, detail: string): Problem {
  return { ok: false, code, detail };
}
