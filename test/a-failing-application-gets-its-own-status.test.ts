import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { startApplication, startRawApplication, type RawApplication } from './support/application.js';
import { call } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf, refusalsOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const stops: (() => unknown)[] = [];

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** The first request may find the application starting; these tests are about one that was there. */
async function sidecarBefore(upstream: string, settings: Record<string, string> = {}): Promise<Sidecar> {
  const sidecar = await startSidecar({ pki, upstream, settings });
  stops.push(() => sidecar.stop());
  return sidecar;
}

async function application(onRequest: (socket: Socket) => void): Promise<RawApplication> {
  const started = await startRawApplication((socket) => socket.once('data', () => onRequest(socket)));
  stops.push(() => started.stop());
  return started;
}

/** Sends one request that must fail, and checks everything that is to be seen of it from outside. */
async function expectRefusal(
  sidecar: Sidecar,
  expected: { status: number; code: string; detail?: RegExp },
  path = '/failing',
) {
  const before = await refusalsOf(sidecar, expected.code);
  const answer = await call(sidecar, { path, headers: { accept: 'application/json' } });
  expect(answer.status).toBe(expected.status);
  const { error } = JSON.parse(answer.body) as { error: { code: string; message: string; requestId: string } };
  expect(error).toEqual({
    code: expected.code,
    message: expect.stringMatching(/^[A-Z]/) as string,
    requestId: answer.headers['x-request-id'],
  });
  const record = await recordOf(sidecar, path);
  expect(record).toMatchObject({
    level: 'warn',
    status: expected.status,
    code: expected.code,
    outcome: 'refused',
    bytesIn: 0,
    bytesOut: 0,
    requestId: error.requestId,
  });
  expect(record['detail']).toMatch(expected.detail ?? /./);
  expect(await refusalsOf(sidecar, expected.code)).toBe(before + 1);
  return answer;
}

