import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import type { SecureVersion } from 'node:tls';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { openRaw, type Identity } from './support/caller.js';
import { visit } from './support/visit.js';
import {
  chainPem,
  generateKeys,
  issueClient,
  issueServer,
  makePki,
  temporaryDirectory,
  writePem,
  writePki,
  type Issued,
} from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const MINUTE = 60_000;
const keys = generateKeys();
const pki = makePki();
const { ca } = pki;
const upper = ca.subordinate({ subject: [['CN', 'Upper']] });
const lower = upper.subordinate({ subject: [['CN', 'Lower']] });
const brief = ca.subordinate({ subject: [['CN', 'Brief']], notAfter: Date.now() + 10 * MINUTE });

const presenting = (leaf: Issued, ...chain: Issued[]): Identity => ({
  certPem: chainPem(leaf, ...chain),
  keyPem: leaf.keyPem,
});
const honest = presenting(pki.client);
const deep = presenting(issueClient(lower, { keys }), lower, upper);
const stranger = presenting(pki.stranger.client);
const briefly = presenting(issueClient(ca, { keys, notAfter: Date.now() + 10 * MINUTE }));
const underBrief = presenting(issueClient(brief, { keys }), brief);
const outsider = presenting(issueClient(ca, { keys, subject: [['CN', 'somebody.else']] }));

const TOLD = {
  'identity.presets': '[nginx, xfcc]',
  'identity.headers': '{X-Chain: chainDer, X-Reused: sessionReused}',
};

let application: Application;
const sidecars: Sidecar[] = [];

async function start(settings: Readonly<Record<string, string>>, bundle = chainPem(ca)): Promise<Sidecar> {
  const files = { 'clientCert.ca': bundle };
  const sidecar = await startSidecar({ pki, upstream: application.url, files, settings: { ...TOLD, ...settings } });
  sidecars.push(sidecar);
  return sidecar;
}

let usual: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  usual = await start({ 'clientCert.depth': '2' });
});

afterEach(() => {
  vi.useRealTimers();
});

afterAll(async () => {
  for (const sidecar of sidecars) await sidecar.stop();
  await application.stop();
});

/** What the application learns about the caller of its last request. */
function told(): Record<string, string> {
  const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
  const names = rawHeaders.filter((name, index) => index % 2 === 0 && /client|^x-chain$/i.test(name));
  return Object.fromEntries(names.map((name) => [name, valuesOf(rawHeaders, name).join('|')]));
}

const reusedHeader = (): string[] => valuesOf(application.seen.at(-1)?.rawHeaders ?? [], 'X-Reused');

