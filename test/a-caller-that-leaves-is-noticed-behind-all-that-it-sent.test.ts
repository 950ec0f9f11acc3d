import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, startRawApplication, type Application, type RawApplication } from './support/application.js';
import { openRaw, type RawCaller } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();

function get(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
}

function post(path: string, length: number, sent: number): string {
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${length}\r\n\r\n${'b'.repeat(sent)}`;
}

/** A head of several kilobytes. */
const PADDING = `X-Pad: ${'x'.repeat(4_000)}\r\n`;

/** Bodies that all are JSON strings of their path, in the order in which they came. */
function paths(received: string): string[] {
  return [...received.matchAll(/"(\/[^"]*)"/g)].map(([, path]) => path as string);
}

describe('while the application does not answer', () => {
  let application: RawApplication;
  let sidecar: Sidecar;
  let arrived: (socket: Socket) => void = () => undefined;

  beforeAll(async () => {
    application = await startRawApplication((socket) => socket.once('data', () => arrived(socket.resume())));
    sidecar = await startSidecar({ pki, upstream: application.url });
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  const AHEAD = {
    'nine requests': get('/behind').repeat(9),
    'a thousand requests': get('/behind').repeat(1_000),
    'a small body': post('/behind', 10, 10),
    'the start of a large body': post('/behind', 500_000, 200_000),
    'requests and an Upgrade': get('/behind') + get('/up', 'Connection: Upgrade\r\nUpgrade: echo\r\n'),
    'what is no request': `${get('/behind')}\u0000\r\n\r\n`,
  };
  const TOO_MUCH = {
    'more of a body than is kept': post('/behind', 900_000, 800_000),
    'more requests than are kept': get('/behind', PADDING).repeat(500),
  };
  const LEAVES = {
    closing: ({ socket }: RawCaller) => socket.destroy(),
    ending: ({ socket }: RawCaller) => socket.end(),
    resetting: (_caller: RawCaller, tcp: Socket) => tcp.resetAndDestroy(),
  };
  const all = Object.entries(AHEAD).flatMap(([what, bytes]) => {
    return Object.entries(LEAVES).map(([how, leave]) => ({ what, bytes, how, leave }));
  });
  const beyond = Object.entries(TOO_MUCH).map(([what, bytes]) => {
    return { what, bytes, how: 'closing', leave: LEAVES.closing };
  });

  it.each([...all, ...beyond])('$what ($how)', async ({ what, bytes, how, leave }) => {
    const path = `/${what.replaceAll(' ', '-')}-${how}`;
    const tcp = connect(sidecar.port, '127.0.0.1');
    const caller = await openRaw(sidecar, { socket: tcp });
    const accepted = new Promise<Socket>((resolve) => (arrived = resolve));
    caller.socket.write(get(path) + bytes);
    const upstream = await accepted;
    leave(caller, tcp);
    await once(upstream, 'close');
    expect(await recordOf(sidecar, path)).toMatchObject({ status: 0, outcome: 'caller_aborted' });
    await expect.poll(() => sidecar.app.connections()).toBe(0);
    expect(await sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}')).toBe(0);
  });
});

describe('while it stays', () => {
  let application: Application;
  let sidecar: Sidecar;
  /** Answers to requests for /slow, which wait for the test. */
  let slow: ServerResponse[] = [];

  beforeAll(async () => {
    application = await startApplication((seen, response) => {
      if (seen.url === '/slow') slow.push(response);
      else response.end(JSON.stringify(`${seen.url}=${seen.body.length}`));
    });
    sidecar = await startSidecar({ pki, upstream: application.url });
  });

  afterEach(() => {
    slow = [];
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  const slowOne = () => expect.poll(() => slow.length).toBe(1);

  it('a thousand requests are answered, small or large', async () => {
    const wanted = Array.from({ length: 999 }, (_, index) => `/all/${index}`);
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/slow') + wanted.map((path, index) => get(path, index % 4 === 0 ? PADDING : '')).join(''));
    await slowOne();
    slow[0]?.end('slow');
    await caller.receive(/"\/all\/998=0"/);
    expect(paths(caller.received())).toEqual(wanted.map((path) => `${path}=0`));
  });

  it('requests are answered however small the pieces in which they come', async () => {
    const requests = get('/1') + post('/2', 3, 3) + get('/3') + post('/4', 200, 200) + get('/5');
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/slow') + get('/0'));
    await slowOne();
    for (const byte of requests) caller.socket.write(byte);
    slow[0]?.end('slow');
    await caller.receive(/"\/5=0"/);
    expect(paths(caller.received())).toEqual(['/0=0', '/1=0', '/2=3', '/3=0', '/4=200', '/5=0']);
    caller.socket.destroy();
  });

  it('a body that comes in two packets while it waits arrives whole', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/slow') + post('/whole', 200, 20));
    await slowOne();
    caller.socket.write('b'.repeat(180));
    slow[0]?.end('slow');
    await caller.receive(/"\/whole=200"/);
    caller.socket.destroy();
  });

  it('a body of any length that waits arrives whole', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/slow') + post('/long', 900_000, 900_000) + get('/after'));
    await slowOne();
    slow[0]?.end('slow');
    await caller.receive(/"\/after=0"/);
    expect(paths(caller.received())).toEqual(['/long=900000', '/after=0']);
    caller.socket.destroy();
  });

  it('an Upgrade that waits has its turn', async () => {
    const caller = await openRaw(sidecar);
    application.server.once('upgrade', (_request, socket, early: Buffer) => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.write(early);
      socket.pipe(socket);
    });
    caller.socket.write(get('/slow') + get('/between'));
    await slowOne();
    caller.socket.write(`${get('/up', 'Connection: Upgrade\r\nUpgrade: echo\r\n')}early `);
    caller.socket.write('late');
    slow[0]?.end('slow');
    expect(await caller.receive(/early late$/)).toMatch(/"\/between=0"HTTP\/1\.1 101 /);
    caller.socket.destroy();
  });

  it('too much, too long before its turn, is lost; what came before is answered', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/slow') + get('/read/1') + get('/read/2'));
    await slowOne();
    const much = post('/lost', 1_000_000, 1_000_000) + get('/lost', PADDING).repeat(2_000);
    await new Promise((resolve) => caller.socket.write(much, resolve));
    slow[0]?.end('slow');
    const received = await caller.closed();
    expect(paths(received)).toEqual(['/read/1=0', '/read/2=0']);
    expect(received.match(/\r\nConnection: close\r\n/gi)).toHaveLength(1);
    expect(application.seen.map(({ url }) => url)).not.toContain('/lost');
  });

  it('a head that is late because we kept the rest of it is lost, not blamed on its caller', async () => {
    const hurried = await startSidecar({
      pki,
      upstream: application.url,
      settings: { 'limits.headTimeout': '200ms' },
    });
    const caller = await openRaw(hurried);
    caller.socket.write(`${get('/slow')}${get('/before')}GET /late HTTP/1.1\r\nHost: `);
    await slowOne();
    caller.socket.write('localhost\r\n\r\n');
    // Longer than the deadline, and than the time between two looks at it.
    await new Promise((resolve) => setTimeout(resolve, 400));
    slow[0]?.end('slow');
    const received = await caller.closed();
    expect(paths(received)).toEqual(['/before=0']);
    expect(received).not.toContain(' 408 ');
    expect(received.match(/\r\nConnection: close\r\n/gi)).toHaveLength(1);
    await hurried.stop();
  });

  it('an answer that has begun ends the connection when nothing else can', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/slow') + post('/lost', 1_000_000, 20));
    await slowOne();
    slow[0]?.write('begun');
    await caller.receive(/begun/);
    await new Promise((resolve) => caller.socket.write('b'.repeat(10_000_000), resolve));
    slow[0]?.end(' and ended');
    const received = await caller.closed();
    expect(received).toMatch(/begun[^]* and ended[^]*0\r\n\r\n$/);
    expect(application.seen.map(({ url }) => url)).not.toContain('/lost');
  });
});
