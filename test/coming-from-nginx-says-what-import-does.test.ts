import { describe, expect, it } from 'vitest';
import { SETTINGS } from '../src/config/schema.js';
import { imported, mtlsServer } from './support/nginx.js';
import { readProjectFile } from './support/source-tree.js';

const PAGE = readProjectFile('docs/coming-from-nginx.md');
const [BY_DIRECTIVE = '', BY_BEHAVIOUR = ''] = PAGE.split('## Behaviour by behaviour');

interface Row {
  readonly example: string;
  readonly here: string;
}

const spans = (text: string): string[] => [...text.matchAll(/`([^`]+)`/g)].map(([, span = '']) => span);

/** One for each example in the first column of the tables. */
const ROWS: readonly Row[] = BY_DIRECTIVE.split('\n')
  .filter((line) => line.startsWith('| `'))
  .flatMap((line) => {
    const [, first = '', here = ''] = line.replaceAll('\\|', '\u0000').split('|');
    return spans(first).map((example) => ({ example: example.replaceAll('\u0000', '|'), here: here.trim() }));
  });

/** What this version has. */
const available = [...SETTINGS].filter(([, { format }]) => format !== 'unavailable').map(([name]) => name);

/** The example in the place of the server that it would have. */
function tried(example: string) {
  const line = /[;}]$/.test(example) ? example : `${example};`;
  const name = example.split(' ')[0] ?? '';
  const whole = mtlsServer();
  if (name === 'proxy_set_header') return imported(whole.replace('proxy_set_header Host $host;', line), { available });
  // What the server around it says already is replaced.
  const own = new RegExp(`^\\s*${name} .*;$`, 'm');
  return imported(own.test(whole) ? whole.replace(own, line) : mtlsServer(line), { available });
}

describe('the tables say what import does', () => {
  it.each(ROWS)('$example: $here', ({ example, here }) => {
    const result = tried(example);
    // The report shows words without their quotes.
    const start = example.split('"')[0]?.split(' {')[0] ?? '';
    const entry = result.entry(start.trimEnd());
    expect(entry, 'an entry').toBeDefined();
    expect(result.guards().length > 0, 'stops').toBe(here === '**stops**');
    if (here === 'not carried') expect(entry?.fate).toBe('not-carried');
    if (here === 'not needed') expect(entry?.fate).toBe('not-needed');
    if (here === 'changed') expect(entry?.fate).toBe('changed');
    for (const setting of spans(here)) expect(result.settings).toHaveProperty([setting]);
  });

  it('have rows', () => {
    expect(ROWS.length).toBeGreaterThan(60);
  });
});

it('every setting that the page names exists', () => {
  const sections = new Set([...SETTINGS.keys()].map((name) => name.split('.')[0]));
  const named = spans(PAGE.replace(/```[\s\S]*?```/g, ''))
    .map((span) => span.split(':')[0] ?? '')
    .filter((span) => /^[a-zA-Z]+(\.[a-zA-Z]+)+$/.test(span) && sections.has(span.split('.')[0]));
  expect(named.length).toBeGreaterThan(40);
  expect(named.filter((name) => !SETTINGS.has(name))).toEqual([]);
});

it('what the page says is not there yet is not there', () => {
  const waiting = [...BY_DIRECTIVE.matchAll(/until `([\w.]+)` is available/g)].map(([, name = '']) => name);
  expect(waiting.filter((name) => SETTINGS.get(name)?.format !== 'unavailable')).toEqual([]);
  expect(BY_BEHAVIOUR).toContain('mtls-sidecar');
});
