import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import {
  startApplication,
  valuesOf,
  startRawApplication,
  type Application,
  type RawApplication,
  type Seen,
} from './support/application.js';
import { begin, call, openRaw, readAnswer, sendRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { repeat } from './support/repeat.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();

describe('as an application writes them', () => {
  let application: RawApplication;
  let sidecar: Sidecar;
  let bytes = '';
  let ends = false;

  beforeAll(async () => {
    application = await startRawApplication((socket) => {
      socket.on('data', () => {
        if (ends) socket.end(bytes);
        else socket.write(bytes);
      });
    });
    sidecar = await startSidecar({ pki, upstream: application.url });
  });

  beforeEach(() => (ends = false));

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  it('with a length', async () => {
    bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello';
    const answer = await call(sidecar, { path: '/length' });
    expect(answer).toMatchObject({ status: 200, body: 'hello' });
    expect(answer.headers['content-length']).toBe('5');
    expect(await recordOf(sidecar, '/length')).toMatchObject({ status: 200, outcome: 'ok', bytesOut: 5 });
  });

  it('in chunks, with extensions', async () => {
    bytes = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n';
    const answer = await call(sidecar, { path: '/chunks' });
    expect(answer).toMatchObject({ status: 200, body: 'hello' });
    expect(answer.headers['transfer-encoding']).toBe('chunked');
    expect(await recordOf(sidecar, '/chunks')).toMatchObject({ outcome: 'ok', bytesOut: 5 });
  });

  it.each(['HTTP/1.1', 'HTTP/1.0'])('until the end of the connection (%s)', async (version) => {
    ends = true;
    bytes = `${version} 200 OK\r\nContent-Type: text/plain\r\n\r\nhello`;
    const answer = await call(sidecar);
    expect(answer).toMatchObject({ status: 200, body: 'hello' });
    expect(answer.headers['transfer-encoding']).toBe('chunked');
  });

  it('of HTTP/1.0 with a length', async () => {
    ends = true;
    bytes = 'HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello';
    expect(await call(sidecar)).toMatchObject({ status: 200, body: 'hello' });
  });

  it.each([
    ['204', 'HTTP/1.1 204 No Content\r\n\r\n', {}],
    ['304', 'HTTP/1.1 304 Not Modified\r\nETag: "x"\r\nContent-Length: 5\r\n\r\n', { etag: '"x"' }],
    ['205', 'HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n', { 'content-length': '0' }],
  ])('without a body (%s)', async (status, head, headers) => {
    bytes = head;
    const answer = await call(sidecar);
    expect(answer).toMatchObject({ status: Number(status), body: '' });
    expect(answer.headers).toMatchObject(headers);
    expect(answer.headers['transfer-encoding']).toBeUndefined();
  });

  it.each(['Content-Length: 5\r\n\r\nhello', 'Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n'])(
    'without the body that a 205 cannot have (%j)',
    async (rest) => {
      bytes = `HTTP/1.1 205 Reset Content\r\n${rest}`;
      const answer = await call(sidecar, { path: `/reset/${rest.length}` });
      expect(answer).toMatchObject({ status: 205, body: '' });
      expect(answer.headers['content-length']).toBe('0');
      expect(answer.headers['transfer-encoding']).toBeUndefined();
      expect(await recordOf(sidecar, `/reset/${rest.length}`)).toMatchObject({ outcome: 'ok', bytesOut: 0 });
    },
  );

  it('to HEAD, with the length of what GET would get', async () => {
    bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n';
    const answer = await call(sidecar, { method: 'HEAD', path: '/head' });
    expect(answer).toMatchObject({ status: 200, body: '' });
    expect(answer.headers['content-length']).toBe('5');
    bytes = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';
    expect(await call(sidecar, { method: 'HEAD' })).toMatchObject({ status: 200, body: '' });
  });

  it('with trailers, but none that would be taken for a header of ours', async () => {
    bytes =
      'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\nX-Request-Id: evil\r\n\r\n';
    const answer = await call(sidecar);
    expect(answer.body).toBe('hello');
    expect(answer.rawTrailers).toEqual(['X-Sum', '1']);
  });

  it('piece by piece, each as soon as it is there', async () => {
    const upstream = new Promise<Socket>((resolve) => application.server.once('connection', resolve));
    bytes = 'HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n';
    const fresh = await startSidecar({ pki, upstream: application.url });
    const caller = await openRaw(fresh);
    caller.socket.write('GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await caller.receive(/\r\n\r\n$/);
    (await upstream).write('3\r\none\r\n');
    await caller.receive(/one\r\n$/);
    (await upstream).write('3\r\ntwo\r\n0\r\n\r\n');
    await caller.receive(/two\r\n0\r\n\r\n$/);
    await fresh.stop();
    caller.socket.destroy();
  });

  it('with a status of their own', async () => {
    bytes = 'HTTP/1.1 299 Quite Fine\r\nContent-Length: 0\r\n\r\n';
    expect(await sendRaw(sidecar, 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 299 Quite Fine\r\n/,
    );
  });

  it('without a status text', async () => {
    bytes = 'HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n';
    expect((await call(sidecar)).status).toBe(200);
  });

  it('more than was announced does not reach the next caller', async () => {
    bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nevil!';
    const answer = await call(sidecar);
    expect(answer.body).not.toContain('evil');
    bytes = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nnext';
    expect((await call(sidecar)).body).toBe('next');
  });

  it('early hints, before the answer', async () => {
    bytes =
      'HTTP/1.1 103 Early Hints\r\nLink: </style.css>\r\nConnection: X-Hop\r\nX-Hop: 1\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
    const everything = await sendRaw(sidecar, 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    expect(everything).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nLink: <\/style\.css>\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  });

  it('early hints are kept from a HTTP/1.0 caller', async () => {
    const everything = await sendRaw(sidecar, 'GET / HTTP/1.0\r\nHost: localhost\r\n\r\n');
    expect(everything).toMatch(/^HTTP\/1\.1 200 OK\r\n/);
  });
});

describe('to callers of every kind', () => {
  let application: Application;
  let sidecar: Sidecar;
  let answer: (seen: Seen, response: ServerResponse) => void;

  beforeAll(async () => {
    application = await startApplication((seen, response) => answer(seen, response));
    sidecar = await startSidecar({ pki, upstream: application.url });
  });

  beforeEach(() => {
    answer = (_seen, response) => response.end('hello');
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  it('HTTP/1.0: unchunked, and the connection ended', async () => {
    answer = (_seen, response) => {
      response.write('hel');
      setImmediate(() => response.end('lo'));
    };
    const everything = await sendRaw(sidecar, 'GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n');
    expect(everything).toMatch(/\r\n\r\nhello$/);
    expect(everything).not.toMatch(/transfer-encoding/i);
    expect(await recordOf(sidecar, '/old')).toMatchObject({ httpVersion: '1.0', outcome: 'ok', bytesOut: 5 });
  });

  it('HTTP/1.0 with keep-alive: the connection kept when the length is known', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n');
    expect(await caller.receive(/hello$/)).toMatch(/\r\nConnection: keep-alive\r\n/i);
    caller.socket.write('GET / HTTP/1.0\r\nHost: localhost\r\n\r\n');
    expect((await caller.closed()).match(/hello/g)).toHaveLength(2);
  });

  it('that send trailers, without those that would change what was judged', async () => {
    const head =
      'POST /trailers HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\nConnection: close\r\n\r\n';
    const trailers =
      'X-Sum: 1\r\nHost: evil\r\nX-SSL-Client-CN: root\r\nX_SSL_Client_CN: root\r\nAuthorization: x\r\nX-Forwarded-For: 1.1.1.1\r\nConnection: x\r\n';
    await sendRaw(sidecar, `${head}5\r\nhello\r\n0\r\n${trailers}\r\n`);
    const seen = application.seen.at(-1);
    expect(seen?.body.toString()).toBe('hello');
    expect(seen?.rawTrailers).toEqual(['X-Sum', '1']);
  });

  it('that ask before they send', async () => {
    application.server.once('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      response.writeContinue();
      application.server.emit('request', request, response);
    });
    answer = ({ body }, response) => response.end(body);
    const caller = await openRaw(sidecar);
    caller.socket.write(
      'POST /expect HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n',
    );
    await caller.receive(/^HTTP\/1\.1 100 Continue\r\n\r\n$/);
    caller.socket.write('body');
    expect(await caller.receive(/body$/)).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
    expect(await recordOf(sidecar, '/expect')).toMatchObject({ status: 200, bytesIn: 4, bytesOut: 4 });
    caller.socket.destroy();
  });

  it('that expect what nobody knows, which is not passed on', async () => {
    answer = ({ rawHeaders }, response) => response.end(valuesOf(rawHeaders, 'Expect').join());
    const answered = await call(sidecar, { path: '/odd', headers: { host: 'localhost', expect: 'the-unexpected' } });
    expect(answered).toMatchObject({ status: 200, body: '' });
  });

  it.each([417, 413])('that ask before they send, and are told no (%i), without a 100', async (status) => {
    application.server.once('checkContinue', (_request: IncomingMessage, response: ServerResponse) => {
      response.writeHead(status, { 'content-length': 2, connection: 'close' }).end('no');
    });
    const head = `POST /told-${status} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n`;
    const everything = await sendRaw(sidecar, head);
    expect(everything).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(everything).toMatch(/\r\nConnection: close\r\n[^]*no$/i);
    expect(await recordOf(sidecar, `/told-${status}`)).toMatchObject({ status, code: null, bytesIn: 0, bytesOut: 2 });
  });

  it('that upload: an early answer reaches them before their body is complete', async () => {
    const early = await startRawApplication((socket) => {
      socket.once('data', () =>
        socket.write('HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge'),
      );
    });
    const through = await startSidecar({ pki, upstream: early.url, settings: { 'limits.body': '0' } });
    for (const headers of [{}, { expect: '100-continue' }]) {
      const outgoing = begin(through, {
        method: 'POST',
        path: '/early',
        headers: { ...headers, 'content-length': 50_000_000 },
      });
      outgoing.on('error', () => undefined);
      outgoing.flushHeaders();
      const stop = repeat(1, () => outgoing.write(Buffer.alloc(500_000)));
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
      expect(await readAnswer(response)).toMatchObject({ status: 413, body: 'large' });
      stop();
      outgoing.destroy();
    }
    expect(await recordOf(through, '/early')).toMatchObject({ status: 413, code: null, outcome: 'ok', bytesOut: 5 });
    await expect.poll(() => through.metric('mtls_sidecar_upstream_connections{state="busy"}')).toBe(0);
    await through.stop();
    await early.stop();
  });

  it('that upload, from an application that answers and closes without reading', async () => {
    const rude = await startRawApplication((socket) => {
      socket.once('data', () => {
        socket.pause();
        socket.end('HTTP/1.1 413 Too Large\r\nContent-Length: 5\r\nConnection: close\r\n\r\nlarge');
      });
    });
    const through = await startSidecar({ pki, upstream: rude.url, settings: { 'limits.body': '0' } });
    const outgoing = begin(through, { method: 'POST', headers: { 'content-length': 50_000_000 } });
    outgoing.on('error', () => undefined);
    const stop = repeat(1, () => outgoing.write(Buffer.alloc(100_000)));
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    expect(await readAnswer(response)).toMatchObject({ status: 413, body: 'large' });
    stop();
    outgoing.destroy();
    await through.stop();
    await rude.stop();
  });

  it('whose body comes in the same packet, in pieces, or never ends early', async () => {
    answer = ({ body }, response) => response.end(body);
    const caller = await openRaw(sidecar);
    const post = 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 6\r\n\r\n';
    caller.socket.write(`${post}abcdef`);
    await caller.receive(/abcdef$/);
    caller.socket.write(post);
    await new Promise((resolve) => setTimeout(resolve, 20));
    caller.socket.write('ghi');
    await new Promise((resolve) => setTimeout(resolve, 20));
    caller.socket.write('jkl');
    await caller.receive(/ghijkl$/);
    caller.socket.destroy();
  });
});

it('from an application behind a Unix socket, plain, asking first and upgraded', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'mtls-sidecar-'));
  const path = join(directory, 'app.sock');
  const application = await startApplication(({ body }, response) => response.end(`got ${body.toString()}`), { path });
  application.server.on('upgrade', (_request, socket) => {
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nhello');
  });
  const sidecar = await startSidecar({ pki, upstream: application.url });
  expect(await call(sidecar, { body: 'this' })).toMatchObject({ status: 200, body: 'got this' });
  expect(await call(sidecar, { body: 'that', headers: { expect: '100-continue' } })).toMatchObject({
    body: 'got that',
  });
  const upgrade = 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';
  expect(await sendRaw(sidecar, upgrade)).toMatch(/^HTTP\/1\.1 101 [^]*hello$/);
  await sidecar.stop();
  await application.stop();
  rmSync(directory, { recursive: true });
});
