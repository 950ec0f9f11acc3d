import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readlinkSync,
  renameSync,
  rmSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { begin, call, openRaw, sendRaw } from './support/caller.js';
import { temporaryDirectory } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const dir = temporaryDirectory();
const root = join(dir.path, 'html');
let sidecar: Sidecar;

beforeAll(async () => {
  mkdirSync(join(root, 'sub'), { recursive: true });
  mkdirSync(join(root, 'bare'));
  mkdirSync(join(root, '.git'));
  mkdirSync(join(root, '..data'));
  writeFileSync(join(root, 'index.html'), '<h1>hello</h1>');
  writeFileSync(join(root, 'a b.txt'), '0123456789');
  writeFileSync(join(root, 'empty.bin'), '');
  writeFileSync(join(root, '100%.txt'), 'percent');
  writeFileSync(join(root, 'sub', 'index.htm'), 'sub');
  writeFileSync(join(root, '.env'), 'SECRET');
  writeFileSync(join(root, '.git', 'config'), 'SECRET');
  writeFileSync(join(root, '..data', 'mounted.txt'), 'mounted');
  writeFileSync(join(dir.path, 'secret.txt'), 'SECRET');
  mkdirSync(join(dir.path, 'html-of-others'));
  writeFileSync(join(dir.path, 'html-of-others', 'secret.txt'), 'SECRET');
  symlinkSync(join('..data', 'mounted.txt'), join(root, 'mounted.txt'));
  symlinkSync(join(dir.path, 'secret.txt'), join(root, 'out.txt'));
  symlinkSync(join(dir.path, 'html-of-others'), join(root, 'others'));
  symlinkSync('loop', join(root, 'loop'));
  mkdirSync(join(root, 'outindex'));
  symlinkSync(join(dir.path, 'secret.txt'), join(root, 'outindex', 'index.html'));
  spawnSync('mkfifo', [join(root, 'fifo')]);
  writeFileSync(join(root, 'large.bin'), Buffer.alloc(3_000_000, 'x'));
  sidecar = await startSidecar({
    upstream: `file:${root}`,
    settings: { 'upstream.index': 'index.html,index.htm' },
  });
});

afterAll(async () => {
  await sidecar.stop();
  dir.remove();
});

const get = (path: string, headers: Record<string, string> = {}) => call(sidecar, { path, headers });

describe('files are sent', () => {
  it.each([
    ['/', 'text/html; charset=utf-8', '<h1>hello</h1>'],
    ['/index.html', 'text/html; charset=utf-8', '<h1>hello</h1>'],
    ['//index.html?x=1', 'text/html; charset=utf-8', '<h1>hello</h1>'],
    ['/sub/', 'text/html; charset=utf-8', 'sub'],
    ['/a%20b.txt', 'text/plain; charset=utf-8', '0123456789'],
    ['/100%25.txt', 'text/plain; charset=utf-8', 'percent'],
    ['/empty.bin', 'application/octet-stream', ''],
  ])('%s', async (path, type, body) => {
    const answer = await get(path);
    expect(answer).toMatchObject({ status: 200, body });
    expect(answer.headers).toMatchObject({ 'content-type': type, 'accept-ranges': 'bytes' });
    expect(answer.headers['content-length']).toBe(String(body.length));
    expect(answer.headers['x-request-id']).toBeDefined();
  });

  it('that a symbolic link within the directory leads to, as in a mounted ConfigMap', async () => {
    expect(await get('/mounted.txt')).toMatchObject({ status: 200, body: 'mounted' });
  });

  it('without their bodies for HEAD', async () => {
    const answer = await call(sidecar, { path: '/a%20b.txt', method: 'HEAD' });
    expect(answer).toMatchObject({ status: 200, body: '' });
    expect(answer.headers['content-length']).toBe('10');
  });

  it.each([
    ['bytes=2-4', 206, '234', 'bytes 2-4/10'],
    ['bytes=-3', 206, '789', 'bytes 7-9/10'],
    ['bytes=8-', 206, '89', 'bytes 8-9/10'],
    ['bytes=20-', 416, '416 Range Not Satisfiable\n', 'bytes */10'],
    ['bytes=0-1,4-5', 200, '0123456789', undefined],
    ['lines=1-2', 200, '0123456789', undefined],
  ])('in part, for Range: %s', async (range, status, body, contentRange) => {
    const answer = await get('/a%20b.txt', { range });
    expect(answer).toMatchObject({ status, body });
    expect(answer.headers['content-range']).toBe(contentRange);
  });

  it('not again to a caller that has them', async () => {
    const { etag = '', 'last-modified': modified = '' } = (await get('/a%20b.txt')).headers;
    expect(await get('/a%20b.txt', { 'if-none-match': etag })).toMatchObject({ status: 304, body: '' });
    expect(await get('/a%20b.txt', { 'if-modified-since': modified })).toMatchObject({ status: 304, body: '' });
    expect(await get('/a%20b.txt', { 'if-none-match': '"other"' })).toMatchObject({ status: 200 });
    expect(await get('/a%20b.txt', { 'if-match': '"other"' })).toMatchObject({ status: 412 });
    expect(await get('/a%20b.txt', { range: 'bytes=0-1', 'if-range': '"other"' })).toMatchObject({ status: 200 });
  });

  it('whole, however large, and the connection serves on', async () => {
    const received = await sendRaw(
      sidecar,
      'GET /large.bin HTTP/1.1\r\nHost: localhost\r\n\r\nGET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n',
    );
    expect(received.length).toBeGreaterThan(3_000_000);
    expect(received.endsWith('<h1>hello</h1>')).toBe(true);
  });

  it('with a record like any other request', async () => {
    await get('/a%20b.txt?of=record');
    const line = await sidecar.logged(({ path }) => path === '/a%20b.txt?of=record');
    expect(line).toMatchObject({ status: 200, bytesOut: 10, code: null, outcome: 'ok' });
  });
});

