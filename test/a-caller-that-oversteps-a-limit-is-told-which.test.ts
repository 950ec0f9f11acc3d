import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { begin, call, openRaw, readAnswer, sendRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf, refusalsOf } from './support/records.js';
import { repeat } from './support/repeat.js';
import { sidecarForTest, startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    settings: {
      'limits.body': '10KiB',
      'limits.headTimeout': '300ms',
      'limits.bodyIdleTimeout': '300ms',
      'listen.serverNames': 'localhost,api.example.com',
    },
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

/** A GET whose request line and headers have exactly this many bytes, the empty line not counted. */
function headOf(bytes: number, path: string): string {
  const start = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nX-Fill: `;
  return `${start}${'a b='.repeat(bytes).slice(0, bytes - start.length - 3)}x\r\n\r\n`;
}

/** Sends bytes, and checks the refusal from every side. */
async function expectRefusal(
  bytes: string,
  expected: { status: number; code: string; path?: string },
): Promise<string> {
  const [seen, before, records] = [application.seen.length, await count(expected.code), sidecar.requests().length];
  const answer = await sendRaw(sidecar, bytes);
  expect(answer.slice(0, 13)).toBe(`HTTP/1.1 ${expected.status} `);
  expect(answer).toMatch(/\r\nConnection: close\r\n/i);
  expect(answer).toContain(`<code>${expected.code}</code>`);
  expect(application.seen.length).toBe(seen);
  expect(sidecar.requests().slice(records)).toMatchObject([
    { status: expected.status, code: expected.code, outcome: 'refused', bytesOut: 0, path: expected.path ?? '' },
  ]);
  expect(await count(expected.code)).toBe(before + 1);
  return answer;
}

function count(code: string): Promise<number> {
  return refusalsOf(sidecar, code);
}

/** What is a little too large is read all the same, so that the record can name it. */
function readUpTo(bytes: number, path: string) {
  return bytes < 48_000 ? { path } : {};
}

describe('headers of more than limits.head', () => {
  it('pass at the limit', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.write(headOf(16_384, '/head-at-limit'));
    expect(await caller.receive(/ok$/)).toMatch(/^HTTP\/1\.1 200 /);
    caller.socket.destroy();
  });

  it('are refused with 431 one byte past it', async () => {
    await expectRefusal(headOf(16_385, '/head-past'), { status: 431, code: 'headers_too_large', path: '/head-past' });
  });

  it.each([40_000, 200_000])('are refused with 431 when they are far larger than it (%i)', async (bytes) => {
    await expectRefusal(headOf(bytes, '/far'), { status: 431, code: 'headers_too_large', ...readUpTo(bytes, '/far') });
  });

  it.each([40_000, 200_000])('are refused with 431 also when they are one long token (%i)', async (bytes) => {
    const token = `Authorization: ${'t'.repeat(bytes)}`;
    const bytesSent = `GET /token HTTP/1.1\r\nHost: localhost\r\n${token}\r\n\r\n`;
    await expectRefusal(bytesSent, { status: 431, code: 'headers_too_large', ...readUpTo(bytes, '/token') });
  });

  it('may be more when the limit is', async () => {
    const generous = await startSidecar({ pki, upstream: application.url, settings: { 'limits.head': '64KiB' } });
    const caller = await openRaw(generous);
    caller.socket.write(headOf(65_536, '/generous'));
    expect(await caller.receive(/ok$/)).toMatch(/^HTTP\/1\.1 200 /);
    caller.socket.destroy();
    expect(await sendRaw(generous, headOf(65_537, '/too-generous'))).toMatch(/^HTTP\/1\.1 431 /);
    await generous.stop();
  });

  it('may be many', async () => {
    const lines = Array.from({ length: 1_500 }, (_, index) => `A${index}:b\r\n`).join('');
    const caller = await openRaw(sidecar);
    caller.socket.write(`GET /many HTTP/1.1\r\nHost: localhost\r\n${lines}\r\n`);
    await caller.receive(/ok$/);
    expect(application.seen.at(-1)?.rawHeaders).toContain('A1499');
    caller.socket.destroy();
  });
});

describe('a target of more than 8 KiB', () => {
  const path = (bytes: number): string => `/${'p'.repeat(bytes - 1)}`;

  it('passes at the limit', async () => {
    expect((await call(sidecar, { path: path(8_192) })).status).toBe(200);
  });

  it.each([8_193, 12_000, 17_000, 40_000])('is refused with 414 past it (%i)', async (bytes) => {
    const bytesSent = `GET ${path(bytes)} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    await expectRefusal(bytesSent, { status: 414, code: 'uri_too_long', path: path(bytes) });
  });

  // So far on, the parser has given up and cannot say whether it was in the target or in a header.
  it('is refused with 431 far past it', async () => {
    const bytesSent = `GET ${path(100_000)} HTTP/1.1\r\nHost: localhost\r\n\r\n`;
    await expectRefusal(bytesSent, { status: 431, code: 'headers_too_large' });
  });
});

