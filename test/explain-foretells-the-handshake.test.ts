import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { explain } from '../src/commands/explain.js';
import { startApplication, type Application } from './support/application.js';
import { call, type Identity } from './support/caller.js';
import { ANCHORS, DEPTH, VECTORS } from './support/chain-vectors.js';
import { about, signedPss, signedSha224 } from './support/lists.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  writePem,
  type Authority,
  type Issued,
} from './support/pki.js';
import { CARELESS } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const keys = generateKeys();
const pki = makePki();
const bundle = chainPem(pki.ca, ...ANCHORS);
const usual = { 'clientCert.depth': String(DEPTH) };
const everyPreset = '[nginx, ingress-nginx, xfcc, rfc9440, traefik]';

const revoking = createAuthority({ subject: [['CN', 'Revoking']] });
const silent = createAuthority({ subject: [['CN', 'Silent']] });
const late = createAuthority({ subject: [['CN', 'Late']] });
const middle = revoking.subordinate({ subject: [['CN', 'Middle']] });
const revoked = issueClient(revoking, { keys });
const revokedLate = issueClient(late, { keys });
const hour = 3_600_000;
const lists = [
  revoking.crl({ revoked: [revoked.serial] }),
  late.crl({ revoked: [revokedLate.serial], thisUpdate: Date.now() - 9 * hour, nextUpdate: Date.now() - hour }),
].join('');

interface Case {
  readonly about: string;
  readonly leaf: Issued;
  readonly sent: readonly Issued[];
  readonly method?: string;
  readonly path?: string;
}

const underLists: readonly Case[] = [
  { about: 'a caller that is on no list', leaf: issueClient(revoking, { keys }), sent: [] },
  { about: 'a revoked caller', leaf: revoked, sent: [] },
  { about: 'a CA without a list', leaf: issueClient(silent, { keys }), sent: [] },
  { about: 'an intermediate without a list', leaf: issueClient(middle, { keys }), sent: [middle] },
  { about: 'a list out of date', leaf: issueClient(late, { keys }), sent: [] },
  { about: 'a caller on a list out of date', leaf: revokedLate, sent: [] },
];

/** CAs with lists of less usual kinds. */
const pss = createAuthority({ subject: [['CN', 'Pss']], keys: generateKeys('rsa-2048') });
const split = createAuthority({ subject: [['CN', 'Split']] });
const beyond = createAuthority({ subject: [['CN', 'Beyond']] });
const [revokedPss, revokedSplit] = [issueClient(pss, { keys }), issueClient(split, { keys })];
const lessUsual: readonly Authority[] = [pss, split, beyond];
const lessUsualLists = [
  signedPss(pss.crl({ revoked: [revokedPss.serial] }), pss.key, { hash: 'sha256', salt: 32 }),
  split.crl({ revoked: [revokedSplit.serial], extensions: [about('users')] }),
  split.crl({ extensions: [about('authorities')] }),
  signedSha224(beyond.crl(), beyond.key),
].join('');
const underLessUsual: readonly Case[] = [
  { about: 'a list signed with RSASSA-PSS', leaf: issueClient(pss, { keys }), sent: [] },
  { about: 'a caller on a list signed with RSASSA-PSS', leaf: revokedPss, sent: [] },
  { about: 'lists about users and about CAs', leaf: issueClient(split, { keys }), sent: [] },
  { about: 'a caller on a list about users', leaf: revokedSplit, sent: [] },
  { about: 'a list that only OpenSSL evaluates', leaf: issueClient(beyond, { keys }), sent: [] },
];

const called = (...name: readonly string[]): Issued =>
  issueClient(pki.ca, { keys, subject: name.map((one) => ['CN', one]) });
