import { ESLint } from 'eslint';
import { beforeAll, describe, expect, it } from 'vitest';

/** Rules that the house rests on; type-aware rules are left out because a linted text changes the files of later ones. */
const HOUSE_RULES = /no-restricted-(imports|syntax|globals)|no-console/;

/** The text is linted as if it were the named file, which has to exist: type-aware rules need it in the project. */
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
  ['trust/credentials.ts', `import { x } from '../observe/log.js';`, /Level 2 is an edge/],
  ['trust/credentials.ts', `import type { App } from '../app.js';`, /composition root/],
  ['trust/credentials.ts', `export const e = process.env['X'];`, /process\.env belongs/],
  ['trust/credentials.ts', `process.exit(1);`, /process\.exit belongs/],
  ['trust/credentials.ts', `process.exitCode = 1;`, /process\.exit belongs/],
  ['trust/credentials.ts', `process.on('SIGHUP', () => undefined);`, /Signals belong/],
  ['trust/credentials.ts', `import tls from 'node:tls'; tls.createServer({});`, /Servers belong/],
  ['trust/credentials.ts', `import { createServer } from 'node:http'; createServer();`, /Servers belong/],
  ['trust/credentials.ts', `import { Pool } from 'undici'; new Pool('http://x');`, /HTTP client belongs/],
  ['trust/credentials.ts', `await fetch('http://x');`, /Outgoing connections belong/],
  ['trust/credentials.ts', `import { Registry } from 'prom-client';`, /prom-client belongs/],
  ['trust/credentials.ts', `import { exec } from 'node:child_process';`, /Nobody owns/],
  ['trust/credentials.ts', `import fs from 'fs';`, /Write node:/],
  ['trust/credentials.ts', `export const h = 'X-SSL-Client-Verify';`, /Identity header names belong/],
  ['trust/credentials.ts', 'export const h = (x: string) => `ssl-client-cert: ${x}`;', /Identity header names belong/],
  ['trust/credentials.ts', `declare const r: any; r.writeHead(400);`, /A status is written by respond/],
  ['trust/credentials.ts', `export const r = 'HTTP/1.1 400 Bad Request';`, /A status is written by respond/],
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
    eslint = new ESLint();
    await messagesFor('errors.ts', 'export {};');
  }, 60_000);

  it.each(REFUSED)('%s: %s', async (file, code, why) => {
    expect((await messagesFor(file, code)).join('\n')).toMatch(why);
  });

  it.each(ALLOWED)('but not, in %s: %s', async (file, code) => {
    expect(await messagesFor(file, code)).toEqual([]);
  });
});
