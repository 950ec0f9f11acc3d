import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { startApp, type App } from '../src/app.js';
import { check } from '../src/commands/check.js';
import { importCommand } from '../src/commands/import.js';
import { run } from '../src/commands/run.js';
import type { Command } from '../src/commands/command.js';
import { parseArguments } from '../src/config/arguments.js';
import { loadConfig } from '../src/config/load.js';
import { ConfigError, UsageError } from '../src/errors.js';
import { loadCredentials } from '../src/trust/credentials.js';
import { startApplication, valuesOf } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import { mtlsServer } from './support/nginx.js';
import { makePki, temporaryDirectory, writePem } from './support/pki.js';
import type { Sidecar } from './support/sidecar.js';
import { readProjectFile } from './support/source-tree.js';

const dir = temporaryDirectory();
const pki = makePki();
const apps: App[] = [];
afterEach(async () => {
  await Promise.all(apps.splice(0).map((app) => app.close()));
});
afterAll(() => dir.remove());

/** `PREFIX/conf/nginx.conf` with the files that the reference names, and a page. */
function install(name: string, text: string): string {
  const conf = join(dir.path, name, 'conf');
  mkdirSync(conf, { recursive: true });
  mkdirSync(join(dir.path, name, 'html'));
  writeFileSync(join(dir.path, name, 'html', 'index.html'), 'Welcome');
  for (const [file, pem] of [
    ['www.example.com.crt', pki.server.certPem],
    ['www.example.com.key', pki.server.keyPem],
    ['TencentQQAuthCA.crt', pki.ca.certPem],
    ['a.crt', pki.server.certPem],
    ['a.key', pki.server.keyPem],
    ['ca.crt', pki.ca.certPem],
  ] as const) {
    writePem(conf, file, pem);
  }
  const file = join(conf, 'nginx.conf');
  writeFileSync(file, text);
  return file;
}

const PORTS = ['--listen.host', '127.0.0.1', '--listen.port', '0', '--admin.port', 'off'];

/** What `run --nginx-conf FILE` serves. */
async function serve(file: string, ...flags: string[]): Promise<Sidecar> {
  const config = loadConfig({ ...parseArguments(['--nginx-conf', file, ...PORTS, ...flags]), env: {} });
  const app = await startApp(config, loadCredentials(config), { logTo: { write: () => undefined } });
  apps.push(app);
  return { port: app.address.port, pki } as unknown as Sidecar;
}

async function say(command: Command, ...argv: string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = {
    out: (line: string) => void out.push(line),
    err: (line: string) => void err.push(line),
    colour: false,
  };
  const code = await command({ argv, terminal, env: {} });
  return { code, out: out.join('\n'), err: err.join('\n') };
}

describe('the reference of the IM documentation, verbatim', () => {
  const file = install('reference', readProjectFile('test/fixtures/nginx/reference/nginx.conf'));
  const old = (maxVersion: 'TLSv1' | 'TLSv1.1' | 'TLSv1.3', options: CallOptions = {}): CallOptions => ({
    minVersion: 'TLSv1',
    maxVersion,
    ciphers: 'DEFAULT:@SECLEVEL=0',
    ...options,
  });

  it.each(['TLSv1', 'TLSv1.1', 'TLSv1.3'] as const)(
    'serves html/index.html to a caller of at most %s',
    async (version) => {
      const sidecar = await serve(file);
      expect(await call(sidecar, old(version))).toMatchObject({ status: 200, body: 'Welcome' });
    },
  );

  it.each(['TLSv1', 'TLSv1.1'] as const)("refuses the others with nginx's 400, over %s", async (version) => {
    const sidecar = await serve(file);
    const none = await call(sidecar, old(version, { as: null }));
    expect(none.status).toBe(400);
    expect(none.body).toContain('No required SSL certificate was sent');
    const stranger = await call(sidecar, old(version, { as: pki.stranger.client }));
    expect(stranger.body).toContain('The SSL certificate error');
  });

  it('does not know TLS 1.2, as it says, and is told so loudly', async () => {
    const sidecar = await serve(file);
    await expect(call(sidecar, { minVersion: 'TLSv1.2' })).rejects.toThrow();
    const { err, code } = await say(importCommand, file);
    expect(code).toBe(0);
    expect(err).toMatch(
      /nginx.conf:5: ssl_protocols TLSv1 TLSv1.1: carried with a change: UNSAFE: .*add TLSv1.2 TLSv1.3/,
    );
  });
});

