import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import {
  importsOf,
  memberExpressionsOf,
  projectFiles,
  readProjectFile,
  type ImportLine,
} from './support/source-tree.js';

const SOURCES = projectFiles('src');
const IMPORTS = SOURCES.flatMap(importsOf);
const NODES = new Map(SOURCES.map((file) => [file, nodesOf(file)]));
const MEMBERS = new Map(SOURCES.map((file) => [file, memberExpressionsOf(file)]));
const PURE = ['identify', 'admit', 'rewrite', 'pki', 'nginx'];
const HALLWAY = ['proxy', 'passage'];
const ROOT = ['app', 'management', 'workers', 'lifecycle', 'rehearsal'];
const EDGES = ['listen', 'forward', 'respond', 'trust', 'observe', 'admin', 'config'];

/** `src/trust/credentials.ts` → `trust`; `src/proxy.ts` → `proxy`. */
function roomOf(path: string): string {
  return path.split('/')[1]?.replace(/\.ts$/, '') ?? '';
}

/** Rooms whose values a room may import; null means all. */
function mayImport(room: string): readonly string[] | null {
  if (room === 'errors') return [];
  if (PURE.includes(room)) return ['errors', room];
  if (EDGES.includes(room)) return ['errors', ...PURE, room];
  if (HALLWAY.includes(room)) return ['errors', 'identify', 'admit', 'rewrite', 'forward', 'respond', ...HALLWAY];
  if (ROOT.includes(room)) return null;
  if (room === 'commands')
    return [
      'errors',
      'commands',
      'app',
      'workers',
      'lifecycle',
      'rehearsal',
      'config',
      'trust',
      'observe',
      'identify',
      'pki',
    ];
  if (room === 'main') return ['errors', 'commands', 'config'];
  return [];
}

function show({ from, specifier }: ImportLine): string {
  return `${from} imports ${specifier}`;
}

describe('rooms import only what lies below them', () => {
  it('is a house with known rooms', () => {
    const known = ['errors', ...PURE, ...EDGES, ...HALLWAY, ...ROOT, 'commands', 'main'];
    expect([...new Set(SOURCES.map(roomOf))].filter((room) => !known.includes(room))).toEqual([]);
  });

  it('finds the import lines that it judges', () => {
    expect(IMPORTS.some(({ typeOnly, target }) => typeOnly && target !== null)).toBe(true);
    expect(IMPORTS.some(({ typeOnly, target }) => !typeOnly && target !== null)).toBe(true);
  });

  it('follows the level table', () => {
    const broken = IMPORTS.filter(({ from, target, typeOnly }) => {
      const allowed = mayImport(roomOf(from));
      return target !== null && !typeOnly && allowed !== null && !allowed.includes(roomOf(target));
    });
    expect(broken.map(show)).toEqual([]);
  });

  it('keeps the composition root out of sight of what it composes', () => {
    const top = [...ROOT, 'commands', 'main'];
    const broken = IMPORTS.filter(
      ({ from, target }) => target !== null && top.includes(roomOf(target)) && !top.includes(roomOf(from)),
    );
    expect(broken.map(show)).toEqual([]);
  });

  it('has no circle of values', () => {
    const next = new Map(SOURCES.map((file) => [file, valueImports(file)]));
    expect(SOURCES.filter((file) => reachable(file, next).has(file))).toEqual([]);
  });

  it('imports into pure rooms only modules that are functions of values', () => {
    const harmless = /^(node:crypto|node:buffer|node:net|asn1js|ipaddr\.js)$/;
    const broken = IMPORTS.filter(
      ({ from, specifier, target, typeOnly }) =>
        PURE.includes(roomOf(from)) && target === null && !typeOnly && !harmless.test(specifier),
    );
    expect(broken.map(show)).toEqual([]);
  });
});

function valueImports(file: string): string[] {
  return IMPORTS.filter(({ from, typeOnly }) => from === file && !typeOnly).flatMap(({ target }) => target ?? []);
}

function reachable(start: string, next: ReadonlyMap<string, readonly string[]>): Set<string> {
  const seen = new Set<string>();
  const waiting = [...(next.get(start) ?? [])];
  for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
    if (seen.has(file)) continue;
    seen.add(file);
    waiting.push(...(next.get(file) ?? []));
  }
  return seen;
}

const SERVERS = /^(createServer|Server|TLSSocket|performServerHandshake)$/;
const CLIENTS = /^(request|get|Agent|globalAgent|ClientRequest|connect|createConnection|Socket|Stream)$/;

/** What a file imports as values from Node's network modules, by the exporter's names; `*` for more than single names. */
function networkNames(file: string): string[] {
  return (NODES.get(file) ?? [])
    .filter((node) => ts.isImportDeclaration(node) || ts.isExportDeclaration(node))
    .filter(({ moduleSpecifier }) => /^.node:(http|http2|https|net|tls).$/.test(moduleSpecifier?.getText() ?? ''))
    .flatMap((node) => {
      if (ts.isExportDeclaration(node)) return node.isTypeOnly ? [] : ['*'];
      if (node.importClause?.phaseModifier === ts.SyntaxKind.TypeKeyword) return [];
      const bindings = node.importClause?.namedBindings;
      if (bindings === undefined || !ts.isNamedImports(bindings)) return ['*'];
      const values = bindings.elements.filter(({ isTypeOnly }) => !isTypeOnly);
      return values.map(({ propertyName, name }) => (propertyName ?? name).text);
    });
}

