import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import fc from 'fast-check';
import { glob } from '../src/config/glob.js';
import { parseConf, type Directive } from '../src/nginx/syntax.js';
import { NginxSyntaxError } from '../src/nginx/tokens.js';
import { sizeOf, sizeSetting, timeOf, timeSetting } from '../src/nginx/units.js';
import { temporaryDirectory } from './support/pki.js';

const dir = temporaryDirectory();
afterAll(() => dir.remove());

function parse(text: string, files: Readonly<Record<string, string>> = {}): Directive[] {
  const all: Readonly<Record<string, string>> = { ...files, '/c/nginx.conf': text };
  return parseConf('/c/nginx.conf', {
    read(path) {
      if (all[path] === undefined) throw new Error(`no ${path}`);
      return all[path];
    },
    list: (pattern) =>
      Object.keys(files)
        .filter((path) => path.startsWith(pattern.split('*')[0] ?? ''))
        .sort(),
  });
}

/** The arguments of the one directive in a text. */
const words = (text: string): readonly string[] => parse(text)[0]?.args ?? [];

describe('words', () => {
  it.each([
    ['a b  c\t\r\nd;', ['b', 'c', 'd']],
    ['a "b c" \'d e\';', ['b c', 'd e']],
    ['a "";', ['']],
    ['a b"c";', ['b"c"']],
    [String.raw`a "\"b\" \' \\ \t\r\n";`, ['"b" \' \\ \t\r\n']],
    [String.raw`a '\.php$ \d \;';`, [String.raw`\.php$ \d \;`]],
    [String.raw`a b\ c\;d\{e;`, [String.raw`b\ c\;d\{e`]],
    ['a b#c #d;\n e;', ['b#c', 'e']],
    ['a # "unbalanced {\n b;', ['b']],
    ['a ${b}c $d}e;', ['${b}c', '$d}e']],
    ['a b}c;', ['b}c']],
    ['a ($b = "c");', ['($b', '=', 'c', ')']],
    ['a "{;}#";', ['{;}#']],
    ['a 中文 "é";', ['中文', 'é']],
  ])('%s', (text, expected) => {
    expect(words(text)).toEqual(expected);
  });
});

describe('directives', () => {
  it('nest, and know where they stand', () => {
    const [events, http] = parse('events{}\nhttp {\n  # comment\n  server { listen\n 443 ssl; }\n}');
    expect(events).toMatchObject({ name: 'events', block: [], line: 1 });
    const [server] = http?.block ?? [];
    expect(server).toMatchObject({ name: 'server', line: 4, file: '/c/nginx.conf' });
    expect(server?.block).toEqual([
      { name: 'listen', args: ['443', 'ssl'], block: null, file: '/c/nginx.conf', line: 4 },
    ]);
  });

  it.each([
    ['a', 'nginx.conf:1: unexpected end of file'],
    ['a "b', 'unexpected end of file'],
    ['a b\\', 'unexpected end of file'],
    ['a {\n b;', 'nginx.conf:2: unexpected end of file, expecting "}"'],
    ['}', 'unexpected "}"'],
    ['a { } }', 'unexpected "}"'],
    ['a { b }', 'unexpected "}"'],
    [';', 'unexpected ";"'],
    ['a;\n{ }', 'nginx.conf:2: unexpected "{"'],
    ['a "b"c;', 'unexpected "c"'],
    ['access_by_lua_block { ngx.exit(403) }', 'holds Lua'],
    ['a {'.repeat(40), 'too deeply'],
  ])('%j is refused', (text, message) => {
    expect(() => parse(text)).toThrow(NginxSyntaxError);
    expect(() => parse(text)).toThrow(message);
  });

  it('never crash the reader in another way', () => {
    const piece = fc.constantFrom(...'ab "\'\\;{}#\n$()\t', '${', '\\"', 'include x;');
    fc.assert(
      fc.property(fc.array(piece, { maxLength: 30 }), (pieces) => {
        try {
          parse(pieces.join(''), { '/c/x': 'y;' });
        } catch (error) {
          expect(error).toBeInstanceOf(NginxSyntaxError);
        }
      }),
    );
  });
});

