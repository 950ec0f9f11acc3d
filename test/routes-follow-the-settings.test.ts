import { writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { explain } from '../src/commands/explain.js';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { echoes, openTunnel, startEcho } from './support/tunnel.js';

const pki = makePki();
let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  return () => application.stop();
});

afterEach(() => sidecar.stop());

const start = async (yaml: string): Promise<void> => {
  sidecar = await startSidecar({ pki, upstream: application.url, yaml });
};

/** Writes other settings and takes them over. */
async function reload(yaml: string): Promise<void> {
  writeFileSync(join(sidecar.directory, 'sidecar.yaml'), yaml);
  expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
}

const OPEN = 'routes: [{path: /a/*, allow: [{commonName: im.qq.com}]}, {path: /open, verify: off}]\n';
const SHUT = 'routes: [{path: /a/*, allow: [{commonName: nobody}]}, {path: /open, verify: off}]\n';

describe('a reload', () => {
  it('judges the next request of an open connection by the new rules of its route', async () => {
    await start(OPEN);
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    expect((await call(sidecar, { path: '/a/x', agent })).status).toBe(200);
    await reload(SHUT);
    expect((await call(sidecar, { path: '/a/x', agent })).status).toBe(403);
    expect((await call(sidecar, { path: '/b', agent })).status).toBe(200);
    await reload(OPEN);
    expect((await call(sidecar, { path: '/a/x', agent })).status).toBe(200);
    agent.destroy();
  });

  it('that shuts the last open door turns strangers away, those inside as well', async () => {
    await start(OPEN);
    const stranger = await openRaw(sidecar, { as: null });
    stranger.socket.write('GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await stranger.receive(/ok$/);
    await reload(OPEN.replace('verify: off', 'verify: required'));
    stranger.socket.write('GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(await stranger.closed()).toMatch(/ok[^]*HTTP\/1\.1 400 [^]*No required SSL certificate/);
    expect((await call(sidecar, { as: null, path: '/open' })).status).toBe(400);
    expect(sidecar.refusals().map(({ reason }) => reason)).toEqual(['no_certificate']);
  });

  it('that opens a door says so', async () => {
    await start(SHUT.replace('verify: off', 'verify: required'));
    expect((await call(sidecar, { as: null, path: '/open' })).status).toBe(400);
    await reload(SHUT);
    expect((await call(sidecar, { as: null, path: '/open' })).status).toBe(200);
    const line = await sidecar.logged(({ msg }) => msg.startsWith('since this reload callers may come in'));
    expect(line).toMatchObject({ route: '/open', verify: 'off' });
  });

  it('leaves what else a route says for a restart, but never its old rules', async () => {
    await start(OPEN);
    await reload(
      'clientCert: {allow: [{commonName: nobody}]}\nroutes: [{path: /open, verify: off}, {path: /c, return: 200}]\n',
    );
    const line = await sidecar.logged(({ msg }) => msg.includes('after a restart'));
    expect(line).toMatchObject({ settings: 'routes' });
    expect((await call(sidecar, { path: '/a/x' })).status).toBe(403);
    expect((await call(sidecar, { path: '/c' })).status).toBe(403);
    expect((await call(sidecar, { as: null, path: '/open' })).status).toBe(200);
  });

  it('never opens a path by what it cannot take over yet', async () => {
    await start(SHUT);
    const statusOf = async (path: string, as?: null) =>
      (await call(sidecar, { path, ...(as === null ? { as } : {}) })).status;
    expect(await statusOf('/a/x')).toBe(403);
    // The same route, for a little more.
    await reload(SHUT.replace('/a/*', '/a*'));
    expect(await statusOf('/a/x')).toBe(403);
    expect(await statusOf('/ab')).toBe(403);
    expect(await statusOf('/b')).toBe(200);
    // Rules that move from the settings to a route.
    await reload('routes: [{path: /b/*, allow: [{commonName: nobody}]}, {path: /c/*, return: 403}]');
    expect(await statusOf('/b/x')).toBe(403);
    expect(await statusOf('/c/x')).toBe(403);
    expect(await statusOf('/a/x')).toBe(200);
    // What would be answered by the route would reach the application before a restart.
    await reload(`${OPEN.slice(0, -2)}, {path: /new, verify: off, return: 200}]`);
    expect(await statusOf('/new', null)).toBe(400);
    expect(await statusOf('/open', null)).toBe(200);
  });

  it('judges every open tunnel, by the route that it was opened under', async () => {
    const echo = await startEcho();
    const routes = (one: string, other: string): string =>
      `routes: [{path: /one, ${one}}, {path: /other, verify: off}, {path: /mine, ${other}}]\n`;
    const mine = (name: string): string => `allow: [{commonName: ${name}}]`;
    sidecar = await startSidecar({ pki, upstream: echo.url, yaml: routes('verify: off', mine('im.qq.com')) });
    const [one, other, own] = [
      await openTunnel(sidecar, '/one', { as: null }),
      await openTunnel(sidecar, '/other', { as: null }),
      await openTunnel(sidecar, '/mine'),
    ];
    await reload(routes('verify: off', mine('im.qq.com')));
    await Promise.all([one, other, own].map(echoes));
    await reload(routes('verify: required', mine('im.qq.com')));
    await one.closed();
    await Promise.all([other, own].map(echoes));
    await reload(routes('verify: required', mine('nobody')));
    await own.closed();
    await echoes(other);
    other.socket.destroy();
    await echo.stop();
  });

  it('of a revocation list reaches connections that came for anything', async () => {
    await start(OPEN);
    const caller = await openRaw(sidecar);
    caller.socket.write('GET /open HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await caller.receive(/ok$/);
    const crl = pki.ca.crl({ revoked: [pki.client.serial] });
    writeFileSync(join(sidecar.directory, 'list.pem'), crl);
    await reload(`clientCert: {crl: list.pem}\n${OPEN}`);
    caller.socket.write('GET /a/x HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(await caller.closed()).toMatch(/HTTP\/1\.1 400 [^]*The SSL certificate error/);
    // Revoked, it is nobody: it may still ask for what everybody may.
    expect((await call(sidecar, { path: '/open' })).status).toBe(200);
    expect((await call(sidecar, { path: '/a/x' })).status).toBe(400);
  });
});

describe('explain', () => {
  async function explained(...argv: string[]) {
    const out: string[] = [];
    const terminal = { out: (line: string) => void out.push(line), err: () => undefined, colour: false };
    const { cert, key, ca, clientCert } = sidecar.paths;
    const files = [
      '--tls.cert',
      cert,
      '--tls.key',
      key,
      '--clientCert.ca',
      ca,
      '--config',
      join(sidecar.directory, 'sidecar.yaml'),
    ];
    const code = await explain({ argv: ['--json', '--client', clientCert, ...argv, ...files], terminal, env: {} });
    return { code, ...(JSON.parse(out.join('\n')) as Record<string, unknown>) } as Record<string, unknown>;
  }

  it('tells which route is taken, its verdict, and what the others say', async () => {
    await start(SHUT);
    expect(await explained()).toMatchObject({ code: 0, route: null, admitted: true });
    const routes = [
      { name: null, refusal: null },
      { name: '/a/*', refusal: 'not_allowed' },
      { name: '/open', refusal: null },
    ];
    const refused = await explained('--path', '/a/x');
    expect(refused).toMatchObject({
      code: 1,
      route: '/a/*',
      stage: 'request',
      reason: 'not_allowed',
      status: 403,
      routes,
    });
    const open = (await explained('--path', '/open')) as unknown as { headers: { name: string; value: string }[] };
    expect(open).toMatchObject({ code: 0, route: '/open', verify: 'NONE' });
    expect(open.headers).toContainEqual({ name: 'X-SSL-Client-Verify', value: 'NONE', hidden: null });
    expect(open.headers.map(({ name }) => name)).not.toContain('X-SSL-Client-S-DN');
    expect(await explained('--path', '/%61/x')).toMatchObject({ code: 1, route: null, reason: 'not_allowed' });
  });
});

describe('the status', () => {
  it('lists the routes', async () => {
    await start(OPEN);
    expect(JSON.parse((await sidecar.admin('/status')).body)).toMatchObject({
      routes: [
        { name: '/a/*', verify: 'required', allowRules: 1, upstream: application.url },
        { name: '/open', verify: 'off', allowRules: 0, upstream: application.url },
      ],
    });
  });
});
