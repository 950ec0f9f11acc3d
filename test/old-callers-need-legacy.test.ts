import type { SecureVersion } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import {
  CA_SUBJECT,
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  issueServer,
  type Issued,
  type Pki,
} from './support/pki.js';
import { CARELESS, expectRefused, namesOf, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const HOUR = 3_600_000;
/** Callers of that age know neither elliptic curves nor anything longer than SHA-1. */
const rsa = generateKeys('rsa-2048');
const short = generateKeys('rsa-1024');
const ca = createAuthority({ subject: CA_SUBJECT, keys: rsa, hash: 'sha1' });
const stranger = createAuthority({ subject: CA_SUBJECT, keys: generateKeys() });
const pki: Pki = {
  ca,
  server: issueServer(ca, { keys: rsa }),
  client: issueClient(ca, { keys: rsa, hash: 'sha1' }),
  stranger: { ca: stranger, client: issueClient(stranger, { keys: rsa, hash: 'sha1' }) },
};
const middle = ca.subordinate({ subject: [['CN', 'Middle']], keys: short, hash: 'sha1' });
const below = issueClient(middle, { keys: short, hash: 'sha1' });

let application: Application;
let usual: Sidecar;
let legacy: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  usual = await startSidecar({ pki, upstream: application.url });
  const settings = { 'tls.legacy': 'true', 'tls.minVersion': 'TLSv1' };
  legacy = await startSidecar({ pki, upstream: application.url, settings });
});

afterAll(async () => {
  await usual.stop();
  await legacy.stop();
  await application.stop();
});

const speaking = (version: SecureVersion, leaf: Issued, ...chain: Issued[]) => ({
  as: { certPem: chainPem(leaf, ...chain), keyPem: leaf.keyPem },
  minVersion: version,
  maxVersion: version,
  ...CARELESS,
});

describe.each(['TLSv1', 'TLSv1.1', 'TLSv1.2'] as const)('under tls.legacy with %s', (version) => {
  it.each([
    ['a certificate signed with SHA-1', pki.client, []],
    ['a chain of SHA-1 and RSA-1024', below, [middle]],
  ] as const)('%s comes in', async (_what, leaf, chain) => {
    expect((await call(legacy, speaking(version, leaf, ...chain))).status).toBe(200);
    const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
    expect(valuesOf(rawHeaders, 'X-SSL-Client-Verify')).toEqual(['SUCCESS']);
  });

  it.each([
    ['no certificate', null, 'no_certificate', 'client sent no required SSL certificate'],
    ['one under another CA', pki.stranger.client, 'untrusted_issuer', 'unable to verify the first certificate'],
    [
      'an expired one',
      issueClient(ca, { keys: rsa, notBefore: Date.now() - 2 * HOUR, notAfter: Date.now() - HOUR }),
      'expired',
      'certificate has expired',
    ],
    ['one for servers', issueClient(ca, { keys: rsa, eku: ['serverAuth'] }), 'wrong_purpose', /purpose/],
  ] as const)('%s does not', async (_what, leaf, reason, detail) => {
    const options = leaf === null ? { ...speaking(version, pki.client), as: null } : speaking(version, leaf);
    await expectRefused({ sidecar: legacy, application }, options, refusedAs(reason, detail, leaf));
  });
});

describe('without tls.legacy', () => {
  it.each(['TLSv1', 'TLSv1.1'] as const)('%s ends in the handshake', async (version) => {
    const options = { minVersion: version, maxVersion: version, ...CARELESS };
    const records = usual.refusals().length;
    await expect(openRaw(usual, options)).rejects.toThrow(/alert protocol version/);
    await usual.logged((line) => line === usual.refusals()[records]);
    expect(usual.refusals()[records]).toMatchObject({ reason: 'tls_version', detail: 'unsupported protocol' });
  });

  it.each([
    ['a certificate signed with SHA-1', pki.client, []],
    ['a chain of SHA-1 and RSA-1024', below, [middle]],
  ] as const)('%s is refused', async (_what, leaf, chain) => {
    const expected = { ...refusedAs('weak_signature', /too weak/, leaf), ...namesOf(leaf) };
    await expectRefused({ sidecar: usual, application }, speaking('TLSv1.2', leaf, ...chain), expected);
  });

  it('it is not said that old callers may connect', () => {
    const warned = ({ log }: Sidecar): boolean => log.some(({ msg }) => msg.startsWith('tls.legacy is on'));
    expect([warned(usual), warned(legacy)]).toEqual([false, true]);
  });
});

const VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'] as const;
const RANGES = VERSIONS.flatMap((min, from) => VERSIONS.slice(from).map((max) => [min, max] as const));

it.each(RANGES)('from %s to %s, whoever speaks another version is told so', async (min, max) => {
  const settings = { 'tls.legacy': 'true', 'tls.minVersion': min, 'tls.maxVersion': max };
  const sidecar = await startSidecar({ pki, upstream: application.url, settings });
  for (const version of VERSIONS) {
    const caller = speaking(version, pki.client);
    const isSpoken = min <= version && version <= max;
    if (isSpoken) {
      expect((await call(sidecar, caller)).status).toBe(200);
      continue;
    }
    const records = sidecar.refusals().length;
    await expect(openRaw(sidecar, caller)).rejects.toThrow(/alert protocol version|unsupported protocol/);
    await sidecar.logged((line) => line === sidecar.refusals()[records]);
    expect(sidecar.refusals()[records]).toMatchObject({ reason: 'tls_version', tlsVersion: null });
  }
  await sidecar.stop();
});
