import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { afterAll, it, onTestFinished } from 'vitest';
import { makePki } from './support/pki.js';
import { asArguments, credentialFlags, endPrograms } from './support/program.js';

const MAIN = fileURLToPath(new URL('../dist/main.js', import.meta.url));
/** A whole collection, after which V8 looks every eight seconds whether to do one that saves memory. */
const COLLECT = 'data:text/javascript,globalThis.gc()';
const NODE = ['--expose-gc', '--trace-memory-reducer', `--import=${COLLECT}`];

afterAll(() => endPrograms());

// V8 12 and before see by themselves that nothing happens, but some look back for forty seconds.
const newEnough = Number.parseInt(process.versions.v8, 10) >= 13;

it.runIf(newEnough)('each process that serves is seen to be at rest by V8', { timeout: 90_000 }, async () => {
  const { flags } = credentialFlags(makePki());
  const own = { 'listen.host': '127.0.0.1', 'listen.port': '0', 'admin.port': 'off', workers: '2' };
  const child = spawn(process.execPath, [...NODE, MAIN, 'run', ...asArguments({ ...flags, ...own })], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const atRest = new Set<string>();
  for await (const line of createInterface(child.stdout)) {
    const [, pid] = /^\[(\d+):.*Memory reducer: low alloc/.exec(line) ?? [];
    if (pid !== undefined) atRest.add(pid);
    // The one that looks after them, too.
    if (atRest.size === 3) return;
  }
  throw new Error('the sidecar ended');
});
