import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { begin, openRaw, readAnswer, type Identity } from './support/caller.js';
import { pass } from './support/clock.js';
import { CLIENT_SUBJECT, generateKeys, issueClient, makePki, selfSigned } from './support/pki.js';
import { CLIENT_NAME } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const MINUTE = 60_000;
const keys = generateKeys();
const pki = makePki();
const brief = { keys, notAfter: Date.now() + 10 * MINUTE };
const client = issueClient(pki.ca, brief);
const REQUEST = 'GET /im HTTP/1.1\r\nHost: localhost\r\n\r\n';

let application: Application;
let sidecar: Sidecar;
let lenient: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({ pki, upstream: application.url });
  lenient = await startSidecar({ pki, upstream: application.url, settings: { 'clientCert.verify': 'optional-no-ca' } });
});

afterEach(() => {
  vi.useRealTimers();
});

afterAll(async () => {
  await sidecar.stop();
  await lenient.stop();
  await application.stop();
});

/** Opens a connection on which one request is answered. */
async function openServed(to: Sidecar, as: Identity) {
  const caller = await openRaw(to, { as });
  caller.socket.write(REQUEST);
  await caller.receive(/\r\n\r\n(?:2\r\n)?ok/);
  return caller;
}

describe('once it has expired', () => {
  it('the next request is refused and the connection ends', async () => {
    const caller = await openServed(sidecar, client);
    const answered = caller.received().length;
    const before = application.seen.length;
    pass(11);
    caller.socket.write(REQUEST.repeat(3));
    const answer = (await caller.closed()).slice(answered);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer).toContain('400 The SSL certificate error');
    expect(answer).toMatch(/\r\nConnection: close\r\n/i);
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(application.seen.length).toBe(before);
    expect(sidecar.requests().at(-1)).toMatchObject({
      status: 400,
      code: 'expired',
      path: '/im',
      level: 'warn',
      subject: CLIENT_NAME,
      outcome: 'refused',
    });
  });

  it('an Upgrade is refused, too', async () => {
    const caller = await openServed(sidecar, client);
    const before = application.seen.length;
    pass(11);
    caller.socket.write('GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
    expect(await caller.closed()).toMatch(/HTTP\/1\.1 400 Bad Request\r\n[^]*The SSL certificate error/);
    expect(application.seen.length).toBe(before);
  });

  it('whoever asks for JSON is told in JSON', async () => {
    const caller = await openServed(sidecar, client);
    pass(11);
    caller.socket.write('GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\nX-Request-Id: r1\r\n\r\n');
    const body = (await caller.closed()).split('\r\n\r\n').at(-1) ?? '';
    const error = { code: 'expired', message: 'The SSL certificate error', requestId: 'r1' };
    expect(JSON.parse(body)).toEqual({ error });
  });

  it('an unverified caller is refused as it would be at the door', async () => {
    const caller = await openServed(lenient, selfSigned({ ...brief, subject: CLIENT_SUBJECT }));
    pass(11);
    caller.socket.write(REQUEST);
    expect(await caller.closed()).toContain('400 The SSL certificate error');
  });
});

it('until then every request is served', async () => {
  const caller = await openServed(sidecar, client);
  pass(9);
  caller.socket.write('GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n');
  expect((await caller.closed()).match(/HTTP\/1\.1 200 OK/g)).toHaveLength(2);
});

it('a request that has begun before is finished', async () => {
  const outgoing = begin(sidecar, { as: client, method: 'POST', headers: { 'transfer-encoding': 'chunked' } });
  outgoing.write('first ');
  await once(application.server, 'request');
  pass(11);
  outgoing.end('last');
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  expect(await readAnswer(response)).toMatchObject({ status: 200, body: 'ok' });
  expect(application.seen.at(-1)?.body.toString()).toBe('first last');
});
