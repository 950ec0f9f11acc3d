import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { openRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const pki = makePki();
let application: Application;
let named: Sidecar;
let nameless: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  const options = { pki, upstream: application.url };
  named = await startSidecar({ ...options, settings: { 'listen.serverNames': 'im.example,Localhost' } });
  nameless = await startSidecar(options);
});

afterAll(async () => {
  await named.stop();
  await nameless.stop();
  await application.stop();
});

interface Asked {
  /** SNI; empty for none. */
  readonly sni: string;
  readonly host: string;
  readonly target?: string;
}

async function ask(sidecar: Sidecar, { sni, host, target = '/' }: Asked): Promise<number> {
  // Whether the caller believes the server certificate under this name is no matter here.
  const caller = await openRaw(sidecar, { servername: sni, rejectUnauthorized: false });
  caller.socket.write(`GET ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`);
  return Number((await caller.closed()).slice(9, 12));
}

describe('with listen.serverNames', () => {
  it.each([
    { sni: 'localhost', host: 'localhost' },
    { sni: 'localhost', host: 'localhost:8443' },
    { sni: 'localhost', host: 'LOCALHOST' },
    { sni: 'LocalHost', host: 'localhost' },
    { sni: 'localhost', host: 'localhost.' },
    { sni: 'im.example', host: 'im.example' },
    { sni: 'im.example', host: 'im.example', target: 'https://im.example/' },
    // Clients of the older kind, and those that connect by address, name nobody in the handshake.
    { sni: '', host: 'im.example' },
    { sni: '', host: 'localhost:443' },
  ])('is served: SNI "$sni", Host $host', async (asked) => {
    const before = application.seen.length;
    expect(await ask(named, asked)).toBe(200);
    expect(application.seen.length).toBe(before + 1);
  });

  it.each([
    { sni: 'localhost', host: 'evil.example', detail: 'Host is not one of listen.serverNames' },
    { sni: '', host: 'evil.example', detail: 'Host is not one of listen.serverNames' },
    { sni: '', host: '127.0.0.1', detail: 'Host is not one of listen.serverNames' },
    { sni: '', host: '[::1]:8443', detail: 'Host is not one of listen.serverNames' },
    { sni: 'localhost', host: 'localhost.evil.example', detail: 'Host is not one of listen.serverNames' },
    { sni: 'localhost', host: 'sub.im.example', detail: 'Host is not one of listen.serverNames' },
    { sni: 'localhost', host: 'im.example', detail: 'Host differs from SNI' },
    { sni: 'im.example', host: 'localhost', detail: 'Host differs from SNI' },
    { sni: 'evil.example', host: 'localhost', detail: 'Host differs from SNI' },
    { sni: 'localhost', host: 'im.example', target: 'https://im.example/', detail: 'Host differs from SNI' },
  ])('is misdirected: SNI "$sni", Host $host', async ({ detail, ...asked }) => {
    const before = application.seen.length;
    const misdirected = () => named.metric('mtls_sidecar_request_refusals_total{code="misdirected"}');
    const counted = await misdirected();
    expect(await ask(named, asked)).toBe(421);
    expect(named.requests().at(-1)).toMatchObject({ status: 421, code: 'misdirected', detail, outcome: 'refused' });
    expect(await misdirected()).toBe(counted + 1);
    expect(application.seen.length).toBe(before);
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('the name of a resumed session counts as well (%s)', async (version) => {
    const tls = { servername: 'localhost', rejectUnauthorized: false };
    const { session } = await visit(named, { version, tls });
    expect(await visit(named, { version, tls, session })).toMatchObject({ status: 200, reused: true });
    // It asks for Host localhost.
    const other = { ...tls, servername: 'im.example' };
    const before = application.seen.length;
    expect(await visit(named, { version, tls: other, session })).toMatchObject({ status: 421 });
    expect(application.seen.length).toBe(before);
  });

  it('one name in the target and another in Host is no request at all', async () => {
    expect(await ask(named, { sni: 'localhost', host: 'localhost', target: 'https://im.example/' })).toBe(400);
  });

  it('the second request of a connection is measured as the first', async () => {
    const caller = await openRaw(named, { servername: 'localhost' });
    const before = application.seen.length;
    caller.socket.write('GET /1 HTTP/1.1\r\nHost: localhost\r\n\r\n');
    caller.socket.write('GET /2 HTTP/1.1\r\nHost: im.example\r\nConnection: close\r\n\r\n');
    expect((await caller.closed()).match(/HTTP\/1\.1 \d+/g)).toEqual(['HTTP/1.1 200', 'HTTP/1.1 421']);
    expect(application.seen.slice(before).map(({ url }) => url)).toEqual(['/1']);
  });
});

describe('with a wildcard', () => {
  const settings = { 'listen.serverNames': '*.ours.example', 'listen.plainHttp': 'redirect' };
  let sidecar: Sidecar;
  beforeAll(async () => {
    sidecar = await startSidecar({ pki, upstream: application.url, settings });
  });
  afterAll(() => sidecar.stop());

  it.each(['a.ours.example', 'a.b.ours.example', 'A.OURS.example.:8443'])('is served: %s', async (host) => {
    expect(await ask(sidecar, { sni: '', host })).toBe(200);
  });

  it.each([
    'ours.example',
    'aours.example',
    'a.ours.example.evil.example',
    '[::1]',
    '127.0.0.1',
    '*.ours.example',
    'a$.ours.example',
  ])('is misdirected: %s', async (host) => {
    expect(await ask(sidecar, { sni: '', host })).toBe(421);
  });

  it('Host and SNI are one name all the same', async () => {
    expect(await ask(sidecar, { sni: 'a.ours.example', host: 'a.ours.example' })).toBe(200);
    expect(await ask(sidecar, { sni: 'a.ours.example', host: 'b.ours.example' })).toBe(421);
  });

  it.each([
    ['a.ours.example', true],
    ['ours.example', false],
    ['evil.example:1.ours.example', false],
    ['[evil.example].ours.example', false],
    ['.ours.example', false],
  ])('plain HTTP is redirected to %s: %s', async (host, redirected) => {
    const socket = connect(sidecar.port, '127.0.0.1');
    socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\n\r\n`);
    const answer = (await socket.toArray()).join('');
    expect(answer.includes(`Location: https://${host}/`)).toBe(redirected);
    expect(answer.includes('Location')).toBe(redirected);
  });
});

it.each([
  { sni: 'anything.example', host: 'whatever.example' },
  { sni: '', host: '127.0.0.1:8443' },
])('without it every name is served: SNI "$sni", Host $host', async (asked) => {
  expect(await ask(nameless, asked)).toBe(200);
});
