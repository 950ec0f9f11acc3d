import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';

/** Where a directive may stand for one request: location, server, http, innermost first. */
export class Scope {
  constructor(
    readonly levels: readonly (readonly Directive[])[],
    private readonly ledger: Ledger,
  ) {}

  /**
   * The directives of a name that are in force: those of the innermost level that has any, as nginx inherits. The
   * others are noted as replaced.
   */
  all(name: string): readonly Directive[] {
    const [inner = [], ...outer] = this.levels
      .map((level) => level.filter((directive) => directive.name === name))
      .filter((found) => found.length > 0);
    const [first] = inner;
    for (const directive of outer.flat()) this.ledger.notNeeded(directive, `line ${first?.line} replaces it`);
    return inner;
  }

  /** The one in force of a directive that nginx takes once a level. */
  one(name: string): Directive | undefined {
    const [first, ...repeated] = this.all(name);
    for (const directive of repeated) this.ledger.lost(directive, `line ${first?.line} says it already`);
    return first;
  }

  /** The first argument of the one in force. */
  value(name: string): string | undefined {
    return this.one(name)?.args[0];
  }
}
