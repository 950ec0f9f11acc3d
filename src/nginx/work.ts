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
}

/** A file name as nginx resolves it for certificates, keys and lists. */
export function confPath({ options }: Work, name: string): string {
  return fullName(directoryOf(options.file), name);
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

/**
 * Replaces the variables that `set` gives one constant value in the server or location. What remains with a `$` cannot
 * be known here.
 */
export function withConstants(text: string, { scope }: Pick<Work, 'scope'>): string {
  if (!text.includes('$')) return text;
  const sets = scope.levels.flatMap((level) => named(level, 'set'));
  return text.replace(/\$(?:\{(\w+)\}|(\w+))/g, (whole, braced?: string, plain?: string) => {
    const found = sets.filter(({ args }) => args[0] === `$${braced ?? plain}`);
    const [only] = found;
    const value = only?.args[1];
    return found.length === 1 && value !== undefined && !value.includes('$') ? value : whole;
  });
}
