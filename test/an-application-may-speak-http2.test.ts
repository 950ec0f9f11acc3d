import { once } from 'node:events';
import {
  createServer,
  type Http2Server,
  type ServerHttp2Session,
  type ServerHttp2Stream,
  type Settings,
} from 'node:http2';
import type { AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { MAX_REQUESTS } from '../src/forward/http2-connection.js';
import { Http2Pool } from '../src/forward/http2-pool.js';
import { startApplication, startRawApplication, valuesOf } from './support/application.js';
import { begin, call, openRaw, readAnswer, sendRaw } from './support/caller.js';
import { answerOf, begin2, call2, openHttp2 } from './support/http2.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { configured } from './support/settings.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const open: { destroy?(): void; stop?(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of open.splice(0).reverse()) {
    each.destroy?.();
    await each.stop?.();
  }
});

type Answer = (stream: ServerHttp2Stream, seen: Seen) => void;

interface Seen {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly rawHeaders: readonly string[];
  body: string;
  trailers: Readonly<Record<string, string | string[] | undefined>>;
}

/** An application that speaks HTTP/2 alone, and answers when it has the whole request. */
async function application(
  answer: Answer = (stream) => stream.end('ok'),
  options: { readonly atOnce?: boolean; readonly settings?: Settings } = {},
) {
  const server: Http2Server = createServer(options.settings === undefined ? {} : { settings: options.settings });
  const seen: Seen[] = [];
  const sessions: ServerHttp2Session[] = [];
  server.on('session', (session) => {
    sessions.push(session);
    session.on('error', () => undefined);
  });
  server.on('stream', (stream, headers, _flags, ...rest) => {
    const entry: Seen = { headers, rawHeaders: (rest as unknown as [string[]])[0], body: '', trailers: {} };
    seen.push(entry);
    stream.on('error', () => undefined);
    stream.on('data', (chunk: Buffer) => (entry.body += chunk.toString()));
    stream.on('trailers', (trailers) => (entry.trailers = trailers));
    if (options.atOnce === true) answer(stream, entry);
    else stream.on('end', () => !stream.destroyed && answer(stream, entry));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = async (): Promise<void> => {
    for (const session of sessions) session.destroy();
    server.close();
    await once(server, 'close');
  };
  open.push({ stop });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, seen, sessions };
}

async function start(upstream: string, settings: Record<string, string> = {}): Promise<Sidecar> {
  const always = { 'listen.http2': 'true', 'upstream.http2': 'true' };
  const sidecar = await startSidecar({ pki, upstream, settings: { ...always, ...settings } });
  open.push(sidecar);
  return sidecar;
}

describe('a caller of HTTP/1.1', () => {
  it('reaches it, with the same headers', async () => {
    const { url, seen } = await application();
    const sidecar = await start(url);
    expect(await call(sidecar, { path: '/a?b', headers: { 'X-Mine': 'kept', Connection: 'close' } })).toMatchObject({
      status: 200,
      body: 'ok',
    });
    const { headers, rawHeaders } = seen[0] as Seen;
    expect(headers).toMatchObject({ ':method': 'GET', ':path': '/a?b', ':authority': 'localhost', te: 'trailers' });
    expect(valuesOf(rawHeaders, 'x-mine')).toEqual(['kept']);
    expect(valuesOf(rawHeaders, 'x-ssl-client-s-dn')).toEqual(['CN=im.qq.com,O=Tencent,C=CN']);
    expect(valuesOf(rawHeaders, 'host')).toEqual([]);
  });

  it('reaches it with headers that say something twice', async () => {
    const { url, seen } = await application();
    const sidecar = await start(url);
    const twice = [
      'Accept',
      'Accept-Language',
      'Authorization',
      'Content-Language',
      'Content-Type',
      'If-Match',
      'Range',
    ];
    const lines = twice.flatMap((name) => [`${name}: 1`, `${name}: 2`]).join('\r\n');
    const answer = await sendRaw(sidecar, `GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${lines}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    for (const name of twice) expect(valuesOf((seen[0] as Seen).rawHeaders, name).join(', '), name).toBe('1, 2');
  });

  it('sends bodies of every kind', async () => {
    const { url, seen } = await application((stream, { body }) => stream.end(`${body.length}`));
    const sidecar = await start(url);
    expect((await call(sidecar, { body: 'x'.repeat(10) })).body).toBe('10');
    expect((await call(sidecar, { body: 'x'.repeat(500_000) })).body).toBe('500000');
    const chunked = begin(sidecar, { method: 'POST', headers: { trailer: 'x-sum' } });
    chunked.write('abc');
    chunked.addTrailers({ 'x-sum': '6' });
    chunked.end('def');
    const [response] = await once(chunked, 'response');
    expect((await readAnswer(response)).body).toBe('6');
    expect(seen.at(-1)?.trailers['x-sum']).toBe('6');
  });

  it.each([
    ['HEAD', 200],
    ['GET', 204],
    ['GET', 304],
  ])('gets an answer without a body: %s %i', async (method, status) => {
    const { url } = await application((stream) =>
      stream.respond({ ':status': status, etag: '"1"' }, { endStream: true }),
    );
    const sidecar = await start(url);
    expect(await call(sidecar, { method })).toMatchObject({ status, body: '' });
  });

  it('gets 1xx and trailers', async () => {
    const { url } = await application((stream) => {
      stream.additionalHeaders({ ':status': 103, link: '</a.css>; rel=preload' });
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '1' }));
      stream.end('body');
    });
    const sidecar = await start(url);
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    const answer = await caller.closed();
    expect(answer).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a\.css>; rel=preload\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
    expect(answer).toMatch(/4\r\nbody\r\n0\r\nx-sum: 1\r\n\r\n$/);
  });

  it('waits for its 100 Continue', async () => {
    const { url } = await application(
      (stream, seen) => {
        if (seen.headers['expect'] === '100-continue') stream.additionalHeaders({ ':status': 100 });
        stream.on('end', () => stream.end(seen.body));
      },
      { atOnce: true },
    );
    const sidecar = await start(url);
    const outgoing = begin(sidecar, { method: 'POST', headers: { expect: '100-continue', 'content-length': '4' } });
    outgoing.flushHeaders();
    await once(outgoing, 'continue');
    outgoing.end('late');
    const [response] = await once(outgoing, 'response');
    expect((await readAnswer(response)).body).toBe('late');
  });

  it('cannot upgrade, and is told so', async () => {
    const { url, seen } = await application();
    const sidecar = await start(url);
    const caller = await openRaw(sidecar);
    caller.socket.write('GET /ws HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    expect(await caller.closed()).toMatch(/^HTTP\/1\.1 400 /);
    expect(await recordOf(sidecar, '/ws')).toMatchObject({ code: 'bad_request' });
    expect(seen).toEqual([]);
  });
});

describe('an answer cut short never looks whole', () => {
  it.each([
    ['with an error code', 2],
    ['as Node’s server does it, without one', 0],
  ])('%s', async (_, code) => {
    const { url } = await application((stream) => {
      stream.respond({ ':status': 200 }, { waitForTrailers: true });
      stream.write('half', () => stream.close(code));
    });
    const sidecar = await start(url);
    await expect(call(sidecar, { path: '/one' })).rejects.toThrow();
    expect(await recordOf(sidecar, '/one')).toMatchObject({ outcome: 'upstream_aborted' });
    const session = await openHttp2(sidecar);
    open.push(session);
    await expect(answerOf(begin2(session))).rejects.toThrow(/code 2/);
  });
});

it('an upload that its caller gives up never looks whole', async () => {
  const arrived = signal<void>();
  const reset = signal<number>();
  const ended: string[] = [];
  const { url } = await application(
    (stream, { headers }) => {
      stream.on('data', () => arrived.resolve());
      stream.on('end', () => !stream.aborted && ended.push(String(headers[':path'])));
      stream.on('close', () => reset.resolve(stream.rstCode));
    },
    { atOnce: true },
  );
  const sidecar = await start(url);
  const outgoing = begin(sidecar, { method: 'POST', path: '/half', headers: { 'transfer-encoding': 'chunked' } });
  outgoing.on('error', () => undefined);
  outgoing.write('half of it');
  // Whoever leaves before that leaves nothing to be reset.
  await arrived.promise;
  outgoing.destroy();
  expect(await reset.promise).toBe(8);
  expect(ended).toEqual([]);
});

it('an answer without a body is whole with its head, however late the application ends it', async () => {
  const { url } = await application((stream) => {
    stream.respond({ ':status': 200 });
    setTimeout(() => stream.end(), 20);
  });
  const sidecar = await start(url);
  const session = await openHttp2(sidecar);
  open.push(session);
  // More of them than a caller may give up.
  for (let round = 0; round < 6; round += 1) {
    const asked = Array.from({ length: 50 }, () => call2(session, { ':method': 'HEAD', ':path': '/late-end' }));
    for (const { status } of await Promise.all(asked)) expect(status).toBe(200);
  }
  expect(await recordOf(sidecar, '/late-end')).toMatchObject({ status: 200, outcome: 'ok' });
  expect((await call2(session)).status).toBe(200);
});

// nghttp2, and with it Node, ends a connection after a thousand resets at once.
it('answers that are whole are not reset besides, which would end their connection as a flood', async () => {
  const { url, sessions } = await application();
  const sidecar = await start(url, { 'limits.requestsPerConnection': '2000' });
  const session = await openHttp2(sidecar);
  open.push(session);
  for (let round = 0; round < 12; round += 1) {
    const asked = Array.from({ length: 100 }, () => call2(session, {}, 'a body'));
    for (const { status } of await Promise.all(asked)) expect(status).toBe(200);
  }
  expect(sessions).toHaveLength(1);
});

it('callers that give up many requests end no connection with the requests of others', async () => {
  const held: ServerHttp2Stream[] = [];
  const { url, seen } = await application((stream, { headers }) => {
    if (headers[':path'] === '/held') held.push(stream);
  });
  const sidecar = await start(url);
  const honest = call(sidecar, { path: '/held', body: 'once only' });
  await expect.poll(() => held.length).toBe(1);
  for (let round = 0; round < 14; round += 1) {
    // Another connection each time: none gives up more than it may.
    const session = await openHttp2(sidecar);
    open.push(session);
    const before = seen.length;
    const given = Array.from({ length: 90 }, () => begin2(session, { ':path': '/given-up' }));
    await expect.poll(() => seen.length - before).toBe(90);
    for (const stream of given) stream.close(8);
  }
  held[0]?.end('ok');
  expect((await honest).status).toBe(200);
});

it('a connection is replaced before its stream numbers run out', async () => {
  const { url } = await application();
  const pool = new Http2Pool(configured({ 'upstream.url': url }).upstream, {
    markReached: () => undefined,
    startWaiting: () => undefined,
  });
  open.push({ destroy: () => pool.close(new Error('over')) });
  const first = pool.take();
  const use = (times: number): void => {
    for (let count = 0; count < times; count += 1) {
      first.enter();
      first.leave();
    }
  };
  use(MAX_REQUESTS - 1);
  expect(pool.take()).toBe(first);
  use(1);
  expect(pool.take()).not.toBe(first);
});

it('a request that waits for its turn and is given up leaves no trace, and the others follow in order', async () => {
  const held: ServerHttp2Stream[] = [];
  const { url, seen, sessions } = await application(
    (stream, { headers }) => {
      if (headers[':path'] === '/held') held.push(stream);
      else stream.end('ok');
    },
    { settings: { maxConcurrentStreams: 1 } },
  );
  const sidecar = await start(url, {
    'upstream.maxConnections': '1',
    'upstream.connectTimeout': '10s',
    'limits.streams': '5',
  });
  const waiting = (): Promise<number> => sidecar.metric('mtls_sidecar_upstream_requests_waiting');
  const session = await openHttp2(sidecar);
  open.push(session);
  expect((await call2(session)).body).toBe('ok');
  const first = call2(session, { ':path': '/held' });
  await expect.poll(() => held.length).toBe(1);
  // As many as the caller may have under way, several times over.
  for (let round = 0; round < 5; round += 1) {
    const given = Array.from({ length: 4 }, () => begin2(session, { ':path': '/given-up' }));
    await expect.poll(waiting).toBe(4);
    for (const stream of given) stream.close(8);
    await expect.poll(waiting).toBe(0);
  }
  const later = ['/a', '/b', '/c'].map((path) => call2(session, { ':path': path }));
  await expect.poll(waiting).toBe(3);
  held[0]?.end('ok');
  for (const answer of [first, ...later]) expect((await answer).body).toBe('ok');
  expect(seen.map(({ headers }) => headers[':path'])).toEqual(['/', '/held', '/a', '/b', '/c']);
  expect(sessions).toHaveLength(1);
});

it('a request given up before the application has said how many it takes gives its place back as well', async () => {
  const held: ServerHttp2Stream[] = [];
  const { url, seen } = await application((stream) => held.push(stream), { settings: { maxConcurrentStreams: 1 } });
  const sidecar = await start(url, { 'upstream.maxConnections': '1' });
  const session = await openHttp2(sidecar);
  open.push(session);
  const burst = ['/a', '/b', '/c'].map((path) => begin2(session, { ':path': path }));
  await expect.poll(() => held.length).toBe(1);
  for (const stream of burst.slice(1)) stream.close(8);
  const next = call2(session, { ':path': '/next' });
  held[0]?.end('ok');
  await expect.poll(() => held.length).toBe(2);
  held[1]?.end('ok');
  expect((await next).body).toBe('ok');
  expect(seen.map(({ headers }) => headers[':path'])).toEqual(['/a', '/next']);
});

it('connections that are about to end keep no request out, and one more is all that they cost', async () => {
  const held: ServerHttp2Stream[] = [];
  const { url, sessions } = await application((stream, { headers }) => {
    if (headers[':path'] === '/held') held.push(stream);
    else stream.end('ok');
  });
  const sidecar = await start(url, { 'upstream.maxConnections': '2' });
  const busy: Promise<unknown>[] = [];
  for (const round of [1, 2]) {
    busy.push(call(sidecar, { path: '/held' }));
    await expect.poll(() => held.length).toBe(round);
    // GOAWAY; what is under way goes on.
    sessions.at(-1)?.close();
    await expect.poll(() => sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}')).toBe(round);
  }
  const answers = await Promise.all(Array.from({ length: 20 }, () => call(sidecar)));
  expect(answers.every(({ status }) => status === 200)).toBe(true);
  expect(sessions).toHaveLength(3);
  for (const stream of held) stream.end('ok');
  await Promise.all(busy);
});

it('callers of all kinds share one connection', async () => {
  const { url, sessions } = await application();
  const sidecar = await start(url);
  const session = await openHttp2(sidecar);
  open.push(session);
  await Promise.all([call(sidecar), call(sidecar), call2(session), call2(session), call2(session)]);
  expect(sessions).toHaveLength(1);
  expect(await sidecar.metric('mtls_sidecar_upstream_connections{state="idle"}')).toBe(1);
});

it('what a GOAWAY leaves behind is sent again, over a new connection', async () => {
  let round = 0;
  const { url, sessions, seen } = await application((stream) => {
    round += 1;
    if (round === 2) return stream.close(7);
    stream.end('ok');
  });
  const sidecar = await start(url);
  expect((await call(sidecar)).body).toBe('ok');
  // REFUSED_STREAM: not processed, whatever the method.
  expect((await call(sidecar, { body: 'once' })).body).toBe('ok');
  expect(seen.map(({ body }) => body)).toEqual(['', 'once', 'once']);
  sessions[0]?.close();
  expect((await call(sidecar, { body: 'after' })).body).toBe('ok');
  expect(sessions).toHaveLength(2);
});

it('what may have been processed is not sent again', async () => {
  const { url, seen } = await application((stream) => stream.session?.destroy());
  const sidecar = await start(url);
  expect((await call(sidecar, { body: 'x', path: '/lost' })).status).toBe(502);
  expect(seen).toHaveLength(1);
  expect(await recordOf(sidecar, '/lost')).toMatchObject({ code: 'upstream_closed' });
});

it('a caller that takes its time with a body is not the fault of an application that waits for it', async () => {
  const { url } = await application((stream, { body }) => stream.end(body));
  const sidecar = await start(url, { 'upstream.headTimeout': '150ms' });
  const outgoing = begin(sidecar, { method: 'POST' });
  for (const part of ['one', 'two', 'three']) {
    outgoing.write(part);
    await new Promise((resolve) => setTimeout(resolve, 250));
  }
  outgoing.end();
  const [response] = await once(outgoing, 'response');
  expect(await readAnswer(response)).toMatchObject({ status: 200, body: 'onetwothree' });
});

it('an application that is late is a 504, and its connection is given up when it does not even answer a PING', async () => {
  const raw = await startRawApplication((socket) => socket.resume());
  open.push(raw);
  const sidecar = await start(raw.url, { 'upstream.headTimeout': '200ms', 'upstream.connectTimeout': '300ms' });
  const closed = new Promise((resolve) => raw.server.once('connection', (socket) => socket.once('close', resolve)));
  expect((await call(sidecar, { path: '/late' })).status).toBe(504);
  expect(await recordOf(sidecar, '/late')).toMatchObject({ code: 'upstream_timeout' });
  await closed;
});

it('an application that speaks HTTP/1.1 alone is a 502', async () => {
  const old = await startApplication();
  open.push(old);
  const sidecar = await start(old.url);
  expect((await call(sidecar, { path: '/old' })).status).toBe(502);
  expect(await recordOf(sidecar, '/old')).toMatchObject({ code: 'upstream_protocol' });
});

it('an application that is not there is a 503 until it was first reached', async () => {
  const sidecar = await start('http://127.0.0.1:1');
  expect((await call(sidecar, { path: '/none' })).status).toBe(503);
  expect(await recordOf(sidecar, '/none')).toMatchObject({ code: 'upstream_connect' });
});

/** A promise that the test keeps by itself. */
function signal<T>(): { readonly promise: Promise<T>; readonly resolve: (value: T) => void } {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((settle) => (resolve = settle));
  return { promise, resolve };
}
