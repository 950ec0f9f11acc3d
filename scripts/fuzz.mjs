/**
 * Attacks the built sidecar with inputs made up at random, for as long as it is told, and compares what caller,
 * application and log heard. See test/fuzz/README.md.
 *
 *   npm run fuzz -- [requests|answers] --seconds 60 --seed 1
 *   npm run fuzz -- --races 10000
 *   npm run fuzz -- --attack 20
 *
 * The attackers are TypeScript like the tests whose support they share, so they are bundled first.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { isMain, ROOT } from './build.mjs';

/** Beside test/fuzz, so that paths from there lead to the same files. */
const BUNDLE = join(ROOT, 'test', '.fuzz', 'main.mjs');

async function bundle() {
  // Scripts know by their own place where the Dockerfile is.
  const isElsewhere = (id) => (!id.startsWith('.') && !id.startsWith('/')) || id.endsWith('/scripts/image-start.mjs');
  const bundled = await rolldown({
    input: join(ROOT, 'test', 'fuzz', 'main.ts'),
    platform: 'node',
    external: isElsewhere,
  });
  await bundled.write({ file: BUNDLE, format: 'esm' });
  await bundled.close();
}

if (isMain(import.meta.url)) {
  await bundle();
  const { status } = spawnSync(process.execPath, [BUNDLE, ...process.argv.slice(2)], { stdio: 'inherit' });
  process.exitCode = status ?? 1;
}
