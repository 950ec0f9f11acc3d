/** Something that is chosen by name. */
export interface Named<T> {
  /** Lower case; `*.` in front of a name means whatever ends in it. */
  readonly names: readonly string[];
  readonly value: T;
}

/**
 * A table of server names, asked as nginx asks its own: the exact name, then the longest wildcard. Of equal names the
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
    const exact = table.get(name);
    if (exact !== undefined) return exact;
    for (let dot = name.indexOf('.'); dot !== -1; dot = name.indexOf('.', dot + 1)) {
      const found = table.get(`*${name.slice(dot)}`);
      if (found !== undefined) return found;
    }
    return null;
  };
}
