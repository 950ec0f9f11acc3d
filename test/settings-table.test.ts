import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { describeSettings, withSettingsTable } from '../src/config/describe.js';

const readme = readFileSync(new URL('../README.md', import.meta.url), 'utf8');

describe("the README's table of settings", () => {
  it('is the one that the schema gives (node scripts/settings-table.mjs, after a build, renews it)', () => {
    expect(readme).toBe(withSettingsTable(readme));
  });

  it('has one row for each setting, none without a meaning', () => {
    const rows = describeSettings();
    for (const { name, meaning, allowed } of rows) {
      expect(readme).toContain(`| \`${name}\` |`);
      expect(meaning.length * allowed.length, name).toBeGreaterThan(0);
    }
    expect(new Set(rows.map(({ environment }) => environment)).size).toBe(rows.length);
  });
});
