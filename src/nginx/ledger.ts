import type { Directive } from './syntax.js';

/** What became of a directive. */
export type Fate = 'carried' | 'changed' | 'not-needed' | 'not-carried';

/** One line of the report. */
export interface ReportEntry {
  readonly file: string;
  readonly line: number;
  /** As written, on one line, shortened. */
  readonly directive: string;
  readonly fate: Fate;
  /** How it changed, why it is not needed, or what to do. May be empty for what is carried. */
  readonly text: string;
  /** It decides who may reach what, or how traffic is protected, and is not carried. */
  readonly isGuard: boolean;
}

/** A value for one of our settings, and the directive that it comes from. */
export interface CarriedSetting {
  readonly value: unknown;
  readonly file: string;
  readonly line: number;
}

interface Verdict {
  readonly fate: Fate;
  readonly text: string;
  readonly isGuard: boolean;
}

/**
 * Keeps what became of each directive, and the settings that came of them. The first verdict stands, unless a guard is lost
 * in another place that the directive is for: what one location replaces, another inherits.
 */
export class Ledger {
  readonly settings = new Map<string, CarriedSetting>();

  constructor(private readonly verdicts = new Map<Directive, Verdict>()) {}

  /** The same verdicts, and settings of its own. */
  forRoute(): Ledger {
    return new Ledger(this.verdicts);
  }

  has(directive: Directive): boolean {
    return this.verdicts.has(directive);
  }

  carried(directive: Directive, text = ''): void {
    this.note(directive, { fate: 'carried', text, isGuard: false });
  }

  changed(directive: Directive, text: string): void {
    this.note(directive, { fate: 'changed', text, isGuard: false });
  }

  notNeeded(directive: Directive, text: string): void {
    this.note(directive, { fate: 'not-needed', text, isGuard: false });
  }

  /** Nothing that decides about access is lost with it. */
  lost(directive: Directive, text: string): void {
    this.note(directive, { fate: 'not-carried', text, isGuard: false });
  }

  /** Without it somebody may reach more than before. */
  guardLost(directive: Directive, text: string): void {
    this.note(directive, { fate: 'not-carried', text, isGuard: true });
  }

  /** What a block holds shares its fate. */
  follow({ block, line }: Directive, outer: Directive): void {
    const fate = this.verdicts.get(outer)?.fate ?? 'carried';
    for (const inner of block ?? []) {
      this.note(inner, { fate: fate === 'changed' ? 'carried' : fate, text: `see line ${line}`, isGuard: false });
      this.follow(inner, outer);
    }
  }

  set(name: string, value: unknown, { file, line }: Directive): void {
    if (!this.settings.has(name)) this.settings.set(name, { value, file, line });
  }

  /** Undoes what was said of a directive: something that came later makes it impossible. */
  conflict(directive: Directive, text: string): void {
    this.verdicts.delete(directive);
    this.guardLost(directive, text);
  }

  /** Undoes what was said of a directive that guards nothing: something else holds in its place. */
  replaced(directive: Directive, text: string): void {
    this.verdicts.delete(directive);
    this.lost(directive, text);
  }

  /** One entry for each directive, in the order of reading. */
  report(tree: readonly Directive[]): ReportEntry[] {
    return tree.flatMap((directive) => {
      const verdict = this.verdicts.get(directive);
      const { file, line, block } = directive;
      const own = verdict === undefined ? [] : [{ file, line, directive: shown(directive), ...verdict }];
      return [...own, ...this.report(block ?? [])];
    });
  }

  private note(directive: Directive, verdict: Verdict): void {
    const before = this.verdicts.get(directive);
    if (before === undefined || (verdict.isGuard && !before.isGuard)) this.verdicts.set(directive, verdict);
  }
}

const LONGEST_SHOWN = 100;

/** A directive as text on one line. */
export function shown({ name, args }: Directive): string {
  const text = [name, ...args].join(' ').replace(/\s+/g, ' ');
  return text.length > LONGEST_SHOWN ? `${text.slice(0, LONGEST_SHOWN)}…` : text;
}
