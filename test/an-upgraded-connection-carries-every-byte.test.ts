import { once } from 'node:events';
import { createServer, type IncomingMessage } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';
import { text } from 'node:stream/consumers';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { startRawApplication, valuesOf, type RawApplication } from './support/application.js';
import { begin, call, openRaw, sendRaw, tlsOptions } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf, refusalsOf } from './support/records.js';
import { repeat } from './support/repeat.js';
import { sidecarForTest, startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();

/** The head of an Upgrade as a caller sends it. */
function upgradeHead(path: string, more = '', protocol = 'echo'): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: ${protocol}\r\n${more}\r\n`;
}

const SWITCHED = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

describe('a WebSocket', () => {
  let sidecar: Sidecar;
  let server: ReturnType<typeof createServer>;
  const heads: IncomingMessage[] = [];

  beforeAll(async () => {
    server = createServer((_request, response) => response.end('no socket'));
    const sockets = new WebSocketServer({ server, handleProtocols: () => 'chat' });
    sockets.on('connection', (socket, request) => {
      heads.push(request);
      socket.on('message', (data: Buffer, binary) => socket.send(data, { binary }));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    sidecar = await startSidecar({ pki, upstream: `http://127.0.0.1:${port}` });
  });

  afterAll(async () => {
    await sidecar.stop();
    server.closeAllConnections();
    server.close();
  });

  function openSocket(path: string, headers: Record<string, string> = {}): WebSocket {
    const { host: _host, ...tls } = tlsOptions(sidecar);
    return new WebSocket(`wss://127.0.0.1:${sidecar.port}${path}`, 'chat', { ...tls, headers });
  }

  it('carries text and large binary frames both ways, and the close code', async () => {
    const socket = openSocket('/large');
    await once(socket, 'open');
    expect(socket.protocol).toBe('chat');
    socket.send('grüße');
    expect(String((await once(socket, 'message'))[0])).toBe('grüße');
    const large = Buffer.alloc(5_000_000, 'abcdefg');
    socket.send(large);
    expect(large.equals((await once(socket, 'message'))[0] as Buffer)).toBe(true);
    socket.close(4001, 'done');
    expect((await once(socket, 'close'))[0]).toBe(4001);
    const record = await recordOf(sidecar, '/large');
    expect(record).toMatchObject({ status: 101, code: null, outcome: 'ok', upgraded: true });
    // Frame headers and the close frame on top of what was sent.
    expect(record['bytesIn']).toBeGreaterThan(5_000_007);
    expect(record['bytesIn']).toBeLessThan(5_000_100);
    expect(record['bytesOut']).toBeGreaterThan(5_000_007);
    expect(record['bytesOut']).toBeLessThan(5_000_100);
    expect(await sidecar.metric('mtls_sidecar_requests_total{status="1xx",method="GET"}')).toBe(1);
  });

  it('brings the verified identity, and none that the caller made up', async () => {
    const forged = { 'x-ssl-client-cn': 'root', X_SSL_Client_CN: 'root', 'x-forwarded-for': '1.2.3.4' };
    const socket = openSocket('/who', {
      ...forged,
      connection: 'Upgrade, X-SSL-Client-Verify',
      'x-request-id': 'mine',
    });
    const [response] = (await once(socket, 'upgrade')) as [IncomingMessage];
    expect(response.headers['x-request-id']).toBe('mine');
    const { rawHeaders } = heads.find(({ url }) => url === '/who') as IncomingMessage;
    expect(valuesOf(rawHeaders, 'x-ssl-client-cn')).toEqual(['im.qq.com']);
    expect(valuesOf(rawHeaders, 'x_ssl_client_cn')).toEqual([]);
    expect(valuesOf(rawHeaders, 'x-ssl-client-verify')).toEqual(['SUCCESS']);
    expect(valuesOf(rawHeaders, 'x-forwarded-for')).toEqual(['127.0.0.1']);
    expect(valuesOf(rawHeaders, 'x-request-id')).toEqual(['mine']);
    expect(valuesOf(rawHeaders, 'connection')).toEqual(['Upgrade']);
    socket.terminate();
    await recordOf(sidecar, '/who');
  });

  it('asks for the path as it was written', async () => {
    const path = '//a/../b?x=%2F//y';
    const caller = await openRaw(sidecar);
    caller.socket.write(
      upgradeHead(path, 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n', 'websocket'),
    );
    const head = await caller.receive(/\r\n\r\n/);
    expect(head).toMatch(/^HTTP\/1\.1 101 /);
    expect(head).toMatch(/Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK\+xOo=/i);
    expect(heads.at(-1)?.url).toBe(path);
    caller.socket.destroy();
    expect(await recordOf(sidecar, path)).toMatchObject({ status: 101, upgraded: true });
  });

  it('does not mix with another one', async () => {
    const sockets = [openSocket('/one'), openSocket('/two')] as const;
    await Promise.all(sockets.map((socket) => once(socket, 'open')));
    const replies = sockets.map((socket) => once(socket, 'message'));
    sockets[1].send('two');
    sockets[0].send('one');
    expect((await Promise.all(replies)).map(([data]) => String(data))).toEqual(['one', 'two']);
    for (const socket of sockets) socket.terminate();
  });
});

