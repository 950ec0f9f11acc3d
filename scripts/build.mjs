/**
 * Compiles src/ to dist/, and installs the compiler first where it is missing. Node's own modules only, so that it can be
 * read and run before anything is installed.
 *
 * The compiler writes next to dist/ and the result is swapped in whole: a file that was deleted from src/ does not
 * live on in dist/, and a process that is running from dist/ never sees half a build.
 */
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const STAMP = '.built-from';

/** The checkout. Not `import.meta.dirname`: an older Node should get as far as the sentence that says it is too old. */
export const ROOT = fileURLToPath(new URL('..', import.meta.url)).replace(/[\\/]$/, '');

/** Whether the module at `url` is the one that Node was started with, also when its path leads through a symbolic link. */
export function isMain(url) {
  return process.argv[1] !== undefined && realpathSync(process.argv[1]) === realpathSync(fileURLToPath(url));
}

/** All files below a folder, sorted, so that the digest does not depend on the file system's order. */
function filesBelow(folder) {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

/**
 * Digest of everything the output depends on. Contents, not modification times: a checkout or an image layer sets
 * times as it likes.
 */
export function sourceDigest(root) {
  const hash = createHash('sha256');
  const inputs = [...filesBelow(join(root, 'src')), join(root, 'tsconfig.json'), join(root, 'package-lock.json')];
  for (const file of inputs) hash.update(file.slice(root.length)).update('\0').update(readFileSync(file)).update('\0');
  return hash.digest('hex');
}

/** Whether dist/ was built from what src/ holds now. */
export function distIsCurrent(root) {
  const stamp = join(root, 'dist', STAMP);
  return existsSync(stamp) && readFileSync(stamp, 'utf8') === sourceDigest(root);
}

function swapIn(fresh, dist) {
  const old = `${fresh}.old`;
  if (existsSync(dist)) renameSync(dist, old);
  renameSync(fresh, dist);
  rmSync(old, { recursive: true, force: true });
}

/**
 * Builds. Returns the compiler's exit code; on failure dist/ stays as it was.
 *
 * @param stdio where the compiler's messages go: 'inherit' (this process's output) or 'ignore'
 */
export function build(root, stdio = 'inherit') {
  // Inside node_modules: ignored by git, and on the same file system as dist/, so that the swap is a rename.
  const scratch = join(root, 'node_modules', '.cache', 'mtls-sidecar');
  const fresh = join(scratch, `dist-${process.pid}`);
  mkdirSync(scratch, { recursive: true });
  const digest = sourceDigest(root);
  const tsc = join(root, 'node_modules', 'typescript', 'bin', 'tsc');
  const { status } = spawnSync(process.execPath, [tsc, '-p', root, '--outDir', fresh], { stdio });
  if (status !== 0) {
    rmSync(fresh, { recursive: true, force: true });
    return status ?? 1;
  }
  chmodSync(join(fresh, 'main.js'), 0o755);
  writeFileSync(join(fresh, STAMP), digest);
  swapIn(fresh, join(root, 'dist'));
  return 0;
}

// No top-level await: ready.mjs imports this module, and each would wait for the other.
if (isMain(import.meta.url)) {
  void import('./ready.mjs').then(({ installAndBuild }) => (process.exitCode = installAndBuild(ROOT)));
}
