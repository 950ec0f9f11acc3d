import { EVERY_PATH } from '../admit/routes.js';
import { SETTINGS } from './schema.js';
import { didYouMean } from './suggest.js';
import { parseUpstream } from './upstream.js';
import type { Config, FixedAnswer, Route } from './config.js';

/** One route as written: what chooses it, and the settings that it replaces, by their full names. */
export interface WrittenRoute extends Pick<Route, 'name' | 'hosts' | 'path' | 'replaceWith'> {
  readonly answer: FixedAnswer | null;
  readonly settings: ReadonlyMap<string, unknown>;
}

/** How the values of other formats are read. Both throw an Error with a sentence that says what is allowed. */
export interface ValueParsers {
  hosts(value: unknown): unknown;
  setting(name: string, value: unknown): unknown;
}

/** What a route may replace, by short names. */
export const REPLACEABLE: Readonly<Record<string, string>> = {
  verify: 'clientCert.verify',
  allow: 'clientCert.allow',
  upstream: 'upstream.url',
  unsafeRemote: 'upstream.unsafeRemote',
  index: 'upstream.index',
  http2: 'upstream.http2',
  connectTimeout: 'upstream.connectTimeout',
  headTimeout: 'upstream.headTimeout',
  idleTimeout: 'upstream.idleTimeout',
  headers: 'forwarded.headers',
  body: 'limits.body',
  bodyIdleTimeout: 'limits.bodyIdleTimeout',
  tunnelIdleTimeout: 'limits.tunnelIdleTimeout',
};

const KEYS = ['path', 'host', 'return', 'type', 'replaceWith', ...Object.keys(REPLACEABLE)];
/** What is left of a route that answers by itself. */
const BESIDE_RETURN = new Set(['path', 'host', 'return', 'type', 'verify', 'allow']);

/**
 * Reads `routes`.
 * @param raw a list of maps, as the YAML reader gives them
 * @throws Error naming every bad route by its position (from 1) and key
 */
export function parseRoutes(raw: unknown, parsers: ValueParsers): WrittenRoute[] {
  if (!Array.isArray(raw))
    throw new Error('must be a list of routes such as [{path: /healthz, verify: off, return: 200}]');
  const problems: string[] = [];
  const routes = raw.flatMap((each: unknown, index) => {
    const reader = new RouteReader(each, parsers);
    problems.push(...reader.problems.map((problem) => `route ${index + 1}${reader.label}: ${problem}`));
    return reader.problems.length === 0 ? [reader.route()] : [];
  });
  if (problems.length === 0) problems.push(...clashes(routes));
  if (problems.length > 0) throw new Error(problems.join('; '));
  return routes;
}

class RouteReader {
  readonly problems: string[] = [];
  private readonly given: ReadonlyMap<unknown, unknown>;
  private readonly values = new Map<string, unknown>();

  constructor(
    raw: unknown,
    private readonly parsers: ValueParsers,
  ) {
    this.given = raw instanceof Map ? raw : new Map<unknown, unknown>();
    if (!(raw instanceof Map)) this.problems.push('must be a map such as {path: /healthz, return: 200}');
    else this.read();
  }

  /** For messages. */
  get label(): string {
    const path = this.given.get('path');
    return typeof path === 'string' ? ` (${JSON.stringify(path)})` : '';
  }

  route(): WrittenRoute {
    const hosts = this.hosts();
    const path = this.path();
    return {
      name: nameOf(hosts, path),
      hosts,
      path,
      replaceWith: (this.values.get('replaceWith') as string | undefined) ?? null,
      answer: this.answer(),
      settings: new Map(
        [...this.values].flatMap(([key, value]) => {
          const setting = Object.hasOwn(REPLACEABLE, key) ? REPLACEABLE[key] : undefined;
          return setting === undefined ? [] : [[setting, value] as const];
        }),
      ),
    };
  }

  private path(): string {
    return (this.values.get('path') as string | undefined) ?? EVERY_PATH;
  }

  private hosts(): readonly string[] {
    return (this.values.get('host') as readonly string[] | undefined) ?? [];
  }