/** @param reused whether the session is resumed; one whose chain nobody can follow leads to a full handshake. */
async function expectRefusedAgain(sidecar: Sidecar, as: Identity | null, version: SecureVersion, reused = true) {
  const before = application.seen.length;
  const first = await visit(sidecar, { as, version });
  expect(first.session).toBeDefined();
  const second = await visit(sidecar, { as, version, session: first.session });
  expect(second.reused).toBe(reused);
  expect(second.status).toBe(first.status);
  expect(application.seen.length).toBe(before);
  return {
    status: second.status,
    reasons: sidecar
      .refusals()
      .slice(-2)
      .map(({ reason }) => reason),
  };
}

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('with %s', (version) => {
  it.each([
    ['an honest caller', honest],
    ['one below two intermediates', deep],
  ])('%s is introduced as before', async (_who, as) => {
    const first = await visit(usual, { as, version });
    const before = told();
    expect(reusedHeader()).toEqual(['.']);
    let { session } = first;
    for (let round = 0; round < 3; round += 1) {
      const again = await visit(usual, { as, version, session });
      expect(again).toMatchObject({ status: 200, reused: true });
      expect(reusedHeader()).toEqual(['r']);
      expect(told()).toEqual(before);
      session = again.session;
    }
    expect(before['X-SSL-Client-Verify']).toBe('SUCCESS');
    expect(before['X-Chain'] === undefined).toBe(as === honest);
  });

  it('a caller without a certificate stays out', async () => {
    const again = await expectRefusedAgain(usual, null, version, false);
    expect(again).toEqual({ status: 400, reasons: ['no_certificate', 'no_certificate'] });
  });

  it('a caller under an unknown CA stays out', async () => {
    const again = await expectRefusedAgain(usual, stranger, version, false);
    expect(again).toEqual({ status: 400, reasons: ['untrusted_issuer', 'untrusted_issuer'] });
  });

  it('a caller whose chain is too long stays out', async () => {
    const strict = await start({ 'clientCert.depth': '1' });
    const again = await expectRefusedAgain(strict, deep, version, false);
    expect(again).toEqual({ status: 400, reasons: ['chain_too_long', 'chain_too_long'] });
    const bundled = await start({ 'clientCert.depth': '1' }, chainPem(ca, upper, lower));
    const still = await expectRefusedAgain(bundled, deep, version);
    expect(still).toEqual({ status: 400, reasons: ['chain_too_long', 'chain_too_long'] });
  });

  it('a caller whom no rule allows stays out', async () => {
    const choosy = await start({ 'clientCert.allow': '[{commonName: im.qq.com}]' });
    const again = await expectRefusedAgain(choosy, outsider, version, false);
    expect(again).toEqual({ status: 403, reasons: ['not_allowed', 'not_allowed'] });
    const { session } = await visit(choosy, { as: honest, version });
    expect(await visit(choosy, { as: honest, version, session })).toMatchObject({ status: 200, reused: true });
  });

  it.each([
    ['certificate', briefly, presenting(issueClient(ca, { keys })), 'expired'],
    // OpenSSL, whose clock is not ours here, has no complaint.
    ['intermediate', underBrief, presenting(issueClient(upper, { keys }), upper), 'untrusted_issuer'],
  ])('a caller whose %s has expired meanwhile stays out until it is renewed', async (_what, as, renewed, reason) => {
    const { status, session } = await visit(usual, { as, version });
    expect(status).toBe(200);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11 * MINUTE });
    const before = application.seen.length;
    expect(await visit(usual, { as, version, session })).toMatchObject({ status: 400, reused: false });
    expect(usual.refusals().at(-1)).toMatchObject({ reason });
    expect(application.seen.length).toBe(before);
    // Its program still has the session of the old one, and must not be locked out by it.
    expect(await visit(usual, { as: renewed, version, session })).toMatchObject({ status: 200, reused: false });
  });

  it.each([
    ['no certificate', null],
    ['a certificate of another CA', stranger],
    ['a certificate for another purpose', presenting(issueClient(ca, { keys, eku: ['serverAuth'] }))],
  ])('a caller who came with %s can come with a good one', async (_what, as) => {
    const { status, session } = await visit(usual, { as, version });
    expect(status).toBe(400);
    expect(session).toBeDefined();
    expect(await visit(usual, { as: honest, version, session })).toMatchObject({ status: 200, reused: false });
  });

  it('a caller revoked in a list that has expired stays out', async () => {
    const leaf = issueClient(ca, { keys });
    const past = { thisUpdate: Date.now() - 20 * MINUTE, nextUpdate: Date.now() - MINUTE };
    const sidecar = await startSidecar({
      pki,
      upstream: application.url,
      files: { 'clientCert.crl': ca.crl({ ...past, revoked: [leaf.serial] }) },
      settings: { 'clientCert.crlExpired': 'warn' },
    });
    sidecars.push(sidecar);
    const again = await expectRefusedAgain(sidecar, presenting(leaf), version, false);
    expect(again).toEqual({ status: 400, reasons: ['revoked', 'revoked'] });
  });

  it('an unverified caller stays unverified', async () => {
    const lenient = await start({ 'clientCert.verify': 'optional-no-ca', 'identity.presets': 'nginx' });
    const { session } = await visit(lenient, { as: stranger, version });
    expect(await visit(lenient, { as: stranger, version, session })).toMatchObject({ status: 200, reused: true });
    expect(told()['X-SSL-Client-Verify']).toBe('FAILED:unable to verify the first certificate');
    const nobody = await visit(lenient, { as: null, version });
    await visit(lenient, { as: null, version, session: nobody.session });
    expect(told()['X-SSL-Client-Verify']).toBe('NONE');
  });

  it.each([
    ['another bundle', { 'clientCert.depth': '2' }, chainPem(ca, pki.stranger.ca), stranger],
    ['another mode', { 'clientCert.verify': 'off' }, chainPem(ca), null],
  ] as const)('a session begun under %s is worth nothing here', async (_what, settings, bundle, as) => {
    const elsewhere = await start(settings, bundle);
    const { status, session } = await visit(elsewhere, { as, version });
    expect(status).toBe(200);
    expect(await visit(usual, { as, version, session })).toMatchObject({ status: 400, reused: false });
  });

  it('with resumption off every connection is a full handshake', async () => {
    const off = await start({ 'tls.sessions.resumption': 'false' });
    const { session } = await visit(off, { as: honest, version });
    expect(await visit(off, { as: honest, version, session })).toMatchObject({ status: 200, reused: false });
    expect(reusedHeader()).toEqual(['.']);
  });
});

it.each(['TLSv1.2', 'TLSv1.3'] as const)('a renewed server certificate costs no %s session', async (version) => {
  const directory = temporaryDirectory();
  const files = writePki(directory.path, pki);
  const own = { 'tls.cert': files.cert, 'tls.key': files.key, 'reload.interval': '1h' };
  const sidecar = await start({ 'clientCert.depth': '2', ...own });
  const { session } = await visit(sidecar, { as: deep, version });
  const before = told();
  writePem(directory.path, 'server.pem', issueServer(ca, { keys: pki.server.keys }).certPem);
  expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
  await sidecar.logged(({ msg }) => msg === 'reloaded');
  expect(await visit(sidecar, { as: deep, version, session })).toMatchObject({ status: 200, reused: true });
  expect(told()).toEqual(before);
  directory.remove();
});

it('a caller cannot change its certificate within a TLS 1.2 connection', async () => {
  const caller = await openRaw(usual, { maxVersion: 'TLSv1.2' });
  const before = application.seen.length;
  const refused = new Promise<Error | null>((resolve) => caller.socket.renegotiate({}, resolve));
  expect(await Promise.race([refused, once(caller.socket, 'error').then(([error]) => error as Error)])).toMatchObject({
    message: expect.stringMatching(/no renegotiation/) as string,
  });
  caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  await caller.closed();
  expect(application.seen.length).toBe(before);
});
