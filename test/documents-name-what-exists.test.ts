import { existsSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { runCommandLine } from '../src/commands/command-line.js';
import { projectFiles, readProjectFile, ROOT } from './support/source-tree.js';

const FILES = projectFiles();
const TOP = new Set(FILES.map((file) => file.split('/')[0] ?? ''));
const ROOMS = new Set(FILES.filter((file) => /^src\/.+\//.test(file)).map((file) => file.split('/')[1] ?? ''));

/** Code spans, code blocks and link targets: where a document means a name literally. */
function literals(text: string): string {
  const blocks = text.match(/```[\s\S]*?```/g) ?? [];
  const spans = text.replace(/```[\s\S]*?```/g, '').match(/`[^`\n]+`/g) ?? [];
  return [...blocks, ...spans].join('\n');
}

/** Paths from the top of the checkout. */
function pathsIn(text: string): string[] {
  const candidates = literals(text).match(/(?<![\w./:@{$*-])\.?[\w-]+(\/[\w.-]+)+\/?/g) ?? [];
  return candidates.filter((path) => TOP.has(path.split('/')[0] ?? '')).map((path) => path.replace(/[/.]+$/, ''));
}

/** `forward/upstream` or `forward/upstream.ts`, relative to src. */
function roomPathsIn(text: string): string[] {
  const candidates = literals(text).match(/(?<![\w./:@{$*-])[\w-]+\/[\w.-]+/g) ?? [];
  return candidates.filter((path) => ROOMS.has(path.split('/')[0] ?? '') && !TOP.has(path.split('/')[0] ?? ''));
}

function exists(path: string): boolean {
  return ['', '.ts'].some((extension) => existsSync(join(ROOT, path + extension)));
}

function relativeLinksIn(text: string): string[] {
  const targets = [...text.matchAll(/\]\(([^)\s]+)\)/g)].map((match) => match[1] ?? '');
  return targets.filter((target) => !/^([a-z]+:|#|\/)/.test(target)).map((target) => target.replace(/#.*$/, ''));
}

async function isCommand(name: string): Promise<boolean> {
  const terminal = { out: () => undefined, err: () => undefined, colour: false };
  const loaders = {} as Parameters<typeof runCommandLine>[0]['loaders'];
  return (await runCommandLine({ argv: ['help', name], version: '', terminal, loaders })) === 0;
}

describe('documents name only what exists', () => {
  it.each(['README.md', 'ARCHITECTURE.md'])('%s: paths', (document) => {
    // dist/ exists after a build only; documents may name what the build makes.
    const paths = pathsIn(readProjectFile(document)).filter((path) => !path.startsWith('dist/'));
    expect(paths.filter((path) => !exists(path))).toEqual([]);
  });

  it('ARCHITECTURE.md: source files, wherever it names them', () => {
    const text = readProjectFile('ARCHITECTURE.md');
    const named = literals(text).match(/[\w-]+\.(ts|mjs)\b/g) ?? [];
    const known = new Set(FILES.map((file) => basename(file)));
    expect(named.length).toBeGreaterThan(5);
    expect(named.filter((name) => !known.has(name))).toEqual([]);
    expect(roomPathsIn(text).filter((path) => !exists(`src/${path}`))).toEqual([]);
  });

  it('ARCHITECTURE.md: every room of the house', () => {
    const text = readProjectFile('ARCHITECTURE.md');
    expect([...ROOMS].filter((room) => !text.includes(`${room}/`) && !text.includes(`\`${room}\``))).toEqual([]);
  });

  it.each(FILES.filter((file) => file.endsWith('.md')))('%s: links', (document) => {
    const links = relativeLinksIn(readProjectFile(document)).map((link) => join(dirname(document), link));
    expect(links.filter((link) => !existsSync(join(ROOT, link)))).toEqual([]);
  });

  it.each(FILES.filter((file) => file.endsWith('.md')))('%s: npm scripts', (document) => {
    const { scripts } = JSON.parse(readProjectFile('package.json')) as { scripts: Record<string, string> };
    const named = [...readProjectFile(document).matchAll(/\bnpm (?:run )?(start|test|(?<=run )[\w:-]+)/g)];
    expect(named.map((match) => match[1] ?? '').filter((name) => scripts[name] === undefined)).toEqual([]);
  });

  it.each(FILES.filter((file) => /^[^/]+\.md$|^config\//.test(file)))('%s: commands', async (document) => {
    const named = [...literals(readProjectFile(document)).matchAll(/\bmtls-sidecar ([a-z][a-z-]*)/g)];
    const known = await Promise.all(named.map(async ([, name = '']) => [name, await isCommand(name)]));
    expect(known.filter(([, exists]) => exists !== true)).toEqual([]);
  });
});
