import { isAmbiguousPath, pathOf } from './authorize.js';
import { wildcardsOf } from './host-names.js';
import { hostName } from './screen.js';

/** What requests a route is for. */
export interface RoutePattern {
  /** Lower case; `*.` in front of a name means whatever ends in it. Empty means every host. */
  readonly hosts: readonly string[];
  /** Exact, or the beginning of a path and a star. */
  readonly path: string;
}

/** Which route a request takes. Routes are counted from 1, as in the settings; 0 is what the settings say themselves. */
export interface Choice {
  readonly route: number;
  /** The routes that all have to let it in: more than one where the application may read the path as another. */
  readonly held: readonly number[];
}

export type Choose = (host: string, target: string) => Choice;

/** The routes of the settings in force. They say who may ask; where requests go does not change while a process runs. */
export interface Routing {
  readonly choose: Choose;
  /** The number of a route by its name, which is null for the settings themselves; theirs where it is gone. */
  numberOf(name: string | null): number;
}

export function compileRouting(routes: readonly (RoutePattern & { readonly name: string })[]): Routing {
  const numbers = new Map(routes.map(({ name }, index) => [name, index + 1]));
  return { choose: compileRoutes(routes), numberOf: (name) => numbers.get(name ?? '') ?? 0 };
}

/** A choice that one more route has to let in. */
export function heldBy(choice: Choice, route: number): Choice {
  return choice.held.includes(route) ? choice : { route: choice.route, held: [...choice.held, route] };
}

/** The path of every request. */
export const EVERY_PATH = '/*';

/**
 * Makes the function that chooses. As in nginx: first the host, then an exact path, then the longest that it begins with.
 * A route for all hosts still has to let in what it is for when a host has a route of its own that says less of the path.
 *
 * The application may read a path in another way than it is written, and so end up where a stricter route would have
 * stood: `/%61dmin`, `/ADMIN/`, `//admin`. So what is written decides where a request goes, but every route that another
 * reading leads to has to let it in as well. A path that can be anything (see `isAmbiguousPath`) goes the default's way,
 * and only if every route would let it in.
 */
export function compileRoutes(patterns: readonly RoutePattern[]): Choose {
  if (patterns.length === 0) return () => DEFAULT;
  const single = [0, ...patterns.map((_, index) => index + 1)].map((route): Choice => ({ route, held: [route] }));
  const all = single.map(({ route }) => route);
  const asWritten = new Places(patterns, SAME);
  const asFolded = new Places(patterns, { exact: foldings, prefix: (text) => text.toLowerCase() });
  const hasHosts = patterns.some(({ hosts }) => hosts.length > 0);
  return (host, target) => {
    const name = hostName(host);
    const path = pathOf(target);
    const names = hasHosts ? [name, ...wildcardsOf(name)] : NOBODY;
    if (isAmbiguousPath(path) || (hasHosts && !PLAIN_HOST.test(name))) {
      return { route: asWritten.everyPath(names), held: all };
    }
    const written = asWritten.find(names, path);
    const [route = 0] = written;
    const read = readings(path);
    const others = read.flatMap((each) => [
      ...asWritten.find(names, each),
      ...asFolded.find(names, each.toLowerCase()),
    ]);
    const held = [...new Set([...written, ...others])];
    return held.length === 1 ? (single[route] ?? DEFAULT) : { route, held };
  };
}

const DEFAULT: Choice = { route: 0, held: [0] };
const NOBODY: readonly string[] = [];

/** An application may read anything else as a name that has a route of its own. */
const PLAIN_HOST = /^(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])$/;

/**
 * What careless applications make of a path, besides folding case (IIS, Express): escapes decoded, compatibility forms
 * replaced, without dots and spaces at the ends of names (Windows), without a slash at the end (Express, Django).
 */
const CARELESS: readonly ((path: string) => string)[] = [
  (path) => (path.includes('%') ? decodeURIComponent(path) : path),
  (path) => path.normalize('NFKC'),
  (path) => path.replace(/[. ]+(?=\/|$)/g, ''),
  (path) => (path.length > 1 && path.endsWith('/') ? path.slice(0, -1) : path),
];

