import { modeOf } from './client-cert.js';
import { carryGuards } from './guards.js';
import { carryHeaders } from './headers.js';
import type { Ledger } from './ledger.js';
import { carryRouteLimits } from './limits.js';
import { isInternal, matchOf, type Reach } from './location.js';
import { Scope } from './scope.js';
import { namesOf } from './server.js';
import type { Directive } from './syntax.js';
import { carryUpstream } from './upstream.js';
import { forAll, named, nameIn, withConstants, type Work } from './work.js';

/** What a route may replace, by full and by short name, and what it is where nobody says anything. */
const KEYS: readonly (readonly [setting: string, key: string, byDefault: unknown])[] = [
  ['clientCert.verify', 'verify', 'required'],
  ['clientCert.allow', 'allow', []],
  ['upstream.url', 'upstream', ''],
  ['upstream.unsafeRemote', 'unsafeRemote', false],
  ['upstream.index', 'index', ['index.html']],
  ['upstream.http2', 'http2', false],
  ['upstream.connectTimeout', 'connectTimeout', '2s'],
  ['upstream.headTimeout', 'headTimeout', '60s'],
  ['upstream.idleTimeout', 'idleTimeout', '60s'],
  ['limits.body', 'body', '1MiB'],
  ['limits.bodyIdleTimeout', 'bodyIdleTimeout', '60s'],
  ['limits.tunnelIdleTimeout', 'tunnelIdleTimeout', '1h'],
];

/** Settings that belong to an application: with another one all of them are said. */
const OF_APPLICATION = ['unsafeRemote', 'index', 'http2'];

/** Whose locations become routes. */
export interface Site {
  readonly server: Directive;
  /** Null when there is no other server that it would have to be told from. */
  readonly hosts: readonly string[] | null;
}

export type CarriedRoute = Map<string, unknown>;

/** Makes the setting of all routes, whose headers have to agree. */
export function setRoutes({ ledger, http }: Work, routes: readonly CarriedRoute[], from: Directive): void {
  if (routes.length === 0) return;
  ledger.set('routes', routes, from);
  const identity = mapIn(ledger, 'identity.headers');
  const all = [mapIn(ledger, 'forwarded.headers'), ...routes.map((route) => route.get('headers'))];
  const clashing = all.flatMap((each) => (each instanceof Map ? forget(identity, each as Map<string, string>) : []));
  for (const level of clashing.length > 0 ? http : []) {
    forAll(level, (each) => {
      if (isClash(each, clashing)) ledger.conflict(each, 'the headers of a caller are the same for all paths');
    });
  }
  for (const route of routes)
    if ((route.get('headers') as Map<string, string> | undefined)?.size === 0) route.delete('headers');
}

/**
 * What is hidden in one place and says who calls in another is ours everywhere, and so hidden from callers as well.
 * @returns the names (lower case) of headers that say something else here, and are forgotten, too
 */
function forget(identity: ReadonlyMap<string, string>, headers: Map<string, string>): string[] {
  const names = new Set([...identity.keys()].map((name) => name.toLowerCase()));
  const theirs = [...headers].filter(([name]) => names.has(name.toLowerCase()));
  for (const [name] of theirs) headers.delete(name);
  return theirs.filter(([, fact]) => fact !== 'none').map(([name]) => name.toLowerCase());
}

/** Whether a directive gives one of these headers another value than who calls. */
function isClash({ name, args: [header = '', value = ''] }: Directive, clashing: readonly string[]): boolean {
  return (
    /^(?:proxy|grpc)_set_header$/.test(name) && clashing.includes(header.toLowerCase()) && !/^$|^\$ssl_/.test(value)
  );
}

/** Carries a location as a route, in what it differs from the settings. */
export function carryRoute(main: Work, site: Site, location: Directive): CarriedRoute {
  const work = workFor(main, site, location);
  const { ledger } = work;
  const route = routeFor(site).set('path', pathOf(location));
  if (isInternal(location)) {
    ledger.changed(location, `a route for ${pathOf(location)}; X-Accel-Redirect and error_page lead nowhere here`);
    for (const each of named(location.block, 'internal')) ledger.carried(each, 'return: 404');
    forAll(location, (each) => ledger.notNeeded(each, 'nobody can ask for it from outside'));
    return route.set('return', 404);
  }
  ledger.carried(location, `a route for ${pathOf(location)}`);
  ledger.set('clientCert.verify', modeOf(work), location);
  const answer = named(location.block, 'return')[0] ?? named(location.block, 'deny')[0];
  const said = answer === undefined ? carryWay(work) : carryAnswer(answer, { ...work, main: main.ledger });
  carryGuards(work, { location: null, paths: null });
  if (said === null) {
    carryRouteLimits(work);
    carryHeaders(work);
  }
  leaveShared(location, ledger);
  addDifferences(route, { main, ledger, answers: said !== null });
  for (const [key, value] of said ?? []) route.set(key, value);
  const replacement = valueIn(ledger, 'replaceWith');
  if (replacement !== undefined) route.set('replaceWith', replacement);
  if (said === null) addHeaders(route, main, work);
  return route;
}

