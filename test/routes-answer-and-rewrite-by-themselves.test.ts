import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, sendRaw } from './support/caller.js';
import { makePki, temporaryDirectory } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const directory = temporaryDirectory();
let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  mkdirSync(join(directory.path, 'sub'));
  writeFileSync(join(directory.path, 'a.txt'), 'a file');
  writeFileSync(join(directory.path, 'sub', 'index.html'), 'an index');
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    yaml: `
listen: {serverNames: [localhost, b.example, c.example]}
forwarded: {headers: {X-Real-IP: remoteAddress}}
routes:
  - {path: /ready, return: '200 {"ok":true}', type: application/json}
  - {path: /empty, return: 204}
  - {path: /gone/*, return: 410 gone away}
  - {path: /old/*, return: 301 "https://$host$request_uri"}
  - {path: /elsewhere, return: 302 https://other.example/x}
  - {path: /here, return: 307 /there?x=1}
  - {host: b.example, headers: {X-Site: "text:b", X-Real-IP: none}}
  - {host: [b.example, c.example], path: /ready, return: 200 other}
  - {path: /api/*, replaceWith: /v1/}
  - {path: /one, replaceWith: /two}
  - {path: /v*, replaceWith: /w}
  - {path: /files/*, upstream: "file:${directory.path}", replaceWith: /}
`,
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
  directory.remove();
});

const at = (host: string) => ({ headers: { host }, servername: host, checkServerIdentity: () => undefined });

describe('fixed answers', () => {
  it('have status, text and type', async () => {
    const ready = await call(sidecar, { path: '/ready' });
    expect(ready).toMatchObject({ status: 200, body: '{"ok":true}', headers: { 'content-type': 'application/json' } });
    expect(ready.headers['x-request-id']).toBeTruthy();
    expect(await call(sidecar, { path: '/empty' })).toMatchObject({ status: 204, body: '' });
    expect(await call(sidecar, { path: '/gone/x' })).toMatchObject({ status: 410, body: 'gone away' });
    expect(application.seen.length).toBe(0);
  });

  it('leave a record like any other', async () => {
    await call(sidecar, { path: '/gone/record' });
    const record = await sidecar.logged(({ path }) => path === '/gone/record');
    expect(record).toMatchObject({ route: '/gone/*', status: 410, code: null, outcome: 'ok', level: 'info' });
  });

  it('are no place for a tunnel', async () => {
    const head = 'GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
    expect(await sendRaw(sidecar, head)).toMatch(/^HTTP\/1\.1 400 /);
  });

  it('end with a connection that carries a body nobody read', async () => {
    const head = 'POST /ready HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n';
    expect(await sendRaw(sidecar, head)).toMatch(/^HTTP\/1\.1 200 [^]*Connection: close/);
  });
});

describe('redirects', () => {
  it('lead where they say, with what was asked for', async () => {
    const location = async (path: string, more = {}) => (await call(sidecar, { path, ...more })).headers.location;
    expect(await location('/old/a?b=%0d%0ac')).toBe('https://localhost/old/a?b=%0d%0ac');
    expect(await location('/old/a', at('c.example'))).toBe('https://c.example/old/a');
    expect(await location('/elsewhere?x')).toBe('https://other.example/x');
    expect(await location('/here')).toBe('/there?x=1');
  });

  it('never to a name that is not ours', async () => {
    for (const host of ['evil.example', 'localhost.evil.example', 'localhost@evil.example', 'localhost%2f', 'a"b']) {
      const answer = await sendRaw(sidecar, `GET /old/x HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
      expect(answer).toMatch(/^HTTP\/1\.1 4(?:00|21) /);
      expect(answer).not.toMatch(/location/i);
    }
    const port = await sendRaw(sidecar, 'GET /old/x HTTP/1.1\r\nHost: LOCALHOST.:99\r\nConnection: close\r\n\r\n');
    expect(port).toMatch(/\r\nLocation: https:\/\/localhost\/old\/x\r\n/);
    const double = await sendRaw(
      sidecar,
      'GET //evil.example/old/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    expect(double).not.toMatch(/location/i);
  });
});

describe('hosts', () => {
  it('have routes of their own, before those of every host', async () => {
    expect((await call(sidecar, { path: '/ready', ...at('b.example') })).body).toBe('other');
    await call(sidecar, { path: '/x', ...at('b.example') });
    const { rawHeaders = [] } = application.seen.at(-1) ?? {};
    expect(valuesOf(rawHeaders, 'X-Site')).toEqual(['b']);
    expect(valuesOf(rawHeaders, 'X-Real-IP')).toEqual([]);
    expect(await sidecar.logged(({ path }) => path === '/x')).toMatchObject({ route: 'b.example' });
  });

  it('of one application hide what another route adds', async () => {
    await call(sidecar, { path: '/x', headers: { host: 'localhost', 'X-Site': 'b', x_site: 'b' } });
    const { rawHeaders = [] } = application.seen.at(-1) ?? {};
    expect(valuesOf(rawHeaders, 'X-Site')).toEqual([]);
    expect(valuesOf(rawHeaders, 'X-Real-IP')).toEqual(['127.0.0.1']);
  });
});

describe('the beginning of a path', () => {
  it.each([
    ['/api/x?y=/api/', '/v1/x?y=/api/'],
    ['/api/', '/v1/'],
    ['/api', '/v1/'],
    ['/api?x', '/v1/?x'],
    ['/one?x', '/two?x'],
    ['/very', '/wery'],
    ['https://localhost/api/x', '/v1/x'],
    // Another spelling is another path, and goes on as it is.
    ['/API/x', '/API/x'],
    ['/%61pi/x', '/%61pi/x'],
  ])('of %s becomes %s', async (target, seen) => {
    const answer = await sendRaw(sidecar, `GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(application.seen.at(-1)?.url).toBe(seen);
  });

  it('never lets a path out of where it was put', async () => {
    const open = await startSidecar({
      pki,
      upstream: application.url,
      yaml: 'routes: [{path: /api/*, replaceWith: /v1/}]',
    });
    for (const target of ['/api/..%2fx', '/api//x', '/api/../x', '/api/%2e%2e/x', '/api;/x']) {
      const head = `GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`;
      expect(await sendRaw(open, head)).toMatch(/^HTTP\/1\.1 200 /);
      expect(application.seen.at(-1)?.url).toBe(target);
    }
    await open.stop();
  });

  it('is left away where files lie', async () => {
    expect(await call(sidecar, { path: '/files/a.txt' })).toMatchObject({ status: 200, body: 'a file' });
    expect((await call(sidecar, { path: '/files/sub/' })).body).toBe('an index');
    const { status, headers } = await call(sidecar, { path: '/files/sub' });
    expect(status).toBe(301);
    expect(new URL(headers.location ?? '', 'https://localhost/files/sub').pathname).toBe('/files/sub/');
  });
});
