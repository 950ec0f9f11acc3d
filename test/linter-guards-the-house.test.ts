import { ESLint } from 'eslint';
import tseslint from 'typescript-eslint';
import { beforeAll, describe, expect, it } from 'vitest';

/** Rules that the house rests on. None of them needs types, and without types a text is linted in milliseconds. */
const HOUSE_RULES = /no-restricted-(imports|syntax|globals)|no-console/;

/** The text is linted as if it were the named file. */
const REFUSED: readonly (readonly [file: string, code: string, why: RegExp])[] = [
  ['errors.ts', `import { x } from './identify/peer-identity.js';`, /level 0/],
  ['identify/peer-identity.ts', `import { x } from '../trust/credentials.js';`, /Level 1 is pure/],
  ['identify/peer-identity.ts', `import { x } from '../rewrite/identity-headers.js';`, /Level 1 is pure/],
  ['identify/peer-identity.ts', `import * as fs from 'node:fs';`, /file system belongs/],
  ['identify/peer-identity.ts', `import { connect } from 'node:net';`, /Pure code imports nothing/],
  ['identify/peer-identity.ts', `import * as net from 'node:net';`, /Pure code imports nothing/],
  ['identify/peer-identity.ts', `import pino from 'pino';`, /pino belongs/],
  ['identify/peer-identity.ts', `export const t = Date.now();`, /no clock/],
  ['identify/peer-identity.ts', `export const t = new Date();`, /no clock/],
  ['identify/peer-identity.ts', `setTimeout(() => 0, 1);`, /values only/],
  ['identify/peer-identity.ts', `export const e = process.env['X'];`, /process\.env belongs|values only/],
  ['trust/credentials.ts', `import { Script } from 'node:vm'; new Script('');`, /An evaluator/],
  ['lifecycle.ts', `import { Script } from 'node:vm'; new Script('1');`, /evaluates no code/],
  ['lifecycle.ts', `import { Script } from 'node:vm'; new Script('', {});`, /evaluates no code/],
  ['lifecycle.ts', `import { Script } from 'node:vm'; const S = Script; new S('1');`, /evaluates no code/],
  ['lifecycle.ts', `import { Script } from 'node:vm'; new (new Proxy(Script, {}))('1');`, /evaluates no code/],
  ['lifecycle.ts', `import { Script } from 'node:vm'; new (new Script('').constructor)('1');`, /evaluates no code/],
  ['lifecycle.ts', `import { Script as S } from 'node:vm'; new S('1');`, /evaluates no code/],
  ['lifecycle.ts', `import { runInThisContext } from 'node:vm'; runInThisContext('1');`, /evaluates no code/],
  ['lifecycle.ts', `import * as vm from 'node:vm'; vm.runInThisContext('1');`, /evaluates no code/],
  ['lifecycle.ts', `export { runInThisContext } from 'node:vm';`, /evaluates no code/],
  ['lifecycle.ts', `export * from 'node:vm';`, /evaluates no code/],
  ['trust/credentials.ts', `import { x } from '../observe/log.js';`, /Level 2 is an edge/],
  ['trust/credentials.ts', `import type { App } from '../app.js';`, /composition root/],
  ['trust/credentials.ts', `export const e = process.env['X'];`, /process\.env belongs/],
  ['trust/credentials.ts', `process.exit(1);`, /process\.exit belongs/],
  ['trust/credentials.ts', `process.exitCode = 1;`, /process\.exit belongs/],
  ['trust/credentials.ts', `process.on('SIGHUP', () => undefined);`, /Signals belong/],
  ['trust/credentials.ts', `process['exit'](1);`, /Write process\.member in full/],
  ['trust/credentials.ts', 'process[`exit`](1);', /Write process\.member in full/],
  ['trust/credentials.ts', `export const p = process;`, /Write process\.member in full/],
  ['trust/credentials.ts', `export const { env } = process;`, /Write process\.member in full/],
  ['trust/credentials.ts', `export const p = { process };`, /Write process\.member in full/],
  ['trust/credentials.ts', `export const e = (process as any).env;`, /Write process\.member in full/],
  ['trust/credentials.ts', `process.getBuiltinModule('node:net');`, /Nobody owns this member/],
  ['trust/credentials.ts', `process?.exit(1);`, /process\.exit belongs/],
  ['trust/credentials.ts', `export const e = globalThis.process.env;`, /behind globalThis/],
  ['trust/credentials.ts', `export const e = global.process.env;`, /behind globalThis/],
  ['trust/credentials.ts', `import { once } from 'node:events'; await once(process, 'SIGUSR2');`, /Signals belong/],
  ['trust/credentials.ts', `import { on as each } from 'node:events'; each(process, 'SIGHUP');`, /Signals belong/],
  ['config/config.ts', `import { once } from 'node:events'; await once(process, 'SIGUSR2');`, /Signals belong/],
  ['trust/credentials.ts', `import tls from 'node:tls'; tls.createServer({});`, /one by one/],
  ['trust/credentials.ts', `import * as http from 'node:http'; http.createServer();`, /one by one/],
  ['listen/listener.ts', `import * as net from 'node:net'; net.connect(1);`, /one by one/],
  ['trust/credentials.ts', `import 'node:http';`, /one by one/],
  ['trust/credentials.ts', `export { createServer } from 'node:http';`, /one by one/],
  ['trust/credentials.ts', `export * from 'node:net';`, /one by one/],
  ['trust/credentials.ts', `import net = require('node:net'); net.connect(1);`, /one by one/],
  ['trust/credentials.ts', `import { default as net } from 'node:net'; net.connect(1);`, /one by one/],
  ['trust/credentials.ts', `import { 'connect' as dial } from 'node:net'; dial(1);`, /one by one/],
  ['trust/credentials.ts', `import { Server } from 'node:https'; new Server();`, /Servers belong/],
  ['trust/credentials.ts', `import { createServer as start } from 'node:tls'; start();`, /Servers belong/],
  ['trust/credentials.ts', `import { type Agent, createServer } from 'node:http'; createServer();`, /Servers belong/],
  ['forward/upstream.ts', `import { createServer } from 'node:http'; createServer();`, /Servers belong/],
  ['forward/tunnel.ts', `import proxy from 'http-proxy'; proxy.createServer({}).listen(1);`, /Servers belong/],
  ['commands/ask-admin.ts', `import { createServer } from 'node:http'; createServer();`, /Servers belong/],
  ['app.ts', `import { createServer } from 'node:http'; createServer();`, /Servers belong/],
  ['trust/credentials.ts', `import { connect as dial } from 'node:net'; dial(1);`, /Outgoing connections belong/],
  [
    'trust/credentials.ts',
    `import { Socket } from 'node:net'; new Socket().connect(1);`,
    /Outgoing connections belong/,
  ],
  ['listen/listener.ts', `import { connect } from 'node:tls'; connect(1);`, /Outgoing connections belong/],
  ['admin/admin-server.ts', `import { get } from 'node:http'; get('http://x');`, /Outgoing connections belong/],
  ['commands/run.ts', `import { request as ask } from 'node:https'; ask('https://x');`, /Outgoing connections belong/],
  ['proxy.ts', `import { request } from 'node:http'; request('http://x');`, /Outgoing connections belong/],
  ['lifecycle.ts', `import { request } from 'node:http'; request('http://x');`, /Outgoing connections belong/],
  ['trust/credentials.ts', `const ask = fetch; await ask('http://x');`, /Outgoing connections belong/],
  ['forward/upstream.ts', `await fetch('http://x');`, /Outgoing connections belong/],
  ['trust/credentials.ts', `new WebSocket('ws://x');`, /Outgoing connections belong/],
  ['trust/credentials.ts', `import { lookup } from 'node:dns/promises'; await lookup('x');`, /Names are looked up/],
  ['listen/listener.ts', `import dns from 'node:dns'; dns.lookup('x', () => 0);`, /Names are looked up/],
  ['respond/relay.ts', `import { constants } from 'node:http2'; void constants;`, /HTTP\/2 is spoken/],
  ['listen/listener.ts', `import { connect } from 'node:http2'; connect('http://x');`, /Outgoing connections belong/],
  ['forward/upstream.ts', `import { createServer } from 'node:http2'; createServer();`, /Servers belong/],
  [
    'forward/upstream.ts',
    `import { createSocket } from 'node:dgram'; createSocket('udp4');`,
    /Nobody owns this module/,
  ],
  ['forward/upstream.ts', `import { Agent } from 'node:_http_agent';`, /Nobody owns this module/],
  ['forward/upstream.ts', `import got from 'got';`, /Nobody owns this module/],
  ['forward/upstream.ts', `import { Pool } from 'undici'; new Pool('http://x');`, /Nobody owns this module/],
  ['trust/credentials.ts', `import { createRequire } from 'node:module';`, /createRequire loads anything/],
  ['main.ts', `import { createRequire } from 'node:module'; createRequire('/')('node:net');`, /has to be seen/],
  ['app.ts', `import { createRequire } from 'node:module'; export const r = createRequire('/');`, /has to be seen/],
  ['main.ts', `await import('node:net');`, /has to be seen/],
  ['main.ts', `await import('send');`, /has to be seen/],
  ['forward/static-files.ts', `await import('./commands/run.js');`, /has to be seen/],
  ['forward/static-files.ts', `const name = 'send'; await import(name);`, /has to be seen/],
  ['forward/upstream.ts', `await import('send');`, /Imports are static/],
  ['main.ts', `const name = './commands/run.js'; await import(name);`, /has to be seen/],
  ['trust/credentials.ts', `import { createServer } from 'node:http'; createServer();`, /Servers belong/],
  ['trust/credentials.ts', `import proxy from 'http-proxy'; proxy.createProxyServer();`, /Forwarding belongs/],
  ['trust/credentials.ts', `await fetch('http://x');`, /Outgoing connections belong/],
  ['trust/credentials.ts', `import { Registry } from 'prom-client';`, /prom-client belongs/],
  ['trust/credentials.ts', `import { exec } from 'node:child_process';`, /Nobody owns/],
  ['trust/credentials.ts', `import fs from 'fs';`, /Write node:/],
  ['trust/credentials.ts', `export const h = 'X-SSL-Client-Verify';`, /Identity header names belong/],
  ['trust/credentials.ts', 'export const h = (x: string) => `ssl-client-cert: ${x}`;', /Identity header names belong/],
  ['trust/credentials.ts', `declare const r: any; r.writeHead(400);`, /A status is written by respond/],
  ['trust/credentials.ts', `export const r = 'HTTP/1.1 400 Bad Request';`, /A status is written by respond/],
  ['listen/admission.ts', 'export const r = `HTTP/1.1 400 Bad Request`;', /A status is written by respond/],
  ['listen/admission.ts', 'export const r = `HTTP/1.1 ${400} Bad`;', /A status line is written by respond/],
  ['listen/admission.ts', 'export const r = `HTTP/1.${1} 400`;', /A status line is written by respond/],
  ['listen/admission.ts', `export const r = 'HTTP/1.1 ' + 400;`, /A status line is written by respond/],
  ['forward/upstream.ts', 'export const r = `HTTP/1.1 ${400} Bad`;', /A status line is written by respond/],
  ['forward/tunnel.ts', `export const r = 'HTTP/1.1 502 Bad Gateway';`, /invented by respond\/refuse/],
  ['respond/relay.ts', `export const r = 'HTTP/1.1 502 Bad Gateway';`, /invented by respond\/refuse/],
  ['trust/credentials.ts', `console.log(1);`, /console/],
  ['trust/credentials.ts', `export const m = await import('node:fs');`, /Imports are static/],
  ['observe/observer.ts', `import fs from 'node:fs';`, /file system belongs/],
  ['observe/observer.ts', `import pino from 'pino';`, /pino belongs to observe\/log/],
];

