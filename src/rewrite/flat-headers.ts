/** The pairs of a flat list name, value, name, value … */
export function pairsOf(flat: readonly string[]): [name: string, value: string][] {
  const pairs: [string, string][] = [];
  for (let index = 0; index + 1 < flat.length; index += 2) {
    pairs.push([flat[index] as string, flat[index + 1] as string]);
  }
  return pairs;
}

/** A whole head as it goes over the wire: the first line, the headers of a flat list, the empty line. */
export function headText(line: string, flat: readonly string[]): string {
  return [line, ...pairsOf(flat).map(([name, value]) => `${name}: ${value}`), '', ''].join('\r\n');
}
