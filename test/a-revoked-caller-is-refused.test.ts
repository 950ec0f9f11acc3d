import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  temporaryDirectory,
  writePem,
  type Authority,
  type Issued,
} from './support/pki.js';
import { expectRefused, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const HOUR = 3_600_000;
const past = { thisUpdate: Date.now() - 2 * HOUR, nextUpdate: Date.now() - HOUR };
const keys = generateKeys();
const pki = makePki();
const { ca } = pki;
const middle = ca.subordinate({ subject: [['CN', 'Middle']] });
const fallen = ca.subordinate({ subject: [['CN', 'Fallen']] });
const leafOf = (authority: Authority): Issued => issueClient(authority, { keys });
const honest = leafOf(ca);
const revoked = leafOf(ca);
const below = leafOf(middle);
const revokedBelow = leafOf(middle);
const underFallen = leafOf(fallen);

const rootList = ca.crl({ revoked: [revoked.serial, fallen.serial] });
const middleList = middle.crl({ revoked: [revokedBelow.serial] });
const fallenList = fallen.crl();
/**
 * A list that somebody else put into the file in the name of a CA, with nobody on it. Of one that only callers bring: in the name
 * of a CA of the bundle it is not even loaded.
 */
const forgedList = rootList + createAuthority({ subject: [['CN', 'Middle']] }).crl();

const directory = temporaryDirectory();
const listDirectory = join(directory.path, 'lists');

const SETUPS = {
  'several lists in one file': { crl: rootList + middleList + fallenList },
  'a directory of lists': { settings: { 'clientCert.crl': listDirectory } },
  'expired root list': { crl: ca.crl({ ...past, revoked: [revoked.serial, fallen.serial] }) + middleList + fallenList },
  'expired root list, warn': {
    crl: ca.crl({ ...past, revoked: [revoked.serial, fallen.serial] }) + middleList + fallenList,
    settings: { 'clientCert.crlExpired': 'warn' },
  },
  'everything expired, warn': {
    crl: [ca.crl({ ...past, revoked: [revoked.serial] }), middle.crl({ ...past, revoked: [revokedBelow.serial] })].join(
      '',
    ),
    settings: { 'clientCert.crlExpired': 'warn' },
  },
  'root list only': { crl: rootList },
  'root list only, warn': { crl: rootList, settings: { 'clientCert.crlExpired': 'warn' } },
  'forged list': { crl: forgedList },
  'forged list, warn': { crl: forgedList, settings: { 'clientCert.crlExpired': 'warn' } },
  'no list, warn': { settings: { 'clientCert.crlExpired': 'warn' } },
} as const;
type Setup = keyof typeof SETUPS;

let application: Application;
const sidecars = new Map<string, Sidecar>();
const sidecarOf = (setup: Setup): Sidecar => sidecars.get(setup) as Sidecar;

beforeAll(async () => {
  mkdirSync(listDirectory);
  Object.entries({ rootList, middleList, fallenList }).forEach(([name, pem]) =>
    writePem(listDirectory, `${name}.crl`, pem),
  );
  application = await startApplication();
  for (const [name, setup] of Object.entries(SETUPS)) {
    const files = 'crl' in setup ? { 'clientCert.crl': setup.crl } : {};
    const settings = 'settings' in setup ? setup.settings : {};
    sidecars.set(name, await startSidecar({ pki, upstream: application.url, files, settings }));
  }
});

afterAll(async () => {
  for (const sidecar of sidecars.values()) await sidecar.stop();
  await application.stop();
  directory.remove();
});

const presenting = (leaf: Issued, ...issuers: Issued[]): CallOptions => ({
  as: { certPem: chainPem(leaf, ...issuers), keyPem: leaf.keyPem },
});

const REVOKED = ['revoked', 'certificate revoked'] as const;
const MISSING = ['crl_missing', 'unable to get certificate CRL'] as const;

async function expectTurnedAway(
  setup: Setup,
  [reason, detail]: readonly [string, string | RegExp],
  { leaf, via }: { readonly leaf: Issued; readonly via?: readonly [Issued, string] },
): Promise<void> {
  const names = via === undefined ? {} : { issuer: via[1] };
  const options = presenting(leaf, ...(via === undefined ? [] : [via[0]]));
  await expectRefused({ sidecar: sidecarOf(setup), application }, options, {
    ...refusedAs(reason, detail, leaf),
    ...names,
  });
}

async function expectLetIn(setup: Setup, leaf: Issued, ...via: Issued[]): Promise<void> {
  expect((await call(sidecarOf(setup), presenting(leaf, ...via))).status).toBe(200);
}

const MIDDLE = [middle, 'CN=Middle'] as const;
const FALLEN = [fallen, 'CN=Fallen'] as const;

describe.each(['several lists in one file', 'a directory of lists'] as const)('with %s', (setup) => {
  it('those who are on none come in', async () => {
    await expectLetIn(setup, honest);
    await expectLetIn(setup, below, middle);
  });

  it('a revoked caller does not', async () => {
    await expectTurnedAway(setup, REVOKED, { leaf: revoked });
    await expectTurnedAway(setup, REVOKED, { leaf: revokedBelow, via: MIDDLE });
  });

  it('nor a caller under a revoked intermediate', async () => {
    await expectTurnedAway(setup, REVOKED, { leaf: underFallen, via: FALLEN });
  });
});

describe('a list that has expired', () => {
  it('by default keeps everybody out who is under its CA', async () => {
    await expectTurnedAway('expired root list', ['crl_expired', 'CRL has expired'], { leaf: honest });
    await expectTurnedAway('expired root list', ['crl_expired', 'CRL has expired'], { leaf: below, via: MIDDLE });
  });

  it.each(['expired root list, warn', 'everything expired, warn'] as const)(
    'under warn still says who is revoked (%s)',
    async (setup) => {
      await expectLetIn(setup, honest);
      await expectLetIn(setup, below, middle);
      await expectTurnedAway(setup, REVOKED, { leaf: revoked });
      await expectTurnedAway(setup, REVOKED, { leaf: revokedBelow, via: MIDDLE });
    },
  );

  it('under warn still takes a revoked intermediate out', async () => {
    await expectTurnedAway('expired root list, warn', REVOKED, { leaf: underFallen, via: FALLEN });
  });

  it('under warn is not a reason to need lists where there are none', async () => {
    await expectLetIn('no list, warn', honest);
  });
});

describe('where there are lists', () => {
  it.each(['root list only', 'root list only, warn'] as const)('each CA of a chain needs one (%s)', async (setup) => {
    await expectLetIn(setup, honest);
    await expectTurnedAway(setup, MISSING, { leaf: below, via: MIDDLE });
  });

  it('one that somebody else signed does not count', async () => {
    await expectTurnedAway('forged list', ['crl_missing', /CRL/], { leaf: below, via: MIDDLE });
    await expectTurnedAway('forged list, warn', MISSING, { leaf: below, via: MIDDLE });
  });
});
