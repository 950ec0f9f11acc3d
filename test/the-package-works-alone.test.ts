import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, symlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { temporaryDirectory } from './support/pki.js';
import { projectFiles, readProjectFile, ROOT } from './support/source-tree.js';

interface Packed {
  readonly filename: string;
  readonly size: number;
  readonly files: readonly { readonly path: string; readonly mode: number }[];
}

const directory = temporaryDirectory();
const modules = join(directory.path, 'node_modules');
const home = join(modules, 'mtls-sidecar');
const { bin, version } = JSON.parse(readProjectFile('package.json')) as {
  bin: Record<string, string>;
  version: string;
};
let packed: Packed;

beforeAll(() => {
  packed = pack();
  for (const { path } of packed.files) copy(join(ROOT, path), join(home, path));
  for (const path of productionPackages()) link(join(ROOT, path), join(directory.path, path));
});
afterAll(() => directory.remove());

/** What `npm publish` would send. */
function pack(): Packed {
  const { stdout, stderr } = spawnSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    cwd: ROOT,
    encoding: 'utf8',
    shell: process.platform === 'win32',
  });
  const [result] = JSON.parse(stdout) as Packed[];
  if (result === undefined) throw new Error(stderr);
  return result;
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  cpSync(from, to);
}

function link(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  symlinkSync(from, to, 'dir');
}

/** Packages that an install brings along. One inside another comes with that. */
function productionPackages(): string[] {
  const { packages } = JSON.parse(readProjectFile('package-lock.json')) as { packages: Record<string, { dev?: true }> };
  return Object.entries(packages)
    .filter(([path, { dev }]) => dev === undefined && /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path))
    .map(([path]) => path);
}

/** The command as an install puts it on the path; links count as places, so that only these packages are found. */
function command(...argv: string[]) {
  const main = join(home, bin['mtls-sidecar'] ?? '');
  const flags = ['--preserve-symlinks', '--preserve-symlinks-main'];
  return spawnSync(process.execPath, [...flags, main, ...argv], { encoding: 'utf8', cwd: directory.path, env: {} });
}

describe('the package', () => {
  it('holds the program, its example settings and what one has to read, and nothing else', () => {
    const paths = packed.files.map(({ path }) => path);
    const others = paths.filter((path) => !path.startsWith('dist/'));
    expect(others.sort()).toEqual(
      ['CHANGELOG.md', 'LICENSE', 'README.md', ...projectFiles('config'), 'package.json'].sort(),
    );
    const compiled = projectFiles('src').map((path) => path.replace(/^src\/(.*)\.ts$/, 'dist/$1.js'));
    const programs = paths.filter((path) => path.startsWith('dist/') && path !== 'dist/.built-from');
    expect(programs.sort()).toEqual(compiled.sort());
  });

  it('is small', () => {
    expect(packed.size).toBeLessThan(400 * 1024);
    expect(packed.filename).toBe(`mtls-sidecar-${version}.tgz`);
  });

  it('has a command that can be executed', () => {
    const main = packed.files.find(({ path }) => path === bin['mtls-sidecar']);
    expect((main?.mode ?? 0) & 0o111).toBe(0o111);
  });

  it('shows the main job when it is installed alone', () => {
    const { status, stdout, stderr } = command('demo', '--once');
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain('  < HTTP/1.1 200 OK');
    expect(stdout).toContain('400 No required SSL certificate was sent');
  });

  it('knows its version, and every command is there', () => {
    expect(command('--version').stdout).toBe(`${version}\n`);
    // Settings are missing, so these say so; a module that is missing would be an internal error.
    for (const name of ['run', 'check', 'probe', 'drain']) expect(command(name).status, name).toBe(78);
  });
});
