import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { build, distIsCurrent } from '../scripts/build.mjs';
import { missingPackages, nodeTooOld, whatIsMissing } from '../scripts/ready.mjs';
import { ROOT } from './support/source-tree.js';

const PACKAGES = {
  'node_modules/a': { version: '1.0.0', integrity: 'sha512-a' },
  'node_modules/b': { version: '2.0.0', integrity: 'sha512-b', dev: true },
  'node_modules/b/node_modules/c': { version: '1.0.0', integrity: 'sha512-c', dev: true },
  'node_modules/other-platform': { version: '1.0.0', integrity: 'sha512-o', optional: true },
};

let checkout: string;
const put = (path: string, text: string): void => {
  mkdirSync(join(checkout, path, '..'), { recursive: true });
  writeFileSync(join(checkout, path), text);
};
const installed = (packages: object): void => {
  put('node_modules/.package-lock.json', JSON.stringify({ packages }));
};

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), 'mtls-sidecar-ready-'));
  put('package.json', JSON.stringify({ type: 'module', engines: { node: '>=20.19' } }));
  put('package-lock.json', JSON.stringify({ packages: { '': { name: 'x' }, ...PACKAGES } }));
  put('src/main.ts', '#!/usr/bin/env node\nexport const answer: number = 42;\n');
  cpSync(join(ROOT, 'tsconfig.json'), join(checkout, 'tsconfig.json'));
});
afterEach(() => {
  rmSync(checkout, { recursive: true, force: true });
});

describe('a checkout installs what is missing, and only then', () => {
  it('wants everything for this platform when nothing is installed', () => {
    expect(missingPackages(checkout, { dev: true })).toEqual(['a', 'b', 'c']);
  });

  it('wants nothing when npm recorded a complete install', () => {
    const { 'node_modules/other-platform': _, ...rest } = PACKAGES;
    installed(rest);
    expect(missingPackages(checkout, { dev: true })).toEqual([]);
  });

  it('wants the development packages only for what needs them', () => {
    installed({ 'node_modules/a': PACKAGES['node_modules/a'] });
    expect(missingPackages(checkout, { dev: false })).toEqual([]);
    expect(missingPackages(checkout, { dev: true })).toEqual(['b', 'c']);
  });

  it('notices a lock file that changed, in version or in content', () => {
    installed({ ...PACKAGES, 'node_modules/a': { version: '0.9.0', integrity: 'sha512-a' } });
    expect(missingPackages(checkout, { dev: true })).toEqual(['a']);
    installed({ ...PACKAGES, 'node_modules/a': { version: '1.0.0', integrity: 'sha512-z' } });
    expect(missingPackages(checkout, { dev: true })).toEqual(['a']);
  });

  it('is content with this checkout', () => {
    expect(missingPackages(ROOT, { dev: true })).toEqual([]);
  });

  it('says which Node it needs', () => {
    expect(nodeTooOld(checkout, '20.18.3')).toMatch(/Node >=20\.19 is needed; this is 20\.18\.3/);
    expect(nodeTooOld(checkout, '18.20.0')).not.toBeNull();
    expect(nodeTooOld(checkout, '20.19.0')).toBeNull();
    expect(nodeTooOld(checkout, '24.0.0')).toBeNull();
  });
});

/** Installs by linking what this checkout has, and notes how often it was asked. */
const NPM = `
import { appendFileSync, mkdirSync, symlinkSync, copyFileSync } from 'node:fs';
appendFileSync('npm-was-called', process.argv.slice(2).join(' ') + '\\n');
mkdirSync('node_modules', { recursive: true });
for (const name of ['typescript', '@types', 'undici-types']) {
  symlinkSync(\`${ROOT}/node_modules/\${name}\`, \`node_modules/\${name}\`);
}
copyFileSync('package-lock.json', 'node_modules/.package-lock.json');
console.log('added 3 packages');
`;

describe('npm run build', () => {
  const runBuild = () =>
    spawnSync(process.execPath, [join(checkout, 'scripts/build.mjs')], {
      encoding: 'utf8',
      env: { ...process.env, npm_execpath: join(checkout, 'npm.js') },
    });

  it('as the first command installs and builds; as the second it only builds', () => {
    cpSync(join(ROOT, 'scripts'), join(checkout, 'scripts'), { recursive: true });
    put('npm.js', NPM);
    expect(runBuild()).toMatchObject({
      status: 0,
      stderr: expect.stringMatching(/^installing .*\nadded 3 packages\n$/),
    });
    expect(distIsCurrent(checkout)).toBe(true);
    expect(runBuild()).toMatchObject({ status: 0, stderr: '' });
    expect(readFileSync(join(checkout, 'npm-was-called'), 'utf8')).toMatch(/^ci --include=dev .*\n$/);
  });

  it('says what npm says when nothing can be installed', () => {
    cpSync(join(ROOT, 'scripts'), join(checkout, 'scripts'), { recursive: true });
    put('npm.js', "console.error('no network'); process.exit(7);\n");
    expect(runBuild()).toMatchObject({ status: 7, stderr: expect.stringContaining('no network') });
  });
});

describe('a checkout builds what is stale, and only then', () => {
  beforeEach(() => {
    mkdirSync(join(checkout, 'node_modules'));
    for (const name of ['typescript', '@types', 'undici-types']) {
      symlinkSync(join(ROOT, 'node_modules', name), join(checkout, 'node_modules', name));
    }
  });

  it('builds an executable once, and again after a change', () => {
    expect(whatIsMissing(checkout, { tests: false }).build).toBe(true);
    expect(build(checkout)).toBe(0);
    expect(distIsCurrent(checkout)).toBe(true);
    expect(statSync(join(checkout, 'dist/main.js')).mode & 0o111).toBe(0o111);
    put('src/main.ts', 'export const answer: number = 43;\n');
    expect(distIsCurrent(checkout)).toBe(false);
  });

  it('leaves no file behind that the source no longer has', () => {
    put('src/old.ts', 'export {};\n');
    expect(build(checkout)).toBe(0);
    rmSync(join(checkout, 'src/old.ts'));
    expect(build(checkout)).toBe(0);
    expect(() => statSync(join(checkout, 'dist/old.js'))).toThrow(/ENOENT/);
  });

  it('keeps the last good build when the source does not compile', () => {
    expect(build(checkout)).toBe(0);
    put('src/main.ts', 'export const answer: number = "no";\n');
    expect(build(checkout, 'ignore')).not.toBe(0);
    expect(readFileSync(join(checkout, 'dist/main.js'), 'utf8')).toContain('42');
    expect(distIsCurrent(checkout)).toBe(false);
  });
});