/** Carries all other requests for the names of a server as a route. */
export function carrySite(main: Work, site: Site, reach: Reach): CarriedRoute {
  const work = workFor(main, site, reach.location);
  const { ledger } = work;
  const { server } = site;
  const route = routeFor(site);
  ledger.set('clientCert.verify', modeOf(work), server);
  const answer = answerOfServer(server) ?? named(reach.location?.block ?? [], 'return')[0];
  const carried = answer === undefined ? carryWay(work) : carryAnswer(answer, { ...work, main: main.ledger });
  carryGuards(work, reach);
  if (reach.location !== null) leaveShared(reach.location, ledger);
  const isMoved = ledger.settings.has('replaceWith');
  if (isMoved)
    main.ledger.conflict(reach.location ?? server, 'the paths of a whole server are not changed: 403 instead');
  const said = isMoved ? CLOSED : carried;
  if (said === null) {
    carryRouteLimits(work);
    carryHeaders(work);
  }
  addDifferences(route, { main, ledger, answers: said !== null });
  for (const [key, value] of said ?? []) route.set(key, value);
  if (said === null) addHeaders(route, main, work);
  return route;
}

/** What a server answers to everything, before it looks for a location. */
export function answerOfServer({ block }: Directive): Directive | undefined {
  return named(block, 'return')[0];
}

function routeFor({ hosts }: Site): CarriedRoute {
  return new Map<string, unknown>(hosts === null ? [] : [['host', hosts]]);
}

function workFor(main: Work, { server }: Site, location: Directive | null): Work {
  const ledger = main.ledger.forRoute();
  const levels = [location?.block ?? [], server.block ?? [], main.http];
  return { ...main, server, location, ledger, scope: new Scope(levels, ledger), isRoute: true };
}

/** Null when it leads somewhere. What cannot be carried is closed: its guard is lost, and `--force` must not open the path. */
function carryWay(work: Work): Said | null {
  carryUpstream(work);
  return work.ledger.settings.has('upstream.url') ? null : CLOSED;
}

type Said = readonly (readonly [key: string, value: unknown])[];
const CLOSED: Said = [['return', 403]];

/** What no route can have of its own, and keeps nobody out. */
const SAME_FOR_ALL =
  /^(?:access_log|error_log|keepalive_\w+|client_header_\w+|large_client_header_buffers|underscores_in_headers)$/;

function leaveShared(location: Directive, ledger: Ledger): void {
  for (const each of location.block ?? []) {
    if (SAME_FOR_ALL.test(each.name)) ledger.lost(each, 'it is one for all paths');
  }
}

/** A prefix ends anywhere in nginx, and so does a route with a star. */
function pathOf(location: Directive): string {
  const { kind, path } = matchOf(location);
  return kind === 'exact' ? path : `${path}*`;
}

interface Comparison {
  readonly main: Work;
  readonly ledger: Ledger;
  /** Whether it answers by itself: then only who may ask is of interest. */
  readonly answers: boolean;
}

function addDifferences(route: Map<string, unknown>, { main, ledger, answers }: Comparison): void {
  const isOther = valueIn(ledger, 'upstream.url') !== valueIn(main.ledger, 'upstream.url');
  for (const [setting, key, byDefault] of KEYS) {
    if (answers && key !== 'verify' && key !== 'allow') continue;
    const own = valueIn(ledger, setting) ?? byDefault;
    // Another application begins with the defaults of these.
    const usual = isOther && OF_APPLICATION.includes(key) ? byDefault : (valueIn(main.ledger, setting) ?? byDefault);
    if (written(own) !== written(usual)) route.set(key, own);
  }
}

function valueIn({ settings }: Ledger, name: string): unknown {
  return settings.get(name)?.value;
}

/** Maps have no JSON of their own. */
function written(value: unknown): string {
  return JSON.stringify(value, (_key, inner: unknown) => (inner instanceof Map ? [...inner] : inner));
}

