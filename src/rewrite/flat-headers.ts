import { foldName } from './fold.js';

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

/** A flat list without the headers of these folded names. */
export function withoutHeaders(headers: readonly string[], names: readonly ReadonlySet<string>[]): readonly string[] {
  if (names.every(({ size }) => size === 0)) return headers;
  const isNamed = (name: string): boolean => names.some((each) => each.has(foldName(name)));
  return headers.filter((_, index) => !isNamed(headers[index - (index % 2)] ?? ''));
}
