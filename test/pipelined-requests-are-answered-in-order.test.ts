import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application, type Seen } from './support/application.js';
import { openRaw, sendRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { repeat } from './support/repeat.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** A request as its bytes. */
function get(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
}

/** The bodies of answers that all are JSON strings of their path, in the order in which they came. */
function paths(received: string): string[] {
  return [...received.matchAll(/"(\/[^"]*)"/g)].map(([, path]) => path as string);
}

describe('pipelined requests', () => {
  let application: Application;
  let sidecar: Sidecar;
  let answer: (seen: Seen, response: ServerResponse) => void;

  beforeAll(async () => {
    application = await startApplication((seen, response) => answer(seen, response));
    sidecar = await startSidecar({ pki: makePki(), upstream: application.url });
  });

  afterEach(() => {
    application.seen.length = 0;
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  it('reach the application one at a time and in order, however late its answers', async () => {
    let open = 0;
    let most = 0;
    answer = ({ url }, response) => {
      open += 1;
      most = Math.max(most, open);
      // The first ones are the slowest: sent all at once they would be answered in reverse.
      setTimeout(
        () => {
          open -= 1;
          response.end(JSON.stringify(url));
        },
        Math.max(0, 40 - application.seen.length * 4),
      );
    };
    const wanted = Array.from({ length: 30 }, (_, index) => `/ordered/${index}`);
    const caller = await openRaw(sidecar);
    caller.socket.write(wanted.map((path) => get(path)).join(''));
    await caller.receive(/"\/ordered\/29"/);
    expect(paths(caller.received())).toEqual(wanted);
    expect(application.seen.map(({ url }) => url)).toEqual(wanted);
    expect(most).toBe(1);
    await recordOf(sidecar, '/ordered/29');
    const records = sidecar.requests().filter(({ path }) => String(path).startsWith('/ordered/'));
    expect(records.map(({ path }) => path)).toEqual(wanted);
    caller.socket.destroy();
  });

  it('with bodies keep them apart', async () => {
    answer = ({ url, body }, response) => response.end(JSON.stringify(`${url}=${body.toString()}`));
    const post = (path: string, body: string): string =>
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
    const chunked = (path: string, body: string): string =>
      `POST ${path} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n${body.length.toString(16)}\r\n${body}\r\n0\r\n\r\n`;
    const caller = await openRaw(sidecar);
    caller.socket.write(post('/a', 'one') + chunked('/b', 'GET /smuggled HTTP/1.1') + get('/c') + post('/d', 'four'));
    await caller.receive(/"\/d=four"/);
    expect(paths(caller.received())).toEqual(['/a=one', '/b=GET /smuggled HTTP/1.1', '/c=', '/d=four']);
    caller.socket.destroy();
  });

  it('are all answered before a broken one behind them gets its 400', async () => {
    answer = ({ url }, response) => setTimeout(() => response.end(JSON.stringify(url)), 10);
    const broken = 'GET /broken HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n';
    const received = await sendRaw(sidecar, get('/good/1') + get('/good/2') + get('/good/3') + broken + get('/behind'));
    expect(paths(received)).toEqual(['/good/1', '/good/2', '/good/3']);
    expect([...received.matchAll(/HTTP\/1\.1 (\d+)/g)].map(([, status]) => status)).toEqual([
      '200',
      '200',
      '200',
      '400',
    ]);
    expect(application.seen.map(({ url }) => url)).toEqual(['/good/1', '/good/2', '/good/3']);
  });

  it.each([
    ['a refusal', get('/refused', 'Host: other\r\n')],
    ['a request that says close', get('/close', 'Connection: close\r\n')],
    ['a HTTP/1.0 request', 'GET /old HTTP/1.0\r\nHost: localhost\r\n\r\n'],
  ])('behind %s are not served', async (_what, first) => {
    answer = ({ url }, response) => response.end(JSON.stringify(url));
    await sendRaw(sidecar, first + get('/never') + get('/never'));
    expect(application.seen.map(({ url }) => url)).not.toContain('/never');
  });

  it('are not served when the application ends the connection with its answer', async () => {
    answer = ({ url }, response) => response.end(JSON.stringify(url));
    const limited = await startSidecar({
      pki: sidecar.pki,
      upstream: application.url,
      settings: { 'limits.requestsPerConnection': '2' },
    });
    const received = await sendRaw(limited, ['/1', '/2', '/3', '/4'].map((path) => get(path)).join(''));
    expect(paths(received)).toEqual(['/1', '/2']);
    expect(received.match(/connection: close/gi)).toHaveLength(1);
    expect(application.seen.map(({ url }) => url)).toEqual(['/1', '/2']);
    await limited.stop();
  });

  it('do not reach the application any more when their caller has gone', async () => {
    let release = (): void => undefined;
    const arrived = new Promise<void>((resolve) => {
      answer = (_seen, response) => {
        release = () => response.end();
        resolve();
      };
    });
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/gone/1') + get('/gone/2') + get('/gone/3'));
    await arrived;
    caller.socket.destroy();
    expect(await recordOf(sidecar, '/gone/1')).toMatchObject({ status: 0, outcome: 'caller_aborted' });
    release();
    await expect.poll(() => sidecar.app.connections()).toBe(0);
    expect(application.seen.map(({ url }) => url)).toEqual(['/gone/1']);
    expect(await sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}')).toBe(0);
  });

  it.each([
    ['large', 4_000],
    ['tiny', 1],
  ])('stop being read when too many wait behind an endless answer (%s)', async (_size, length) => {
    answer = (_seen, response) => void repeat(1, () => response.write('on and on'));
    const caller = await openRaw(sidecar);
    const requests = get(`/${'x'.repeat(length)}`).repeat(400);
    // Far more than the buffers of both sockets hold.
    for (let sent = 0; sent < 30_000_000; sent += requests.length) caller.socket.write(requests);
    await caller.receive(/on and on/);
    // That nothing moves cannot be awaited; unread, all of it would be gone by then.
    await sleep(500);
    expect(caller.socket.writableLength).toBeGreaterThan(10_000_000);
    caller.socket.destroy();
  });

  it('are all answered, however many', async () => {
    answer = ({ url }, response) => response.end(JSON.stringify(url));
    const wanted = Array.from({ length: 900 }, (_, index) => `/all/${index}`);
    const caller = await openRaw(sidecar);
    caller.socket.write(wanted.map((path) => get(path)).join(''));
    await caller.receive(/"\/all\/899"/);
    expect(paths(caller.received())).toEqual(wanted);
    caller.socket.destroy();
  });

  it('before an Upgrade are answered whole, however long the answer', async () => {
    answer = (_seen, response) => response.end(Buffer.alloc(3_000_000, 'x'));
    const upgrade = get('/upgrade', 'Connection: Upgrade\r\nUpgrade: echo\r\n');
    const caller = await openRaw(sidecar);
    caller.socket.write(get('/long') + upgrade);
    const received = await caller.closed();
    expect(received.match(/x{3000000}HTTP\/1\.1 400 Bad Request\r\n/)).not.toBeNull();
  });

  it('before an Upgrade let go of the application when the caller leaves', async () => {
    answer = (_seen, response) => response.write('begun');
    const upgrade = get('/upgrade', 'Connection: Upgrade\r\nUpgrade: echo\r\n');
    const caller = await openRaw(sidecar);
    const accepted = once(application.server, 'request');
    caller.socket.write(`${get('/left-behind')}${upgrade}early bytes`);
    const [, response] = (await accepted) as [unknown, ServerResponse];
    await caller.receive(/begun/);
    caller.socket.destroy();
    await once(response, 'close');
    expect(await recordOf(sidecar, '/left-behind')).toMatchObject({ outcome: 'caller_aborted' });
  });
});
