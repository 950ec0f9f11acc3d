import { createHash, X509Certificate } from 'node:crypto';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { readPeerCertificate } from '../src/identify/peer-certificate.js';
import { KnownCallers, type KnownCaller } from '../src/listen/known-callers.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import type { Identity } from './support/caller.js';
import { chainPem, generateKeys, issueClient, makePki, type Issued } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const MINUTE = 60_000;
const keys = generateKeys();
const pki = makePki();
const { ca } = pki;
const NAME = [['CN', 'Issuing']] as const;
const issuing = ca.subordinate({ subject: NAME, notAfter: Date.now() + 10 * MINUTE });
/** The same intermediate with a later end. */
const renewed = ca.subordinate({ subject: NAME, keys: issuing.keys });
/** Of the same names, by somebody whom nobody trusts. */
const forged = pki.stranger.ca.subordinate({ subject: NAME });

const presenting = (leaf: Issued, ...chain: Issued[]): Identity => ({
  certPem: chainPem(leaf, ...chain),
  keyPem: leaf.keyPem,
});

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  const settings = { 'identity.headers': '{X-Chain: chainDer, X-Reused: sessionReused}' };
  const files = { 'clientCert.ca': chainPem(ca) };
  sidecar = await startSidecar({ pki, upstream: application.url, files, settings });
});

afterEach(() => {
  vi.useRealTimers();
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

function told(): Record<string, string> {
  const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
  const names = rawHeaders.filter((name, index) => index % 2 === 0 && /client|^x-chain$|^x-reused$/i.test(name));
  return Object.fromEntries(names.map((name) => [name, valuesOf(rawHeaders, name).join('|')]));
}

const chainOf = ({ certDer }: Issued): string => `:${Buffer.from(certDer).toString('base64')}:`;

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('in whole handshakes with %s', (version) => {
  it('it is introduced as the first time', async () => {
    const known = presenting(issueClient(renewed, { keys, subject: [['CN', `known ${version}`]] }), renewed);
    expect((await visit(sidecar, { as: known, version })).status).toBe(200);
    const first = told();
    expect(first).toMatchObject({
      'X-SSL-Client-S-DN': `CN=known ${version}`,
      'X-Chain': chainOf(renewed),
      'X-Reused': '.',
    });
    expect((await visit(sidecar, { as: known, version })).status).toBe(200);
    expect(told()).toEqual(first);
  });

  it('each is told apart from others of its name and key', async () => {
    const subject = [['CN', `twin ${version}`]] as const;
    const twins = [1n, 2n].map((serial) => presenting(issueClient(ca, { keys, subject, serial })));
    const serials: (string | undefined)[] = [];
    for (const as of [...twins, ...twins]) {
      await visit(sidecar, { as, version });
      serials.push(told()['X-SSL-Client-Serial']);
    }
    expect(serials).toEqual(['01', '02', '01', '02']);
  });

  it('nothing that it once showed is lent to it', async () => {
    const leaf = issueClient(renewed, { keys });
    expect((await visit(sidecar, { as: presenting(leaf, renewed), version })).status).toBe(200);
    for (const chain of [[], [forged]]) {
      expect((await visit(sidecar, { as: presenting(leaf, ...chain), version })).status).toBe(400);
      expect(sidecar.refusals().at(-1)?.reason).toBe('untrusted_issuer');
    }
    expect((await visit(sidecar, { as: presenting(leaf, renewed), version })).status).toBe(200);
  });

  it('an issuer that has ended since is not remembered, and its successor is seen', async () => {
    const leaf = issueClient(issuing, { keys });
    expect((await visit(sidecar, { as: presenting(leaf, issuing), version })).status).toBe(200);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11 * MINUTE });
    expect((await visit(sidecar, { as: presenting(leaf, issuing), version })).status).toBe(400);
    expect((await visit(sidecar, { as: presenting(leaf, renewed), version })).status).toBe(200);
    expect(told()['X-Chain']).toBe(chainOf(renewed));
  });

  it('its own end counts', async () => {
    const as = presenting(issueClient(ca, { keys, notAfter: Date.now() + 10 * MINUTE }));
    expect((await visit(sidecar, { as, version })).status).toBe(200);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 11 * MINUTE });
    expect((await visit(sidecar, { as, version })).status).toBe(400);
    expect(sidecar.refusals().at(-1)?.reason).toBe('expired');
  });
});

describe('what is remembered', () => {
  const callerOf = ({ certDer }: Issued): KnownCaller => ({
    leaf: new X509Certificate(certDer),
    certificate: readPeerCertificate(certDer),
    path: [],
  });

  it('is bounded, and goes with whoever has not been seen for longest', () => {
    const callers = new KnownCallers(2);
    const [first, second, third] = [1, 2, 3].map(() => issueClient(ca, { keys })) as [Issued, Issued, Issued];
    for (const one of [first, second, first, third]) callers.remember(callerOf(one));
    expect([first, second, third].map(({ certDer }) => callers.recall(certDer) !== null)).toEqual([true, false, true]);
  });

  it('takes little memory however many certificates there have been', () => {
    const callers = new KnownCallers();
    const one = callerOf(issueClient(ca, { keys }));
    const seen = Array.from({ length: 10_000 }, (_, index) => createHash('sha256').update(String(index)).digest());
    for (const hash of seen) {
      callers.remember({ ...one, certificate: { ...one.certificate, sha256: hash.toString('hex') } });
    }
    const kept = seen.filter((_, index) => callers.recall(Buffer.from(String(index))) !== null).length;
    // Some 30 KiB each with two intermediates; the pods of the manifests ask for 128 MiB in all.
    expect((kept * 30) / 1024).toBeLessThan(32);
    expect(kept).toBeGreaterThan(0);
  });

  it('is found by every byte of the certificate', () => {
    const callers = new KnownCallers();
    const one = issueClient(ca, { keys });
    callers.remember(callerOf(one));
    expect(callers.recall(one.certDer)?.certificate.der).toBe(one.certDer);
    for (const at of [0, one.certDer.length >> 1, one.certDer.length - 1]) {
      const other = Uint8Array.from(one.certDer);
      other[at] = (other[at] ?? 0) ^ 1;
      expect(callers.recall(other)).toBeNull();
    }
  });
});
