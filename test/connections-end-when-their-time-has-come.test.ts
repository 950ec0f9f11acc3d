import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application, type Seen } from './support/application.js';
import { call, openRaw, sendRaw, type RawCaller } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf, refusalsOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const sidecars: Sidecar[] = [];
let application: Application;
let answer: (seen: Seen, response: ServerResponse) => void;

beforeAll(async () => {
  application = await startApplication((seen, response) => answer(seen, response));
  return () => application.stop();
});

afterEach(async () => {
  answer = (_seen, response) => response.end('ok');
  for (const sidecar of sidecars.splice(0)) await sidecar.stop();
});

async function start(settings: Record<string, string>): Promise<Sidecar> {
  answer = (_seen, response) => response.end('ok');
  const sidecar = await startSidecar({ pki, upstream: application.url, settings });
  sidecars.push(sidecar);
  return sidecar;
}

function get(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
}

/** The next answer on a kept connection. */
async function ask(caller: RawCaller, path: string): Promise<string> {
  const before = caller.received().length;
  caller.socket.write(get(path));
  await caller.receive(new RegExp(`^[^]{${before}}[^]*ok$`));
  return caller.received().slice(before);
}

it('after limits.headTimeout when they never say anything, without a record of a request', async () => {
  const sidecar = await start({ 'limits.headTimeout': '300ms' });
  const caller = await openRaw(sidecar);
  await caller.closed();
  await expect.poll(() => sidecar.app.connections()).toBe(0);
  expect(sidecar.requests()).toEqual([]);
});

it('with the answer when the caller says close', async () => {
  const sidecar = await start({});
  expect(await sendRaw(sidecar, get('/', 'Connection: close\r\n'))).toMatch(/\r\nConnection: close\r\n[^]*ok$/i);
});

it('not because the application ends its own', async () => {
  const sidecar = await start({});
  answer = (_seen, response) => response.setHeader('connection', 'close').end('ok');
  const caller = await openRaw(sidecar);
  expect(await ask(caller, '/1')).toMatch(/\r\nConnection: keep-alive\r\n/i);
  await ask(caller, '/2');
  caller.socket.destroy();
});

describe('when the sidecar drains', () => {
  it('callers are told to close, and still served', async () => {
    const sidecar = await start({});
    const caller = await openRaw(sidecar);
    await ask(caller, '/before');
    sidecar.app.drain();
    expect(await ask(caller, '/draining')).toMatch(/^HTTP\/1\.1 200 [^]*\r\nConnection: close\r\n/i);
    await caller.closed();
    const late = await call(sidecar, { path: '/late' });
    expect(late).toMatchObject({ status: 200 });
    expect(late.headers.connection).toBe('close');
  });

  it('what is under way is finished, what comes after it is refused with 503', async () => {
    const sidecar = await start({});
    const held: ServerResponse[] = [];
    answer = (_seen, response) => void held.push(response);
    const [idle, early, busy] = [await openRaw(sidecar), await openRaw(sidecar), await openRaw(sidecar)];
    busy.socket.write(get('/under-way'));
    idle.socket.write(get('/idle'));
    await expect.poll(() => held.length).toBe(2);
    held.find(({ req }) => req.url === '/idle')?.end('ok');
    await idle.receive(/ok$/);
    // The first bytes of a request are there: this one is not idle.
    early.socket.write('GET /refused HTTP/1.1\r\n');
    await new Promise((resolve) => setTimeout(resolve, 50));

    sidecar.app.drain();
    sidecar.app.stopAccepting();
    await idle.closed();
    const before = await refusalsOf(sidecar, 'draining');
    early.socket.write('Host: localhost\r\nAccept: application/json\r\n\r\n');
    const refused = await early.closed();
    expect(refused).toMatch(/^HTTP\/1\.1 503 [^]*\r\nRetry-After: 1\r\n[^]*\r\nConnection: close\r\n/i);
    expect(JSON.parse(refused.slice(refused.indexOf('\r\n\r\n')))).toMatchObject({ error: { code: 'draining' } });
    expect(await recordOf(sidecar, '/refused')).toMatchObject({ status: 503, code: 'draining', outcome: 'refused' });
    expect(await refusalsOf(sidecar, 'draining')).toBe(before + 1);

    held.find(({ req }) => req.url === '/under-way')?.end('finished');
    expect(await busy.closed()).toMatch(/^HTTP\/1\.1 200 [^]*\r\nConnection: close\r\n[^]*finished$/i);
    expect(application.seen.map(({ url }) => url)).not.toContain('/refused');
    await expect.poll(() => sidecar.app.connections()).toBe(0);
  });

  it('a connection on which nothing was ever said does not hold it up', async () => {
    const sidecar = await start({});
    const silent = await openRaw(sidecar);
    await expect.poll(() => sidecar.app.connections()).toBe(1);
    sidecar.app.drain();
    sidecar.app.stopAccepting();
    await once(silent.socket, 'close');
    expect(sidecar.requests()).toEqual([]);
  });
});
