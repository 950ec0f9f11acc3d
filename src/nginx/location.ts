import { isNoGuard } from './headers.js';
import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';
import { forAll, named } from './work.js';

/** A `location` taken apart. */
export interface LocationMatch {
  readonly kind: 'prefix' | 'exact' | 'regex' | 'named';
  readonly path: string;
}

export function matchOf({ args }: Directive): LocationMatch {
  const [first = '', second] = args;
  // nginx also takes the modifier and the path as one word.
  const [, modifier, path] = /^(=|\^~|~\*|~)?(.*)$/s.exec(second === undefined ? first : first + second) ?? [];
  if (modifier === '=') return { kind: 'exact', path: path ?? '' };
  if (modifier === '~' || modifier === '~*') return { kind: 'regex', path: path ?? '' };
  return { kind: path?.startsWith('@') ? 'named' : 'prefix', path: path ?? '' };
}

/** Which requests reach the application. */
export interface Reach {
  readonly location: Directive | null;
  /** Paths and patterns of allow rules; null when all paths do. */
  readonly paths: readonly string[] | null;
  /** The others that become routes. */
  readonly routes: readonly Directive[];
}

/** What may stand in a location without keeping anybody out. */
const HARMLESS =
  /^(?:proxy_(?!method$|set_body$|pass_request_headers$)\w+|root|index|alias|try_files|client_\w+|keepalive_\w+|access_log|error_log|log_not_found|add_header|add_trailer|expires|etag|gzip\w*|brotli\w*|charset|types|default_type|set|error_page|sendfile|tcp_\w+|chunked_transfer_encoding|autoindex\w*|send_timeout|include|open_file_cache\w*|stub_status|fastcgi_\w+|uwsgi_\w+|scgi_\w+|grpc_\w+|limit_rate|rewrite_log|sub_filter\w*|mirror|merge_slashes|underscores_in_headers|large_client_header_buffers|limit_rate_after|max_ranges|http2_\w+|resolver\w*|server_tokens|break|absolute_redirect|empty_gif)$/;

/** Whether anything in a block keeps anybody out; what is not known might. */
function isGuarded(location: Directive): boolean {
  return (location.block ?? []).some((each) => {
    // Whatever it answers, no application is asked.
    return !HARMLESS.test(each.name);
  });
}

/**
 * The location whose application becomes ours: `/` if it forwards, else the first that forwards, else `/` with its
 * files. Beside `/` the others become routes where a route can say all that keeps anybody out of them; what is left is
 * reported.
 */
export function chooseLocation(server: Directive, http: readonly Directive[], ledger: Ledger): Reach {
  const locations = named(server.block, 'location');
  const forwarding = ['prefix', 'exact'].flatMap((kind) =>
    locations.filter((each) => matchOf(each).kind === kind && goesTo(each) !== null),
  );
  const root = locations.find((each) => matchOf(each).kind === 'prefix' && matchOf(each).path === '/');
  const location = forwarding.find((each) => each === root) ?? forwarding[0] ?? root ?? null;
  const others = locations.filter((each) => each !== location);
  const isAll = location === null || location === root;
  const routes = isAll ? others.filter(isRoute) : [];
  const left = others.filter((each) => !routes.includes(each));
  const losesHeaders = headerLoss(location, server, http);
  const same = location === null ? [] : left.filter((each) => isSameWay(each, location) && !losesHeaders(each));
  for (const each of same) {
    ledger.changed(each, `it goes the way of line ${location?.line}, with the settings of that location`);
    forAll(each, (inner) => ledger.lost(inner, `the settings of line ${location?.line} hold for all paths`));
  }
  const ways = location === null ? [] : [location, ...same];
  const leaving = { location, ways, isAll, sendsFiles: [location, ...routes].some(servesFiles), losesHeaders, ledger };
  for (const each of left.filter((other) => !same.includes(other))) leave(each, leaving);
  return { location, paths: isAll ? null : [location, ...same].flatMap(pathsOf), routes };
}

/** What a route says in place of a location, besides what keeps nobody out. */
const SAID_BY_ROUTES = new Set(['return', 'if', 'limit_except', 'deny']);
const WAYS = new Set(['proxy_pass', 'return', 'root', 'alias', 'deny']);

