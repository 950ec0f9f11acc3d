import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { makePki } from './support/pki.js';
import { endPrograms, programDirectory, startRun, type RunningProgram } from './support/program.js';

const pki = makePki();
let application: Application;
beforeAll(async () => {
  application = await startApplication();
});
afterEach(endPrograms);
afterAll(() => application.stop());

const OURS = 'if ($ssl_client_s_dn != "CN=im.qq.com,O=Tencent,C=CN") { return 403; }';
const OTHERS = 'if ($ssl_client_s_dn != "CN=somebody else") { return 403; }';

interface Running {
  readonly sidecar: RunningProgram;
  /** Writes a file of conf.d, and resolves with the line that comes of it, if one does. */
  readonly change: (name: string, content: string | null, message: string | null) => Promise<string>;
}

/** nginx.conf, which includes conf.d/*.conf, whose server includes callers.inc. */
async function start(callers: string): Promise<Running> {
  const directory = programDirectory();
  const conf = join(directory, 'conf.d');
  mkdirSync(conf);
  writeFileSync(join(directory, 'nginx.conf'), `events {}\nhttp { include conf.d/*.conf; }`);
  writeFileSync(join(conf, 'callers.inc'), callers);
  writeFileSync(
    join(conf, 'server.conf'),
    `server {
      listen 443 ssl;
      ssl_verify_client on;
      include conf.d/callers.inc;
      location / { proxy_pass ${application.url}; proxy_set_header Host $host; }
    }`,
  );
  const flags = { 'nginx-conf': join(directory, 'nginx.conf'), 'reload.interval': '100ms' };
  const sidecar = await startRun(application.url, flags, pki);
  const lines = (message: string): string[] =>
    sidecar
      .stdout()
      .split('\n')
      .filter((line) => line.includes(message));
  const change: Running['change'] = async (name, content, message) => {
    const before = message === null ? 0 : lines(message).length;
    if (content === null) rmSync(join(conf, name));
    else writeFileSync(join(conf, `${name}~`), content);
    if (content !== null) renameSync(join(conf, `${name}~`), join(conf, name));
    if (message === null) return '';
    await sidecar.said(new RegExp(`(?:${message}[^]*){${before + 1}}`));
    return lines(message).at(-1) ?? '';
  };
  return { sidecar, change };
}

const APPLIED = '"msg":"reloaded"';
const REFUSED = '"msg":"reload refused';

it('a list of callers in an included file is taken over: another, a bad one, and back', async () => {
  const { sidecar, change } = await start(OURS);
  expect((await call(sidecar)).status).toBe(200);
  await change('callers.inc', OTHERS, APPLIED);
  expect((await call(sidecar)).status).toBe(403);
  expect(await change('callers.inc', 'deny all;', REFUSED)).toMatch(/callers\.inc line 1: deny all: not carried/);
  expect((await call(sidecar)).status).toBe(403);
  expect(await change('callers.inc', 'if (', REFUSED)).toContain('callers.inc');
  await change('callers.inc', OURS, APPLIED);
  expect((await call(sidecar)).status).toBe(200);
});

it('a file that a pattern finds only now counts, and so does its going', async () => {
  const { change } = await start(OURS);
  expect(await change('bad.conf', 'server {', REFUSED)).toContain('bad.conf');
  // What has been put right is noticed although nothing of it was in force.
  await change('bad.conf', 'client_max_body_size 7m;', '"settings":"limits"');
  await change('bad.conf', 'client_max_body_size 8k; ssl_protocols TLSv1.3;', APPLIED);
  await change('bad.conf', null, APPLIED);
});

it('a file that only a refused reading included is followed until it is put right', async () => {
  const { change } = await start(OURS);
  await change('new.inc', 'if (', null);
  await change('callers.inc', 'include conf.d/new.inc;', REFUSED);
  await change('new.inc', OTHERS, APPLIED);
  // Gone, and back: a name that is missing is looked for.
  await change('callers.inc', 'include conf.d/other.inc;', REFUSED);
  await change('other.inc', OURS, APPLIED);
});

it('what cannot change while it runs waits for a restart, and that is said', async () => {
  const { change } = await start(OURS);
  expect(await change('limits.conf', 'client_max_body_size 9m;', 'take effect after a restart')).toContain(
    '"settings":"limits"',
  );
});
