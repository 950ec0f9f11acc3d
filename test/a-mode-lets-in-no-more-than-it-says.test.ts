import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import {
  chainPem,
  CLIENT_SUBJECT,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  type Issued,
  type Options,
} from './support/pki.js';
import { CARELESS, CLIENT_NAME, expectRefused, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const HOUR = 3_600_000;
const keys = generateKeys();
const pki = makePki();
const { ca, client, stranger } = pki;
const leafOf = (options: Partial<Options>): Issued => issueClient(ca, { keys, ...options });
const past = { notBefore: Date.now() - 2 * HOUR, notAfter: Date.now() - HOUR };

const own = selfSigned({ subject: CLIENT_SUBJECT, keys, eku: ['clientAuth'] });
const ownExpired = selfSigned({ subject: CLIENT_SUBJECT, keys, ...past });
const strangersMiddle = stranger.ca.subordinate({ subject: [['CN', 'Middle']], keys });
const strangersDeep = issueClient(strangersMiddle, { keys });
const strangersExpired = issueClient(stranger.ca, { keys, ...past });
const upper = ca.subordinate({ subject: [['CN', 'Upper']] });
const lower = upper.subordinate({ subject: [['CN', 'Lower']] });
const deep = issueClient(lower, { keys });

let application: Application;
const sidecars = new Map<string, Sidecar>();
const MODES = ['required', 'optional', 'optional-no-ca', 'off'] as const;
type Mode = (typeof MODES)[number];

beforeAll(async () => {
  application = await startApplication();
  for (const verify of MODES) {
    const settings = { 'clientCert.verify': verify };
    sidecars.set(verify, await startSidecar({ pki, upstream: application.url, settings }));
  }
});

afterAll(async () => {
  for (const sidecar of sidecars.values()) await sidecar.stop();
  await application.stop();
});

const presenting = (leaf: Issued | null, ...chain: Issued[]): CallOptions =>
  leaf === null ? { as: null } : { as: { certPem: chainPem(leaf, ...chain), keyPem: leaf.keyPem }, ...CARELESS };

/** What the application is told about an admitted caller. */
async function told(mode: Mode, leaf: Issued | null, ...chain: Issued[]) {
  const answer = await call(sidecars.get(mode) as Sidecar, presenting(leaf, ...chain));
  expect(answer.status).toBe(200);
  const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
  const names = rawHeaders.filter((name, index) => index % 2 === 0 && /^x-ssl-client-/i.test(name));
  return {
    verify: valuesOf(rawHeaders, 'X-SSL-Client-Verify').join(),
    subject: valuesOf(rawHeaders, 'X-SSL-Client-S-DN').join(),
    names,
  };
}

const NOBODY = { verify: 'NONE', subject: '', names: ['X-SSL-Client-Verify'] };
const refused = async (mode: Mode, options: CallOptions, expected: Parameters<typeof expectRefused>[2]) =>
  expectRefused({ sidecar: sidecars.get(mode) as Sidecar, application }, options, expected);

describe('an honest caller', () => {
  it.each(['required', 'optional', 'optional-no-ca'] as const)('is verified with %s', async (mode) => {
    expect(await told(mode, client)).toMatchObject({ verify: 'SUCCESS', subject: CLIENT_NAME });
  });

  it('is nobody with off', async () => {
    expect(await told('off', client)).toEqual(NOBODY);
  });
});

describe('a caller without a certificate', () => {
  it.each(['optional', 'optional-no-ca', 'off'] as const)('is nobody with %s', async (mode) => {
    expect(await told(mode, null)).toEqual(NOBODY);
  });

  it('is refused with required', async () => {
    const expected = refusedAs('no_certificate', 'client sent no required SSL certificate', null);
    await refused('required', presenting(null), expected);
  });
});

interface Bad {
  readonly what: string;
  readonly leaf: Issued;
  readonly chain: readonly Issued[];
  readonly reason: string;
  readonly detail: string;
  readonly issuer?: string;
}

const ISSUER_PROBLEMS: readonly Bad[] = [
  {
    what: 'self-signed',
    leaf: own,
    chain: [],
    reason: 'self_signed',
    detail: 'self-signed certificate',
    issuer: CLIENT_NAME,
  },
  {
    what: 'under an unknown root that is sent along',
    leaf: stranger.client,
    chain: [stranger.ca],
    reason: 'self_signed',
    detail: 'self-signed certificate in certificate chain',
  },
  {
    what: 'under an unknown CA',
    leaf: stranger.client,
    chain: [],
    reason: 'untrusted_issuer',
    detail: 'unable to verify the first certificate',
  },
  {
    what: 'under an intermediate of an unknown CA',
    leaf: strangersDeep,
    chain: [strangersMiddle],
    reason: 'untrusted_issuer',
    detail: 'unable to get local issuer certificate',
    issuer: 'CN=Middle',
  },
];

const EXPIRED = { chain: [], reason: 'expired', detail: 'certificate has expired' } as const;

const OTHER_PROBLEMS: readonly Bad[] = [
  { what: 'expired', leaf: leafOf(past), ...EXPIRED },
  { what: 'self-signed and expired', leaf: ownExpired, ...EXPIRED, issuer: CLIENT_NAME },
  { what: 'under an unknown CA and expired', leaf: strangersExpired, ...EXPIRED },
  {
    what: 'not yet valid',
    leaf: leafOf({ notBefore: Date.now() + HOUR }),
    chain: [],
    reason: 'not_yet_valid',
    detail: 'certificate is not yet valid',
  },
  {
    what: 'for servers only',
    leaf: leafOf({ eku: ['serverAuth'] }),
    chain: [],
    reason: 'wrong_purpose',
    detail: 'unsuitable certificate purpose',
  },
  {
    what: 'signed with SHA-1',
    leaf: leafOf({ hash: 'sha1' }),
    chain: [],
    reason: 'weak_signature',
    detail: 'CA signature digest algorithm too weak',
  },
  {
    what: 'with a forged signature',
    leaf: issueClient(stranger.ca, { keys, keyIdentifiers: false }),
    chain: [],
    reason: 'invalid',
    detail: 'certificate signature failure',
  },
  {
    what: 'too far down',
    leaf: deep,
    chain: [lower, upper],
    reason: 'chain_too_long',
    detail: 'certificate chain too long: 2 intermediates, 1 allowed',
    issuer: 'CN=Lower',
  },
];

async function expectOut(mode: Mode, { leaf, chain, reason, detail, issuer }: Bad): Promise<void> {
  const names = issuer === undefined ? {} : { issuer };
  await refused(mode, presenting(leaf, ...chain), { ...refusedAs(reason, detail, leaf), ...names });
}

describe.each(['required', 'optional'] as const)('with %s a certificate is refused that is', (mode) => {
  it.each([...ISSUER_PROBLEMS, ...OTHER_PROBLEMS])('$what', async (bad) => {
    await expectOut(mode, bad);
  });
});

describe('with optional-no-ca a certificate', () => {
  it.each(ISSUER_PROBLEMS)('comes in as unverified that is $what', async ({ leaf, chain, detail }) => {
    const { verify, subject, names } = await told('optional-no-ca', leaf, ...chain);
    expect({ verify, subject }).toEqual({ verify: `FAILED:${detail}`, subject: CLIENT_NAME });
    expect(names.filter((name) => name === 'X-SSL-Client-Verify')).toHaveLength(1);
  });

  it.each(OTHER_PROBLEMS)('is refused that is $what', async (bad) => {
    await expectOut('optional-no-ca', bad);
  });
});

it('with off no certificate is asked for, and a bad one is nobody', async () => {
  for (const { leaf, chain } of [...ISSUER_PROBLEMS, ...OTHER_PROBLEMS]) {
    expect(await told('off', leaf, ...chain)).toEqual(NOBODY);
  }
});
