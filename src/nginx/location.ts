import { isNoGuard } from './headers.js';
import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';
import { forAll, named, nameIn, passOf } from './work.js';

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

interface Choosing {
  readonly http: readonly Directive[];
  readonly ledger: Ledger;
  /** Whether `/` may answer by itself. */
  readonly mayAnswer?: boolean;
}

/**
 * The location whose application becomes ours, and the others that become routes, since a route can say all that keeps
 * anybody out of them. What is left is reported.
 */
export function chooseLocation(server: Directive, { http, ledger, mayAnswer = false }: Choosing): Reach {
  const locations = named(server.block, 'location');
  const root = locations.find((each) => matchOf(each).kind === 'prefix' && matchOf(each).path === '/');
  const answers = mayAnswer && named(root?.block ?? [], 'return').length > 0;
  const location = (answers ? root : firstForwarding(locations)) ?? root ?? null;
  const isAll = location === null || location === root;
  const others = locations.filter((each) => each !== location);
  const routes = others.filter((each) => isRoute(each) && (location === null || !isAround(each, location)));
  const sendsFiles = isAll && [location, ...routes].some(servesFiles);
  for (const each of others.filter((other) => !routes.includes(other))) {
    const way = wayOf(each, location, routes);
    const losesHeaders = headerLoss(way, server, http)(each);
    const mixesFiles = sendsFiles && hasOtherFiles(each, way ?? server);
    leave(each, { way, isReached: isAll || way !== null, mixesFiles, losesHeaders, ledger });
  }
  return { location, paths: isAll ? null : pathsOf(location), routes };
}

/** `/` if it forwards, else the shortest path that does. */
function firstForwarding(locations: readonly Directive[]): Directive | undefined {
  const length = (location: Directive): number => matchOf(location).path.length;
  const forwarding = locations
    .filter((each) => goesTo(each) !== null && !isInternal(each))
    .sort((one, other) => length(one) - length(other));
  const ofKind = (kind: string): Directive | undefined => forwarding.find((each) => matchOf(each).kind === kind);
  return ofKind('prefix') ?? ofKind('exact');
}

/** Where requests for a location that is left out go now; null for the files of the server, or nowhere. */
function wayOf(other: Directive, location: Directive | null, routes: readonly Directive[]): Directive | null {
  // It may match under any path.
  if (matchOf(other).kind === 'regex') return location;
  const ways = [...routes, ...(location === null ? [] : [location])].filter((way) => isAround(way, other));
  return ways.sort((one, another) => matchOf(another).path.length - matchOf(one).path.length)[0] ?? null;
}

/** What a route says in place of a location, besides what keeps nobody out. */
const SAID_BY_ROUTES = new Set(['return', 'if', 'limit_except', 'deny']);
const WAYS = new Set(['proxy_pass', 'grpc_pass', 'return', 'root', 'alias', 'deny']);

