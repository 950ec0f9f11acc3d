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
    if (each.name === 'return') return /^[45]\d\d$/.test(each.args[0] ?? '');
    return !HARMLESS.test(each.name);
  });
}

/**
 * The location whose application becomes ours: `/` if it forwards, else the first that forwards, else `/` with its
 * files. Beside `/` the others become routes where a route can say all that keeps anybody out of them; what is left is
 * reported.
 */
export function chooseLocation(server: Directive, ledger: Ledger): Reach {
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
  const same = location === null ? [] : left.filter((each) => isSameWay(each, location));
  for (const each of same) {
    ledger.changed(each, `it goes the way of line ${location?.line}, with the settings of that location`);
    forAll(each, (inner) => ledger.lost(inner, `the settings of line ${location?.line} hold for all paths`));
  }
  for (const each of left.filter((other) => !same.includes(other))) leave(each, { location, isAll, ledger });
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
  return named(location.block, 'proxy_pass')[0]?.args[0] ?? null;
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

interface Leaving {
  readonly location: Directive | null;
  /** Whether requests for the path now reach the application all the same. */
  readonly isAll: boolean;
  readonly ledger: Ledger;
}

function leave(other: Directive, { location, isAll, ledger }: Leaving): void {
  const text = `its location (line ${other.line}) is not carried`;
  if (matchOf(other).kind === 'named') {
    ledger.lost(other, 'nothing leads to it');
  } else if (isDotFiles(other) && servesFiles(location)) {
    ledger.notNeeded(other, 'files whose names begin with a dot are never served');
  } else if (isGuarded(other) && (isAll || !isOutside(other, location))) {
    ledger.guardLost(other, `its paths would reach ${wayOf(location)} unguarded`);
  } else if (isAll && servesFiles(location) && goesElsewhere(other)) {
    ledger.guardLost(other, 'its files would be sent as they are');
  } else if (isAll) ledger.lost(other, `its paths go to ${wayOf(location)}`);
  else ledger.lost(other, 'its paths get 403');
  forAll(other, (inner) => ledger.lost(inner, text));
}

function servesFiles(location: Directive | null): boolean {
  return location === null || goesTo(location) === null;
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

function isOutside(other: Directive, location: Directive | null): boolean {
  const { kind, path } = matchOf(other);
  if (location === null || kind === 'regex') return false;
  const own = matchOf(location).path;
  return !path.startsWith(own) && !own.startsWith(path);
}

/**
 * A prefix ends anywhere in nginx: `/im` is `/impostor` as well. Here it ends at a slash, which is less.
 */
function pathsOf(location: Directive): string[] {
  const { kind, path } = matchOf(location);
  if (kind === 'exact') return [path];
  return path.endsWith('/') ? [path, `${path}**`] : [path, `${path}/`, `${path}/**`];
}
