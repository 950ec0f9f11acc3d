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
  const expression = new RegExp(`^${toExpression(fold(pattern), options.separators)}$`, 's');
  return (value) => !CONTROL.test(value) && expression.test(fold(value));
}

/**
 * `*` and `**` by separator. In a distinguished name the unit is an RDN attribute, and an escaped comma belongs to its
 * value: `CN=*,O=Tencent` must not match the one attribute `CN=x\,O=Tencent`.
 */
const STARS: Readonly<Record<PatternOptions['separators'], readonly [one: string, several: string]>> = {
  '.': ['[^.]+', '.+'],
  '/': ['[^/]+', '.+'],
  ',': ['(?:\\\\.|[^,+\\\\])+', '(?:\\\\.|[^\\\\])+'],
};

function toExpression(pattern: string, separator: PatternOptions['separators']): string {
  const [one, several] = STARS[separator];
  return pattern
    .split(/(\*+)/)
    .map((part) => {
      if (part === '*') return one;
      return part.startsWith('*') ? several : escapeExpression(part);
    })
    .join('');
}

function escapeExpression(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&');
}