/** A path that can be read in one way alone. */
const PLAIN_PATH = /^\/(?!.*(?:\/\/|\/\.{1,2}(?:\/|$)|[?#%;\\*]))[!-~]*$/;

/** Whether a route can say all of a location. Addresses are not looked at: `deny all` alone can be said. */
function isRoute(location: Directive): boolean {
  const { kind, path } = matchOf(location);
  const block = location.block ?? [];
  const isPlain = (kind === 'prefix' || kind === 'exact') && PLAIN_PATH.test(path);
  return (
    isPlain &&
    block.some(({ name }) => WAYS.has(name)) &&
    block.every(({ name, args }) => {
      if (name === 'deny') return args[0] === 'all';
      return SAID_BY_ROUTES.has(name) || HARMLESS.test(name);
    })
  );
}

/** Where a location forwards to, as written; null when it does not. */
function goesTo(location: Directive): string | null {
  const [pass] = [...named(location.block, 'proxy_pass'), ...named(location.block, 'grpc_pass')];
  return pass?.args[0] ?? null;
}

/** Another path of the same application, such as one for WebSocket. */
function isSameWay(other: Directive, location: Directive): boolean {
  const { kind } = matchOf(other);
  if (kind !== 'prefix' && kind !== 'exact') return false;
  const target = goesTo(other);
  const rest = (target ?? '').replace(/^https?:\/\//, '');
  const hasUri = rest.startsWith('unix:') ? /^unix:[^:]+:\//.test(rest) : rest.includes('/');
  return target !== null && !hasUri && target === goesTo(location) && !isGuarded(other);
}

/**
 * Whether the headers of a location would be lost, were its requests to go the way of another: callers could send those
 * themselves, or would get what is said of others.
 */
function headerLoss(location: Directive | null, ...outer: [server: Directive, http: readonly Directive[]]) {
  const kept = new Set(headersOf(location, ...outer).map(headerLine));
  return (other: Directive): boolean =>
    headersOf(other, ...outer).some((each) => !kept.has(headerLine(each)) && !isNoGuard(each));
}

/** Those in force, as nginx inherits them. */
function headersOf(location: Directive | null, server: Directive, http: readonly Directive[]): readonly Directive[] {
  const levels = [location?.block ?? [], server.block ?? [], http].map((block) => named(block, 'proxy_set_header'));
  return levels.find((found) => found.length > 0) ?? [];
}

function headerLine({ args: [name = '', value = ''] }: Directive): string {
  return `${name.toLowerCase()}: ${value}`;
}

interface Leaving {
  readonly location: Directive | null;
  /** All that lead to the application. */
  readonly ways: readonly Directive[];
  /** Whether requests for the path now reach the application all the same. */
  readonly isAll: boolean;
  /** Whether files are sent under some path. */
  readonly sendsFiles: boolean;
  readonly losesHeaders: (other: Directive) => boolean;
  readonly ledger: Ledger;
}

function leave(other: Directive, { location, ways, isAll, sendsFiles, losesHeaders, ledger }: Leaving): void {
  const isReached = isAll || !isOutside(other, ways);
  const text = `its location (line ${other.line}) is not carried`;
  if (matchOf(other).kind === 'named') {
    ledger.lost(other, 'nothing leads to it');
  } else if (isDotFiles(other) && servesFiles(location)) {
    ledger.notNeeded(other, 'files whose names begin with a dot are never served');
  } else if (isReached && isGuarded(other)) {
    ledger.guardLost(other, `its paths would reach ${wayOf(location)} unguarded`);
  } else if (isReached && losesHeaders(other)) {
    ledger.guardLost(
      other,
      `its paths would reach ${wayOf(location)} without its headers, which callers could then send`,
    );
  } else if (isAll && sendsFiles && goesElsewhere(other)) {
    ledger.guardLost(other, 'its files would be sent as they are');
  } else if (isReached) ledger.lost(other, `its paths go to ${wayOf(location)}`);
  else ledger.lost(other, 'its paths get 403');
  forAll(other, (inner) => ledger.lost(inner, text));
}

function servesFiles(location: Directive | null): boolean {
  return !(location?.block ?? []).some(({ name }) => name === 'proxy_pass' || name === 'return' || name === 'deny');
}

function wayOf(location: Directive | null): string {
  return location === null ? 'the files of the server' : `what line ${location.line} says`;
}

/** `location ~ /\.` and its like, which keep dot files private. */
function isDotFiles(location: Directive): boolean {
  const { kind, path } = matchOf(location);
  return kind === 'regex' && /^\(?\^?\/\\\./.test(path) && isGuarded(location);
}

/** fastcgi_pass and its like: what lies there as a file is a program. */
function goesElsewhere({ block }: Directive): boolean {
  return (block ?? []).some(({ name }) => name.endsWith('_pass'));
}

/** Whether none of the requests that reach the application would have gone there: the longer path has them in nginx. */
function isOutside(other: Directive, ways: readonly Directive[]): boolean {
  const { kind, path } = matchOf(other);
  if (kind === 'regex') return false;
  return ways.map(matchOf).every((own) => own.kind === 'exact' || !path.startsWith(own.path));
}

/**
 * A prefix ends anywhere in nginx: `/im` is `/impostor` as well. Here it ends at a slash, which is less.
 */
function pathsOf(location: Directive): string[] {
  const { kind, path } = matchOf(location);
  if (kind === 'exact') return [path];
  return path.endsWith('/') ? [path, `${path}**`] : [path, `${path}/`, `${path}/**`];
}
