import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { connect as connectTcp, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import { afterEach, expect, it } from 'vitest';
import { startApplication, startRawApplication } from './support/application.js';
import { answerOf, begin2, call2, openHttp2 } from './support/http2.js';
import { tlsOptions } from './support/caller.js';
import { block, FLAGS, frame, framesOver, openFrames, request, TYPES, uint32 } from './support/http2-frames.js';
import { makePki, writePem } from './support/pki.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const open: { destroy?(): void; stop?(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) {
    each.destroy?.();
    await each.stop?.();
  }
});

async function start(upstream: string, settings: Record<string, string> = {}): Promise<Sidecar> {
  const sidecar = await startSidecar({
    pki,
    upstream,
    settings: { 'listen.http2': 'true', 'reload.interval': '200ms', ...settings },
  });
  open.push(sidecar);
  return sidecar;
}

async function connected(sidecar: Sidecar, settings = {}): Promise<ClientHttp2Session> {
  const session = await openHttp2(sidecar, { settings });
  open.push(session);
  return session;
}

/** An application that does with each connection what the test says. */
async function raw(onConnection: (socket: Socket) => void) {
  const application = await startRawApplication(onConnection);
  open.push(application);
  return application;
}

async function application(answer?: Parameters<typeof startApplication>[0]) {
  const started = await startApplication(answer);
  open.push(started);
  return started;
}

const MIB = 1024 ** 2;

it('a large upload waits for the application, and arrives whole', async () => {
  let received = 0;
  let goOn = (): void => undefined;
  const { url } = await raw((socket) => {
    socket.pause();
    goOn = () => socket.resume();
    socket.on('data', (chunk) => {
      received += chunk.length;
      if (chunk.includes('END')) socket.end('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone');
    });
  });
  const sidecar = await start(url, { 'limits.body': '0' });
  const session = await connected(sidecar);
  const stream = begin2(session, { ':method': 'POST' });
  const chunk = Buffer.alloc(MIB, 'x');
  let sent = 0;
  // Until nothing goes on any more for a while: window and buffers are full.
  for (;;) {
    sent += 1;
    const room = stream.write(chunk);
    if (room) continue;
    const drained = await Promise.race([once(stream, 'drain').then(() => true), delay(300).then(() => false)]);
    if (!drained) break;
  }
  // Buffers of three sockets and two streams, and no more.
  expect(sent).toBeLessThan(16);
  goOn();
  for (; sent < 24; sent += 1) if (!stream.write(chunk)) await once(stream, 'drain');
  stream.end('END');
  expect((await answerOf(stream)).body).toBe('done');
  expect(received).toBeGreaterThan(24 * MIB);
});

it('a large answer waits for the caller, and arrives whole', async () => {
  let sent = 0;
  const { url } = await application((_seen, response) => {
    const chunk = Buffer.alloc(MIB, 'x');
    const more = (): void => {
      for (;;) {
        if (sent === 64 * MIB) return void response.end();
        sent += MIB;
        if (!response.write(chunk)) break;
      }
      response.once('drain', more);
    };
    more();
  });
  const sidecar = await start(url);
  const stream = begin2(await connected(sidecar));
  await once(stream, 'response');
  await delay(300);
  expect(sent).toBeLessThan(32 * MIB);
  let received = 0;
  stream.on('data', (chunk: Buffer) => (received += chunk.length));
  await once(stream, 'end');
  expect(received).toBe(64 * MIB);
});

it.each([
  ['with CANCEL', 8],
  ['without an error code', 0],
])('an upload that its caller resets %s never looks whole to the application', async (name, code) => {
  let seen = '';
  const arrived = signal();
  const ended = signal();
  const { url } = await raw((socket) => {
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1');
      if (seen.includes('half of it')) arrived.resolve();
    });
    socket.on('close', () => ended.resolve());
  });
  const sidecar = await start(url);
  const path = `/upload/${code}`;
  // Without trailers to wait for, Node's client ends a stream before it resets it.
  const stream = begin2(await connected(sidecar), { ':method': 'POST', ':path': path }, { waitForTrailers: true });
  stream.write('half of it');
  await arrived.promise;
  stream.close(code);
  await ended.promise;
  expect(seen, name).toContain('half of it');
  expect(seen).not.toContain('\r\n0\r\n');
  expect(await recordOf(sidecar, path)).toMatchObject({ outcome: 'caller_aborted', status: 0 });
});

