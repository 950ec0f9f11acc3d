/**
 * Makes a checkout ready to run: installs what is missing, builds what is stale, and does nothing otherwise, so that
 * `npm start` and `npm test` work on a fresh clone and start at once the second time.
 *
 *   node scripts/ready.mjs            ready to run
 *   node scripts/ready.mjs --tests    ready to run the tests: development dependencies as well
 *
 * Node's own modules only: it runs before anything is installed.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build, distIsCurrent, isMain, ROOT } from './build.mjs';

const LOCK_WAIT_MS = 600_000;
const LOCK_POLL_MS = 200;

function readJson(file) {
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
}

/**
 * Packages that package-lock.json demands and node_modules lacks or has in another version. npm writes
 * node_modules/.package-lock.json last, after a complete install, so it is the stamp: it also tells the truth after an
 * `npm ci --omit=dev`, an aborted install, or a lock file that changed with a `git pull`.
 */
export function missingPackages(root, { dev }) {
  const wanted = readJson(join(root, 'package-lock.json'))?.packages ?? {};
  const installed = readJson(join(root, 'node_modules', '.package-lock.json'))?.packages ?? {};
  return Object.entries(wanted)
    .filter(([path, entry]) => path !== '' && isDemanded(entry, dev))
    .filter(([path, entry]) => !isInstalled(entry, installed[path]))
    .map(([path]) => path.replace(/^.*node_modules\//, ''));
}

/** Optional packages are the builds for other platforms; npm leaves them out on this one. */
function isDemanded(entry, dev) {
  if (entry.optional || entry.devOptional || entry.peer) return false;
  return dev || !entry.dev;
}

function isInstalled(wanted, installed) {
  return installed !== undefined && installed.version === wanted.version && installed.integrity === wanted.integrity;
}

/** npm as it was started with, so that its version and settings are the same; otherwise whatever is on PATH. */
function runNpm(root, args) {
  const options = { cwd: root, encoding: 'utf8', maxBuffer: 64 * 1024 * 1024 };
  const npm = process.env['npm_execpath'];
  if (npm?.endsWith('.js')) return spawnSync(process.execPath, [npm, ...args], options);
  return spawnSync('npm', args, { ...options, shell: process.platform === 'win32' });
}

/** `--include=dev` because NODE_ENV=production would leave the compiler out. */
function install(root) {
  console.error('installing dependencies (once)…');
  const result = runNpm(root, ['ci', '--include=dev', '--no-audit', '--no-fund']);
  if (result.status === 0) {
    console.error(result.stdout.trim().split('\n').at(-1));
    return 0;
  }
  console.error([result.stdout, result.stderr, result.error?.message].filter(Boolean).join('\n'));
  return result.status ?? 1;
}

function buildOnce(root) {
  console.error('building (once)…');
  return build(root);
}

/** A sentence when this Node is older than package.json allows, else null. */
export function nodeTooOld(root, version = process.versions.node) {
  const { engines } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  const [major = 0, minor = 0] = engines.node.replace('>=', '').split('.').map(Number);
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  if (ownMajor > major || (ownMajor === major && ownMinor >= minor)) return null;
  return `Node ${engines.node} is needed; this is ${version}.`;
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

function holderOf(lock) {
  try {
    return Number(readFileSync(lock, 'utf8'));
  } catch {
    return 0;
  }
}

function tryLock(lock) {
  try {
    writeFileSync(lock, String(process.pid), { flag: 'wx' });
    return true;
  } catch (error) {
    if (error.code !== 'EEXIST') throw error;
    return false;
  }
}

/**
 * Runs one at a time per checkout: two `npm ci` at once delete each other's files. The lock lies outside the tree
 * because `npm ci` empties node_modules. A lock whose process is gone is taken over.
 */
function withLock(root, action) {
  const lock = join(tmpdir(), `mtls-sidecar-ready-${createHash('sha256').update(root).digest('hex').slice(0, 16)}`);
  const deadline = Date.now() + LOCK_WAIT_MS;
  while (!tryLock(lock)) {
    const holder = holderOf(lock);
    if (holder !== 0 && !isAlive(holder)) rmSync(lock, { force: true });
    else if (Date.now() > deadline) throw new Error(`another run has held ${lock} for ten minutes`);
    else Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LOCK_POLL_MS);
  }
  try {
    return action();
  } finally {
    rmSync(lock, { force: true });
  }
}

/** What a checkout lacks. The compiler is a development dependency, so a stale dist/ needs those as well. */
export function whatIsMissing(root, { tests }) {
  const stale = !distIsCurrent(root);
  return { build: stale, install: missingPackages(root, { dev: tests || stale }).length > 0 };
}

/** Returns an exit code. */
export function makeReady(root, options) {
  const first = whatIsMissing(root, options);
  if (!first.build && !first.install) return 0;
  return withLock(root, () => {
    // Asked again: another run may have done the work while this one waited for the lock.
    const missing = whatIsMissing(root, options);
    const installed = missing.install ? install(root) : 0;
    return installed === 0 && missing.build ? buildOnce(root) : installed;
  });
}

/** For `npm run build`: builds in any case. Returns an exit code. */
export function installAndBuild(root) {
  return onGoodNode(root, () =>
    withLock(root, () => {
      const installed = missingPackages(root, { dev: true }).length > 0 ? install(root) : 0;
      return installed === 0 ? build(root) : installed;
    }),
  );
}

function onGoodNode(root, action) {
  const tooOld = nodeTooOld(root);
  if (tooOld === null) return action();
  console.error(tooOld);
  return 1;
}

function main() {
  return onGoodNode(ROOT, () => makeReady(ROOT, { tests: process.argv.includes('--tests') }));
}

if (isMain(import.meta.url)) process.exitCode = main();