function nodesOf(file: string): ts.Node[] {
  const found: ts.Node[] = [];
  const visit = (node: ts.Node): void => {
    found.push(node);
    ts.forEachChild(node, visit);
  };
  visit(ts.createSourceFile(file, readProjectFile(file), ts.ScriptTarget.Latest, true));
  return found;
}

function isProcessUnderAnotherName(node: ts.Node): boolean {
  return ts.isIdentifier(node) && node.text === 'process' && !ts.isPropertyAccessExpression(node.parent);
}

function beginsStatusLine(node: ts.Node): boolean {
  const text = ts.isStringLiteralLike(node) || ts.isTemplateHead(node) ? node.text : '';
  return /^HTTP\/1\.([01] ?)?$|^HTTP\/1\.[01] [1-5]/.test(text);
}

describe('every power has one owner', () => {
  it.each([
    ['undici', /^$/],
    ['http-proxy', /^src\/forward\//],
    ['send', /^src\/forward\/static-files\.ts$/],
    ['pino', /^src\/observe\/log\.ts$/],
    ['pino-pretty', /^src\/observe\/log\.ts$/],
    ['prom-client', /^src\/observe\/metrics\.ts$/],
    ['convict', /^src\/config\//],
    ['yaml', /^src\/config\//],
    ['node:fs', /^src\/(trust\/|config\/|forward\/static-files\.ts|observe\/output\.ts|commands\/demo\.ts)/],
    ['node:fs/promises', /^src\/(trust\/|config\/|forward\/static-files\.ts|observe\/output\.ts|commands\/demo\.ts)/],
    ['node:http', /^src\/(listen|admin|forward)\/|^src\/(respond\/relay|commands\/demo)\.ts$/],
    ['node:https', /^src\/(listen|forward)\/|^src\/commands\/(explain-call|kubernetes-secret|demo)\.ts$/],
    ['node:dns', /^src\/forward\//],
    ['node:dns/promises', /^src\/(forward\/|commands\/explain-call\.ts$)/],
    ['node:module', /^src\/(main|app)\.ts$/],
    ['node:http2', /^src\/(listen|forward)\//],
    ['node:process', /^$/],
    ['node:vm', /^src\/lifecycle\.ts$/],
    ['node:child_process', /^$/],
    ['node:cluster', /^src\/workers\//],
  ])('%s', (module, owner) => {
    const users = IMPORTS.filter(({ specifier, typeOnly }) => specifier === module && !typeOnly);
    expect(users.filter(({ from }) => !owner.test(from)).map(show)).toEqual([]);
  });

  it.each([
    ['servers', SERVERS, /^src\/((listen|admin)\/|commands\/demo\.ts$)/],
    [
      'clients',
      CLIENTS,
      /^src\/(forward\/|commands\/(ask-admin|explain-call|check-upstream|kubernetes-secret|demo)\.ts$)/,
    ],
    ['whole modules, which hide what is used of them', /^\*$/, /^$/],
  ])('%s', (_, power, owner) => {
    const users = SOURCES.filter((file) => networkNames(file).some((name) => power.test(name)));
    expect(users.filter((file) => !owner.test(file))).toEqual([]);
  });

  it('finds the names that it judges', () => {
    const names = SOURCES.flatMap(networkNames);
    expect(names.some((name) => SERVERS.test(name))).toBe(true);
    expect(names.some((name) => CLIENTS.test(name))).toBe(true);
  });

  it.each([
    ['process.env', /^src\/config\//],
    ['process.exit', /^src\/main\.ts$/],
    ['process.exitCode', /^src\/main\.ts$/],
    ['process.on', /^src\/(lifecycle|observe\/log)\.ts$/],
    ['process.once', /^src\/lifecycle\.ts$/],
    ['process.getBuiltinModule', /^$/],
    ['globalThis.process', /^$/],
  ])('%s', (expression, owner) => {
    const users = SOURCES.filter((file) => MEMBERS.get(file)?.has(expression));
    expect(users.filter((file) => !owner.test(file))).toEqual([]);
  });

  it('process is handed on by lifecycle alone, and never written under another name', () => {
    const users = SOURCES.filter((file) => NODES.get(file)?.some(isProcessUnderAnotherName));
    expect(users).toEqual(['src/lifecycle.ts']);
  });

  it('a status line begins in respond and in the tunnel', () => {
    const users = SOURCES.filter((file) => NODES.get(file)?.some(beginsStatusLine));
    expect(users.sort()).toEqual(['src/forward/tunnel.ts', 'src/respond/refuse.ts', 'src/respond/relay.ts']);
  });

  it('identity header names stand in one file', () => {
    const name = /['"`](x-ssl-client-|ssl-client-|x-client-cert|x-forwarded-client-cert|x-forwarded-tls-client-cert)/i;
    const users = SOURCES.filter((file) => name.test(readProjectFile(file)));
    expect(users.filter((file) => file !== 'src/rewrite/identity-headers.ts')).toEqual([]);
  });
});

it('the built program can be executed as a command', () => {
  expect(readProjectFile('src/main.ts')).toMatch(/^#!\/usr\/bin\/env node\n/);
});