const underRules: readonly Case[] = [
  { about: 'a caller of no rule', leaf: called('nobody'), sent: [] },
  { about: 'a caller of two names', leaf: called('im.qq.com', 'im.qq.com'), sent: [] },
  { about: 'the method and path of its rule', leaf: called('im.qq.com'), sent: [], method: 'POST', path: '/im/x?a=1' },
  { about: 'another method', leaf: called('im.qq.com'), sent: [], method: 'GET', path: '/im/x' },
  { about: 'another path', leaf: called('im.qq.com'), sent: [], method: 'POST', path: '/admin' },
  { about: 'a path of two readings', leaf: called('im.qq.com'), sent: [], method: 'POST', path: '/im/..%2fadmin' },
  { about: 'a caller of a rule for everything', leaf: called('ops'), sent: [], method: 'DELETE', path: '/' },
  { about: 'a method that is not served', leaf: called('ops'), sent: [], method: 'TRACE', path: '/' },
];
const rules = `[{commonName: im.qq.com, methods: [POST], paths: [/im/*]}, {commonName: ops, organization: Nobody}, {commonName: ops}]`;

/** Every `step`th vector from `first`. */
const some = (first: number, step: number): Case[] => VECTORS.filter((_, index) => index % step === first);
const lists3: readonly Authority[] = [revoking, silent, late];

interface Setup {
  readonly settings: Readonly<Record<string, string>>;
  readonly files: Readonly<Record<string, string>>;
  readonly cases: readonly Case[];
}

const SETUPS: Readonly<Record<string, Setup>> = {
  'as usual': {
    settings: { ...usual, 'identity.presets': everyPreset },
    files: { 'clientCert.ca': bundle },
    cases: VECTORS.filter(({ refused }, index) => index % 2 === 0 || refused?.[1] === 'certificate signature failure'),
  },
  'any purpose, one intermediate': {
    settings: { 'clientCert.purpose': 'any', 'clientCert.depth': '1' },
    files: { 'clientCert.ca': bundle },
    cases: some(0, 3),
  },
  legacy: {
    settings: { ...usual, 'tls.legacy': 'true' },
    files: { 'clientCert.ca': bundle },
    cases: VECTORS.filter(({ about }) => /RSA|SHA-1|key/.test(about)),
  },
  'TLS 1.3 and one cipher': {
    settings: { ...usual, 'tls.minVersion': 'TLSv1.3', 'tls.curves': 'X25519' },
    files: { 'clientCert.ca': bundle },
    cases: some(1, 9),
  },
  'unverified callers come in': {
    settings: { ...usual, 'clientCert.verify': 'optional-no-ca', 'identity.presets': '[haproxy]' },
    files: { 'clientCert.ca': bundle },
    cases: VECTORS.filter(({ refused }, index) => refused?.[0] !== 'invalid' && index % 2 === 0),
  },
  'nobody is verified': {
    settings: { 'clientCert.verify': 'off' },
    files: { 'clientCert.ca': bundle },
    cases: some(4, 20),
  },
  lists: {
    settings: {},
    files: { 'clientCert.ca': chainPem(...lists3), 'clientCert.crl': lists },
    cases: underLists,
  },
  'lists that may be out of date': {
    settings: { 'clientCert.crlExpired': 'warn' },
    files: { 'clientCert.ca': chainPem(...lists3), 'clientCert.crl': lists },
    cases: underLists,
  },
  'lists of less usual kinds': {
    settings: {},
    files: { 'clientCert.ca': chainPem(...lessUsual), 'clientCert.crl': lessUsualLists },
    cases: underLessUsual,
  },
  'such lists that may be out of date': {
    settings: { 'clientCert.crlExpired': 'warn' },
    files: { 'clientCert.ca': chainPem(...lessUsual), 'clientCert.crl': lessUsualLists },
    cases: underLessUsual,
  },
  rules: { settings: { 'clientCert.allow': rules, 'forwarded.rfc7239': 'true' }, files: {}, cases: underRules },
};

let application: Application;
const sidecars = new Map<string, Sidecar>();

