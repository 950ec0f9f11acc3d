import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, openRaw, sendRaw, type RawCaller } from './support/caller.js';
import { generateKeys, issueClient, makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const keys = generateKeys();
const admin = issueClient(pki.ca, { keys, subject: [['CN', 'admin']] });
const expired = issueClient(pki.ca, { keys, subject: [['CN', 'late']], notAfter: Date.now() - 60_000 });

let application: Application;
let second: Application;
let sidecar: Sidecar;

const yaml = (): string => `
clientCert:
  allow: [{commonName: im.qq.com}, {commonName: admin}]
limits: {body: 1KiB}
routes:
  - {path: /healthz, verify: off, return: 200 "fine"}
  - {path: /hello, verify: off}
  - {path: /perhaps/*, verify: optional}
  - {path: /admin/*, allow: [{commonName: admin}], upstream: "${second.url}", headers: {X-Area: "text:admin"}}
  - {path: /upload/*, body: 1MiB}
  - {path: /private/*, return: 403}
`;

beforeAll(async () => {
  application = await startApplication();
  second = await startApplication((_seen, response) => response.end('second'));
  sidecar = await startSidecar({ pki, upstream: application.url, yaml: yaml() });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
  await second.stop();
});

const seenHeaders = (): readonly string[] => application.seen.at(-1)?.rawHeaders ?? [];

describe('a caller without a certificate', () => {
  it('gets what asks nobody, and no further', async () => {
    expect(await call(sidecar, { as: null, path: '/healthz' })).toMatchObject({ status: 200, body: 'fine' });
    expect(await call(sidecar, { as: null, path: '/hello' })).toMatchObject({ status: 200, body: 'ok' });
    const before = application.seen.length;
    const refused = await call(sidecar, { as: null, path: '/im' });
    expect(refused.status).toBe(400);
    expect(refused.body).toContain('400 No required SSL certificate was sent');
    expect(refused.headers.connection).toBe('close');
    expect(application.seen.length).toBe(before);
    const record = await sidecar.logged(({ code }) => code === 'no_certificate');
    expect(record).toMatchObject({ msg: 'request', path: '/im', status: 400, route: null, subject: null });
  });

  it('is nobody to the application, whatever headers it sends', async () => {
    await call(sidecar, {
      as: null,
      path: '/hello',
      headers: { 'X-SSL-Client-S-DN': 'CN=admin', 'X-SSL-Client-CN': 'a' },
    });
    expect(valuesOf(seenHeaders(), 'X-SSL-Client-Verify')).toEqual(['NONE']);
    for (const name of ['X-SSL-Client-S-DN', 'X-SSL-Client-CN', 'X-SSL-Client-SHA256']) {
      expect(valuesOf(seenHeaders(), name)).toEqual([]);
    }
  });

  it('may be there or not where that is optional', async () => {
    // The rules of the settings hold there, and nobody without a certificate satisfies them.
    expect((await call(sidecar, { as: null, path: '/perhaps/x' })).status).toBe(403);
    expect((await call(sidecar, { path: '/perhaps/x' })).status).toBe(200);
  });

  it('cannot get in behind a request that it may make, on one connection', async () => {
    const caller = await openRaw(sidecar, { as: null });
    expect(await ask(caller, '/healthz')).toMatch(/^HTTP\/1\.1 200 /);
    expect(await ask(caller, '/hello')).toMatch(/^HTTP\/1\.1 200 /);
    expect(await ask(caller, '/admin/x')).toMatch(/^HTTP\/1\.1 400 /);
    await caller.closed();
  });

  it('gets no tunnel either', async () => {
    const head = 'GET /im HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';
    expect(await sendRaw(sidecar, head, null)).toMatch(/^HTTP\/1\.1 400 [^]*No required SSL certificate/);
    const other = head.replace('/im', '/healthz');
    expect(await sendRaw(sidecar, other, null)).toMatch(/^HTTP\/1\.1 400 /);
  });

  it('is judged by what OPTIONS * is for: no path, so the settings themselves', async () => {
    expect(await sendRaw(sidecar, 'OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n', null)).toMatch(/^HTTP\/1\.1 400 /);
  });
});

describe('a caller with a bad certificate', () => {
  it('is nobody where nobody is asked, and is told what is wrong elsewhere', async () => {
    expect((await call(sidecar, { as: expired, path: '/hello' })).status).toBe(200);
    expect(valuesOf(seenHeaders(), 'X-SSL-Client-Verify')).toEqual(['NONE']);
    expect(valuesOf(seenHeaders(), 'X-SSL-Client-S-DN')).toEqual([]);
    for (const path of ['/im', '/perhaps/x']) {
      const refused = await call(sidecar, { as: expired, path });
      expect(refused.status).toBe(400);
      expect(refused.body).toContain('400 The SSL certificate error');
    }
    const record = await sidecar.logged(({ code }) => code === 'expired');
    expect(record).toMatchObject({ status: 400, detail: 'certificate has expired: CN=late' });
  });

  it('of another CA as well', async () => {
    const { client } = pki.stranger;
    expect((await call(sidecar, { as: client, path: '/healthz' })).status).toBe(200);
    expect((await call(sidecar, { as: client, path: '/im' })).body).toContain('The SSL certificate error');
    expect((await call(sidecar, { as: client, path: '/admin/x' })).status).toBe(400);
  });
});

describe('a verified caller', () => {
  it('is nobody, too, where nobody is asked', async () => {
    expect((await call(sidecar, { path: '/hello' })).status).toBe(200);
    expect(valuesOf(seenHeaders(), 'X-SSL-Client-Verify')).toEqual(['NONE']);
    expect(valuesOf(seenHeaders(), 'X-SSL-Client-S-DN')).toEqual([]);
    expect((await call(sidecar, { path: '/im' })).status).toBe(200);
    expect(valuesOf(seenHeaders(), 'X-SSL-Client-CN')).toEqual(['im.qq.com']);
  });

  it('meets the rules of each route, its application and its headers', async () => {
    expect((await call(sidecar, { path: '/admin/x' })).status).toBe(403);
    expect(await call(sidecar, { as: admin, path: '/admin/x' })).toMatchObject({ status: 200, body: 'second' });
    expect(valuesOf(second.seen.at(-1)?.rawHeaders ?? [], 'X-Area')).toEqual(['admin']);
    expect(second.seen.at(-1)?.url).toBe('/admin/x');
    const records = sidecar.requests().filter(({ route }) => route === '/admin/*');
    expect(records.map(({ status }) => status)).toEqual(expect.arrayContaining([403, 200]));
    const counted = 'mtls_sidecar_requests_by_route_total{route="/admin/*",status="2xx"}';
    expect(await sidecar.metric(counted)).toBe(1);
    const pool = `mtls_sidecar_upstream_connections_by_url{url="${second.url}",state="idle"}`;
    expect(await sidecar.metric(pool)).toBe(1);
  });

  it('and the limits of each', async () => {
    const body = Buffer.alloc(10_000, 97);
    expect((await call(sidecar, { path: '/im', body })).status).toBe(413);
    expect((await call(sidecar, { path: '/upload/x', body })).status).toBe(200);
    const chunked = { body, headers: { 'transfer-encoding': 'chunked' } };
    expect((await call(sidecar, { path: '/im', ...chunked })).status).toBe(413);
    expect((await call(sidecar, { path: '/upload/x', ...chunked })).status).toBe(200);
  });

  it('is answered by the route itself', async () => {
    expect((await call(sidecar, { path: '/private/x' })).status).toBe(403);
    const head = await call(sidecar, { path: '/healthz', method: 'HEAD' });
    expect(head).toMatchObject({ status: 200, body: '' });
    expect(head.headers).toMatchObject({ 'content-length': '4', 'content-type': 'text/plain; charset=utf-8' });
    expect((await call(sidecar, { path: '/healthz?x=1', body: 'abc' })).status).toBe(200);
  });
});

it('a caller whom no route would serve never reaches the parser', async () => {
  const strict = await startSidecar({
    pki,
    upstream: application.url,
    yaml: 'routes: [{path: /admin/*, allow: [{commonName: admin}]}]\nclientCert: {allow: [{commonName: nobody}]}',
  });
  try {
    expect((await call(strict, {})).status).toBe(403);
    expect((await call(strict, { as: null })).status).toBe(400);
    expect(strict.refusals().map(({ reason }) => reason)).toEqual(['not_allowed', 'no_certificate']);
    expect(strict.requests()).toEqual([]);
    expect((await call(strict, { as: admin, path: '/admin/x' })).status).toBe(200);
    expect((await call(strict, { as: admin, path: '/' })).status).toBe(403);
  } finally {
    await strict.stop();
  }
});

/** One request on a kept connection, and its answer. */
async function ask(caller: RawCaller, path: string): Promise<string> {
  const before = caller.received().length;
  caller.socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  while (!/\r\n\r\n[^]+$/.test(caller.received().slice(before))) await once(caller.socket, 'data');
  return caller.received().slice(before);
}
