import type { ReportEntry } from '../config/nginx-conf.js';
import type { Terminal } from './command.js';
import { note, problem, warning, type Finding } from './findings.js';
import { printable } from './printable.js';

const FATES: Readonly<Record<ReportEntry['fate'], string>> = {
  carried: 'carried',
  changed: 'carried with a change',
  'not-needed': 'not needed',
  'not-carried': 'not carried',
};

/** One line of the report. */
export function reportLine({ file, line, directive, fate, text, isGuard }: ReportEntry): string {
  const verdict = isGuard ? 'NOT CARRIED, GUARDS ACCESS' : FATES[fate];
  return printable(`${file}:${line}: ${directive}: ${verdict}${text === '' ? '' : `: ${text}`}`);
}

/** How many directives met which fate. */
export function summary(report: readonly ReportEntry[]): string {
  const counts = Object.entries(FATES).map(([fate, words]) => {
    return `${report.filter((entry) => entry.fate === fate).length} ${words}`;
  });
  const guards = report.filter(({ isGuard }) => isGuard).length;
  return `${counts.join(', ')}${guards === 0 ? '' : ` (${guards} of these guard access)`}`;
}

/** What is not as it was with nginx, for `check`. */
export function differences(report: readonly ReportEntry[]): Finding[] {
  return report.flatMap(({ line, directive, fate, text, isGuard }) => {
    if (isGuard) return [problem(`line ${line}`, `${directive}: not carried, and guards access: ${text}`)];
    if (fate === 'changed') return [note(`line ${line}`, `${directive}: ${text}`)];
    return fate === 'not-carried' ? [warning(`line ${line}`, `${directive}: not carried: ${text}`)] : [];
  });
}

/** Tells whoever starts it what is not as it was with nginx. */
export function tellDifferences(report: readonly ReportEntry[], { err }: Terminal): void {
  for (const entry of report.filter(({ fate }) => fate === 'changed' || fate === 'not-carried')) err(reportLine(entry));
  err(summary(report));
}