describe('an application behind callers of one name', () => {
  const file = install(
    'application',
    mtlsServer(String.raw`if ($ssl_client_s_dn !~ "^CN=im\.qq\.com,") { return 403; }`, {
      locationLines: `
        proxy_set_header X-Caller $ssl_client_s_dn;
        proxy_set_header X-Real-IP $remote_addr;
        proxy_set_header X-Scheme $scheme;
        proxy_set_header X-Env prod;
        proxy_set_header Accept-Encoding "";`,
    }),
  );

  it('gets the headers of the configuration, and nobody else’s under their names', async () => {
    const application = await startApplication();
    const sidecar = await serve(file, '--upstream.url', application.url);
    const headers = {
      'X-Caller': 'CN=admin',
      'X-Real-IP': '6.6.6.6',
      X_Env: 'x',
      'x-env': 'x',
      'Accept-Encoding': 'br',
    };
    expect((await call(sidecar, { headers })).status).toBe(200);
    const { rawHeaders = [] } = application.seen[0] ?? {};
    expect(valuesOf(rawHeaders, 'X-Caller')).toEqual(['CN=im.qq.com,O=Tencent,C=CN']);
    expect(valuesOf(rawHeaders, 'X-Real-IP')).toEqual(['127.0.0.1']);
    expect(valuesOf(rawHeaders, 'X-Scheme')).toEqual(['https']);
    expect(valuesOf(rawHeaders, 'X-Env')).toEqual(['prod']);
    expect(valuesOf(rawHeaders, 'X_Env')).toEqual([]);
    expect(valuesOf(rawHeaders, 'Accept-Encoding')).toEqual([]);
    expect(valuesOf(rawHeaders, 'X-SSL-Client-S-DN')).toEqual([]);
    expect(valuesOf(rawHeaders, 'Host')).toEqual(['localhost']);
    await application.stop();
  });

  it('is not reached by another name under the same CA', async () => {
    const application = await startApplication();
    const sidecar = await serve(file, '--upstream.url', application.url);
    const other = pki.ca.issue({
      subject: [
        ['O', 'CN=im.qq.com,'],
        ['CN', 'im.qq.com.evil'],
      ],
      eku: ['clientAuth'],
    });
    expect((await call(sidecar, { as: other })).status).toBe(403);
    expect(application.seen).toEqual([]);
    await application.stop();
  });
});

describe('several locations', () => {
  const need = 'if ($ssl_client_verify != SUCCESS) { return 403; }';
  const file = install(
    'locations',
    mtlsServer(
      `server_name localhost;
      location = /healthz { return 200 "fine"; }
      location /admin { ${need} if ($ssl_client_i_dn != "CN=nobody") { return 403; } proxy_pass http://127.0.0.1:8080; }
      location /old/ { return 301 https://$host$request_uri; }
      location /pages/ { alias ${join(dir.path, 'pages')}/; }`,
      { locationLines: need },
    ).replace('ssl_verify_client on', 'ssl_verify_client optional'),
  );

  it('ask of each caller what they asked before', async () => {
    mkdirSync(join(dir.path, 'pages'), { recursive: true });
    writeFileSync(join(dir.path, 'pages', 'a.txt'), 'a page');
    const application = await startApplication();
    const sidecar = await serve(file, '--upstream.url', application.url);
    const nobody = { as: null };
    expect(await call(sidecar, { path: '/healthz', ...nobody })).toMatchObject({ status: 200, body: 'fine' });
    expect(await call(sidecar, { path: '/pages/a.txt', ...nobody })).toMatchObject({ status: 200, body: 'a page' });
    expect((await call(sidecar, { path: '/old/x', ...nobody })).headers.location).toBe('https://localhost/old/x');
    for (const path of ['/', '/admin', '/administrator', '/%61dmin', '//healthz', '/pages/../admin']) {
      expect((await call(sidecar, { path, ...nobody })).status).toBe(400);
    }
    expect((await call(sidecar, { path: '/x' })).status).toBe(200);
    for (const path of ['/admin', '/administrator', '/ADMIN', '//admin']) {
      expect((await call(sidecar, { path })).status).toBe(403);
    }
    expect(application.seen.map(({ url }) => url)).toEqual(['/x']);
    await application.stop();
  });
});

