import { mkdirSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import fc from 'fast-check';
import { allocator, nodeOptions } from '../../scripts/image-start.mjs';
import { makePki } from '../support/pki.js';
import { endPrograms } from '../support/program.js';
import { startAnswerFuzz } from './answers.js';
import { attack } from './attack.js';
import { race } from './races.js';
import { startRequestFuzz } from './requests.js';
import { TIME_OUT } from './subject.js';

const FOUND = fileURLToPath(new URL('../fuzz/found/', import.meta.url));

/** Runs of one seed; a failure is repeated and made smaller from there. */
const RUNS = 20;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '60' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    races: { type: 'string' },
    attack: { type: 'string' },
    http2: { type: 'boolean', default: false },
  },
});

async function fuzzFor(kind: string, seconds: number, firstSeed: number): Promise<boolean> {
  const start = kind === 'answers' ? startAnswerFuzz : startRequestFuzz;
  const fuzz = await start(makePki());
  const started = performance.now();
  let reported = started;
  const report = async (): Promise<void> => {
    const elapsed = (performance.now() - started) / 1000;
    const { rss: memory } = await fuzz.subject.held();
    const rate = Math.round(fuzz.inputs() / elapsed);
    console.log(
      `${kind}: ${fuzz.inputs()} inputs in ${Math.round(elapsed)} s, ${rate} a second, sidecar holds ${memory} MiB`,
    );
  };
  for (let seed = firstSeed; performance.now() - started < seconds * 1000; seed += 1) {
    // What hangs is slow to make smaller.
    const details = await fc.check(fuzz.property as fc.IAsyncProperty<[unknown]>, {
      seed,
      numRuns: kind === 'answers' ? 5 : RUNS,
      interruptAfterTimeLimit: 100_000,
      markInterruptAsFailure: true,
    });
    if (details.failed) {
      save(kind, seed, details);
      await fuzz.stop();
      return false;
    }
    if (performance.now() - reported < 10_000) continue;
    reported = performance.now();
    await report();
  }
  await report();
  await fuzz.stop();
  return true;
}

function save(kind: string, seed: number, details: fc.RunDetails<[unknown]>): void {
  const { counterexample, errorInstance, interrupted } = details;
  if (interrupted)
    console.log(`${kind}, seed ${seed}: ${TIME_OUT} of all its runs, what failed may be larger than need be`);
  // Stopped before anything had failed.
  if (counterexample === null) return;
  mkdirSync(FOUND, { recursive: true });
  const [found] = counterexample;
  writeFileSync(`${FOUND}${kind}-${seed}.json`, `${JSON.stringify(found, null, 2)}\n`);
  console.log(`${kind}, seed ${seed}: ${String(errorInstance)}\n${JSON.stringify(found, null, 1)}`);
}

async function raceFor(requests: number): Promise<boolean> {
  const { wrong, repeated, givenUp } = await race(makePki(), requests);
  console.log(`races: ${requests} requests, ${repeated} sent again, ${givenUp} answered 502 since they must not be`);
  for (const sentence of wrong) console.log(sentence);
  return wrong.length === 0;
}

/** Seconds. V8 looks whether it is at rest every eight, and before version 13 looks back for forty. */
const GIVES_BACK_IN = 60;

async function attackFor(seconds: number): Promise<boolean> {
  const env = allocator();
  // For other processors Debian builds it for pages of 64 KiB, of which fewer become free.
  const givesBack = env !== null && process.arch === 'x64';
  if (!givesBack) console.log('notice: no libjemalloc.so.2 for amd64 here; memory is compared with the round before');
  const node = { options: nodeOptions(), env: env ?? {} };
  const memory = givesBack ? { givesBackIn: GIVES_BACK_IN } : {};
  const result = await attack(makePki(), { seconds, idle: 5_000, http2: values.http2, node, ...memory });
  console.log(JSON.stringify(result, null, 2));
  return result.wrong.length === 0;
}

async function chosen(): Promise<boolean> {
  if (values.races !== undefined) return raceFor(Number(values.races));
  if (values.attack !== undefined) return attackFor(Number(values.attack));
  return fuzzFor(positionals[0] ?? 'requests', Number(values.seconds), Number(values.seed));
}

const good = await chosen();
endPrograms();
process.exit(good ? 0 : 1);