describe('a body of more than limits.body', () => {
  it('passes at the limit', async () => {
    const body = Buffer.alloc(10_240, 'b');
    expect((await call(sidecar, { path: '/at', body })).status).toBe(200);
    expect(application.seen.at(-1)?.body.length).toBe(10_240);
    expect(await recordOf(sidecar, '/at')).toMatchObject({ bytesIn: 10_240, bytesOut: 2 });
  });

  it('passes at the limit in chunks', async () => {
    const outgoing = begin(sidecar, { method: 'POST', path: '/at-chunked' });
    outgoing.write(Buffer.alloc(5_000));
    outgoing.end(Buffer.alloc(5_240));
    expect((await readAnswer(((await once(outgoing, 'response')) as [IncomingMessage])[0])).status).toBe(200);
    expect(application.seen.at(-1)?.body.length).toBe(10_240);
  });

  it('is refused with 413 by its announcement, before it is sent', async () => {
    const head = 'POST /announced HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10241\r\n\r\n';
    await expectRefusal(head, { status: 413, code: 'body_too_large', path: '/announced' });
  });

  it('is refused with 413 when it turns out to be larger', async () => {
    const chunk = `1000\r\n${'c'.repeat(4_096)}\r\n`;
    const head = 'POST /chunked HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n';
    await expectRefusal(head + chunk.repeat(3), { status: 413, code: 'body_too_large', path: '/chunked' });
  });

  it('is refused without a 100 to a caller that waits for one', async () => {
    const head = 'POST /expect HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 10241\r\n\r\n';
    const answer = await expectRefusal(head, { status: 413, code: 'body_too_large', path: '/expect' });
    expect(answer).not.toContain('HTTP/1.1 100');
  });

  it('is refused readably to a caller that sends all before it reads', async () => {
    const caller = await openRaw(sidecar);
    caller.socket.pause();
    caller.socket.write('POST /send-all HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n');
    await new Promise((resolve) => caller.socket.write(Buffer.alloc(5_000_000), resolve));
    caller.socket.resume();
    expect(await caller.closed()).toMatch(/^HTTP\/1\.1 413 [^]*body_too_large/);
  });

  it('is unlimited at 0', async () => {
    const unlimited = await startSidecar({ pki, upstream: application.url, settings: { 'limits.body': '0' } });
    expect((await call(unlimited, { body: Buffer.alloc(3_000_000) })).status).toBe(200);
    expect(application.seen.at(-1)?.body.length).toBe(3_000_000);
    await unlimited.stop();
  });
});

describe('a caller that is too slow', () => {
  it('with its head is refused with 408', async () => {
    await expectRefusal('GET /slow HTTP/1.1\r\nHost: loc', { status: 408, code: 'request_timeout' });
  });

  it('with a head that trickles is refused with 408', async () => {
    const caller = await openRaw(sidecar);
    repeat(50, () => caller.socket.write('X-A: b\r\n'));
    caller.socket.write('GET /trickle HTTP/1.1\r\n');
    expect(await caller.closed()).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('with the head of a later request is refused with 408', async () => {
    const bytes = 'GET /first HTTP/1.1\r\nHost: localhost\r\n\r\nGET /second HT';
    expect(await sendRaw(sidecar, bytes)).toMatch(/^HTTP\/1\.1 200 [^]*okHTTP\/1\.1 408 Request Timeout\r\n/);
  });

  it('with its body is refused with 408', async () => {
    const before = await count('request_timeout');
    const head = 'POST /slow-body HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc';
    expect(await sendRaw(sidecar, head)).toMatch(/^HTTP\/1\.1 408 [^]*request_timeout/);
    expect(await recordOf(sidecar, '/slow-body')).toMatchObject({
      status: 408,
      code: 'request_timeout',
      outcome: 'refused',
      bytesIn: 3,
    });
    expect(await count('request_timeout')).toBe(before + 1);
  });

  it('with its body may take its time as long as it moves', async () => {
    // More than half a second between a piece and the deadline, for a process that stands still.
    const settings = { 'limits.bodyIdleTimeout': '1s' };
    const patient = await sidecarForTest({ pki, upstream: application.url, settings });
    const caller = await openRaw(patient);
    caller.socket.write('POST /moving HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\n');
    let left = 4;
    const stop = repeat(400, () => {
      caller.socket.write('.');
      if ((left -= 1) === 0) stop();
    });
    expect(await caller.receive(/ok$/)).toMatch(/^HTTP\/1\.1 200 /);
    caller.socket.destroy();
  });

  it('to read its answer is let go', async () => {
    const verbose = await startApplication((_seen, response) => response.end(Buffer.alloc(30_000_000)));
    const impatient = await startSidecar({
      pki,
      upstream: verbose.url,
      settings: { 'limits.bodyIdleTimeout': '300ms' },
    });
    const caller = await openRaw(impatient);
    caller.socket.pause();
    caller.socket.write('GET /unread HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const record = await recordOf(impatient, '/unread');
    expect(record).toMatchObject({ status: 200, outcome: 'caller_aborted' });
    expect(record['bytesOut']).toBeLessThan(30_000_000);
    await expect.poll(() => impatient.app.connections()).toBe(0);
    caller.socket.destroy();
    await impatient.stop();
    await verbose.stop();
  });
});

describe('a name that is not served', () => {
  it.each([
    ['as Host', 'other.example.com', 'localhost'],
    ['as Host with SNI of another served name', 'api.example.com', 'localhost'],
  ])('%s is refused with 421', async (_what, host, servername) => {
    const before = await count('misdirected');
    const path = `/421-${host}`;
    const answer = await call(sidecar, { path, servername, headers: { host, accept: 'application/json' } });
    expect(answer.status).toBe(421);
    expect(JSON.parse(answer.body)).toMatchObject({ error: { code: 'misdirected', message: 'Misdirected Request' } });
    expect(await recordOf(sidecar, path)).toMatchObject({ status: 421, code: 'misdirected', outcome: 'refused' });
    expect(await count('misdirected')).toBe(before + 1);
  });

  it.each(['localhost', 'LOCALHOST', 'localhost:8443', 'localhost.'])('but %s is', async (host) => {
    expect((await call(sidecar, { headers: { host } })).status).toBe(200);
  });
});