  private answer(): FixedAnswer | null {
    const answer = this.values.get('return') as FixedAnswer | undefined;
    if (answer === undefined) return null;
    const contentType = this.values.get('type') as string | undefined;
    return contentType === undefined ? answer : { ...answer, contentType };
  }

  private read(): void {
    for (const [key, value] of this.given) this.readKey(String(key), value);
    const { values, problems } = this;
    if (problems.length > 0) return;
    const path = this.path();
    if (path === EVERY_PATH && this.hosts().length === 0) {
      problems.push('needs a path (or a host): for all requests change the settings themselves');
    }
    const useless = values.has('return') ? [...values.keys()].filter((key) => !BESIDE_RETURN.has(key)) : [];
    if (useless.length > 0) problems.push(`${useless.join(', ')} has no effect beside return`);
    if (values.has('type') && !values.has('return')) problems.push('type has no effect without return');
    problems.push(...replacementProblems(path, values.get('replaceWith') as string | undefined));
  }

  private readKey(key: string, value: unknown): void {
    try {
      this.values.set(key, this.valueOf(key, value));
    } catch (error) {
      this.problems.push(`${key} ${(error as Error).message}`);
    }
  }

  private valueOf(key: string, value: unknown): unknown {
    const own = Object.hasOwn(OWN, key) ? OWN[key] : undefined;
    if (own !== undefined) return own(value);
    if (key === 'host') return this.parsers.hosts(Array.isArray(value) ? value : [value]);
    const setting = Object.hasOwn(REPLACEABLE, key) ? REPLACEABLE[key] : undefined;
    if (setting === undefined) throw new Error(`is unknown${didYouMean(key, KEYS)}; known are ${KEYS.join(', ')}`);
    return this.parsers.setting(setting, value);
  }
}

const OWN: Readonly<Record<string, (value: unknown) => unknown>> = {
  path: parsePath,
  replaceWith: parseReplacement,
  return: parseReturn,
  type: parseType,
};

function nameOf(hosts: readonly string[], path: string): string {
  if (hosts.length === 0) return path;
  return hosts.join(',') + (path === EVERY_PATH ? '' : path);
}

/** What has one reading alone: no request with another spelling is ever taken to such a route. */
function plainPath(value: unknown): string {
  const isPlain =
    typeof value === 'string' && /^\/[!-~]*$/.test(value) && !/\/\/|[?#%;\\]|\/\.{1,2}(?:\/|$)/.test(value);
  if (!isPlain) {
    throw new Error('must begin with / and be plain ASCII without //, dot segments, escapes, and any of ? # ; \\');
  }
  return value;
}

function parsePath(value: unknown): string {
  const path = plainPath(value);
  if (!/^[^*]+(?:\*\*?)?$/.test(path))
    throw new Error('may hold a star at its end alone: /admin/* is all below /admin');
  return path.replace(/\*+$/, '*');
}

function parseReplacement(value: unknown): string {
  const path = plainPath(value);
  if (path.includes('*')) throw new Error('must be without a star');
  return path;
}

function replacementProblems(path: string, replacement: string | undefined): string[] {
  if (replacement === undefined) return [];
  if (path === EVERY_PATH) return ['replaceWith needs a path'];
  const isPrefix = path.endsWith('*');
  // `/api*` with `/` would make `//x` of `/api/x`, and `/api/*` with `/v1` would make `/v1x` of `/api/x`.
  if (!isPrefix || path.endsWith('/*') === replacement.endsWith('/')) return [];
  return ['replaceWith must end in / if, and only if, the path ends in /*'];
}

const STATUS_AND_TEXT = /^(\d{3})(?: +(.*))?$/s;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);

/** As in nginx: a status; a status and a text; a redirect and where to. */
function parseReturn(value: unknown): FixedAnswer {
  const [, digits, rest] = STATUS_AND_TEXT.exec(String(value)) ?? [];
  const status = Number(digits);
  if (digits === undefined || !isAnswer(status)) {
    throw new Error('must be a status from 200 to 599, and perhaps a text: 200, 200 ok, 301 https://$host$request_uri');
  }
  const text = /^"(.*)"$/s.exec(rest ?? '')?.[1] ?? rest ?? '';
  if (!REDIRECTS.has(status)) return { status, body: bodyFor(status, text), contentType: PLAIN, location: null };
  return { status, body: '', contentType: PLAIN, location: parseLocation(text) };
}