it.each([
  ['5', 'hello'],
  ['60000', 'x'.repeat(60_000)],
  ['0', ''],
])('a body longer than the announced %s bytes never looks whole to the application', async (length, announced) => {
  let seen = '';
  const arrived = signal();
  const ended = signal();
  const { url } = await raw((socket) => {
    socket.on('data', (chunk) => {
      seen += chunk.toString('latin1');
      arrived.resolve();
    });
    socket.on('close', () => ended.resolve());
  });
  const sidecar = await start(url);
  const path = `/excess/${length}`;
  const caller = await openFrames(sidecar);
  open.push(caller.socket);
  const head = block([...request(path).map(asPost), ['content-length', length]]);
  const pieces = (announced.match(/[^]{1,16000}/g) ?? []).map((piece) => frame('data', 0, 1, Buffer.from(piece)));
  caller.send(frame('headers', FLAGS.endHeaders, 1, head), ...pieces);
  await arrived.promise;
  caller.send(frame('data', FLAGS.endStream, 1, Buffer.from('x')));
  await ended.promise;
  expect(isWhole(seen)).toBe(false);
  expect(await recordOf(sidecar, path)).toMatchObject({ outcome: 'caller_aborted', status: 0 });
});

it.each(['0', '5'])('a body of the announced %s bytes is whole when its caller says so, later', async (length) => {
  const { url, seen } = await application((_seen, response) => response.end('ok'));
  const sidecar = await start(url);
  const session = await connected(sidecar);
  const stream = begin2(session, { ':method': 'POST', 'content-length': length });
  if (length === '5') stream.write('hello');
  await delay(50);
  expect(seen).toEqual([]);
  stream.end();
  expect((await answerOf(stream)).status).toBe(200);
  expect(seen[0]?.body.length).toBe(Number(length));
});

it('a whole answer to a whole request is followed by no reset', async () => {
  const { url } = await application((_seen, response) => response.end('ok'));
  const sidecar = await start(url);
  const caller = await openFrames(sidecar);
  open.push(caller.socket);
  let wasReset = false;
  void caller
    .frame((type) => type === TYPES.reset)
    .then(
      () => (wasReset = true),
      () => undefined,
    );
  const paths = Array.from({ length: 10 }, (_, index) => `/whole-${index}`);
  const asked = paths.flatMap((path, index) => {
    const head = block([...request(path).map(asPost), ['content-length', '300']]);
    const stream = index * 2 + 1;
    const body = frame('data', FLAGS.endStream, stream, Buffer.alloc(300, 'x'));
    return [frame('headers', FLAGS.endHeaders, stream, head), body];
  });
  // Two TLS records in one packet. While the pings of the first are being answered, Node 20 reads no further than to the first
  // body in the second, and then all the rest at once: bodies are there when their requests are looked at.
  const ping = frame('ping', 0, 0, Buffer.from('to begin'));
  const pings = Array.from({ length: Math.ceil(Buffer.concat(asked).length / ping.length) }, () => ping);
  caller.socket.setMaxSendFragment(pings.length * ping.length);
  caller.send(...pings, ...asked);
  for (const path of paths) expect(await recordOf(sidecar, path)).toMatchObject({ outcome: 'ok', bytesIn: 300 });
  caller.send(frame('ping', 0, 0, Buffer.from('to end..')));
  await caller.frame((type, _stream, payload) => type === TYPES.ping && payload.toString() === 'to end..');
  expect(wasReset).toBe(false);
});

it('a caller that resets its stream takes the request to the application along, and leaves its neighbours', async () => {
  const closed = signal();
  const { url, server } = await application((seen, response) => {
    if (seen.url !== '/gone') return response.end('ok');
    response.write('begun');
    response.on('close', () => closed.resolve());
  });
  const sidecar = await start(url);
  const session = await connected(sidecar);
  const stream = begin2(session, { ':path': '/gone' });
  await once(stream, 'response');
  stream.close(8);
  await closed.promise;
  expect(await recordOf(sidecar, '/gone')).toMatchObject({ outcome: 'caller_aborted', status: 200 });
  expect((await call2(session)).body).toBe('ok');
  expect(server.listening).toBe(true);
});

it('an answer that breaks off is a reset stream, never a whole answer, and its neighbours go on', async () => {
  const { url } = await application((seen, response) => {
    if (seen.url !== '/broken') return response.end('ok');
    response.write('half of it', () => response.socket?.destroy());
  });
  const sidecar = await start(url);
  const session = await connected(sidecar);
  await expect(answerOf(begin2(session, { ':path': '/broken' }))).rejects.toThrow(/code 2/);
  expect(await recordOf(sidecar, '/broken')).toMatchObject({ outcome: 'upstream_aborted' });
  expect((await call2(session)).body).toBe('ok');
});

