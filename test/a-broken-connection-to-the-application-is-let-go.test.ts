import { once } from 'node:events';
import { createServer, type ServerHttp2Session, type ServerHttp2Stream } from 'node:http2';
import { createServer as createTcpServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { queryObjects } from 'node:v8';
import { expect, it, onTestFinished } from 'vitest';
import { Permit } from '../src/admit/authorize.js';
import type { AnswerSink } from '../src/forward/exchange.js';
import { Http2Connection } from '../src/forward/http2-connection.js';
import { Upstream } from '../src/forward/upstream.js';
import { begin, call, openRaw } from './support/caller.js';
import { block, FLAGS, frame, framesOf, uint32 } from './support/http2-frames.js';
import { BARE_REQUEST } from './support/forwarded.js';
import { identityOf } from './support/identity.js';
import { recordOf } from './support/records.js';
import { configured } from './support/settings.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const PREFACE = 24;
const STATUS = block([[':status', '200']]);
const BUSY = 'mtls_sidecar_upstream_connections{state="busy"}';

type Answer = (socket: Socket, stream: number) => void;

/** An application that never closes a connection, and writes on until nobody is at the other end. */
async function keeper(answer: Answer) {
  const open = new Set<Socket>();
  const server = createTcpServer({ allowHalfOpen: true }, (socket) => {
    open.add(socket);
    socket.on('error', () => undefined);
    answerAll(socket, answer);
    const timer = setInterval(() => socket.write(frame('ping', 0, 0, Buffer.alloc(8))), 50);
    socket.on('close', () => {
      clearInterval(timer);
      open.delete(socket);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, open };
}

function answerAll(socket: Socket, answer: Answer): void {
  let bytes = Buffer.alloc(0);
  let answered = 0;
  socket.write(frame('settings', 0, 0));
  socket.on('data', (chunk: Buffer) => {
    bytes = Buffer.concat([bytes, chunk]);
    const asked = framesOf(bytes.subarray(PREFACE)).filter(({ type }) => type === 1);
    for (const { stream } of asked.slice(answered)) answer(socket, stream);
    answered = asked.length;
  });
}

async function start(url: string, settings: Readonly<Record<string, string>> = {}): Promise<Sidecar> {
  const sidecar = await startSidecar({
    upstream: url,
    settings: { 'upstream.http2': 'true', 'upstream.connectTimeout': '300ms', ...settings },
  });
  onTestFinished(() => sidecar.stop());
  return sidecar;
}

const alive = (): number => queryObjects(Http2Connection, { format: 'count' });

async function leavesNothing(sidecar: Sidecar, { open }: { readonly open: ReadonlySet<Socket> }): Promise<void> {
  await expect.poll(() => open.size, { timeout: 5_000 }).toBe(0);
  expect(await sidecar.metric(BUSY)).toBe(0);
  await expect.poll(alive, { timeout: 5_000 }).toBe(0);
}

async function connections(sidecar: Sidecar): Promise<number> {
  const { body } = await sidecar.admin('/metrics');
  const counts = [...body.matchAll(/^mtls_sidecar_upstream_connections\{.*\} (\d+)$/gm)].map(([, count]) =>
    Number(count),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** A caller who leaves before it has its answer. */
async function leave(sidecar: Sidecar): Promise<void> {
  const caller = await openRaw(sidecar);
  caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await sleep(100);
  caller.socket.destroy();
}

const unfinishedHead: Answer = (socket, stream) => void socket.write(frame('headers', 0, stream, STATUS));

/** Of the first two nghttp2 tells nobody. */
const BREAKS: Readonly<Record<string, Answer>> = {
  'heads that are mixed': unfinishedHead,
  'a frame that is too large': (socket, stream) => void socket.write(frame('data', 0, stream, Buffer.alloc(70_000))),
  'a frame that cannot be': (socket) => void socket.write(frame('windowUpdate', 0, 0, uint32(0))),
  'no answer': () => undefined,
};

it.each(Object.entries(BREAKS))('broken by %s, when its callers leave', async (_how, answer) => {
  const application = await keeper(answer);
  const sidecar = await start(application.url, { 'upstream.keepAlive': '300ms' });
  for (let round = 0; round < 3; round += 1) await Promise.all([1, 2, 3].map(() => leave(sidecar)));
  await leavesNothing(sidecar, application);
});

it('those who wait for it get their answer, and those who come later another connection', async () => {
  let isBroken = true;
  let asked = 0;
  const application = await keeper((socket, stream) => {
    asked += 1;
    if (isBroken) return unfinishedHead(socket, stream);
    const whole = FLAGS.endHeaders | FLAGS.endStream;
    socket.write(frame('headers', whole, stream, STATUS));
  });
  const sidecar = await start(application.url, { 'upstream.headTimeout': '400ms', 'upstream.keepAlive': '300ms' });
  const waiting = [1, 2, 3].map(() => call(sidecar, { path: '/broken' }));
  await expect.poll(() => asked).toBeGreaterThanOrEqual(3);
  await sleep(100);
  isBroken = false;
  // Refused by a connection that is broken, and not by the next.
  expect((await call(sidecar)).status).toBe(200);
  for (const { status } of await Promise.all(waiting)) expect([502, 504]).toContain(status);
  expect((await recordOf(sidecar, '/broken'))['code']).toMatch(/^upstream_(timeout|protocol|closed)$/);
  await leavesNothing(sidecar, application);
});

it('there is one more than upstream.maxConnections at most, however many break', async () => {
  const application = await keeper(unfinishedHead);
  const sidecar = await start(application.url, {
    'upstream.maxConnections': '2',
    'upstream.connectTimeout': '1s',
    'upstream.keepAlive': '300ms',
  });
  let most = 0;
  for (let round = 0; round < 15; round += 1) {
    await Promise.all([1, 2, 3].map(() => leave(sidecar)));
    most = Math.max(most, await connections(sidecar));
  }
  expect(most).toBeLessThanOrEqual(3);
  await leavesNothing(sidecar, application);
});

it('ended by us for want of requests', async () => {
  const application = await keeper((socket, stream) => {
    socket.write(frame('headers', FLAGS.endHeaders | FLAGS.endStream, stream, STATUS));
  });
  const sidecar = await start(application.url, { 'upstream.keepAlive': '100ms' });
  expect((await call(sidecar)).status).toBe(200);
  await leavesNothing(sidecar, application);
});

it('ended by the application, which says so and does not leave', async () => {
  const application = await keeper((socket, stream) => {
    socket.write(frame('headers', FLAGS.endHeaders | FLAGS.endStream, stream, STATUS));
    setTimeout(() => socket.write(frame('goaway', 0, 0, Buffer.concat([uint32(stream), uint32(0)]))), 50);
  });
  const sidecar = await start(application.url);
  expect((await call(sidecar)).status).toBe(200);
  await leavesNothing(sidecar, application);
});

/** An application that keeps what it was asked for, by path. */
async function holder() {
  const held = new Map<string, ServerHttp2Stream>();
  const sessions: ServerHttp2Session[] = [];
  const server = createServer();
  server.on('session', (session) => sessions.push(session));
  server.on('stream', (stream, headers) => {
    stream.on('error', () => undefined);
    held.set(String(headers[':path']), stream);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  onTestFinished(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, held, sessions };
}

it('one that is about to end carries its requests to their end, whoever else leaves or is late', async () => {
  const { url, held, sessions } = await holder();
  const sidecar = await start(url, { 'upstream.headTimeout': '400ms' });
  const slow = call(sidecar, { path: '/slow' });
  await expect.poll(() => held.has('/slow')).toBe(true);
  held.get('/slow')?.respond({ ':status': 200 });
  held.get('/slow')?.write('first, ');
  const left = begin(sidecar, { path: '/left' });
  left.on('error', () => undefined);
  left.end();
  const late = call(sidecar, { path: '/late' });
  await expect.poll(() => held.size).toBe(3);
  sessions[0]?.close();
  left.destroy();
  expect((await late).status).toBe(504);
  // Longer than whatever is waited for.
  await sleep(3_000);
  held.get('/slow')?.end('and last');
  expect(await slow).toMatchObject({ status: 200, body: 'first, and last' });
  expect(sessions).toHaveLength(1);
});

it('an answer that is whole and that its caller does not take goes with its caller', async () => {
  const { url, held } = await holder();
  const upstream = new Upstream(configured({ 'upstream.url': url, 'upstream.http2': 'true' }).upstream);
  onTestFinished(() => upstream.close());
  let taken = 0;
  const nothing = (): void => undefined;
  const data = (chunk: Buffer): boolean => (taken += chunk.length) < 0;
  const sink: AnswerSink = { information: nothing, head: nothing, data, end: nothing, fail: nothing };
  const exchange = upstream.send(Permit.grant(identityOf({})), BARE_REQUEST, sink);
  await expect.poll(() => held.has('/')).toBe(true);
  held.get('/')?.respond({ ':status': 200 });
  held.get('/')?.write('some');
  await expect.poll(() => taken).toBe(4);
  held.get('/')?.end('and the rest');
  await sleep(200);
  exchange.abort();
  await expect.poll(() => upstream.numbers()).toMatchObject({ busy: 0, open: 1 });
});
