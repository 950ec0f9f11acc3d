import { constants } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { beforeAll, afterAll, describe, expect, it } from 'vitest';
import { SessionCache } from '../src/listen/resumption.js';
import { startApplication, type Application } from './support/application.js';
import type { Identity } from './support/caller.js';
import { chainPem, createAuthority, generateKeys, issueClient, makePki } from './support/pki.js';
import { sidecarForTest, type Sidecar, type SidecarOptions } from './support/sidecar.js';
import { visit } from './support/visit.js';

const pki = makePki();
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle']] });
const below = issueClient(middle, { keys: generateKeys() });
const deep: Identity = { certPem: chainPem(below, middle), keyPem: below.keyPem };

/** A caller of TLS 1.2 that knows no tickets. */
const PLAIN = { version: 'TLSv1.2', tls: { secureOptions: constants.SSL_OP_NO_TICKET } } as const;

let application: Application;

beforeAll(async () => {
  application = await startApplication();
});
afterAll(() => application.stop());

async function start(options: SidecarOptions = {}): Promise<Sidecar> {
  const settings = { 'reload.interval': '1h', ...options.settings };
  return sidecarForTest({ pki, upstream: application.url, ...options, settings });
}

describe('a session is resumed by its id', () => {
  it.each([
    ['by an honest caller', pki.client],
    ['by one below an intermediate', deep],
  ])('%s, again and again', async (_who, as) => {
    const sidecar = await start();
    const { session } = await visit(sidecar, { ...PLAIN, as });
    for (let round = 0; round < 2; round += 1) {
      expect(await visit(sidecar, { ...PLAIN, as, session })).toMatchObject({ status: 200, reused: true });
    }
  });

  it('but in no other process', async () => {
    const [one, other] = [await start(), await start()];
    const { session } = await visit(one, PLAIN);
    expect(await visit(other, { ...PLAIN, session })).toMatchObject({ status: 200, reused: false });
  });

  it('but not where resumption is off', async () => {
    const off = await start({ settings: { 'tls.sessions.resumption': 'false' } });
    const { session } = await visit(off, PLAIN);
    expect(await visit(off, { ...PLAIN, session })).toMatchObject({ status: 200, reused: false });
  });

  it('but not past its lifetime', async () => {
    const brief = await start({ settings: { 'tls.sessions.lifetime': '1s' } });
    const { session } = await visit(brief, PLAIN);
    // OpenSSL counts in whole seconds.
    await new Promise((resolve) => setTimeout(resolve, 2_100));
    expect(await visit(brief, { ...PLAIN, session })).toMatchObject({ status: 200, reused: false });
  });

  it('but not when trust has changed since', async () => {
    const revoking = pki.ca.crl({ revoked: [pki.client.serial] });
    const sidecar = await start({ yaml: 'clientCert: {depth: 1}\n' });
    const { session } = await visit(sidecar, PLAIN);
    writeFileSync(`${sidecar.directory}/list.pem`, revoking);
    writeFileSync(`${sidecar.directory}/sidecar.yaml`, 'clientCert: {depth: 1, crl: list.pem}\n');
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    expect(await visit(sidecar, { ...PLAIN, session })).toMatchObject({ status: 400, reused: false });
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'revoked' });
  });

  it.each([
    ['without a certificate', null],
    ['of a stranger', issueClient(createAuthority({ subject: [['CN', 'Nobody knows']] }))],
  ])('but never %s', async (_who, as) => {
    const sidecar = await start();
    const first = await visit(sidecar, { ...PLAIN, as });
    expect(first.status).toBe(400);
    expect(await visit(sidecar, { ...PLAIN, as, session: first.session })).toMatchObject({
      status: 400,
      reused: false,
    });
  });
});

describe('sessions are kept within bounds', () => {
  const id = (number: number): Buffer => Buffer.from([number]);

  it('the oldest go first', () => {
    const kept = new SessionCache(60_000, 3);
    for (let number = 1; number <= 5; number += 1) kept.keep(id(number), Buffer.from([number]));
    expect(kept.size).toBe(3);
    expect([1, 2, 3, 4, 5].map((number) => kept.find(id(number)) !== null)).toEqual([false, false, true, true, true]);
  });

  it('and those whose time is up are neither found nor kept', () => {
    const kept = new SessionCache(0, 100);
    for (let number = 1; number <= 50; number += 1) kept.keep(id(number), Buffer.alloc(10));
    expect(kept.find(id(50))).toBeNull();
    expect(kept.size).toBeLessThanOrEqual(1);
  });
});