describe('a directory', () => {
  it.each([
    ['/sub', '/sub/'],
    ['/sub?a=b', '/sub/?a=b'],
    ['//sub', '/sub/'],
  ])('is redirected to with its slash: %s', async (path, location) => {
    const answer = await get(path);
    expect(answer.status).toBe(301);
    expect(answer.headers.location).toBe(location);
  });

  it('without an index file is not listed', async () => {
    expect(await get('/bare/')).toMatchObject({ status: 403, body: '403 Forbidden\n' });
  });
});

describe('nothing else is sent', () => {
  it.each([
    ['/missing', 404],
    ['/index.html/', 404],
    ['/index.html/x', 404],
    [`/${'n'.repeat(300)}`, 404],
    ['/.env', 404],
    ['/%2eenv', 404],
    ['/.git/config', 404],
    ['/..data/mounted.txt', 404],
    ['/out.txt', 404],
    ['/others/secret.txt', 404],
    ['/others', 404],
    ['/loop', 404],
    ['/fifo', 404],
    ['/outindex/', 403],
    ['/../secret.txt', 400],
    ['/sub/../../secret.txt', 400],
    ['/%2e%2e/secret.txt', 400],
    ['/..%2fsecret.txt', 400],
    ['/sub%2f..%2f..%2fsecret.txt', 400],
    ['/..%5csecret.txt', 400],
    ['/../html-of-others/secret.txt', 400],
    ['/a%00.txt', 400],
    ['/index.html%00.txt', 400],
    ['/%zz', 400],
    ['/%c0%ae%c0%ae/secret.txt', 400],
    ['/%252e%252e/secret.txt', 404],
  ])('%s is %i', async (path, status) => {
    const answer = await get(path);
    expect(answer.status).toBe(status);
    expect(answer.body).not.toContain('SECRET');
  });

  it.each(['POST', 'PUT', 'DELETE', 'OPTIONS'])('to %s', async (method) => {
    const answer = await call(sidecar, { method, body: 'x', path: '/index.html' });
    expect(answer.status).toBe(405);
    expect(answer.headers['allow']).toBe('GET, HEAD');
  });

  it('to an Upgrade', async () => {
    const received = await sendRaw(
      sidecar,
      'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n',
    );
    expect(received).toMatch(/^HTTP\/1.1 400 /);
  });

  it('to a caller without a certificate', async () => {
    expect((await call(sidecar, { as: null })).body).not.toContain('hello');
  });

  it('when an index file of the settings would lead elsewhere', async () => {
    await expect(startSidecar({ upstream: `file:${root}`, settings: { 'upstream.index': '../x' } })).rejects.toThrow(
      /upstream.index .*"..\/x" is none/,
    );
  });
});

it('a file that shrinks while it is sent breaks the connection instead of looking whole', async () => {
  writeFileSync(join(root, 'shrinking.bin'), Buffer.alloc(40_000_000, 'x'));
  const outgoing = begin(sidecar, { path: '/shrinking.bin' });
  outgoing.end();
  const failed = await new Promise<string>((resolve) => {
    outgoing.on('error', () => resolve('broken'));
    outgoing.on('response', (response) => {
      truncateSync(join(root, 'shrinking.bin'), 10);
      response.on('end', () => resolve('whole'));
      response.on('error', () => resolve('broken'));
      response.resume();
    });
  });
  expect(failed).toBe('broken');
});

it.skipIf(!existsSync('/proc/self/fd'))('a caller who goes away leaves no file open', async () => {
  const open = () =>
    readdirSync('/proc/self/fd').filter((fd) => {
      try {
        return readlinkSync(`/proc/self/fd/${fd}`).endsWith('/large.bin');
      } catch {
        return false;
      }
    });
  const caller = await openRaw(sidecar);
  caller.socket.write('GET /large.bin?left HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await caller.receive(/200 OK/);
  caller.socket.pause();
  caller.socket.destroy();
  expect(await sidecar.logged(({ path }) => path === '/large.bin?left')).toMatchObject({ outcome: 'caller_aborted' });
  await expect.poll(open).toEqual([]);
});

it('the readiness is that of the directory', async () => {
  expect((await sidecar.admin('/readyz')).status).toBe(200);
  renameSync(root, `${root}.away`);
  expect((await sidecar.admin('/readyz')).status).toBe(503);
  expect((await get('/index.html')).status).toBe(404);
  renameSync(`${root}.away`, root);
  expect((await sidecar.admin('/readyz')).status).toBe(200);
  rmSync(join(root, 'fifo'), { force: true });
});
