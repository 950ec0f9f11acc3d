import { once } from 'node:events';
import { connect, Socket } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Hallway } from '../src/listen/hallway.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { addresses, binaryHeader, bytesOf, throughBalancer } from './support/balancer.js';
import { call, type CallOptions } from './support/caller.js';
import { makePki } from './support/pki.js';
import { startSidecar, type LogLine, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const LINE = 'PROXY TCP4 192.0.2.7 198.51.100.9 56324 443\r\n';
const BINARY = binaryHeader({ rest: addresses([192, 0, 2, 7], 56_324) });
const CALLER = '192.0.2.7:56324';
const BALANCER = expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string;
const PROXIED = { 'listen.proxyProtocol': 'true', 'listen.proxyProtocolFrom': '127.0.0.0/8' };

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await start(PROXIED);
  return async () => {
    await sidecar.stop();
    await application.stop();
  };
});

function start(settings: Readonly<Record<string, string>>): Promise<Sidecar> {
  return startSidecar({
    pki,
    upstream: application.url,
    settings: { 'log.level': 'debug', 'forwarded.headers': '{"X-Real-IP":"remoteAddress"}', ...settings },
  });
}

async function callBehind(header: Buffer | string, options: CallOptions = {}, to = sidecar) {
  return call(to, { ...options, socket: await throughBalancer(to, header) });
}

const sent = (name: string): string[] => valuesOf(application.seen.at(-1)?.rawHeaders ?? [], name);

/** Sends bytes as they are, and waits for the end of the connection. */
async function plainly(bytes: Buffer | string, to = sidecar): Promise<string> {
  const socket = connect(to.port, '127.0.0.1');
  let received = '';
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1'))).on('error', () => undefined);
  socket.write(bytes, 'latin1');
  await once(socket, 'close');
  return received;
}

const refusalsOf = (reason: string, at = sidecar): LogLine[] =>
  at.refusals().filter((line) => line['reason'] === reason);

async function expectRefused(reason: string, detail: RegExp, act: () => Promise<unknown>, at = sidecar): Promise<void> {
  const counter = `mtls_sidecar_handshakes_total{result="refused",reason="${reason}"}`;
  const before = { records: refusalsOf(reason, at).length, count: await at.metric(counter) };
  const seen = application.seen.length;
  await act();
  expect(refusalsOf(reason, at).slice(before.records)).toEqual([
    expect.objectContaining({ level: 'warn', detail: expect.stringMatching(detail) as string, peer: BALANCER }),
  ]);
  expect(await at.metric(counter)).toBe(before.count + 1);
  expect(application.seen.length).toBe(seen);
}

describe('the address in the PROXY header is the caller’s', () => {
  it.each([
    ['version 1, in one segment with the ClientHello', LINE, CALLER],
    ['version 2, in one segment with the ClientHello', BINARY, CALLER],
    ['IPv6', 'PROXY TCP6 2001:DB8:0::7 2001:db8::1 5 443\r\n', '[2001:db8::7]:5'],
  ])('for application and access record: %s', async (_, header, peer) => {
    expect((await callBehind(header, { path: '/?a' })).status).toBe(200);
    const address = peer.replace(/:\d+$/, '').replace(/^\[|\]$/g, '');
    expect(sent('X-Forwarded-For')).toEqual([address]);
    expect(sent('X-Real-IP')).toEqual([address]);
    expect(sidecar.requests().at(-1)).toMatchObject({ peer, status: 200 });
    const { callers } = JSON.parse((await sidecar.admin('/status')).body) as { callers: { address: string }[] };
    expect(JSON.stringify(callers)).toContain(address);
  });

  it.each([1, 6, 15, 17, 44])('when it comes in pieces of %i bytes', async (size) => {
    for (const header of [bytesOf(LINE), BINARY]) {
      const socket = connect(sidecar.port, '127.0.0.1').setNoDelay(true);
      await once(socket, 'connect');
      for (let at = 0; at < header.length; at += size) {
        await new Promise((written) => socket.write(header.subarray(at, at + size), written));
        await turn();
      }
      expect((await call(sidecar, { socket })).status).toBe(200);
      expect(sidecar.requests().at(-1)).toMatchObject({ peer: CALLER });
    }
  });

  it('for a refused caller as well', async () => {
    expect((await callBehind(LINE, { as: null })).status).toBe(400);
    expect(await sidecar.logged(({ reason }) => reason === 'no_certificate')).toMatchObject({ peer: CALLER });
    await plainly(`${LINE}GET / HTTP/1.1\r\n\r\n`);
    expect(refusalsOf('plain_http').at(-1)).toMatchObject({ peer: CALLER });
  });

  it('for the trust in what it says of others', async () => {
    const trusting = await start({ ...PROXIED, 'forwarded.trustedProxies': '192.0.2.7' });
    const headers = { 'x-forwarded-for': '203.0.113.1' };
    await callBehind(LINE, { headers }, trusting);
    expect(sent('X-Forwarded-For')).toEqual(['203.0.113.1, 192.0.2.7']);
    await callBehind('PROXY TCP4 192.0.2.8 198.51.100.9 1 443\r\n', { headers }, trusting);
    expect(sent('X-Forwarded-For')).toEqual(['192.0.2.8']);
    await trusting.stop();
  });

  it('for its share of the room for handshakes', () => {
    const hallway = new Hallway(3);
    const arrive = (address: string): Socket => {
      const raw = new Socket().on('error', () => undefined);
      hallway.enter(raw, '127.0.0.1');
      hallway.move(raw, address);
      return raw;
    };
    const [honest, greedy] = [arrive('192.0.2.1'), arrive('192.0.2.2'), arrive('192.0.2.2')];
    hallway.enter(new Socket(), '127.0.0.1');
    expect([honest, greedy].map((raw) => raw?.destroyed)).toEqual([false, true]);
  });
});

