import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { withDebianPackage } from '../scripts/add-to-sbom.mjs';
import { bundle } from '../scripts/bundle.mjs';
import { dockerfile, execForm, imageCommand, instructions } from './support/container-files.js';
import { makePki, temporaryDirectory, writePki } from './support/pki.js';
import { importsOf, projectFiles, readProjectFile, ROOT } from './support/source-tree.js';

const directory = temporaryDirectory();
const app = join(directory.path, 'app');
const main = join(app, 'dist', 'main.js');
const { name, version, license } = JSON.parse(readProjectFile('package.json')) as Record<string, string>;

beforeAll(() => bundle(ROOT, app));
afterAll(() => directory.remove());

function sizeOf(folder: string): number {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true }).filter((entry) => entry.isFile());
  return entries.reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}

/** User and system time of a process so far, as Linux counts it: in hundredths of a second. */
function cpuMilliseconds(pid: number): number {
  const fields = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

interface Locked {
  readonly dev?: boolean;
}

/** Names of the packages that src imports for their values. */
function importedPackages(): string[] {
  const imports = projectFiles('src').flatMap(importsOf);
  const foreign = imports.filter(({ specifier, typeOnly }) => !typeOnly && !/^(\.|node:)/.test(specifier));
  return [...new Set(foreign.map(({ specifier }) => /^(@[^/]+\/)?[^/]+/.exec(specifier)?.[0] ?? ''))];
}

describe('the folder that goes into the image', () => {
  it('is a small part of what may be', () => {
    expect(sizeOf(app)).toBeLessThan(5 * 1024 ** 2);
  });

  it('needs no packages beside it', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, '--version'], { encoding: 'utf8', cwd: '/' });
    expect({ status, stdout, stderr }).toEqual({ status: 0, stdout: `${version}\n`, stderr: '' });
    expect(existsSync(join(app, 'node_modules'))).toBe(false);
  });

  it('shows the main job', () => {
    const { status, stdout, stderr } = spawnSync(process.execPath, [main, 'demo', '--once'], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([0, '']);
    expect(stdout).toContain('< HTTP/1.1 200 OK');
  });

  it.runIf(process.platform === 'linux')('is ready after less than 400 ms of CPU time', async () => {
    const { cert, key, ca } = writePki(directory.path, makePki());
    const flags = [`--tls.cert=${cert}`, `--tls.key=${key}`, `--clientCert.ca=${ca}`];
    const ports = ['--listen.host=127.0.0.1', '--listen.port=0', '--admin.port=0'];
    const child = spawn(process.execPath, [main, 'run', ...flags, ...ports], { env: {} });
    try {
      await once(child.stdout, 'data');
      expect(cpuMilliseconds(child.pid ?? 0)).toBeLessThan(400);
      child.kill('SIGTERM');
      expect(await once(child, 'exit')).toEqual([0, null]);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('writes for people, too', async () => {
    const { cert, key, ca } = writePki(directory.path, makePki());
    const flags = [`--tls.cert=${cert}`, `--tls.key=${key}`, `--clientCert.ca=${ca}`, '--log.pretty'];
    const ports = ['--listen.host=127.0.0.1', '--listen.port=0', '--admin.port=off'];
    const child = spawn(process.execPath, [main, 'run', ...flags, ...ports], { env: {} });
    try {
      const [text] = (await once(child.stdout, 'data')) as [Buffer];
      expect(text.toString()).toMatch(/INFO.*listening/);
    } finally {
      child.kill('SIGKILL');
    }
  });

  it('names the packages that it was made of, with their licences', () => {
    const text = readFileSync(join(app, 'THIRD-PARTY-LICENCES.txt'), 'utf8');
    const named = new Set([...text.matchAll(/^(\S+) \d\S* \([\w.-]+\)$/gm)].map(([, found = '']) => found));
    expect(importedPackages().filter((dependency) => !named.has(dependency))).toEqual([]);
    const { packages } = JSON.parse(readProjectFile('package-lock.json')) as { packages: Record<string, Locked> };
    const production = Object.entries(packages).flatMap(([path, { dev }]) => (dev === true ? [] : [path]));
    const shipped = new Set(production.map((path) => path.replace(/^.*node_modules\//, '')));
    expect([...named].filter((found) => !shipped.has(found))).toEqual([]);
    expect(text).toContain('Permission is hereby granted');
  });
});

describe('the Dockerfile', () => {
  const run = dockerfile().slice(dockerfile().findLastIndex((line) => line.name === 'FROM'));
  const valuesOf = (wanted: string): string[] => run.flatMap((line) => (line.name === wanted ? [line.value] : []));

  it('takes both base images as arguments, with a version each', () => {
    const images = instructions('ARG').filter((value) => value.includes('_IMAGE='));
    expect(images.map((value) => value.split('=')[0])).toEqual(['BUILD_IMAGE', 'RUN_IMAGE']);
    for (const image of images) expect(image).toMatch(/=[\w.]+\/[\w/-]*\w*24[\w/-]*:\w[\w-]+$|:24[\w-]+$/);
    expect(instructions('FROM')).toEqual(['${BUILD_IMAGE} AS build', '${RUN_IMAGE}']);
  });

  it('needs no shell and no root in the image that runs', () => {
    expect(valuesOf('RUN')).toEqual([]);
    expect(valuesOf('USER')).toEqual([expect.stringMatching(/^[1-9]\d+:[1-9]\d+$/)]);
    for (const value of [...valuesOf('ENTRYPOINT'), ...valuesOf('CMD')]) expect(value).toMatch(/^\[/);
    expect(valuesOf('HEALTHCHECK')).toEqual([expect.stringMatching(/ CMD \["node"/)]);
  });

  it('runs, probes and stops as the program understands it', () => {
    const { entrypoint, command } = imageCommand();
    expect([entrypoint.at(0), entrypoint.at(-1)]).toEqual(['node', '/app/dist/main.js']);
    expect(command.slice(0, 2)).toEqual(['run', '--config']);
    const probe = execForm(valuesOf('HEALTHCHECK')[0] ?? '');
    expect(probe.slice(0, 2)).toEqual(['node', '/app/dist/main.js']);
    // The probe reads the settings that the process runs with.
    expect(probe.slice(-2)).toEqual(command.slice(-2));
    expect(valuesOf('STOPSIGNAL')).toEqual(['SIGTERM']);
    expect(valuesOf('EXPOSE')).toEqual(['8443']);
  });

  it('is started outside of the image as in it, by who reads docs/scaling.md', () => {
    const options = imageCommand().entrypoint.slice(1, -1).join(' ');
    const [, allocator = 'none'] = /(MALLOC_CONF=\S+)/.exec(valuesOf('ENV').join(' ')) ?? [];
    const page = readProjectFile('docs/scaling.md');
    expect(page).toMatch(/LD_PRELOAD=\S+\/libjemalloc\.so\.2 /);
    expect(page).toContain(`${allocator} node ${options} dist/main.js`);
  });

  it('says which version it holds', () => {
    expect(valuesOf('ARG')).toContain(`VERSION=${version}`);
    const labels = valuesOf('LABEL').join(' ');
    expect(labels).toContain(`image.title="${name}"`);
    expect(labels).toContain(`image.licenses="${license}"`);
    expect(labels).toContain('image.version="${VERSION}"');
  });

  it.each(['Dockerfile', 'README.md', 'k8s/README.md', 'compose.sidecar.yaml'])(
    'is tagged so by who reads %s',
    (file) => {
      const tags = readProjectFile(file).match(/docker build -t \S+/g);
      expect(new Set(tags)).toEqual(new Set([`docker build -t ${name}:${version}`]));
    },
  );

  it('holds a list of what went into it', () => {
    expect(instructions('RUN').join(' ')).toMatch(/npm sbom .*--omit=dev .*> \/app\/sbom\.cdx\.json/);
    const list = { bomFormat: 'CycloneDX', components: [{ name: 'pino' }] };
    const where = 'arch=amd64&distro=debian-12';
    const { components, ...rest } = withDebianPackage(list, 'libjemalloc2', '5.3.0-1+b1', 'BSD-2-Clause', where);
    expect(rest).toEqual({ bomFormat: 'CycloneDX' });
    expect(components.map((component: { name: string }) => component.name)).toEqual(['pino', 'libjemalloc2']);
    expect(components[1]).toMatchObject({
      purl: 'pkg:deb/debian/libjemalloc2@5.3.0-1%2Bb1?arch=amd64&distro=debian-12',
      version: '5.3.0-1+b1',
    });
  });

  it('preloads the allocator that it brings along', () => {
    const [, preloaded = 'none'] = /LD_PRELOAD=\/app\/(\S+)/.exec(valuesOf('ENV').join(' ')) ?? [];
    const [folder = '', file = ''] = preloaded.split('/');
    expect(instructions('RUN').join(' ')).toContain(`cp /usr/lib/*/${file} /app/${folder}/`);
  });

  it('is sent only what it copies, and all of that', () => {
    const sent = readProjectFile('.dockerignore')
      .split('\n')
      .filter((line) => line.startsWith('!'));
    const copied = instructions('COPY').filter((value) => !value.startsWith('--from'));
    const sources = copied.flatMap((value) => value.split(' ').slice(0, -1));
    expect(sent.map((line) => line.slice(1)).sort()).toEqual([...new Set(sources)].sort());
    expect(readProjectFile('.dockerignore')).toMatch(/^\*$/m);
    for (const source of sources) expect(existsSync(join(ROOT, source)), source).toBe(true);
  });
});