/** Every way to read a path. One application does this, another that: what all of it together leads to may be the laxer. */
function readings(path: string): readonly string[] {
  if (!/%|[. ](?:\/|$)|\/$/.test(path)) return [path];
  let all = [path];
  for (const change of CARELESS) all = [...new Set([...all, ...all.map(change)])];
  return all;
}

function foldings(path: string): readonly string[] {
  return readings(path.toLowerCase());
}

/** How the paths of routes are spelled in a reading. */
interface Spelling {
  readonly exact: (path: string) => readonly string[];
  readonly prefix: (text: string) => string;
}

const SAME: Spelling = { exact: (path) => [path], prefix: (text) => text };
const DEFAULT_ALONE: readonly number[] = [0];

/** All routes, in one reading. */
class Places {
  private readonly everywhere: Place;
  private readonly byHost = new Map<string, Place>();

  constructor(patterns: readonly RoutePattern[], spelling: Spelling) {
    this.everywhere = new Place(spelling);
    patterns.forEach(({ hosts, path }, index) => {
      if (hosts.length === 0) this.everywhere.add(index + 1, path);
      for (const host of hosts) {
        const place = this.byHost.get(host) ?? new Place(spelling);
        this.byHost.set(host, place);
        place.add(index + 1, path);
      }
    });
  }

  /**
   * The route that a request takes, and any others that are for it as well: one for all hosts that says more of the path, or
   * one whose path differs and reads the same.
   * @param names the host, then the wildcards that it fits; the first with a route for the path counts
   */
  find(names: readonly string[], path: string): readonly number[] {
    const own = this.first(names, (place) => place.find(path));
    const other = this.everywhere.find(path);
    if (own === null) return other?.routes ?? DEFAULT_ALONE;
    return other === null || other.length <= own.length ? own.routes : [...own.routes, ...other.routes];
  }

  /** Where requests of a host go that no path leads elsewhere. */
  everyPath(names: readonly string[]): number {
    return this.first(names, (place) => place.everyPath) ?? 0;
  }

  private first<T>(names: readonly string[], of: (place: Place) => T | null): T | null {
    for (const name of names) {
      const place = this.byHost.get(name);
      const found = place === undefined ? null : of(place);
      if (found !== null) return found;
    }
    return null;
  }
}

interface Prefix {
  readonly text: string;
  readonly routes: number[];
}

/** The routes that a path leads to, and how much of it they say; an exact path says more than the longest beginning. */
interface Match {
  readonly routes: readonly number[];
  readonly length: number;
}

/** The routes of one host. */
class Place {
  private readonly exact = new Map<string, number[]>();
  /** The longest first. */
  private readonly prefixes: Prefix[] = [];
  everyPath: number | null = null;

  constructor(private readonly spelling: Spelling) {}

  add(route: number, pattern: string): void {
    if (pattern === EVERY_PATH) this.everyPath = route;
    else if (pattern.endsWith('*')) this.addPrefix(route, this.spelling.prefix(pattern.slice(0, -1)));
    else
      for (const path of this.spelling.exact(pattern)) this.exact.set(path, [...(this.exact.get(path) ?? []), route]);
  }

  private addPrefix(route: number, text: string): void {
    const twin = this.prefixes.find((prefix) => prefix.text === text);
    if (twin !== undefined) twin.routes.push(route);
    else this.prefixes.push({ text, routes: [route] });
    this.prefixes.sort((a, b) => b.text.length - a.text.length);
  }

  find(path: string): Match | null {
    const exact = this.exact.get(path);
    if (exact !== undefined) return { routes: exact, length: Infinity };
    const whole = this.prefixes.find(({ text }) => text === path);
    // `/a*` says all of `/a`; `/a/*` has it as well, where nobody says more.
    const longest = whole ?? this.prefixes.find(({ text }) => beginsWith(path, text));
    if (longest !== undefined) return { routes: longest.routes, length: longest.text.length };
    return this.everyPath === null ? null : { routes: [this.everyPath], length: 0 };
  }
}

/** `/admin/*` is for `/admin` as well: nginx, too, takes it for the same place (and sends it a redirect). */
function beginsWith(path: string, text: string): boolean {
  return path.startsWith(text) || (text.endsWith('/') && path.length === text.length - 1 && text.startsWith(path));
}