/** The headers of the location in place of those of the main one; who the caller is is told to all applications alike. */
function addHeaders(route: Map<string, unknown>, main: Work, { ledger, location }: Work): void {
  const own = mapIn(ledger, 'forwarded.headers');
  const usual = mapIn(main.ledger, 'forwarded.headers');
  const gone = [...usual.keys()].filter((name) => !own.has(name)).map((name) => [name, 'none'] as const);
  const others = [...own].filter(([name, fact]) => usual.get(name) !== fact);
  const headers = new Map([...others, ...gone]);
  if (headers.size > 0) route.set('headers', headers);
  const identity = mapIn(ledger, 'identity.headers');
  const shared = mapIn(main.ledger, 'identity.headers');
  if (identity.size === 0 || location === null) return;
  for (const [name, attribute] of identity) {
    const same =
      named(location.block, nameIn(location, 'proxy_set_header')).find(({ args }) => args[0] === name) ?? location;
    if ((shared.get(name) ?? attribute) !== attribute)
      main.ledger.conflict(same, 'the headers of a caller are the same for all paths');
    else shared.set(name, attribute);
  }
  main.ledger.set('identity.headers', shared, location);
  main.ledger.set('identity.presets', valueIn(ledger, 'identity.presets'), location);
}

function mapIn(ledger: Ledger, setting: string): Map<string, string> {
  return (valueIn(ledger, setting) as Map<string, string> | undefined) ?? new Map<string, string>();
}

/** What a route answers by itself. What cannot be said becomes a refusal: nobody gets further than before. */
/** The location, and where settings go that hold for all. */
type Answering = Work & { readonly main: Ledger };

function carryAnswer(directive: Directive, work: Answering): Said {
  const { ledger } = work;
  if (directive.name === 'deny') {
    ledger.carried(directive, 'return: 403');
    return CLOSED;
  }
  const answer = answerOf(directive.args, work);
  if (answer === null) {
    ledger.guardLost(directive, 'this answer cannot be given: 403 instead');
    return CLOSED;
  }
  // nginx's own way to say nothing.
  if (answer === '444') {
    ledger.changed(directive, 'return: 403 instead of no answer');
    return CLOSED;
  }
  ledger.carried(directive);
  const type = work.scope.value('default_type') ?? '';
  const hasText = /^(?:2|4|5)\d\d ./.test(answer) && CONTENT_TYPE.test(type);
  return [['return', /^\d+$/.test(answer) ? Number(answer) : answer], ...(hasText ? [['type', type] as const] : [])];
}

const CONTENT_TYPE = /^[\w.+-]+\/[\w.+-]+$/;

/** `return` as a route writes it; null for what a route cannot say. */
function answerOf([first = '', ...rest]: readonly string[], work: Answering): string | null {
  if (!/^\d{3}$/.test(first)) return redirectOf('302', first, work);
  const text = rest.join(' ');
  if (/^30[12378]$/.test(first)) return redirectOf(first, text, work);
  const isAnswer = /^(?:2|4|5)\d\d$/.test(first) && !text.includes('$') && !(/^20[45]$/.test(first) && text !== '');
  if (!isAnswer) return null;
  return text === '' ? first : `${first} ${asWritten(text)}`;
}

/** A route takes the quotes around a text, and spaces before it, for its own. */
function asWritten(text: string): string {
  return /^ |^".*"$/s.test(text) ? `"${text}"` : text;
}

const REDIRECT =
  /^(?:https?:\/\/(?:\$host|[A-Za-z0-9.-]+)(?::\d{1,5})?(?:[/?][^$"\\\s]*)?|\/(?![/\\$])[^$"\\\s]*)(?:\$request_uri)?$/;

function redirectOf(status: string, written: string, work: Answering): string | null {
  const names = namesOf(work.server);
  const target = withConstants(written, work)
    .replace(/\$\{(\w+)\}/g, '$$$1')
    .replace(/\$uri\$is_args\$args$/, '$request_uri')
    .replace(/^\$scheme\b/, 'https')
    .replace(/\$server_name\b/, names?.[0] ?? '$server_name')
    .replace(/\$http_host\b/, '$host');
  if (!REDIRECT.test(target)) return null;
  if (!target.includes('$host')) return `${status} ${target}`;
  // Callers could choose any other name.
  if (names === null) return null;
  work.main.set('listen.serverNames', names, work.location ?? work.server);
  return `${status} ${target}`;
}
