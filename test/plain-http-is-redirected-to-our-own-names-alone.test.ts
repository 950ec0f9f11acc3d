import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
let application: Application;
let named: Sidecar;
let nameless: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  const redirecting = { 'listen.plainHttp': 'redirect' };
  const options = { pki, upstream: application.url };
  named = await startSidecar({
    ...options,
    settings: { ...redirecting, 'listen.serverNames': 'im.example,localhost' },
  });
  nameless = await startSidecar({ ...options, settings: redirecting });
});

afterAll(async () => {
  await named.stop();
  await nameless.stop();
  await application.stop();
});

/** Everything that comes back for these bytes. */
async function plainly(sidecar: Sidecar, bytes: string): Promise<string> {
  const socket = connect(sidecar.port, '127.0.0.1');
  let received = '';
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
  socket.write(Buffer.from(bytes, 'latin1'));
  await once(socket, 'close');
  return received;
}

const get = (target: string, host: string): string => `GET ${target} HTTP/1.1\r\nHost: ${host}\r\n\r\n`;
const locationOf = (answer: string): string | undefined => /\r\nLocation: (.*)\r\n/.exec(answer)?.[1];

async function expectPage(sidecar: Sidecar, bytes: string): Promise<void> {
  const answer = await plainly(sidecar, bytes);
  expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
  expect(answer).toContain('400 The plain HTTP request was sent to HTTPS port');
  expect(locationOf(answer)).toBeUndefined();
}

describe('a plain HTTP request is redirected', () => {
  it.each([
    ['/', 'im.example', 'https://im.example/'],
    ['/im?SdkAppid=1&x=%20', 'IM.example:8443', 'https://IM.example:8443/im?SdkAppid=1&x=%20'],
    ['//evil.example/', 'localhost', 'https://localhost//evil.example/'],
    ['/\\evil.example', 'localhost', 'https://localhost/\\evil.example'],
  ])('%s of %s', async (target, host, location) => {
    const before = await named.metric('mtls_sidecar_handshakes_total{result="refused",reason="plain_http"}');
    const answer = await plainly(named, get(target, host));
    expect(answer).toMatch(/^HTTP\/1\.1 301 Moved Permanently\r\n/);
    expect(answer).toMatch(/\r\nConnection: close\r\n/);
    expect(locationOf(answer)).toBe(location);
    expect(await named.metric('mtls_sidecar_handshakes_total{result="refused",reason="plain_http"}')).toBe(before + 1);
    expect(named.refusals().at(-1)).toMatchObject({ reason: 'plain_http', tlsVersion: null, subject: null });
    expect(named.requests()).toEqual([]);
    expect(application.seen).toEqual([]);
  });

  it.each(['localhost', '127.0.0.1:80', '[::1]'])(
    'without server names: to a name of the certificate (%s)',
    async (host) => {
      expect(locationOf(await plainly(nameless, get('/im', host)))).toBe(`https://${host}/im`);
    },
  );
});

describe('and nowhere else', () => {
  it.each([
    ['another host', get('/', 'evil.example')],
    ['a host that begins as ours', get('/', 'im.example.evil.example')],
    ['a user in front', get('/', 'im.example@evil.example')],
    ['a port that is none', get('/', 'im.example:80@evil.example')],
    ['an absolute target', get('http://evil.example/', 'im.example')],
    ['a target without a slash', get('.evil.example/', 'im.example')],
    ['a target with a line end', get('/\rSet-Cookie:a=b', 'im.example')],
    ['a target with bytes that are no ASCII', get('/\xe5\x8d', 'im.example')],
    ['a host with a line end', get('/', 'im.example\n.evil.example')],
    ['no host', 'GET / HTTP/1.1\r\n\r\n'],
    ['no HTTP', 'SSH-2.0-OpenSSH_9.6\r\n'],
  ])('%s', async (_what, bytes) => {
    await expectPage(named, bytes);
  });

  it.each(['evil.example', 'localhost.evil.example', '127.0.0.2', ''])('without server names: %j', async (host) => {
    await expectPage(nameless, get('/', host));
  });
});

it('and TLS on the same port is served as ever', async () => {
  expect((await call(named)).status).toBe(200);
  expect((await call(nameless)).status).toBe(200);
  application.seen.length = 0;
});