describe('include', () => {
  it('takes what it names from the directory of the main file, in order', () => {
    const tree = parse('include a.conf; server { include "sub/*.conf"; } include /d/e.conf;', {
      '/c/a.conf': 'one;\ninclude b.conf;',
      '/c/b.conf': 'two;',
      '/c/sub/2.conf': 'four;',
      '/c/sub/1.conf': 'three;',
      '/d/e.conf': '\nfive;',
    });
    expect(tree.map(({ name }) => name)).toEqual(['include', 'one', 'include', 'two', 'server', 'include', 'five']);
    expect(tree[4]?.block?.map(({ name }) => name)).toEqual(['include', 'three', 'four']);
    expect(tree[6]).toMatchObject({ file: '/d/e.conf', line: 2 });
  });

  it('may match nothing by a pattern, but not by a name', () => {
    expect(parse('include conf.d/*.conf;')).toHaveLength(1);
    expect(() => parse('a;\ninclude missing.conf;')).toThrow('/c/nginx.conf:2: include: no /c/missing.conf');
  });

  it('names the file in which something is wrong', () => {
    expect(() => parse('include x;', { '/c/x': '\n\na' })).toThrow('/c/x:3: unexpected end of file');
    expect(() => parse('a { include x; }', { '/c/x': '}' })).toThrow('/c/x:1: unexpected "}"');
  });

  it('does not run in circles', () => {
    expect(() => parse('include nginx.conf;')).toThrow('too deeply');
  });
});

it('patterns match as glob(3) does', () => {
  mkdirSync(join(dir.path, 'sites', 'deep'), { recursive: true });
  for (const name of ['b.conf', 'a.conf', '.hidden.conf', 'a.conf.bak', '[x].conf', 'deep/c.conf']) {
    writeFileSync(join(dir.path, 'sites', name), '');
  }
  const found = (pattern: string) =>
    glob(join(dir.path, pattern)).map((path) => path.slice(dir.path.length + 1).replace('sites/', ''));
  expect(found('sites/*.conf')).toEqual(['[x].conf', 'a.conf', 'b.conf']);
  expect(found('sites/[!b].conf')).toEqual(['a.conf']);
  expect(found('sites/?.conf')).toEqual(['a.conf', 'b.conf']);
  expect(found('s*/d*/*')).toEqual(['deep/c.conf']);
  expect(found('sites/.*')).toEqual(['.hidden.conf']);
  expect(found('missing/*')).toEqual([]);
});

describe('units', () => {
  it.each([
    ['1024', 1024],
    ['8k', 8192],
    ['8K', 8192],
    ['10m', 10 * 1024 ** 2],
    ['1g', 1024 ** 3],
    ['0', 0],
    ['1.5m', null],
    ['m', null],
    ['-1', null],
  ])('size %s', (written, bytes) => {
    expect(sizeOf(written)).toBe(bytes);
  });

  it.each([
    ['60', 60_000],
    ['60s', 60_000],
    ['500ms', 500],
    ['1h30m', 5_400_000],
    ['1h 30m', 5_400_000],
    ['1d', 86_400_000],
    ['1M', 2_592_000_000],
    ['1m', 60_000],
    ['ten', null],
    ['', null],
  ])('time %s', (written, milliseconds) => {
    expect(timeOf(written)).toBe(milliseconds);
  });

  it('are written as settings', () => {
    expect([0, 1000, 8192, 10 * 1024 ** 2, 1024 ** 3].map(sizeSetting)).toEqual([0, 1000, '8KiB', '10MiB', '1GiB']);
    expect([500, 90_000, 300_000, 7_200_000, 1e12].map(timeSetting)).toEqual(['500ms', '90s', '5m', '2h', '576h']);
  });
});