it('an early answer arrives whole, and asks for no more of the upload', async () => {
  const { url } = await raw((socket) => {
    socket.once('data', () => socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno'));
  });
  const sidecar = await start(url, { 'limits.body': '0' });
  const session = await connected(sidecar);
  const stream = begin2(session, { ':method': 'POST', ':path': '/early' });
  stream.write('x'.repeat(10));
  const closed = once(stream, 'close');
  expect(await answerOf(stream)).toMatchObject({ status: 403, body: 'no' });
  await closed;
  expect(stream.rstCode).toBe(0);
  expect(await recordOf(sidecar, '/early')).toMatchObject({ status: 403, outcome: 'ok' });
});

it('a caller that stops sending its body is told so in time', async () => {
  const { url } = await application();
  const sidecar = await start(url, { 'limits.bodyIdleTimeout': '200ms' });
  const session = await connected(sidecar);
  const stream = begin2(session, { ':method': 'POST', ':path': '/slow' });
  stream.write('a');
  expect(await answerOf(stream)).toMatchObject({ status: 408 });
  expect(await recordOf(sidecar, '/slow')).toMatchObject({ code: 'request_timeout' });
  expect((await call2(session)).status).toBe(200);
});

it('a caller that takes nothing of its answer does not hold the application', async () => {
  const closed = signal();
  const { url } = await application((seen, response) => {
    if (seen.url !== '/stalled') return response.end('ok');
    response.on('close', () => closed.resolve());
    response.end(Buffer.alloc(MIB * 8));
  });
  const sidecar = await start(url, { 'limits.bodyIdleTimeout': '300ms' });
  const session = await connected(sidecar, { initialWindowSize: 0 });
  const stream = begin2(session, { ':path': '/stalled' });
  await once(stream, 'close');
  expect(stream.rstCode).toBe(8);
  await closed.promise;
  expect(await recordOf(sidecar, '/stalled')).toMatchObject({ outcome: 'caller_aborted' });
});

it('a stream that stands still takes no silent neighbour along', async () => {
  const { url } = await application((seen, response) => {
    if (seen.url === '/still') return response.end(Buffer.alloc(MIB));
    setTimeout(() => response.end('late'), 1_000);
  });
  const sidecar = await start(url, { 'limits.bodyIdleTimeout': '300ms' });
  const session = await connected(sidecar);
  const silent = answerOf(begin2(session, { ':path': '/silent' }));
  const still = begin2(session, { ':path': '/still' });
  still.pause();
  await once(still, 'close');
  expect(still.rstCode).toBe(8);
  expect(await silent).toMatchObject({ status: 200, body: 'late' });
});

it('a caller that reads nothing at all loses its connection', async () => {
  const { url } = await application((_seen, response) => response.end(Buffer.alloc(MIB * 32)));
  const sidecar = await start(url, { 'limits.bodyIdleTimeout': '300ms' });
  const caller = await openFrames(sidecar);
  open.push(caller.socket);
  const most = uint32(2 ** 30);
  caller.send(
    frame('windowUpdate', 0, 0, most),
    frame('headers', FLAGS.endStream | FLAGS.endHeaders, 1, block(request('/deaf'))),
    frame('windowUpdate', 0, 1, most),
  );
  caller.socket.pause();
  expect(await recordOf(sidecar, '/deaf')).toMatchObject({ outcome: 'caller_aborted' });
  await expect.poll(() => sidecar.metric('mtls_sidecar_connections_open'), { timeout: 4_000 }).toBe(0);
});

it('a caller that leaves a full connection when its answer has just been given up is noticed', async () => {
  const { url } = await application((_seen, response) => response.end(Buffer.alloc(MIB * 32)));
  const sidecar = await start(url, { 'limits.bodyIdleTimeout': '1s' });
  const raw = connectTcp(sidecar.port, '127.0.0.1');
  const socket = connectTls({ ...tlsOptions(sidecar), ALPNProtocols: ['h2'], socket: raw });
  await once(socket, 'secureConnect');
  const caller = framesOver(socket);
  open.push(socket);
  const most = uint32(2 ** 30);
  caller.send(
    frame('windowUpdate', 0, 0, most),
    frame('headers', FLAGS.endStream | FLAGS.endHeaders, 1, block(request('/left'))),
    frame('windowUpdate', 0, 1, most),
  );
  socket.pause();
  expect(await recordOf(sidecar, '/left')).toMatchObject({ outcome: 'caller_aborted' });
  raw.resetAndDestroy();
  await expect.poll(() => sidecar.app.connections(), { timeout: 8_000 }).toBe(0);
});

it('an idle connection is ended with GOAWAY, one that never asked anything as well', async () => {
  const { url } = await application();
  const sidecar = await start(url, { 'limits.keepAliveTimeout': '200ms', 'limits.headTimeout': '400ms' });
  const used = await connected(sidecar);
  const goaway = once(used, 'goaway');
  await call2(used);
  const unused = await connected(sidecar);
  // From now on: when both are late, both ends may come at once.
  const closed = once(unused, 'close');
  expect((await goaway)[0]).toBe(0);
  await closed;
  expect(sidecar.requests()).toHaveLength(1);
});

it('after limits.requestsPerConnection the caller is asked to connect anew', async () => {
  const { url } = await application();
  const sidecar = await start(url, { 'limits.requestsPerConnection': '2' });
  const session = await connected(sidecar);
  const goaway = once(session, 'goaway');
  await call2(session);
  expect(session.closed).toBe(false);
  expect((await call2(session)).status).toBe(200);
  expect((await goaway)[0]).toBe(0);
  await once(session, 'close');
});

it('a drain says GOAWAY, and loses nothing that is under way', async () => {
  let answer = (): void => undefined;
  const asked = signal();
  const { url } = await application((_seen, response) => {
    answer = () => response.end('late');
    asked.resolve();
  });
  const sidecar = await start(url);
  const session = await connected(sidecar);
  const goaway = once(session, 'goaway');
  const answered = call2(session);
  await asked.promise;
  sidecar.app.drain();
  expect((await goaway)[0]).toBe(0);
  answer();
  expect((await answered).body).toBe('late');
  await once(session, 'close');
});

it('a caller revoked while its connection is open loses what is under way, and is told why when it is idle', async () => {
  const asked = signal();
  const { url } = await application((seen, response) => {
    if (seen.url === '/long') asked.resolve();
    else response.end('ok');
  });
  const sidecar = await startSidecar({
    pki,
    upstream: url,
    files: { 'clientCert.crl': pki.ca.crl() },
    settings: { 'listen.http2': 'true', 'reload.interval': '200ms' },
  });
  open.push(sidecar);
  const [busy, idle] = [await connected(sidecar), await connected(sidecar)];
  await call2(idle);
  const cut = answerOf(begin2(busy, { ':path': '/long' }));
  cut.catch(() => undefined);
  await asked.promise;
  writePem(sidecar.directory, 'clientCert.crl.pem', pki.ca.crl({ revoked: [pki.client.serial] }));
  await sidecar.logged(({ msg }) => msg === 'reloaded');
  await expect(cut).rejects.toThrow(/ended/);
  const refused = await call2(idle, { ':path': '/after' });
  expect(refused.status).toBe(400);
  expect(refused.body).toContain('revoked');
  expect(await recordOf(sidecar, '/after')).toMatchObject({ code: 'revoked' });
  await once(idle, 'close');
});

it('callers that stay good are asked to connect anew when trust changes', async () => {
  const { url } = await application();
  const sidecar = await start(url);
  const session = await connected(sidecar);
  const goaway = once(session, 'goaway');
  await call2(session);
  const other = makePki();
  writePem(sidecar.directory, 'ca.pem', pki.ca.certPem + other.ca.certPem);
  expect((await goaway)[0]).toBe(0);
});

function asPost([name, value]: [string, string]): [string, string] {
  return [name, name === ':method' ? 'POST' : value];
}

/** Whether an application would take these bytes for a whole request (RFC 9112 §6). */
function isWhole(bytes: string): boolean {
  const [head = '', ...rest] = bytes.split('\r\n\r\n');
  const body = rest.join('\r\n\r\n');
  const length = /\r\ncontent-length: (\d+)/i.exec(head)?.[1];
  return length === undefined ? body.endsWith('0') || !/chunked/i.test(head) : body.length >= Number(length);
}

function delay(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** A promise that the test keeps by itself. */
function signal(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = (): void => undefined;
  const promise = new Promise<void>((settle) => (resolve = settle));
  return { promise, resolve };
}