describe('502 upstream_protocol for an answer that is no HTTP:', () => {
  it.each([
    ['garbage', 'SSH-2.0-OpenSSH_9.2\r\n\r\n'],
    ['HTTP/0.9', '<html>hello</html>'],
    ['a status of letters', 'HTTP/1.1 abc OK\r\n\r\n'],
    ['a head that ends in the middle of a name', 'HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n'],
    [
      'both framings',
      'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n',
    ],
    ['two lengths', 'HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd'],
    ['a length that is no number', 'HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc'],
    ['a 101 unasked', 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n'],
  ])('%s', async (_what, bytes) => {
    const { url } = await application((socket) => socket.end(bytes));
    await expectRefusal(await sidecarBefore(url), { status: 502, code: 'upstream_protocol' });
  });

  it('a head without end', async () => {
    const { url } = await application((socket) => {
      socket.write(`HTTP/1.1 200 OK\r\nX-Long: ${'a'.repeat(100_000)}`);
    });
    await expectRefusal(await sidecarBefore(url), { status: 502, code: 'upstream_protocol' });
  });

  it('and the same to a request that is sent over a connection of its own', async () => {
    const { url } = await application((socket) => socket.end('SSH-2.0-OpenSSH_9.2\r\n\r\n'));
    const sidecar = await sidecarBefore(url);
    const answer = await call(sidecar, { path: '/own', body: 'x', headers: { expect: '100-continue' } });
    expect(answer.status).toBe(502);
    expect(await recordOf(sidecar, '/own')).toMatchObject({ code: 'upstream_protocol', outcome: 'refused' });
  });
});

describe('502 upstream_closed for an application that breaks before the head:', () => {
  it.each<[string, (socket: Socket) => void]>([
    ['at once', (socket) => socket.end()],
    ['with a reset', (socket) => socket.resetAndDestroy()],
    ['in the middle of the head', (socket) => socket.end('HTTP/1.1 200 OK\r\nContent-Le')],
    ['after an interim answer', (socket) => socket.end('HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n')],
  ])('%s', async (_what, onRequest) => {
    const { url } = await application(onRequest);
    await expectRefusal(await sidecarBefore(url), { status: 502, code: 'upstream_closed' });
  });
});

describe('504 upstream_timeout for an application that takes too long', () => {
  it('to send the rest of its head', async () => {
    const { url } = await application((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-'));
    const sidecar = await sidecarBefore(url, { 'upstream.headTimeout': '200ms' });
    await expectRefusal(sidecar, { status: 504, code: 'upstream_timeout' });
  });

  it('to send a head to a request that is sent over a connection of its own', async () => {
    const { url } = await application(() => undefined);
    const sidecar = await sidecarBefore(url, { 'upstream.headTimeout': '200ms' });
    const answer = await call(sidecar, { path: '/own', headers: { expect: '100-continue' } });
    expect(answer.status).toBe(504);
    expect(await recordOf(sidecar, '/own')).toMatchObject({ status: 504, code: 'upstream_timeout' });
  });

  it.runIf(process.platform === 'linux')('to accept a connection', async () => {
    const port = await startDeafApplication();
    const sidecar = await sidecarBefore(`http://127.0.0.1:${port}`, { 'upstream.connectTimeout': '200ms' });
    await expectRefusal(sidecar, { status: 504, code: 'upstream_timeout', detail: /connect/i });
    const own = await call(sidecar, { path: '/own', headers: { expect: '100-continue' } });
    expect(own.status).toBe(504);
    const upgrade = { connection: 'Upgrade', upgrade: 'echo' };
    expect((await call(sidecar, { path: '/upgrade', headers: upgrade })).status).toBe(504);
  });

  it('between two pieces of its answer, by breaking the connection: the head is out', async () => {
    const { url } = await application((socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc'));
    const sidecar = await sidecarBefore(url, { 'upstream.idleTimeout': '200ms' });
    await expect(call(sidecar, { path: '/stall' })).rejects.toThrow(/aborted|hang up/);
    expect(await recordOf(sidecar, '/stall')).toMatchObject({
      status: 200,
      code: 'upstream_timeout',
      outcome: 'upstream_aborted',
      bytesOut: 3,
    });
    await expect(call(sidecar, { path: '/own', headers: { expect: '100-continue' } })).rejects.toThrow(/aborted/);
    expect(await recordOf(sidecar, '/own')).toMatchObject({ code: 'upstream_timeout', outcome: 'upstream_aborted' });
  });
});

describe('an application that cannot be reached', () => {
  it('is starting (503, Retry-After) until it was there once, and broken (502) from then on', async () => {
    const { url, port } = await startRawApplication(() => undefined).then(async (started) => {
      await started.stop();
      return started;
    });
    const sidecar = await sidecarBefore(url);
    const first = await expectRefusal(sidecar, { status: 503, code: 'upstream_connect', detail: /ECONNREFUSED/ });
    expect(first.headers['retry-after']).toBe('1');
    const upgrade = { connection: 'Upgrade', upgrade: 'echo' };
    expect(await call(sidecar, { path: '/upgrade', headers: upgrade })).toMatchObject({ status: 503 });

    const arrived = await startApplication(undefined, { port, host: '127.0.0.1' });
    expect((await call(sidecar)).status).toBe(200);
    await arrived.stop();
    const later = await expectRefusal(sidecar, { status: 502, code: 'upstream_connect' }, '/gone');
    expect(later.headers['retry-after']).toBeUndefined();
    expect(await call(sidecar, { path: '/upgrade-gone', headers: upgrade })).toMatchObject({ status: 502 });
  });

  it('is starting while its Unix socket is not there', async () => {
    const sidecar = await sidecarBefore('unix:/nonexistent/app.sock');
    await expectRefusal(sidecar, { status: 503, code: 'upstream_connect', detail: /ENOENT/ });
  });
});

describe('the error page', () => {
  it('is HTML without a trace of the request, unless JSON is asked for', async () => {
    const sidecar = await sidecarBefore('http://127.0.0.1:1');
    const answer = await call(sidecar, { path: '/<script>' });
    expect(answer.headers['content-type']).toBe('text/html');
    expect(answer.body).toContain('<code>upstream_connect</code>');
    expect(answer.body).not.toContain('script');
    expect(answer.headers['cache-control']).toBe('no-store');
  });
});

/** A process that listens and never accepts: once its queue is full, connecting to it hangs. */
async function startDeafApplication(): Promise<number> {
  const script =
    "const s = require('node:net').createServer().listen({ port: 0, host: '127.0.0.1', backlog: 1 }, () => process.stdout.write(String(s.address().port)))";
  const child: ChildProcess = spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  const fillers: Socket[] = [];
  stops.push(() => {
    for (const filler of fillers) filler.destroy();
    child.kill('SIGKILL');
  });
  const [text] = (await once(child.stdout as NodeJS.ReadableStream, 'data')) as [Buffer];
  child.kill('SIGSTOP');
  const port = Number(text.toString());
  while (await connects(port, fillers));
  return port;
}

function connects(port: number, fillers: Socket[]): Promise<boolean> {
  return new Promise((resolve) => {
    const filler = connect(port, '127.0.0.1');
    fillers.push(filler);
    filler.on('error', () => undefined);
    filler.setTimeout(300, () => resolve(false));
    filler.once('connect', () => resolve(true));
  });
}