function isAnswer(status: number): boolean {
  return (status >= 200 && status <= 299) || REDIRECTS.has(status) || (status >= 400 && status <= 599);
}

function bodyFor(status: number, text: string): string {
  if (text !== '' && (status === 204 || status === 205)) throw new Error(`${status} has no text`);
  return text;
}

const PLAIN = 'text/plain; charset=utf-8';

/**
 * A host is written out, or is `$host`; it ends before anything of the caller's begins. A path must not begin with two
 * slashes: browsers read `//evil.example` as another host (and `/\` as `//`).
 */
const LOCATION =
  /^(?:https?:\/\/(?:\$host|[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d{1,5})?(?=\/|\$request_uri|\?|$)|(?=\/(?![/\\])))((?:[!-#%-~]|\$request_uri)*)$/;

function parseLocation(text: string): string {
  if (LOCATION.test(text) && !/^\/\$/.test(text)) return text;
  throw new Error(
    'of a redirect must be followed by https://NAME…, https://$host… or /path…, with $request_uri in it if need be',
  );
}

function parseType(value: unknown): string {
  if (typeof value === 'string' && /^[\w.+-]+\/[\w.+-]+(?: *; *[\w.+-]+=[\w.+-]+)*$/.test(value)) return value;
  throw new Error('must be a content type such as application/json');
}

/** Routes that are for the same requests, with nothing to say which. */
function clashes(routes: readonly WrittenRoute[]): string[] {
  const seen = new Map<string, number>();
  return routes.flatMap(({ hosts, path }, index) =>
    (hosts.length === 0 ? [''] : hosts).flatMap((host) => {
      const earlier = seen.get(host + path);
      seen.set(host + path, index + 1);
      return earlier === undefined ? [] : [`routes ${earlier} and ${index + 1} are both for ${host}${path}`];
    }),
  );
}

/** The settings as they are for the requests of a route. */
export function routeOf(written: WrittenRoute, config: Config): Route {
  const { name, hosts, path, replaceWith, answer, settings } = written;
  const { clientCert, upstream, limits, forwarded } = config;
  const pick = <T extends object>(section: string, from: T): T => {
    const replaced = [...settings].filter(([setting]) => setting.startsWith(`${section}.`));
    return {
      ...from,
      ...Object.fromEntries(replaced.map(([setting, value]) => [setting.slice(section.length + 1), value])),
    };
  };
  const own = pick('clientCert', clientCert);
  return {
    name,
    hosts,
    path,
    replaceWith,
    // Rules about callers have nothing to match where nobody is asked who he is.
    clientCert: own.verify === 'off' && !settings.has('clientCert.allow') ? { ...own, allow: [] } : own,
    upstream: upstreamOf(pick('upstream', upstream), settings, answer),
    limits: pick('limits', limits),
    forwarded: { ...forwarded, headers: { ...forwarded.headers, ...pick('forwarded', forwarded).headers } },
  };
}

function upstreamOf(
  own: Config['upstream'],
  settings: WrittenRoute['settings'],
  answer: FixedAnswer | null,
): Config['upstream'] {
  if (answer !== null) return { ...own, url: `return ${answer.status}`, address: { kind: 'answer', answer } };
  if (!settings.has('upstream.url')) return own;
  // What is said of the one application says nothing of another.
  return {
    ...own,
    address: parseUpstream(own.url),
    unsafeRemote: settings.has('upstream.unsafeRemote') && own.unsafeRemote,
    http2: settings.has('upstream.http2') && own.http2,
    index: settings.has('upstream.index') ? own.index : (SETTINGS.get('upstream.index')?.default as string[]),
  };
}

/** All settings as they are for the requests of a route. */
export function configFor(config: Config, { clientCert, upstream, limits, forwarded }: Route): Config {
  return { ...config, clientCert, upstream, limits, forwarded };
}
