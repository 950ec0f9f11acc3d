import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { RawApplication } from './support/application.js';
import type { Identity } from './support/caller.js';
import { CA_SUBJECT, chainPem, createAuthority, generateKeys, issueClient, makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { sidecarForTest, type Sidecar, type SidecarOptions } from './support/sidecar.js';
import { echoes, openTunnel, startEcho } from './support/tunnel.js';

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

/** Only the clock is put forward: the look of each second comes when it comes. */
function pass(minutes: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes * MINUTE });
}

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
