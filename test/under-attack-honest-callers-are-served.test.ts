import { afterAll, expect, it } from 'vitest';
import { attack } from './fuzz/attack.js';
import { makePki } from './support/pki.js';
import { endPrograms } from './support/program.js';

afterAll(() => endPrograms());

it.each([false, true])(
  'and nothing is left of it when it is over (HTTP/2: %s)',
  { timeout: 120_000 },
  async (http2) => {
    const { wrong, honest, attacks, idle } = await attack(makePki(), { seconds: 3, idle: 100, http2 });
    expect(wrong).toEqual([]);
    expect(honest).toBeGreaterThanOrEqual(10);
    // Each was begun, and some ended by the sidecar and begun anew.
    expect(Object.entries(attacks).filter(([, times]) => times === 0)).toEqual([]);
    expect(idle).toEqual({ open: 100, kept: 100 });
  },
);
