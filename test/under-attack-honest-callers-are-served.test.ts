import { afterAll, expect, it } from 'vitest';
import { attack } from './fuzz/attack.js';
import { makePki } from './support/pki.js';
import { endPrograms } from './support/program.js';

const MIB = 1_048_576;

afterAll(() => endPrograms());

it('and nothing is left of the attack when it is over', { timeout: 120_000 }, async () => {
  const result = await attack(makePki(), 3, 100);
  expect(result.failed).toEqual([]);
  expect(result.honest).toBeGreaterThanOrEqual(10);
  // Each was begun, and some ended by the sidecar and begun anew.
  expect(Object.entries(result.attacks).filter(([, times]) => times === 0)).toEqual([]);
  expect(result.leftOpen).toBe(0);
  expect(result.after - result.before).toBeLessThan(20 * MIB);
});