const ALLOWED: readonly (readonly [file: string, code: string])[] = [
  ['identify/peer-identity.ts', `import { createHash } from 'node:crypto'; export const h = createHash('sha256');`],
  ['identify/peer-identity.ts', `import type { Socket } from 'node:net'; export type S = Socket;`],
  ['identify/peer-identity.ts', `import { isIP } from 'node:net'; export const n = isIP('::1');`],
  ['identify/peer-identity.ts', `export const t = new Date(0);`],
  ['trust/credentials.ts', `import fs from 'node:fs'; export const f = fs.constants.R_OK;`],
  ['trust/credentials.ts', `import type { Observer } from '../observe/observer.js'; export type O = Observer;`],
  ['trust/credentials.ts', `import { ConfigError } from '../errors.js'; export const e = new ConfigError([]);`],
  ['trust/credentials.ts', `process.on('exit', () => undefined);`],
  ['config/config.ts', `export const e = process.env['X'];`],
  ['trust/credentials.ts', `export const v = process.version; process.nextTick(() => 0);`],
  ['trust/credentials.ts', `export const o = { process: 1 };`],
  ['trust/credentials.ts', `import type { Server } from 'node:http'; export type S = Server;`],
  ['trust/credentials.ts', `import type * as net from 'node:net'; export type S = net.Socket;`],
  ['trust/credentials.ts', `import { isIP, type Server } from 'node:net'; export type S = Server; isIP('');`],
  ['trust/credentials.ts', `export type { Socket } from 'node:net';`],
  ['trust/credentials.ts', `import { createSecureContext } from 'node:tls'; createSecureContext();`],
  ['respond/relay.ts', `import { STATUS_CODES } from 'node:http'; export const s = STATUS_CODES[200];`],
  ['listen/listener.ts', `import { createServer, type Socket } from 'node:net'; createServer((s: Socket) => s);`],
  ['listen/tls-socket.ts', `import { TLSSocket } from 'node:tls'; export const T = TLSSocket;`],
  ['admin/admin-server.ts', `import { createServer } from 'node:http'; createServer();`],
  ['forward/upstream.ts', `import { connect } from 'node:net'; connect(1);`],
  ['commands/ask-admin.ts', `import { request } from 'node:http'; request('http://x');`],
  ['commands/check-upstream.ts', `import { connect } from 'node:net'; connect(1);`],
  ['commands/explain-call.ts', `import { lookup } from 'node:dns/promises'; await lookup('x');`],
  ['commands/demo.ts', `import { createServer, request } from 'node:http'; createServer(); request('http://x');`],
  ['lifecycle.ts', `import { once } from 'node:events'; await once(process, 'SIGTERM');`],
  ['main.ts', `process.exit(1);`],
  ['main.ts', `await import('./commands/run.js');`],
  ['forward/static-files.ts', `await import('send');`],
  ['app.ts', `import { createRequire } from 'node:module'; createRequire(import.meta.url)('../package.json');`],
  ['respond/refuse.ts', `export const r = 'HTTP/1.1 400 Bad Request';`],
  ['respond/refuse.ts', 'export const r = (s: number) => `HTTP/1.1 ${s}`;'],
  ['respond/relay.ts', 'export const r = (s: number) => `HTTP/1.1 ${s}`;'],
  ['forward/tunnel.ts', 'export const r = (s: number) => `HTTP/1.1 ${s}`;'],
  ['observe/observer.ts', 'export const r = (path: string) => `GET ${path} HTTP/1.1`;'],
];

describe('the linter refuses what the house forbids, and says why', () => {
  let eslint: ESLint;
  const messagesFor = async (file: string, code: string) => {
    const [result] = await eslint.lintText(`${code}\n`, { filePath: `src/${file}` });
    return (result?.messages ?? [])
      .filter(({ ruleId }) => HOUSE_RULES.test(ruleId ?? ''))
      .map(({ message }) => message);
  };

  beforeAll(async () => {
    eslint = new ESLint({
      overrideConfig: [tseslint.configs.disableTypeChecked],
      ruleFilter: ({ ruleId }) => HOUSE_RULES.test(ruleId),
    });
    await messagesFor('errors.ts', 'export {};');
  }, 60_000);

  it.each(REFUSED)('%s: %s', async (file, code, why) => {
    expect((await messagesFor(file, code)).join('\n')).toMatch(why);
  });

  it.each(ALLOWED)('but not, in %s: %s', async (file, code) => {
    expect(await messagesFor(file, code)).toEqual([]);
  });
});
