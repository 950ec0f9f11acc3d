import { afterAll, expect, it } from 'vitest';
import { race } from './fuzz/races.js';
import { makePki } from './support/pki.js';
import { endPrograms } from './support/program.js';

afterAll(() => endPrograms());

it('that may be sent twice, and sends nothing twice that may not', { timeout: 120_000 }, async () => {
  const { wrong, repeated, givenUp } = await race(makePki(), 1_500);
  expect(wrong).toEqual([]);
  // Without a race there is nothing to see here.
  expect(repeated).toBeGreaterThan(0);
  expect(givenUp).toBeGreaterThan(0);
});
