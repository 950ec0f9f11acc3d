/**
 * Puts what an image needs into one folder: the program with its packages in a few files, a package.json, and the
 * licences of those packages.
 *
 *   node scripts/bundle.mjs FOLDER    after a build
 *
 * Why a bundle, measured with Node 24: a process is ready after 150 ms of CPU time instead of 300, for Node reads three
 * files instead of 330; and the image's layer is 3 MB instead of 17, for packages ship much that is never run. The code
 * is not minified: a stack trace in a log should name our functions.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { rolldown } from 'rolldown';
import { isMain, ROOT } from './build.mjs';

const PACKAGE = /^(.*[\\/]node_modules[\\/](?:@[^\\/]+[\\/])?[^\\/]+)[\\/]/;
const LICENCE = /^(licen[cs]e|copying|notice)(\.|-|$)/i;

/** Folders of the packages whose modules went into the bundle. */
function packagesOf(output) {
  const modules = output.flatMap((chunk) => Object.keys(chunk.modules ?? {}));
  const folders = modules.map((module) => PACKAGE.exec(module)?.[1]).filter((folder) => folder !== undefined);
  return [...new Set(folders)].sort();
}

function licenceOf(folder) {
  const { name, version, license } = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  const files = readdirSync(folder).filter((file) => LICENCE.test(file));
  const texts = files.map((file) => readFileSync(join(folder, file), 'utf8').trim());
  return [`${name} ${version} (${license})`, ...texts].join('\n\n');
}

/** What is left of package.json: the program reads its version there, and Node how to read its files. */
function shortPackageJson(root) {
  const { name, version, license, type } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  return `${JSON.stringify({ name, version, license, type }, null, 2)}\n`;
}

/**
 * Packages that only development has. Some of ours try to load one of them and do without; what is bundled is what an
 * install without them would run.
 */
function developmentPackages(root) {
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const named = (dev) =>
    Object.entries(packages)
      .filter(([path, entry]) => path !== '' && Boolean(entry.dev) === dev)
      .map(([path]) => path.replace(/^.*node_modules\//, ''));
  const production = new Set(named(false));
  return named(true).filter((name) => !production.has(name));
}

/** Bundles dist/ of a checkout. The files keep their distance to package.json. */
export async function bundle(root, folder) {
  const input = join(root, 'dist', 'main.js');
  if (!existsSync(input)) throw new Error('there is no dist/main.js: run npm run build first');
  const bundled = await rolldown({ input, platform: 'node', external: developmentPackages(root) });
  mkdirSync(folder, { recursive: true });
  const { output } = await bundled.write({ dir: join(folder, 'dist'), format: 'esm' });
  await bundled.close();
  writeFileSync(join(folder, 'package.json'), shortPackageJson(root));
  const licences = packagesOf(output).map(licenceOf);
  writeFileSync(join(folder, 'THIRD-PARTY-LICENCES.txt'), `${licences.join(`\n\n${'-'.repeat(80)}\n\n`)}\n`);
}

if (isMain(import.meta.url)) {
  const folder = process.argv[2];
  if (folder === undefined) throw new Error('usage: node scripts/bundle.mjs FOLDER');
  await bundle(ROOT, folder);
}
