import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { rewriteResponseHeaders } from '../src/rewrite/response-headers.js';
import { startRawApplication, type RawApplication } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const CHUNKS = '2\r\nok\r\n0\r\n\r\n';
const PLAIN = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

let reply = PLAIN;
let application: RawApplication;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startRawApplication((socket) => {
    socket.on('data', () => socket.write(reply));
  });
  sidecar = await startSidecar({ upstream: application.url });
});

afterEach(async () => {
  reply = PLAIN;
  expect(await call(sidecar)).toMatchObject({ status: 200, body: 'ok' });
  await expect.poll(() => sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}')).toBe(0);
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

function answer(...headers: string[]): string {
  return `HTTP/1.1 200 OK\r\n${headers.map((line) => `${line}\r\n`).join('')}\r\n`;
}

describe.each([
  ['a pooled connection', ''],
  ['a separate connection', 'Expect: 100-continue\r\n'],
  ['an Upgrade', 'Connection: Upgrade\r\nUpgrade: echo\r\n'],
])('over %s', (road, more) => {
  /** One request, and all that comes back. */
  async function ask(path: string): Promise<string> {
    const caller = await openRaw(sidecar);
    caller.socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${more}\r\n`);
    return caller.closed();
  }

  it.each([
    ['gzip, chunked', ['Transfer-Encoding: gzip, chunked']],
    ['gzip,chunked', ['Transfer-Encoding: gzip', 'Transfer-Encoding: chunked']],
    ['chunked,chunked', ['Transfer-Encoding: chunked', 'Transfer-Encoding: chunked']],
    ['gzip', ['Transfer-Encoding: gzip']],
  ])('%s', async (coding, headers) => {
    reply = answer(...headers) + CHUNKS;
    const path = `/${encodeURIComponent(`${road}-${coding}`)}`;
    const received = await ask(path);
    expect(received).toMatch(/^HTTP\/1\.1 502 Bad Gateway\r\n/);
    expect(received.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(received).toMatch(/<\/html>\s*$/);
    expect(await recordOf(sidecar, path)).toMatchObject({
      status: 502,
      code: 'upstream_protocol',
      detail: `an answer in transfer coding ${coding}`,
      outcome: 'refused',
    });
  });

  it.each(['chunked', 'Chunked', ' chunked '])('but not one in chunks alone (%j)', async (coding) => {
    reply = answer(`Transfer-Encoding: ${coding}`) + CHUNKS;
    expect(await ask('/chunks')).toMatch(
      /^HTTP\/1\.1 200 OK\r\n[^]*\r\nTransfer-Encoding: chunked\r\n[^]*2\r\nok\r\n0/,
    );
  });
});

describe('where there can be no body no length is told', () => {
  const received = ['Content-Length', '5', 'Link', '</a>'];

  it.each([
    ['in 204', 'id', 204, ['Link', '</a>', 'X-Request-Id', 'id']],
    ['in 1xx and trailers', null, 0, ['Link', '</a>']],
  ])('%s', (_where, requestId, status, kept) => {
    expect(rewriteResponseHeaders(received, requestId, status)).toEqual(kept);
  });

  it('but in 200 and 304 it is', () => {
    for (const status of [200, 304]) {
      expect(rewriteResponseHeaders(received, 'id', status)).toEqual([...received, 'X-Request-Id', 'id']);
    }
  });

  it.each([
    ['pooled', ''],
    ['separate', 'Expect: 100-continue\r\n'],
  ])('as a 204 shows (%s)', async (_road, more) => {
    reply = 'HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n';
    const caller = await openRaw(sidecar);
    caller.socket.write(`GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n${more}\r\n`);
    const text = await caller.closed();
    expect(text).toMatch(/^HTTP\/1\.1 204 No Content\r\n[^]*\r\n\r\n$/);
    expect(text).not.toContain('Content-Length');
  });

  it('as an interim answer shows', async () => {
    reply = `HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\nLink: </a>\r\n\r\n${PLAIN}`;
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    const text = await caller.closed();
    expect(text).toMatch(/^HTTP\/1\.1 103 Early Hints\r\nLink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
    expect(text).toMatch(/\r\n\r\nok$/);
  });
});
