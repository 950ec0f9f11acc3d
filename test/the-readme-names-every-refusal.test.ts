import { describe, expect, it } from 'vitest';
import { CONNECTION_REASONS, REQUEST_CODES } from '../src/errors.js';
import { readProjectFile } from './support/source-tree.js';

/** Names in the first column of a table, in order. */
function firstColumn(head: string): string[] {
  const table = readProjectFile('README.md').split(`\n${head}\n`)[1]?.split('\n\n')[0] ?? '';
  return table.split('\n').flatMap((row) => row.split(' | ')[0]?.match(/[a-z_]{3,}/g) ?? []);
}

describe('the README names', () => {
  it('every reason to refuse a connection, once, and no other', () => {
    expect(firstColumn('| Reason | What to look at |').sort()).toEqual([...CONNECTION_REASONS].sort());
  });

  it('every code of a refused request, once, and no other', () => {
    expect(firstColumn('| Code | Status | |').sort()).toEqual([...REQUEST_CODES].sort());
  });
});
