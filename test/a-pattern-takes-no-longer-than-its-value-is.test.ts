import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { compilePattern, type PatternOptions } from '../src/admit/pattern.js';

type Separator = PatternOptions['separators'];

/** What the stars mean, as a regular expression says it: exact, but with a running time of any size. */
const MEANING: Readonly<Record<Separator, readonly [one: string, several: string]>> = {
  '.': ['[^.]+', '.+'],
  '/': ['[^/]+', '.+'],
  ',': ['(?:\\\\.|[^,+\\\\])+', '(?:\\\\.|[^\\\\])+'],
};

function meaningOf(pattern: string, { separators, ignoreCase }: PatternOptions): RegExp {
  const [one, several] = MEANING[separators];
  const source = pattern.replace(/\*+|[\\^$.+?()[\]{}|/-]/g, (part) => {
    if (part === '*') return one;
    return part.startsWith('*') ? several : `\\${part}`;
  });
  return new RegExp(`^${source}$`, ignoreCase === true ? 'si' : 's');
}

const SEPARATORS: readonly Separator[] = ['.', '/', ','];
const options = fc.record({ separators: fc.constantFrom(...SEPARATORS), ignoreCase: fc.boolean() });
/** Few letters, so that much matches; everything that means something to a separator or to a regular expression. */
const letter = fc.constantFrom('a', 'a', 'b', 'A', '.', '/', ',', '+', '\\', '=', '(', '$', '-');
const value = fc.array(letter, { maxLength: 9 }).map((letters) => letters.join(''));
const star = fc.constantFrom('*', '**', '***');
const pattern = fc.array(fc.oneof(letter, star), { maxLength: 9 }).map((parts) => parts.join(''));

/** A pattern that begins as a value, some pieces of which became stars: random pairs hardly ever match. */
const related = fc
  .array(fc.tuple(fc.array(letter, { maxLength: 3 }), fc.option(star)), { maxLength: 5 })
  .map((parts) => ({
    written: parts.map(([letters, stars]) => stars ?? letters.join('')).join(''),
    tried: parts.flatMap(([letters]) => letters).join(''),
  }));

const RUNS = { numRuns: 5_000 };

describe('a pattern with stars means what its regular expression means', () => {
  it('to any value', () => {
    const agrees = fc.property(pattern, value, options, (written, tried, how) => {
      expect(compilePattern(written, how)(tried)).toBe(meaningOf(written, how).test(tried));
    });
    fc.assert(agrees, RUNS);
  });

  it('to a value made for it', () => {
    const seen = new Set<boolean>();
    const agrees = fc.property(related, options, ({ written, tried }, how) => {
      const expected = meaningOf(written, how).test(tried);
      seen.add(expected);
      expect(compilePattern(written, how)(tried)).toBe(expected);
    });
    fc.assert(agrees, RUNS);
    expect(seen.size).toBe(2);
  });

  it.each([
    [',', 'CN=*,O=Tencent', 'CN=x\\,y,O=Tencent', true],
    [',', 'CN=*,O=Tencent', 'CN=x\\,O=Tencent', false],
    [',', 'CN=**,O=Tencent', 'CN=x\\,O=Tencent', false],
    [',', 'CN=**,O=Tencent', 'CN=x,OU=y,O=Tencent', true],
    [',', 'CN=*,O=Tencent', 'CN=x+OU=y,O=Tencent', false],
    [',', 'CN=*', 'CN=x\\', false],
    ['/', '/a/*/c', '/a//c', false],
    ['/', '/**/c', '/a/b/c', true],
    ['/', '/**', '/', false],
    ['.', '**.b', 'a.b\n.b', false],
  ] as const)('%s %s %s: %s', (separators, written, tried, expected) => {
    expect(compilePattern(written, { separators })(tried)).toBe(expected);
  });
});

/** CPU time, since other tests share the cores. */
function milliseconds(action: () => void): number {
  const before = process.cpuUsage();
  action();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / 1000;
}

/** A request target is at most this long. */
const LENGTH = 8192;
const filled = (unit: string, end: string): string => unit.repeat(Math.floor(LENGTH / unit.length)) + end;

describe('the longest value is soon refused', () => {
  it.each([
    ['/', '/**/v1/**/cb/**/x', `/a${filled('/v1/cb', '/')}`],
    ['/', '/**/a/**/a/**/a/**/a/**/a/**/x', filled('/a', '')],
    ['/', '/**/**/**/**/**/**/x', filled('/a', '')],
    ['/', '/*/**/*/**/*/**/*/x', filled('/a', '')],
    ['.', '**.a.**.a.**.a.**.x', filled('.a', '')],
    [',', '**,O=a,**,O=a,**,O=a,**,O=x', filled('O=a,', '')],
    [',', 'CN=**,CN=**,CN=**,CN=**,O=x', filled('CN=\\,,', '')],
    ['.', '*a*a*a*a*a*x', filled('a', '')],
  ] as const)('%s %s', (separators, written, tried) => {
    const matches = compilePattern(written, { separators });
    let admitted = true;
    // A few milliseconds at most where the ways are followed together; seconds to ages where one after the other.
    expect(milliseconds(() => (admitted = matches(tried)))).toBeLessThan(300);
    expect(admitted).toBe(false);
  });
});
