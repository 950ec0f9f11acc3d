import { writeFileSync } from 'node:fs';
import { afterEach, describe, expect, it } from 'vitest';
import { expiringCallers, ExpiryWatch, type Expiring } from '../src/trust/expiry.js';
import { startApplication } from './support/application.js';
import { call } from './support/caller.js';
import { CA_SUBJECT, createAuthority, issueClient, issueServer, makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const DAY = 86_400_000;
const NOW = Date.parse('2026-01-01T00:00:00Z');

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

describe('an end is told once a threshold', () => {
  const item: Expiring = { what: 'CA', name: 'CN=Root', file: '/ca.pem', at: NOW + 40 * DAY, lifetime: 400 * DAY };
  const daysOf = (watch: ExpiryWatch, day: number, items: readonly Expiring[] = [item]): number[] =>
    watch.news(items, NOW + day * DAY).map(({ days }) => days);

  it('30, 7 and 1 days ahead, and when it has come', () => {
    const watch = new ExpiryWatch();
    const told = [0, 9.9, 10.1, 11, 20, 32.9, 33.1, 34, 38.9, 39.1, 39.5, 40, 41, 50].map((day) => daysOf(watch, day));
    expect(told).toEqual([[], [], [30], [], [], [], [7], [], [], [1], [], [0], [], []]);
  });

  it('by the closest threshold alone when it is close already', () => {
    const watch = new ExpiryWatch();
    expect(daysOf(watch, 39.5)).toEqual([1]);
    expect(daysOf(watch, 39.6)).toEqual([]);
  });

  it('anew for what replaced it', () => {
    const watch = new ExpiryWatch();
    expect(daysOf(watch, 20)).toEqual([30]);
    const renewed = { ...item, at: NOW + 45 * DAY };
    expect(daysOf(watch, 21, [renewed])).toEqual([30]);
    expect(daysOf(watch, 22, [renewed, renewed])).toEqual([]);
  });

  it('not at a threshold beyond half of a known lifetime', () => {
    const watch = new ExpiryWatch();
    const short = { ...item, lifetime: 20 * DAY };
    expect([20.1, 32, 33.1, 39.1].map((day) => daysOf(watch, day, [short]))).toEqual([[], [], [7], [1]]);
    expect(daysOf(new ExpiryWatch(), 39.99, [{ ...item, lifetime: DAY / 24 }])).toEqual([]);
  });
});

describe('of client certificates', () => {
  const iso = (days: number): string => new Date(NOW + days * DAY).toISOString();
  const caller = {
    subject: 'CN=im',
    issuer: 'CN=Root',
    serial: '01',
    sha256: 'aa',
    verified: true,
    notBefore: iso(-300),
    notAfter: iso(5),
    firstSeen: iso(-10),
    lastSeen: iso(-0.5),
    address: '192.0.2.1',
    anchorSha256: 'bb',
    openConnections: 0,
    connections: 1,
    requests: 1,
  };

  it('those count that were verified, heard of within a day, and have not ended', () => {
    expect(expiringCallers([caller], NOW)).toEqual([
      { what: 'client certificate', name: 'CN=im', file: null, at: NOW + 5 * DAY, lifetime: 305 * DAY },
    ]);
    expect(expiringCallers([{ ...caller, verified: false }], NOW)).toEqual([]);
    expect(expiringCallers([{ ...caller, lastSeen: iso(-1.1) }], NOW)).toEqual([]);
    expect(expiringCallers([{ ...caller, notAfter: iso(-0.1) }], NOW)).toEqual([]);
  });
});

describe('a running sidecar', () => {
  const soon = { subject: CA_SUBJECT, notBefore: Date.now() - 9 * DAY, notAfter: Date.now() + DAY };

  /** With ends in 5 days (server), 20 days (CA) and 12 hours (list). */
  async function start(): Promise<Sidecar> {
    const now = Date.now();
    const ca = createAuthority({ subject: CA_SUBJECT, notBefore: now - 300 * DAY, notAfter: now + 20 * DAY });
    const server = issueServer(ca, { notBefore: now - 85 * DAY, notAfter: now + 5 * DAY });
    const client = issueClient(ca, { notBefore: now - 100 * DAY, notAfter: now + 3 * DAY });
    const application = await startApplication();
    closing.push(() => application.stop());
    const sidecar = await startSidecar({
      pki: { ...makePki(), ca, server, client },
      upstream: application.url,
      files: { 'clientCert.crl': ca.crl({ thisUpdate: now - 6 * DAY, nextUpdate: now + DAY / 2 }) },
      settings: { 'reload.interval': '1h' },
    });
    closing.push(() => sidecar.stop());
    return sidecar;
  }

  const warnings = (sidecar: Sidecar): unknown[] =>
    sidecar.log.filter(({ msg }) => /expire/.test(msg)).map(({ level, msg, subject }) => [level, msg, subject]);

  it('warns at the start, and of its callers at the next look, once each', async () => {
    const sidecar = await start();
    const name = 'CN=TencentQQAuthCA,O=Tencent,C=CN';
    const atStart = [
      ['warn', 'server certificate expires within 7 days', 'CN=localhost'],
      ['warn', 'CA expires within 30 days', name],
      ['warn', 'CRL expires within a day', name],
    ];
    expect(warnings(sidecar)).toEqual(atStart);
    await call(sidecar);
    // A look comes each hour, and with each reload that changes something.
    writeFileSync(sidecar.paths.ca, sidecar.pki.ca.certPem + createAuthority(soon).certPem);
    await sidecar.admin('/reload', 'POST');
    const later = [
      ['warn', 'CA expires within a day', name],
      ['warn', 'client certificate expires within 7 days', 'CN=im.qq.com,O=Tencent,C=CN'],
    ];
    expect(warnings(sidecar)).toEqual([...atStart, ...later]);
  });

  it('has every end in the metrics and in the status', async () => {
    const sidecar = await start();
    await call(sidecar);
    const { body } = await sidecar.admin('/metrics');
    const days = (name: string): number =>
      Number(new RegExp(`^mtls_sidecar_${name}_expiry_seconds(?:\\{.*\\})? (.*)$`, 'm').exec(body)?.[1]) / 86_400;
    expect(days('server_certificate')).toBeCloseTo(5, 1);
    expect(days('ca')).toBeCloseTo(20, 1);
    expect(days('crl')).toBeCloseTo(0.5, 1);
    expect(days('last_client_certificate')).toBeCloseTo(3, 1);
    const status = JSON.parse((await sidecar.admin('/status')).body);
    const left = ({ notAfter, nextUpdate }: { notAfter?: string; nextUpdate?: string }): number =>
      (Date.parse(notAfter ?? nextUpdate ?? '') - Date.now()) / DAY;
    expect(left(status.serverCertificate)).toBeCloseTo(5, 1);
    expect(left(status.cas[0])).toBeCloseTo(20, 1);
    expect(left(status.crls[0])).toBeCloseTo(0.5, 1);
    expect(left(status.lastClientCertificate)).toBeCloseTo(3, 1);
    expect(left(status.callers[0])).toBeCloseTo(3, 1);
  });
});