/** A path that can be read in one way alone. */
const PLAIN_PATH = /^\/(?!.*(?:\/\/|\/\.{1,2}(?:\/|$)|[?#%;\\*]))[!-~]*$/;

/** Whether a route can say all of a location. Addresses are not looked at: `deny all` alone can be said. */
function isRoute(location: Directive): boolean {
  const { kind, path } = matchOf(location);
  const block = location.block ?? [];
  const isPlain = (kind === 'prefix' || kind === 'exact') && PLAIN_PATH.test(path);
  if (isInternal(location)) return isPlain;
  return (
    isPlain &&
    block.some(({ name }) => WAYS.has(name)) &&
    block.every(({ name, args }) => {
      if (name === 'deny') return args[0] === 'all';
      return SAID_BY_ROUTES.has(name) || HARMLESS.test(name);
    })
  );
}

/**
 * Whether a route for a location would have the requests of another, whose path is longer: nginx gives them to the longer.
 * The route for `/app/` has `/app` as well.
 */
function isAround(location: Directive, other: Directive): boolean {
  const [{ kind, path }, { path: inner }] = [matchOf(location), matchOf(other)];
  return kind === 'prefix' && (inner.startsWith(path) || path === `${inner}/`);
}

/** Whether nginx keeps a location for itself: pages of errors, answers of X-Accel-Redirect. Others get 404. */
export function isInternal({ block }: Directive): boolean {
  return named(block, 'internal').length > 0;
}

/** Where a location forwards to, as written; null when it does not. */
function goesTo(location: Directive): string | null {
  return passOf(location)?.args[0] ?? null;
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
  const name = nameIn(location, 'proxy_set_header');
  const levels = [location?.block ?? [], server.block ?? [], http].map((block) => named(block, name));
  return levels.find((found) => found.length > 0) ?? [];
}

function headerLine({ args: [name = '', value = ''] }: Directive): string {
  return `${name.toLowerCase()}: ${value}`;
}

interface Leaving {
  /** Where requests for its paths go now; null for the files of the server, or nowhere. */
  readonly way: Directive | null;
  readonly isReached: boolean;
  /** Whether files could be sent that nginx does not send. */
  readonly mixesFiles: boolean;
  /** Whether its own headers are among what is lost. */
  readonly losesHeaders: boolean;
  readonly ledger: Ledger;
}

function leave(other: Directive, { way, isReached, mixesFiles, losesHeaders, ledger }: Leaving): void {
  const text = `its location (line ${other.line}) is not carried`;
  const to = way === null ? 'the files of the server' : `what line ${way.line} says`;
  if (matchOf(other).kind === 'named') {
    ledger.lost(other, 'nothing leads to it');
  } else if (isDotFiles(other) && servesFiles(way)) {
    ledger.notNeeded(other, 'files whose names begin with a dot are never served');
  } else if (!isReached) {
    ledger.lost(other, 'its paths get 403');
  } else if (isGuarded(other)) {
    ledger.guardLost(other, `its paths would reach ${to} unguarded${adviceFor(other)}`);
  } else if (losesHeaders) {
    ledger.guardLost(
      other,
      `its paths would reach ${to} without its headers, which callers could then send${adviceFor(other)}`,
    );
  } else if (mixesFiles) {
    ledger.guardLost(other, `files would be sent that nginx does not send${adviceFor(other)}`);
  } else if (way !== null && goesTo(other) !== null && goesTo(other) !== goesTo(way)) {
    ledger.guardLost(other, `its paths would reach another application: ${to}${adviceFor(other)}`);
  } else ledger.lost(other, `its paths go to ${to}${adviceFor(other)}`);
  forAll(other, (inner) => ledger.lost(inner, text));
}

/** What to do about a location that is no route. */
function adviceFor(location: Directive): string {
  return matchOf(location).kind === 'regex' ? ': write it as a location with a path, or as a route' : '';
}

function servesFiles(location: Directive | null): boolean {
  const block = location?.block ?? [];
  return passOf(location) === undefined && !block.some(({ name }) => /^(?:return|deny|internal)$/.test(name));
}

/** `location ~ /\.` and its like, which keep dot files private. */
function isDotFiles(location: Directive): boolean {
  const { kind, path } = matchOf(location);
  return kind === 'regex' && /^\(?\^?\/\\\./.test(path) && isGuarded(location);
}

/**
 * Whether nginx looks for the files of a location in another place, sends one whatever is asked for, or asks a program
 * (`fastcgi_pass` and its like), which lies there as a file.
 */
function hasOtherFiles({ block }: Directive, { block: usual }: Directive): boolean {
  const root = named(usual, 'root')[0]?.args[0];
  return (block ?? []).some(({ name, args }) => {
    if (name.endsWith('_pass')) return true;
    if (name === 'try_files') return !args.some((word) => word.startsWith('$uri'));
    return name === 'alias' || (name === 'root' && args[0] !== root);
  });
}

/**
 * A prefix ends anywhere in nginx: `/im` is `/impostor` as well. Here it ends at a slash, which is less.
 */
function pathsOf(location: Directive): string[] {
  const { kind, path } = matchOf(location);
  if (kind === 'exact') return [path];
  return path.endsWith('/') ? [path, `${path}**`] : [path, `${path}/`, `${path}/**`];
}
