import { readdirSync, readFileSync } from 'node:fs';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startAnswerFuzz, type Answer, type AnswerFuzz } from './fuzz/answers.js';
import type { Conversation } from './fuzz/inputs.js';
import { startRequestFuzz, type RequestFuzz } from './fuzz/requests.js';
import { makePki } from './support/pki.js';
import { endPrograms } from './support/program.js';

/** The same inputs each time; `npm run fuzz` tries others. */
const SEED = 20_261_124;

const FOUND = new URL('./fuzz/found/', import.meta.url);
const found = readdirSync(FOUND).sort();

function read(file: string): unknown {
  return JSON.parse(readFileSync(new URL(file, FOUND), 'utf8'));
}

const pki = makePki();

afterAll(() => endPrograms());

describe('of callers', () => {
  let fuzz: RequestFuzz;

  beforeAll(async () => {
    fuzz = await startRequestFuzz(pki);
    return () => fuzz.stop();
  });

  it.each(found.filter((file) => file.startsWith('requests')))('found before: %s', async (file) => {
    expect(await fuzz.attempt(read(file) as Conversation[])).toEqual([]);
  });

  it('made up', { timeout: 120_000 }, async () => {
    await fc.assert(fuzz.property, { seed: SEED, numRuns: 4, endOnFailure: true });
    expect(fuzz.inputs()).toBeGreaterThan(500);
  });
});

describe('of an application', () => {
  let fuzz: AnswerFuzz;

  beforeAll(async () => {
    fuzz = await startAnswerFuzz(pki);
    return () => fuzz.stop();
  });

  it.each(found.filter((file) => file.startsWith('answers')))('found before: %s', async (file) => {
    expect(await fuzz.attempt(read(file) as Answer[][])).toEqual([]);
  });

  it('made up', { timeout: 120_000 }, async () => {
    await fc.assert(fuzz.property, { seed: SEED, numRuns: 3, endOnFailure: true });
    expect(fuzz.inputs()).toBeGreaterThan(300);
  });
});
