/** Something that is chosen by name. */
export interface Named<T> {
  /** Lower case; `*.` in front of a name means whatever ends in it. */
  readonly names: readonly string[];
  readonly value: T;
}

/**
 * A table of host names, asked as nginx asks its own: the exact name, then the longest wildcard. Of equal names the
 * first counts.
 * @returns a look-up that gives null for a name that nobody has
 */
export function tableOfNames<T>(all: readonly Named<T>[]): (name: string) => T | null {
  const table = new Map<string, T>();
  for (const { names, value } of all) {
    for (const name of names) if (!table.has(name)) table.set(name, value);
  }
  return (asked) => {
    const name = asked.toLowerCase().replace(/\.$/, '');
    // A star that is asked for is no wildcard.
    const exact = name.startsWith('*') ? undefined : table.get(name);
    if (exact !== undefined) return exact;
    const wildcard = wildcardsOf(name).find((each) => table.has(each));
    return wildcard === undefined ? null : (table.get(wildcard) ?? null);
  };
}

/** Whether a name is one of these, or ends in a wildcard of them. */
export function isOneOf(names: readonly string[]): (name: string) => boolean {
  const find = tableOfNames([{ names, value: true }]);
  return (name) => find(name) !== null;
}

/** What a star stands for must be read as labels of a name by everybody: `evil.example:1.ours.example` is none of ours. */
const LABELS = /^[a-z0-9_-]+(?:\.[a-z0-9_-]+)*$/;

/** The wildcards that a name fits, the longest first. @param name lower case */
export function wildcardsOf(name: string): readonly string[] {
  if (!LABELS.test(name)) return [];
  const labels = name.split('.');
  return labels.slice(1).map((_, index) => `*.${labels.slice(index + 1).join('.')}`);
}

/** Whether every name that fits is one of these. @param name may be a wildcard itself */
export function isWithin(name: string, names: readonly string[]): boolean {
  return names.some((each) => each === name || (each.startsWith('*.') && name.endsWith(each.slice(1))));
}
