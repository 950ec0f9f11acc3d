/**
 * Patterns of allow rules: exact text, or `*` for one label (or path segment) and `**` for one or several.
 * Compiled once at start; no part of a request or certificate ever becomes a pattern.
 */
export type Matcher = (value: string) => boolean;

export interface PatternOptions {
  /** The characters that end a label, as a regular-expression class body: `.` for names, `/` for paths and URIs. */
  readonly separators: '.' | '/' | ',';
  readonly ignoreCase?: boolean;
}

/** No honest name holds one; a `*` must not swallow the NUL or line end of a hostile one. */
const CONTROL = /[\u0000-\u001f\u007f]/;

/** @param pattern as written in the settings. */
export function compilePattern(pattern: string, options: PatternOptions): Matcher {
  const fold = (text: string): string => (options.ignoreCase === true ? text.toLowerCase() : text);
  if (!pattern.includes('*')) {
    const wanted = fold(pattern);
    return (value) => fold(value) === wanted;
  }
  const pieces = toPieces(fold(pattern), options.separators);
  return (value) => !CONTROL.test(value) && matchesPieces(fold(value), pieces);
}

/** What a star swallows, one unit after the other. */
interface Star {
  /** Characters that are no unit of their own. */
  readonly stops: string;
  /** Whether a backslash and the character behind it are one unit. */
  readonly escapes: boolean;
}

type Piece = string | Star;

/**
 * `*` and `**` by separator. In a distinguished name the unit is an RDN attribute, and an escaped comma belongs to its
 * value: `CN=*,O=Tencent` must not match the one attribute `CN=x\,O=Tencent`.
 */
const STARS: Readonly<Record<PatternOptions['separators'], readonly [one: Star, several: Star]>> = {
  '.': [
    { stops: '.', escapes: false },
    { stops: '', escapes: false },
  ],
  '/': [
    { stops: '/', escapes: false },
    { stops: '', escapes: false },
  ],
  ',': [
    { stops: ',+\\', escapes: true },
    { stops: '\\', escapes: true },
  ],
};

function toPieces(pattern: string, separator: PatternOptions['separators']): Piece[] {
  const [one, several] = STARS[separator];
  const parts = pattern.split(/(\*+)/).filter((part) => part !== '');
  return parts.map((part) => {
    if (part === '*') return one;
    return part.startsWith('*') ? several : part;
  });
}

/** Places in a value, marked 1: index 0 is before its first character. */
type Places = Uint8Array;

/**
 * Follows all ways to match at once, piece by piece, so that the time grows with the length of the value and no faster.
 * A regular expression tries them one after the other: with several `**`, one long path would hold up everybody.
 */
function matchesPieces(value: string, pieces: readonly Piece[]): boolean {
  const first = pieces[0];
  if (typeof first === 'string' && !value.startsWith(first)) return false;
  let places: Places = new Uint8Array(value.length + 1);
  places[0] = 1;
  for (const piece of pieces) {
    places = typeof piece === 'string' ? behindText(piece, value, places) : behindStar(piece, value, places);
  }
  return places[value.length] === 1;
}

function behindText(text: string, value: string, places: Places): Places {
  const found = new Uint8Array(places.length);
  for (let place = 0; place < places.length; place += 1) {
    if (places[place] === 1 && value.startsWith(text, place)) found[place + text.length] = 1;
  }
  return found;
}

function behindStar(star: Star, value: string, places: Places): Places {
  const found = new Uint8Array(places.length);
  // Units lead forwards alone, so a place that is reached on the way has its turn later.
  for (let place = 0; place < places.length; place += 1) {
    if (places[place] === 0 && found[place] === 0) continue;
    const next = behindUnit(star, value, place);
    if (next !== null) found[next] = 1;
  }
  return found;
}

/** Null where no unit begins. */
function behindUnit({ stops, escapes }: Star, value: string, place: number): number | null {
  if (place === value.length) return null;
  const character = value.charAt(place);
  if (!stops.includes(character)) return place + 1;
  return escapes && character === '\\' && place + 2 <= value.length ? place + 2 : null;
}