describe('any other protocol', () => {
  let sidecar: Sidecar;
  let application: RawApplication;
  let onUpgrade: (socket: Socket, head: string) => void = () => undefined;

  beforeAll(async () => {
    application = await startRawApplication((socket) => {
      let head = '';
      socket.on('data', function read(chunk: Buffer) {
        head += chunk.toString('latin1');
        if (!head.includes('\r\n\r\n')) return;
        socket.off('data', read);
        onUpgrade(socket, head);
        socket.resume();
      });
    });
    sidecar = await startSidecar({
      pki,
      upstream: application.url,
      settings: {
        'limits.tunnelIdleTimeout': '300ms',
        'upstream.headTimeout': '300ms',
        'upstream.idleTimeout': '300ms',
      },
    });
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  /** Both ends of a tunnel that is there. */
  async function openTunnel(path: string) {
    const arrived = new Promise<Socket>((resolve) => {
      onUpgrade = (socket) => {
        socket.write(SWITCHED);
        resolve(socket);
      };
    });
    const caller = await openRaw(sidecar);
    caller.socket.write(upgradeHead(path));
    await caller.receive(/\r\n\r\n/);
    return { caller, upstream: await arrived };
  }

  it('passes, with the bytes that came right behind either head', async () => {
    onUpgrade = (socket, head) => {
      expect(head).toMatch(/^GET \/early HTTP\/1\.1\r\n/);
      expect(head).toMatch(/\r\nupgrade: echo\r\n/i);
      expect(head).toMatch(/\r\nconnection: upgrade\r\n/i);
      socket.write(`${SWITCHED}welcome `);
      socket.on('data', (chunk) => socket.write(chunk));
      socket.on('end', () => socket.end('bye'));
    };
    const caller = await openRaw(sidecar);
    caller.socket.write(`${upgradeHead('/early')}first `);
    await caller.receive(/welcome first $/);
    caller.socket.write('second');
    await caller.receive(/second$/);
    caller.socket.end();
    await caller.closed();
    expect(await recordOf(sidecar, '/early')).toMatchObject({ status: 101, outcome: 'ok', bytesIn: 12, bytesOut: 20 });
  });

  it('keeps header bytes that are not ASCII', async () => {
    onUpgrade = (socket) => socket.end(SWITCHED.replace('\r\n\r\n', '\r\nX-Name: gr\xfc\xdfe\r\n\r\n'), 'latin1');
    expect(await sendRaw(sidecar, upgradeHead('/bytes'))).toContain('X-Name: gr\xfc\xdfe\r\n');
  });

  it('keeps several values of a header apart', async () => {
    onUpgrade = (socket) => socket.end(SWITCHED.replace('\r\n\r\n', '\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n'));
    const answer = await sendRaw(sidecar, upgradeHead('/cookies'));
    expect(answer).toMatch(/\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n/i);
  });

  it('reaches a slow caller whole when the application ends first', async () => {
    const much = Buffer.alloc(3_000_000, 'x');
    onUpgrade = (socket) => {
      socket.write(SWITCHED);
      socket.end(much);
    };
    const caller = await openRaw(sidecar);
    caller.socket.write(upgradeHead('/last-words'));
    await caller.receive(/\r\n\r\n/);
    caller.socket.pause();
    const [socket] = application.sockets.slice(-1) as [Socket];
    if (!socket.destroyed) await once(socket, 'close');
    caller.socket.resume();
    const everything = await caller.closed();
    expect(everything.slice(everything.indexOf('\r\n\r\n') + 4).length).toBe(much.length);
  });

  it('lives on while one direction moves', async () => {
    onUpgrade = (socket) => {
      socket.write(SWITCHED);
      let ticks = 0;
      const stop = repeat(400, () => {
        socket.write('.');
        if ((ticks += 1) === 4) {
          stop();
          socket.end('end');
        }
      });
    };
    // More than half a second between a tick and the deadline, for a process that stands still.
    const settings = { 'limits.tunnelIdleTimeout': '1s' };
    const patient = await sidecarForTest({ pki, upstream: application.url, settings });
    expect(await sendRaw(patient, upgradeHead('/ticks'))).toMatch(/\.{4}end$/);
  });

  describe('that the application does not switch to', () => {
    it('leaves the caller with its answer, chunks framed anew', async () => {
      onUpgrade = (socket) =>
        socket.write(
          'HTTP/1.1 426 Upgrade Required\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n',
        );
      const answer = await call(sidecar, { path: '/chunked', headers: { connection: 'Upgrade', upgrade: 'echo' } });
      expect(answer).toMatchObject({ status: 426, body: 'abcde' });
      expect(answer.headers).toMatchObject({ connection: 'close', 'transfer-encoding': 'chunked' });
      expect(await recordOf(sidecar, '/chunked')).toMatchObject({
        status: 426,
        code: null,
        outcome: 'ok',
        upgraded: false,
        bytesOut: 5,
      });
    });

    it.each([
      ['with a length', 'HTTP/1.1 403 Forbidden\r\nContent-Length: 4\r\n\r\nnope', 403, 'nope'],
      ['until its end', 'HTTP/1.0 403 Forbidden\r\n\r\nnope', 403, 'nope'],
      ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n', 204, ''],
      ['without the body of a 205', 'HTTP/1.1 205 Reset Content\r\nContent-Length: 4\r\n\r\nnope', 205, ''],
    ])('leaves the caller with its answer %s', async (_how, bytes, status, body) => {
      onUpgrade = (socket) => socket.end(bytes);
      const headers = { connection: 'Upgrade', upgrade: 'echo' };
      expect(await call(sidecar, { path: '/plain', headers })).toMatchObject({ status, body });
    });

    it.each([
      ['length', 'Content-Length: 10\r\n\r\nabc'],
      ['chunks', 'Transfer-Encoding: chunked\r\n\r\n5\r\nabc'],
    ])('breaks the connection when the answer breaks off (%s)', async (how, rest) => {
      onUpgrade = (socket) => socket.end(`HTTP/1.1 403 Forbidden\r\n${rest}`);
      const headers = { connection: 'Upgrade', upgrade: 'echo' };
      await expect(call(sidecar, { path: `/broken-${how}`, headers })).rejects.toThrow(/aborted/);
      expect(await recordOf(sidecar, `/broken-${how}`)).toMatchObject({
        status: 403,
        code: 'upstream_closed',
        outcome: 'upstream_aborted',
        bytesOut: 3,
      });
    });

    it('breaks the connection when the answer stalls', async () => {
      onUpgrade = (socket) => socket.write('HTTP/1.1 403 Forbidden\r\nContent-Length: 10\r\n\r\nabc');
      const headers = { connection: 'Upgrade', upgrade: 'echo' };
      await expect(call(sidecar, { path: '/stalled', headers })).rejects.toThrow(/aborted/);
      expect(await recordOf(sidecar, '/stalled')).toMatchObject({ status: 403, code: 'upstream_timeout' });
    });

    it.each<[string, string, number, (socket: Socket) => void]>([
      ['closing', 'upstream_closed', 502, (socket) => socket.end()],
      ['resetting', 'upstream_closed', 502, (socket) => socket.resetAndDestroy()],
      ['talking nonsense', 'upstream_protocol', 502, (socket) => socket.end('SMTP\r\n\r\n')],
      ['stalling', 'upstream_timeout', 504, () => undefined],
    ])('by %s gives %s', async (how, code, status, misbehave) => {
      onUpgrade = misbehave;
      const before = await refusalsOf(sidecar, code);
      const path = `/${how.replace(' ', '-')}`;
      const answer = await sendRaw(sidecar, upgradeHead(path));
      expect(answer).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
      expect(answer).toMatch(/\r\nConnection: close\r\n/);
      expect(answer).toContain(`<code>${code}</code>`);
      expect(await recordOf(sidecar, path)).toMatchObject({
        status,
        code,
        outcome: 'refused',
        bytesIn: 0,
        bytesOut: 0,
      });
      expect(await refusalsOf(sidecar, code)).toBe(before + 1);
    });
  });

  it('ends at the application as soon as the caller vanishes before the answer', async () => {
    const arrived = new Promise<Socket>((resolve) => (onUpgrade = resolve));
    const caller = await openRaw(sidecar);
    caller.socket.write(upgradeHead('/vanish-before'));
    const upstream = await arrived;
    upstream.resume();
    caller.socket.destroy();
    await once(upstream, 'close');
    expect(await recordOf(sidecar, '/vanish-before')).toMatchObject({ status: 0, outcome: 'caller_aborted' });
  });

  it('ends at the application as soon as the caller vanishes in the tunnel', async () => {
    const { caller, upstream } = await openTunnel('/vanish-after');
    upstream.resume();
    caller.socket.destroy();
    await once(upstream, 'close');
    expect(await recordOf(sidecar, '/vanish-after')).toMatchObject({
      status: 101,
      outcome: 'ok',
      bytesIn: 0,
      bytesOut: 0,
    });
  });

  it('breaks for the caller when the application breaks it', async () => {
    const { caller, upstream } = await openTunnel('/reset');
    // At once: a moment later would be time for limits.tunnelIdleTimeout to pass.
    upstream.resetAndDestroy();
    await caller.closed();
    expect(await recordOf(sidecar, '/reset')).toMatchObject({ status: 101, outcome: 'upstream_aborted' });
  });

  it.each(['h2c', 'H2C', 'websocket, h2c', 'HTTP/2.0', 'TLS/1.3'])(
    'is refused when it would carry unseen requests (%s)',
    async (protocol) => {
      let seen = 0;
      onUpgrade = () => (seen += 1);
      const path = `/smuggle-${protocol.replace(/\W/g, '')}`;
      const settings = 'HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n';
      const answer = await sendRaw(sidecar, upgradeHead(path, settings, protocol));
      expect(answer).toMatch(/^HTTP\/1\.1 400 /);
      expect(await recordOf(sidecar, path)).toMatchObject({ status: 400, code: 'bad_request', outcome: 'refused' });
      expect(seen).toBe(0);
    },
  );

  it('is refused in JSON when the caller asks for that', async () => {
    const answer = await sendRaw(
      sidecar,
      upgradeHead('/json', 'Content-Length: 1\r\nAccept: application/json\r\n') + 'x',
    );
    expect(answer).toMatch(/^HTTP\/1\.1 400 [^]*Content-Type: application\/json/);
    expect(answer).toMatch(/\{"error":\{"code":"bad_request","message":"[^"]+","requestId":"[^"]+"\}\}/);
  });

  it('is refused in HTTP/1.0', async () => {
    const head = upgradeHead('/old').replace('HTTP/1.1', 'HTTP/1.0');
    expect(await sendRaw(sidecar, head)).toMatch(/^HTTP\/1\.1 400 /);
    expect(await recordOf(sidecar, '/old')).toMatchObject({ status: 400, code: 'bad_request' });
  });

  it.each([
    ['Content-Length', 'Content-Length: 5\r\n', 'hello'],
    ['chunks', 'Transfer-Encoding: chunked\r\n', '5\r\nhello\r\n0\r\n\r\n'],
  ])('is refused with a body (%s)', async (how, header, body) => {
    const answer = await sendRaw(sidecar, upgradeHead(`/body-${how}`, header) + body);
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(await recordOf(sidecar, `/body-${how}`)).toMatchObject({ status: 400, code: 'bad_request' });
  });

  it('is refused behind an unanswered request, which is answered first', async () => {
    onUpgrade = (socket) => socket.write('HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfirst');
    const plain = 'GET /before HTTP/1.1\r\nHost: localhost\r\n\r\n';
    const everything = await sendRaw(sidecar, plain + upgradeHead('/behind'));
    expect(everything).toMatch(/^HTTP\/1\.1 200 OK\r\n[^]*firstHTTP\/1\.1 400 Bad Request/);
  });

  it('leaves no connection behind, however it ended', async () => {
    await sidecar.logged(({ path }) => path === '/body-chunks');
    await expect.poll(() => sidecar.app.connections(), { timeout: 5_000 }).toBe(0);
    // The one that is kept for plain requests like the one in the test before this.
    await expect.poll(() => application.sockets.filter(({ destroyed }) => !destroyed).length).toBe(1);
  });
});

it('an Upgrade to an application that cannot be reached is answered, and the caller can read it', async () => {
  const sidecar = await startSidecar({ pki });
  const outgoing = begin(sidecar, { path: '/nobody', headers: { connection: 'Upgrade', upgrade: 'echo' } });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  expect(response.statusCode).toBe(503);
  expect(response.headers['retry-after']).toBe('1');
  expect(await text(response)).toContain('upstream_connect');
  await sidecar.stop();
});