describe('a guard that is not carried', () => {
  const file = install('guarded', mtlsServer('', { locationLines: 'allow 10.0.0.0/8;\ndeny all;' }));

  it('stops import, run and check', async () => {
    const imported = await say(importCommand, file);
    expect(imported.code).toBe(1);
    expect(imported.err).toMatch(/nginx.conf:\d+: deny all: NOT CARRIED, GUARDS ACCESS: /);
    expect(imported.err).toMatch(/\(2 of these guard access\)$/);
    await expect(say(run, '--nginx-conf', file)).rejects.toThrow(ConfigError);
    await expect(say(run, '--nginx-conf', file)).rejects.toThrow(/line \d+: deny all: not carried: .*--force/);
    const checked = await say(check, '--nginx-conf', file);
    expect(checked.code).toBe(78);
    expect(checked.out).toMatch(/^error +line \d+ +deny all: not carried, and guards access/m);
  });

  it('does not when forced', async () => {
    expect((await say(importCommand, file, '--force')).code).toBe(0);
    await expect(serve(file)).rejects.toThrow(ConfigError);
    await expect(serve(file, '--force')).resolves.toBeDefined();
  });
});

describe('import', () => {
  it('writes settings that mean the same as the configuration itself', async () => {
    const text = mtlsServer('client_max_body_size 5m; ssl_verify_depth 2;', {
      locationLines: 'proxy_set_header X-CN $ssl_client_s_dn; limit_except POST { deny all; }',
      httpLines: `log_format x escape=json '{"a":"$http_user_agent"}'; access_log a x;`,
    });
    const file = install('same', text);
    const yaml = join(dir.path, 'same.yaml');
    writeFileSync(yaml, (await say(importCommand, file)).out);
    const direct = loadConfig({ nginx: { file, prefix: null, force: false }, env: {} });
    expect({ ...loadConfig({ file: yaml, env: {} }), file: null }).toEqual({ ...direct, file: null });
    expect(direct.clientCert.allow).toEqual([{ methods: ['POST'] }]);
  });

  it('takes --prefix for what root is relative to', async () => {
    const file = install('prefix', readProjectFile('test/fixtures/nginx/reference/nginx.conf'));
    expect((await say(importCommand, file)).out).toContain(`url: file:${join(dir.path, 'prefix', 'html')}\n`);
    expect((await say(importCommand, file, '--prefix', '/srv')).out).toContain('url: file:/srv/html\n');
  });

  it('says where a configuration is wrong, or missing', async () => {
    const file = install('wrong', 'events {\n');
    await expect(say(importCommand, file)).rejects.toThrow(`${file}:2: unexpected end of file`);
    await expect(say(importCommand, join(dir.path, 'none.conf'))).rejects.toThrow(/none.conf: cannot be read/);
    await expect(say(importCommand)).rejects.toThrow(UsageError);
  });

  it('is incomplete where nothing could be served', async () => {
    const file = install('nothing', 'events {} http { server { listen 80; } }');
    const { code, out } = await say(importCommand, file);
    expect(code).toBe(1);
    expect(out).toContain('# INCOMPLETE: there is no server with listen');
    expect(() => loadConfig({ nginx: { file, prefix: null, force: true }, env: {} })).toThrow(/no server with listen/);
  });
});

it('flags win over the configuration, and the sources of settings are named', () => {
  const file = install('flags', mtlsServer('ssl_verify_depth 2;'));
  const read = (...flags: string[]) => loadConfig({ ...parseArguments(['--nginx-conf', file, ...flags]), env: {} });
  expect(read().clientCert.depth).toBe(2);
  expect(read('--clientCert.depth', '3').clientCert.depth).toBe(3);
  expect(() => read('--upstream.url', 'http://elsewhere')).toThrow(/upstream.url \(flag --upstream.url\)/);
  expect(() => parseArguments(['--config', 'a', '--nginx-conf', 'b'])).toThrow(UsageError);
  expect(() => parseArguments(['--prefix', 'a'])).toThrow(/--prefix goes with --nginx-conf/);
});
