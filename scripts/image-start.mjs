/**
 * How the image starts Node, read from the Dockerfile, for whoever starts the program outside of it as it is started there.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from './build.mjs';

const DOCKERFILE = join(ROOT, 'Dockerfile');

/** The options between the program's name and ours. */
export function nodeOptions() {
  const [, entrypoint] = /^ENTRYPOINT (\[.*\])$/m.exec(readFileSync(DOCKERFILE, 'utf8'));
  return JSON.parse(entrypoint).slice(1, -1);
}

/** Debian has one folder for each kind of processor: `/usr/lib/x86_64-linux-gnu`. */
function findLibrary(name) {
  const folders = existsSync('/usr/lib') ? readdirSync('/usr/lib') : [];
  return folders.map((folder) => join('/usr/lib', folder, name)).find(existsSync) ?? null;
}

/**
 * The environment that gives Node the image's allocator, in the version that this machine has; null where it has none
 * (`apt-get install libjemalloc2`).
 */
export function allocator() {
  const text = readFileSync(DOCKERFILE, 'utf8');
  const [, preload] = /\bLD_PRELOAD=(\S+)/.exec(text);
  const [, options] = /\bMALLOC_CONF=(\S+)/.exec(text);
  const library = findLibrary(preload.slice(preload.lastIndexOf('/') + 1));
  return library === null ? null : { LD_PRELOAD: library, MALLOC_CONF: options };
}
