import type { Ledger } from './ledger.js';
import type { Scope } from './scope.js';
import { directoryOf, fullName, type Directive } from './syntax.js';

export interface ImportOptions {
  /** Absolute name of the main file: names of certificates and includes are relative to its directory. */
  readonly file: string;
  /** What `root` is relative to, as nginx's `-p`. */
  readonly prefix: string;
  /** Whether this version takes a setting at all. */
  readonly available: (setting: string) => boolean;
}

/** What every part of the translation works on. */
export interface Work {
  readonly ledger: Ledger;
  /** Location (if there is one), server and http, innermost first. */
  readonly scope: Scope;
  readonly options: ImportOptions;
  readonly http: readonly Directive[];
  readonly server: Directive;
  /** The location whose application becomes ours; null when the server itself serves files. */
  readonly location: Directive | null;
  /** Whether the location becomes a route, beside another that becomes the settings. */
  readonly isRoute?: boolean;
}

/** A file name as nginx resolves it for certificates, keys and lists. */
export function confPath({ options }: Work, name: string): string {
  return fullName(directoryOf(options.file), name);
}

/** The name of a directive in a location: one that speaks gRPC has its own for what is `proxy_…` elsewhere. */
export function nameIn(location: Directive | null, name: string): string {
  return named(location?.block ?? [], 'grpc_pass').length > 0 ? name.replace(/^proxy_/, 'grpc_') : name;
}

/** Where a location leads to by HTTP. */
export function passOf(location: Directive | null): Directive | undefined {
  return named(location?.block ?? [], nameIn(location, 'proxy_pass'))[0];
}

/** The directives of a name in a block. */
export function named(block: readonly Directive[] | null, name: string): Directive[] {
  return (block ?? []).filter((directive) => directive.name === name);
}

/** Calls for a directive and everything in it. */
export function forAll(directive: Directive, visit: (each: Directive) => void): void {
  visit(directive);
  for (const inner of directive.block ?? []) forAll(inner, visit);
}

/** Within `if` as well. */
function everySet(block: readonly Directive[]): Directive[] {
  return block.flatMap((each) => [...(each.name === 'set' ? [each] : []), ...everySet(each.block ?? [])]);
}

/** How many times one `set` may lead to another. */
const LONGEST_CHAIN = 4;

/**
 * Replaces the variables that one `set` of the server or location makes for every request. What is set twice, or within
 * an `if`, has no one value. What remains with a `$` is nginx's own, or cannot be known here.
 */
export function withConstants(text: string, { server, location }: Pick<Work, 'server' | 'location'>): string {
  const own = (server.block ?? []).filter(({ name }) => name !== 'location');
  const block = [...own, ...(location?.block ?? [])];
  const sets = everySet(block);
  const replaced = (from: string): string =>
    from.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, plain?: string) => {
      const [only, ...more] = sets.filter(({ args }) => args[0] === `$${braced ?? plain}`);
      const isConstant = only !== undefined && more.length === 0 && block.includes(only);
      return (isConstant ? only.args[1] : undefined) ?? whole;
    });
  let result = text;
  for (let step = 0; step < LONGEST_CHAIN && result.includes('$'); step += 1) result = replaced(result);
  return result;
}
