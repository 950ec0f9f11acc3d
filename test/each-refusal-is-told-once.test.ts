import { once } from 'node:events';
import { connect } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, sendRaw, type CallOptions } from './support/caller.js';
import { issueClient, makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const HOUR = 3_600_000;
const expired = issueClient(pki.ca, { notBefore: Date.now() - 2 * HOUR, notAfter: Date.now() - HOUR });
const revoked = issueClient(pki.ca);
const unknown = issueClient(pki.ca, { subject: [['CN', 'nobody']] });

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    files: { 'clientCert.crl': pki.ca.crl({ revoked: [{ serial: revoked.serial }] }) },
    settings: {
      'clientCert.allow': '[{"commonName":"im.qq.com","paths":["/im/**"]}]',
      'listen.serverNames': 'localhost',
      'limits.body': '10',
      'tls.handshakeTimeout': '300ms',
    },
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

interface Listed {
  readonly kind: 'connection' | 'request';
  readonly reason?: string;
  readonly code?: string;
  readonly time: string;
}

const listed = async (): Promise<Listed[]> => JSON.parse((await sidecar.admin('/refusals')).body);

/** Everything that the metrics count as refused, by reason and code, without what is zero. */
async function counted(): Promise<ReadonlyMap<string, number>> {
  const { body } = await sidecar.admin('/metrics');
  const connections = body.matchAll(
    /^mtls_sidecar_(handshakes)_total\{result="(?!admitted)\w+",reason="(\w+)"\} (\d+)$/gm,
  );
  const requests = body.matchAll(/^mtls_sidecar_(request)_refusals_total\{code="(\w+)"\} (\d+)$/gm);
  const samples = [...connections, ...requests].map(
    ([, kind, name, count]) => [`${kind} ${name}`, Number(count)] as const,
  );
  return new Map(samples.filter(([, count]) => count > 0));
}

/** What was told of one event: log records, growth of the counters, and new entries of the list. */
async function told(name: string, act: () => Promise<unknown>) {
  const isTold = (line: object): boolean => Object.values(line).includes(name);
  const before = { lines: sidecar.log.length, counts: await counted(), list: await listed() };
  const record = sidecar.logged((line) => sidecar.log.indexOf(line) >= before.lines && isTold(line));
  await act();
  await record;
  const counts = await counted();
  const list = await listed();
  return {
    records: sidecar.log.slice(before.lines).filter(isTold).length,
    growth: [...counts].flatMap(([one, count]) => {
      const more = count - (before.counts.get(one) ?? 0);
      return more === 0 ? [] : [`${one} +${more}`];
    }),
    entries: list.slice(0, list.length - before.list.length).map(({ reason, code }) => reason ?? code),
  };
}

const toldOnce = (name: string, kind = 'handshakes') => ({
  records: 1,
  growth: [`${kind} ${name} +1`],
  entries: [name],
});

async function plainly(bytes: string): Promise<void> {
  const socket = connect(sidecar.port, '127.0.0.1');
  socket.on('error', () => undefined).resume();
  socket.end(bytes);
  // Not by `once`, which would reject when a caller that has no time to read its page is cut off.
  await new Promise((resolve) => socket.once('close', resolve));
}

describe('a refused connection is one record, one count and one entry', () => {
  it.each<[string, CallOptions]>([
    ['no_certificate', { as: null }],
    ['untrusted_issuer', { as: pki.stranger.client }],
    ['expired', { as: expired }],
    ['revoked', { as: revoked }],
    ['not_allowed', { as: unknown }],
  ])('%s', async (reason, options) => {
    expect(await told(reason, () => call(sidecar, { path: '/im/', ...options }))).toEqual(toldOnce(reason));
  });

  it('plain_http', async () => {
    expect(await told('plain_http', () => plainly('GET / HTTP/1.1\r\nHost: a\r\n\r\n'))).toEqual(
      toldOnce('plain_http'),
    );
  });

  it.each([
    ['tls_version', { maxVersion: 'TLSv1.1', minVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' }],
    ['handshake_failed', { ALPNProtocols: ['h2'] }],
  ] as const)('%s, although both ends of the handshake fail', async (reason, options) => {
    expect(await told(reason, () => openRaw(sidecar, { ...options }).catch(() => null))).toEqual(toldOnce(reason));
  });

  it('handshake_timeout', async () => {
    const wait = async (): Promise<void> => {
      const socket = connect(sidecar.port, '127.0.0.1').resume();
      await once(socket, 'close');
    };
    expect(await told('handshake_timeout', wait)).toEqual(toldOnce('handshake_timeout'));
  });
});

describe('a refused request is one record, one count and one entry', () => {
  it.each<[string, CallOptions]>([
    ['not_allowed', { path: '/elsewhere' }],
    ['misdirected', { path: '/im/', headers: { host: 'other.example' } }],
    ['body_too_large', { path: '/im/callback', body: 'more than ten bytes' }],
  ])('%s', async (code, options) => {
    expect(await told(code, () => call(sidecar, options))).toEqual(toldOnce(code, 'request'));
  });

  it('bad_request, of which nothing could be read', async () => {
    const bytes = 'GET /im/ HTTP/1.1\r\nHost : localhost\r\n\r\n';
    expect(await told('bad_request', () => sendRaw(sidecar, bytes))).toEqual(toldOnce('bad_request', 'request'));
  });

  it('and none when the application refused', async () => {
    const before = { list: await listed(), counts: await counted() };
    expect((await call(sidecar, { path: '/im/fine' })).status).toBe(200);
    await sidecar.logged(({ path }) => path === '/im/fine');
    expect({ list: await listed(), counts: await counted() }).toEqual(before);
  });
});

describe('a scanner', () => {
  it('fills neither the log nor the list, is counted whole, and costs nobody else a record', async () => {
    const before = sidecar.refusals().length;
    const counts = await counted();
    for (let i = 0; i < 25; i += 1) {
      await Promise.all(Array.from({ length: 20 }, () => plainly('GET / HTTP/1.1\r\nHost: a\r\n\r\n')));
    }
    expect(((await counted()).get('handshakes plain_http') ?? 0) - (counts.get('handshakes plain_http') ?? 0)).toBe(
      500,
    );
    const lines = sidecar.refusals().length - before;
    expect(lines).toBeGreaterThan(150);
    expect(lines).toBeLessThan(400);
    const list = (await listed()).filter(({ kind }) => kind === 'connection');
    expect(list).toHaveLength(200);
    const times = list.map(({ time }) => time);
    expect(times).toEqual([...times].sort().reverse());
    // Requests are kept apart, so that the flood has not pushed them out.
    expect((await listed()).filter(({ kind }) => kind === 'request')).toHaveLength(4);
    await call(sidecar, { path: '/elsewhere' });
    expect((await listed())[0]).toMatchObject({ kind: 'request', code: 'not_allowed' });
  });
});
