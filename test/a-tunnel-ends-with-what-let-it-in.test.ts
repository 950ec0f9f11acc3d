import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { RawApplication } from './support/application.js';
import { openRaw, type Identity } from './support/caller.js';
import { pass } from './support/clock.js';
import { CA_SUBJECT, chainPem, createAuthority, generateKeys, issueClient, makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { sidecarForTest, type Sidecar, type SidecarOptions } from './support/sidecar.js';
import { echoes, openTunnel, startEcho, upgradeTo } from './support/tunnel.js';

const MINUTE = 60_000;
const pki = makePki();
const { ca } = pki;
const soon = (): number => Date.now() + 10 * MINUTE;
const brief = issueClient(ca, { notAfter: soon() });
const brieflyAbove = ca.subordinate({ subject: [['CN', 'Middle']], notAfter: soon() });
const leaf = issueClient(brieflyAbove);
const below: Identity = { certPem: chainPem(leaf, brieflyAbove), keyPem: leaf.keyPem };

let echo: RawApplication;

beforeAll(async () => {
  echo = await startEcho();
});

afterEach(() => {
  vi.useRealTimers();
});

afterAll(() => echo.stop());

const start = (options: SidecarOptions = {}): Promise<Sidecar> =>
  sidecarForTest({ pki, upstream: echo.url, ...options, settings: { 'reload.interval': '1h', ...options.settings } });

/** Writes other settings and takes them over. */
async function reload(sidecar: Sidecar, yaml: string): Promise<void> {
  writeFileSync(join(sidecar.directory, 'sidecar.yaml'), yaml);
  expect(await sidecar.admin('/reload', 'POST')).toMatchObject({ status: 200, body: expect.stringMatching(/anew/) });
}

describe('a tunnel is ended', () => {
  it.each([
    ['with the certificate of its caller', brief],
    ['with an intermediate above it', below],
  ])('%s, and leaves the record of every tunnel', async (_when, as) => {
    const sidecar = await start();
    const tunnel = await openTunnel(sidecar, '/chat', { as });
    pass(9);
    await echoes(tunnel);
    pass(2);
    await tunnel.closed();
    expect(await recordOf(sidecar, '/chat')).toMatchObject({ status: 101, code: null, outcome: 'ok', upgraded: true });
  });

  it('with a CA of the bundle', async () => {
    const ending = createAuthority({ subject: CA_SUBJECT, notAfter: soon() });
    const sidecar = await start({ files: { 'clientCert.ca': ending.certPem } });
    const tunnel = await openTunnel(sidecar, '/', { as: issueClient(ending) });
    pass(11);
    await tunnel.closed();
  });

  it('at a reload, which judges it by the clock of today', async () => {
    // Without the look of each second.
    vi.useFakeTimers({ toFake: ['setInterval'] });
    const sidecar = await start({ yaml: 'clientCert: {allow: [{commonName: im.qq.com}]}\n' });
    vi.useRealTimers();
    const [ending, lasting] = [await openTunnel(sidecar, '/', { as: brief }), await openTunnel(sidecar)];
    pass(11);
    await echoes(ending);
    await reload(sidecar, 'clientCert: {allow: [{organization: Tencent}]}\n');
    await ending.closed();
    await echoes(lasting);
  });
});

it('under a route that asks nobody it stays', async () => {
  const sidecar = await start({ yaml: 'routes: [{path: /open, verify: off}]\n' });
  const open = await openTunnel(sidecar, '/open', { as: brief });
  const own = await openTunnel(sidecar, '/own', { as: brief });
  pass(11);
  await own.closed();
  await echoes(open);
  await reload(
    sidecar,
    'routes: [{path: /open, verify: off, allow: []}]\nclientCert: {allow: [{commonName: nobody}]}\n',
  );
  await echoes(open);
});

describe('what a handshake alone is asked', () => {
  const yaml = (setting: string): string => `${setting}\nroutes: [{path: /open, verify: off}]\n`;
  const PURPOSE = ['clientCert: {purpose: any}', 'clientCert: {purpose: clientAuth}'] as const;

  it.each([
    ['the purpose', ...PURPOSE],
    ['the security level', 'tls: {securityLevel: 1}', 'tls: {securityLevel: 2}'],
    ['what old callers may', 'tls: {legacy: true}', 'tls: {legacy: false}'],
    ['the oldest version', 'tls: {minVersion: TLSv1.2}', 'tls: {minVersion: TLSv1.3}'],
  ])('ends tunnels when it changes: %s', async (_what, before, after) => {
    const sidecar = await start({ yaml: yaml(before) });
    const [own, open] = [await openTunnel(sidecar, '/own'), await openTunnel(sidecar, '/open')];
    await reload(sidecar, yaml(after));
    await own.closed();
    await echoes(open);
    await echoes(await openTunnel(sidecar, '/own'));
  });

  it('leaves them when only files are renewed, which an open connection can be judged by', async () => {
    const sidecar = await start({ yaml: '{}' });
    const tunnel = await openTunnel(sidecar);
    const renewed = createAuthority({ subject: CA_SUBJECT, keys: ca.keys, notAfter: Date.now() + 60 * MINUTE });
    writeFileSync(sidecar.paths.ca, renewed.certPem);
    writeFileSync(join(sidecar.directory, 'list.pem'), ca.crl());
    await reload(sidecar, 'clientCert: {crl: list.pem, depth: 2}\n');
    await echoes(tunnel);
  });

  it('lets no tunnel begin on a connection from before, whose caller may ask again over another', async () => {
    const sidecar = await start({ yaml: yaml(PURPOSE[0]) });
    const [own, open] = [await openRaw(sidecar), await openRaw(sidecar)];
    await reload(sidecar, yaml(PURPOSE[1]));
    own.socket.write(upgradeTo('/own'));
    expect(await own.closed()).toMatch(/^HTTP\/1\.1 421 /);
    expect(await recordOf(sidecar, '/own')).toMatchObject({ status: 421, code: 'misdirected', outcome: 'refused' });
    open.socket.write(upgradeTo('/open'));
    await open.receive(/^HTTP\/1\.1 101 /);
  });

  it('nor on one whose handshake was under way', async () => {
    const sidecar = await start({ yaml: yaml(PURPOSE[0]) });
    const socket = connect(sidecar.port, '127.0.0.1');
    await once(socket, 'connect');
    // Accepted before the reload, for the next one is.
    await openRaw(sidecar);
    await reload(sidecar, yaml(PURPOSE[1]));
    const own = await openRaw(sidecar, { socket });
    own.socket.write(upgradeTo('/own'));
    expect(await own.closed()).toMatch(/^HTTP\/1\.1 421 /);
  });
});

it('a CA that is renewed with the same key keeps its tunnels, until it ends in turn', async () => {
  const keys = generateKeys();
  const ending = createAuthority({ subject: CA_SUBJECT, keys, notAfter: soon() });
  const renewed = createAuthority({ subject: CA_SUBJECT, keys, notAfter: Date.now() + 20 * MINUTE });
  const sidecar = await start({ yaml: '{}' });
  writeFileSync(sidecar.paths.ca, ca.certPem + ending.certPem);
  await reload(sidecar, '{}');
  const tunnel = await openTunnel(sidecar, '/', { as: issueClient(ending) });
  const next = await openTunnel(sidecar, '/', { as: brief });
  writeFileSync(sidecar.paths.ca, ca.certPem + renewed.certPem);
  await reload(sidecar, '{}');
  pass(11);
  // Looked at behind the other.
  await next.closed();
  await echoes(tunnel);
  pass(10);
  await tunnel.closed();
});