beforeAll(async () => {
  application = await startApplication();
  for (const [name, { settings, files }] of Object.entries(SETUPS)) {
    sidecars.set(name, await startSidecar({ pki, upstream: application.url, files, settings }));
  }
});
afterAll(async () => {
  for (const sidecar of sidecars.values()) await sidecar.stop();
  await application.stop();
});

/** What `explain` says of a caller of this sidecar. */
async function foretold(sidecar: Sidecar, { settings, files }: Setup, { leaf, sent, method, path }: Case) {
  const { directory, paths } = sidecar;
  const options: Record<string, string> = {
    'tls.cert': paths.cert,
    'tls.key': paths.key,
    'clientCert.ca': paths.ca,
    ...Object.fromEntries(Object.keys(files).map((name) => [name, `${directory}/${name}.pem`])),
    ...settings,
    client: writePem(directory, 'leaf.pem', leaf.certPem),
    ...(sent.length === 0 ? {} : { chain: writePem(directory, 'sent.pem', chainPem(...sent)) }),
    ...(method === undefined ? {} : { method }),
    ...(path === undefined ? {} : { path }),
  };
  const out: string[] = [];
  const terminal = { out: (line: string) => void out.push(line), err: () => undefined, colour: false };
  const argv = [...Object.entries(options).map(([name, value]) => `--${name}=${value}`), '--json'];
  const code = await explain({ argv, terminal, env: {} });
  return { code, said: JSON.parse(out.join('\n')) };
}

/** What becomes of a caller in truth. */
async function befallen(sidecar: Sidecar, { leaf, sent, method = 'GET', path = '/' }: Case) {
  const as: Identity = { certPem: chainPem(leaf, ...sent), keyPem: leaf.keyPem };
  const [refusals, seen] = [sidecar.refusals().length, application.seen.length];
  const { status } = await call(sidecar, { as, ...CARELESS, method, path });
  const record = sidecar.refusals()[refusals] ?? (await requestRecord(sidecar, status));
  return { status, record, headers: application.seen[seen]?.rawHeaders ?? null };
}

async function requestRecord(sidecar: Sidecar, status: number) {
  if (status === 200) return null;
  const { code } = await sidecar.logged((line) => line.msg === 'request' && line['status'] === status);
  return { reason: code };
}

describe.each(Object.entries(SETUPS))('%s', (name, setup) => {
  it.each(setup.cases.map((one) => [one.about, one] as const))('%s', async (_about, one) => {
    const sidecar = sidecars.get(name) as Sidecar;
    const { code, said } = await foretold(sidecar, setup, one);
    const { status, record, headers } = await befallen(sidecar, one);
    expect(code).toBe(status === 200 ? 0 : 1);
    expect(said.admitted).toBe(status === 200);
    if (headers === null) {
      expect(said).toMatchObject({ status, reason: record?.reason });
      if (said.stage === 'connection') expect(said.detail).toBe((record as { detail?: string }).detail);
      expect(said.headers).toEqual([]);
      return;
    }
    expectSeen(said.headers, headers, sidecar);
  });
});

/** The application saw what was foretold, in that order, and nothing besides but what frames the message. */
function expectSeen(
  foretoldHeaders: { readonly name: string; readonly value: string | null }[],
  seen: readonly string[],
  sidecar: Sidecar,
): void {
  const pairs = seen.flatMap((name, index) => (index % 2 === 0 ? [[name, seen[index + 1] ?? '']] : []));
  const ours = pairs.filter(([name]) => !/^(?:host|connection|content-length)$/i.test(name ?? ''));
  const wanted = foretoldHeaders.filter(({ name }) => name.toLowerCase() !== 'host');
  expect(ours.map(([name]) => name)).toEqual(wanted.map(({ name }) => name));
  expect(ours.map(([, value], index) => (wanted[index]?.value === null ? null : value))).toEqual(
    wanted.map(({ name, value }) => (name === 'X-Forwarded-Port' ? String(sidecar.port) : value)),
  );
}

it('compares many', () => {
  expect(Object.values(SETUPS).flatMap(({ cases }) => cases).length).toBeGreaterThan(130);
});
