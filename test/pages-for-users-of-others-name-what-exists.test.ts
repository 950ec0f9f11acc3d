import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { loadConfig } from '../src/config/load.js';
import { SECTIONS, SETTINGS } from '../src/config/schema.js';
import { temporaryDirectory, writePem } from './support/pki.js';
import { readProjectFile } from './support/source-tree.js';

const OTHERS = ['ghostunnel', 'envoy', 'haproxy', 'traefik'] as const;

const spans = (text: string): string[] => [...text.matchAll(/`([^`\n]+)`/g)].map(([, span = '']) => span);

/** Cells of the tables that say what is what. */
function rowsOf(page: string): string[][] {
  return page
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim()));
}

describe.each(OTHERS)('the page for users of %s', (name) => {
  const page = readProjectFile(`docs/coming-from-${name}.md`);
  const rows = rowsOf(page);

  it('names settings that exist, in the middle of each row', () => {
    expect(rows.length).toBeGreaterThan(15);
    for (const [theirs = '', ours = ''] of rows) {
      const named = spans(ours);
      expect({ theirs, named: named.length > 0 || ours === '–' }).toEqual({ theirs, named: true });
      expect(named.filter((setting) => !SETTINGS.has(setting))).toEqual([]);
    }
  });

  it('names settings that exist everywhere else, and that this version has', () => {
    const like = spans(page.replace(/```[\s\S]*?```/g, ''))
      .filter((span) => /^[a-zA-Z]+(\.[a-zA-Z]+)+$/.test(span) && SECTIONS.has(span.split('.')[0] ?? ''))
      .filter((span) => !rows.some(([theirs = '']) => spans(theirs).includes(span)));
    expect(like.filter((setting) => !SETTINGS.has(setting))).toEqual([]);
    expect(like.filter((setting) => SETTINGS.get(setting)?.format === 'unavailable')).toEqual([]);
  });

  it('begins with settings that load', () => {
    const [, yaml = ''] = /```yaml\n([\s\S]*?)```/.exec(page) ?? [];
    expect(Object.keys(parse(yaml) as object)).toContain('clientCert');
    const directory = temporaryDirectory();
    const config = loadConfig({ file: writePem(directory.path, 'a.yaml', yaml), env: {}, flags: {} });
    expect(config.clientCert.verify).toBe('required');
    directory.remove();
  });

  it('is where the README says', () => {
    expect(readProjectFile('README.md')).toContain(`docs/coming-from-${name}.md`);
  });
});