it.each([
  ['a health check (LOCAL)', binaryHeader({ command: 0x20, family: 0 })],
  ['UNKNOWN', 'PROXY UNKNOWN\r\n'],
  ['a Unix socket', binaryHeader({ family: 0x31, rest: Buffer.alloc(216) })],
])('where the header has none it is the address of the connection: %s', async (_, header) => {
  expect((await callBehind(header)).status).toBe(200);
  expect(sent('X-Forwarded-For')).toEqual(['127.0.0.1']);
  expect(sidecar.requests().at(-1)).toMatchObject({ peer: BALANCER });
});

it('plain HTTP behind the header is redirected as ever', async () => {
  const redirecting = await start({ ...PROXIED, 'listen.plainHttp': 'redirect' });
  const answer = await plainly(`${LINE}GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n`, redirecting);
  expect(answer).toMatch(/^HTTP\/1\.1 301 .*\r\nLocation: https:\/\/localhost\/a\r\n/s);
  expect((await callBehind(BINARY, {}, redirecting)).status).toBe(200);
  expect(redirecting.requests().at(-1)).toMatchObject({ peer: CALLER });
  await redirecting.stop();
});

describe('a connection is refused', () => {
  it('without a header', async () => {
    const missing = /does not begin with a PROXY protocol header/;
    await expectRefused('proxy_protocol', missing, () => call(sidecar).catch(() => null));
    await expectRefused('proxy_protocol', missing, () => plainly('GET / HTTP/1.1\r\n\r\n'));
  });

  it.each([
    ['malformed', 'PROXY TCP4 1.2.3.4\r\n', /malformed/],
    ['over-long', 'PROXY TCP4 '.padEnd(107, '1'), /107 bytes/],
    ['of another version', binaryHeader({ command: 0x31 }), /version/],
    ['of a length past every use', binaryHeader({ length: 65_535 }), /4096 bytes/],
  ])('with a header that is %s, and gets no answer', async (_, bytes, detail) => {
    await expectRefused('proxy_protocol', detail, async () => expect(await plainly(bytes)).toBe(''));
  });

  it('with a second header, which is no TLS', async () => {
    const failed = 'mtls_sidecar_handshakes_total{result="failed",reason="handshake_failed"}';
    const before = await sidecar.metric(failed);
    await plainly(LINE + LINE);
    expect(await sidecar.metric(failed)).toBe(before + 1);
    expect(refusalsOf('handshake_failed').at(-1)).toMatchObject({ peer: CALLER });
  });

  it('from any address that is not a balancer’s, whatever it sends', async () => {
    const strict = await start({ ...PROXIED, 'listen.proxyProtocolFrom': '192.0.2.0/24,::/0' });
    const untrusted = /not in listen\.proxyProtocolFrom/;
    await expectRefused('proxy_untrusted', untrusted, () => callBehind(LINE, {}, strict).catch(() => null), strict);
    await expectRefused('proxy_untrusted', untrusted, () => call(strict).catch(() => null), strict);
    expect(strict.log.filter(({ msg }) => msg.startsWith('listen.proxyProtocolFrom has every address'))).toHaveLength(
      1,
    );
    await strict.stop();
  });

  it.each(['', 'PROXY TCP4 192.0', '\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\x01'])(
    'when the header is not there before the deadline of the handshake: %j',
    async (bytes) => {
      const hasty = await start({ ...PROXIED, 'tls.handshakeTimeout': '100ms' });
      await plainly(bytes, hasty);
      expect(refusalsOf('handshake_timeout', hasty)).toEqual([
        expect.objectContaining({ detail: 'no complete PROXY protocol header within 100 ms', peer: BALANCER }),
      ]);
      await hasty.stop();
    },
  );

  it('but a probe that connects and leaves is no refusal', async () => {
    const before = sidecar.refusals().length;
    for (const bytes of ['', 'PROXY']) connect(sidecar.port, '127.0.0.1').end(bytes).resume();
    await sidecar.logged(({ msg }) => msg === 'handshake aborted');
    expect(sidecar.refusals().length).toBe(before);
  });
});

describe('where no header is expected', () => {
  let plain: Sidecar;
  beforeAll(async () => void (plain = await start({})));
  afterAll(() => plain.stop());

  it.each([
    ['version 1', LINE],
    ['version 2', BINARY],
  ])('one is no TLS: %s', async (_, header) => {
    await callBehind(header, {}, plain).catch(() => null);
    expect(refusalsOf('handshake_failed', plain).at(-1)).toMatchObject({
      detail: 'wrong version number',
      peer: BALANCER,
    });
    expect(plain.requests()).toEqual([]);
  });
});
