import { createHash } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import {
  CLIENT_SUBJECT,
  chainPem,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  type Issued,
  type NameInput,
  type Options,
} from './support/pki.js';
import { CA_NAME, CARELESS, expectRefused, namesOf, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const keys = generateKeys();
const otherKeys = generateKeys();
const pki = makePki();
const { ca } = pki;
const leafOf = (options: Partial<Options> = {}): Issued => issueClient(ca, { keys, ...options });
const named = (...subject: NameInput): Issued => leafOf({ subject });
const san = (...names: NonNullable<Options['san']>): Issued => leafOf({ san: names });

/** An intermediate whose one name reads like two when its escape is overlooked. */
const posing = ca.subordinate({
  subject: [
    ['C', 'CN'],
    ['CN', 'a,O=Tencent'],
  ],
  keys: otherKeys,
});
const middle = ca.subordinate({
  subject: [
    ['C', 'CN'],
    ['O', 'Tencent'],
    ['CN', 'Sub'],
  ],
  keys: otherKeys,
});

const spki = `sha256:${createHash('sha256')
  .update(keys.publicKey.export({ type: 'spki', format: 'der' }))
  .digest('base64')}`;
const pinned = leafOf();
const pin = createHash('sha256').update(pinned.certDer).digest('hex');
const numbered = leafOf({ serial: 0x0a1bn });

interface Rule {
  readonly allow: string;
  readonly in: readonly Issued[];
  readonly out: readonly Issued[];
}

const RULES: readonly Rule[] = [
  {
    allow: '[{commonName: im.qq.com}]',
    in: [named(['O', 'any'], ['CN', 'im.qq.com'])],
    out: [
      named(['CN', 'IM.qq.com']),
      named(['CN', 'im.qq.com.evil']),
      named(['CN', 'im.qq.com\0']),
      named(['CN', 'im.qq.com\n']),
      named(['CN', ' im.qq.com']),
      named(['O', 'im.qq.com']),
      named(),
      // Readers disagree on which of two counts.
      named(['CN', 'im.qq.com'], ['CN', 'evil']),
      named(['CN', 'evil'], ['CN', 'im.qq.com']),
      named({
        all: [
          ['CN', 'evil'],
          ['CN', 'im.qq.com'],
        ],
      }),
    ],
  },
  {
    allow: '[{commonName: "*.qq.com"}]',
    in: [named(['CN', 'im.qq.com'])],
    out: [
      named(['CN', 'a.im.qq.com']),
      named(['CN', 'qq.com']),
      named(['CN', '.qq.com']),
      named(['CN', 'im\0.qq.com']),
    ],
  },
  {
    allow: '[{commonName: "**.qq.com"}]',
    in: [named(['CN', 'im.qq.com']), named(['CN', 'a.im.qq.com'])],
    out: [named(['CN', 'imqq.com']), named(['CN', 'a.im.qq.com.evil']), named(['CN', 'evil\r\n.qq.com'])],
  },
  {
    allow: '[{organization: Tencent}]',
    in: [named(['O', 'Tencent'], ['CN', 'x'])],
    out: [
      named(['O', 'Tencent Inc']),
      named(['OU', 'Tencent']),
      named(['CN', 'O=Tencent']),
      named(['CN', 'x,O=Tencent']),
    ],
  },
  {
    allow: '[{organizationalUnit: IM}]',
    in: [named(['OU', 'other'], ['OU', 'IM'], ['CN', 'x'])],
    out: [named(['O', 'IM'], ['CN', 'x']), named(['OU', 'im'], ['CN', 'x'])],
  },
  {
    allow: '[{dnsName: Im.QQ.com}]',
    in: [san({ dns: 'im.qq.com' }), san({ dns: 'other' }, { dns: 'IM.qq.COM' })],
    out: [
      san({ dns: 'im.qq.com\0.evil.example' }),
      san({ dns: 'evil.example, DNS:im.qq.com' }),
      san({ uri: 'im.qq.com' }),
      san({ email: 'im.qq.com' }),
      ca.issue({ subject: [['CN', 'im.qq.com']], keys }),
    ],
  },
  {
    allow: '[{dnsName: "*.qq.com"}]',
    in: [san({ dns: 'im.qq.com' })],
    out: [san({ dns: 'a.im.qq.com' }), san({ dns: 'im.qq.com.' }), san({ dns: 'evil\n.qq.com' })],
  },
  {
    allow: '[{uri: "spiffe://im/ns/*/sa/gateway"}]',
    in: [san({ uri: 'spiffe://im/ns/prod/sa/gateway' })],
    out: [
      san({ uri: 'spiffe://im/ns/a/b/sa/gateway' }),
      san({ uri: 'spiffe://im/ns//sa/gateway' }),
      san({ uri: 'spiffe://im/ns/prod/sa/gateway/x' }),
      san({ uri: 'spiffe://evil/spiffe://im/ns/prod/sa/gateway' }),
      san({ dns: 'spiffe://im/ns/prod/sa/gateway' }),
    ],
  },
  {
    allow: '[{uri: "spiffe://im/**"}]',
    in: [san({ uri: 'spiffe://im/a/b/c' })],
    out: [san({ uri: 'spiffe://imp/a' })],
  },
  {
    allow: '[{email: im@qq.com}]',
    in: [san({ email: 'im@qq.com' })],
    out: [san({ email: 'im@qq.com\0' }), san({ dns: 'im@qq.com' }), named(['emailAddress', 'im@qq.com'])],
  },
  {
    allow: '[{ipAddress: "2001:DB8:0::1"}]',
    in: [san({ ip: '2001:db8::1' })],
    out: [san({ ip: '2001:db8::2' }), san({ dns: '2001:db8::1' })],
  },
  { allow: '[{ipAddress: 192.0.2.1}]', in: [san({ ip: '192.0.2.1' })], out: [san({ dns: '192.0.2.1' })] },
  {
    allow: `[{issuer: "${CA_NAME}"}]`,
    in: [leafOf()],
    out: [issueClient(middle, { keys })],
  },
  {
    allow: '[{issuer: "CN=*,O=Tencent,C=CN"}]',
    in: [leafOf(), issueClient(middle, { keys })],
    out: [issueClient(posing, { keys })],
  },
  {
    allow: '[{issuer: "CN=**,O=Tencent,C=CN"}]',
    in: [issueClient(middle, { keys })],
    out: [issueClient(posing, { keys })],
  },
  { allow: `[{spkiSha256: "${spki}"}]`, in: [leafOf()], out: [leafOf({ keys: otherKeys })] },
  { allow: `[{certSha256: "${pin.toUpperCase()}"}]`, in: [pinned], out: [leafOf()] },
  { allow: '[{serial: "0A:1B"}]', in: [numbered], out: [leafOf({ serial: 0xa1b0n })] },
  {
    allow: '[{commonName: im.qq.com, organization: Tencent}]',
    in: [leafOf()],
    out: [named(['CN', 'im.qq.com']), named(['O', 'Tencent'], ['CN', 'x'])],
  },
  {
    allow: '[{commonName: a}, {commonName: b}]',
    in: [named(['CN', 'a']), named(['CN', 'b'])],
    out: [named(['CN', 'c'])],
  },
  {
    allow: '[{commonName: "a.(b)"}]',
    in: [named(['CN', 'a.(b)'])],
    out: [named(['CN', 'a.b']), named(['CN', 'aX(b)'])],
  },
];

let application: Application;
const started: Sidecar[] = [];

async function start(allow: string, settings: Readonly<Record<string, string>> = {}): Promise<Sidecar> {
  const options = { pki, upstream: application.url, settings: { 'clientCert.allow': allow, ...settings } };
  const sidecar = await startSidecar(options);
  started.push(sidecar);
  return sidecar;
}

beforeAll(async () => {
  application = await startApplication();
});

afterAll(async () => {
  for (const sidecar of started) await sidecar.stop();
  await application.stop();
});

/** Intermediates are sent whether needed or not. */
const presenting = (leaf: Issued): CallOptions => ({
  as: { certPem: chainPem(leaf, middle, posing), keyPem: leaf.keyPem },
  ...CARELESS,
});

const NO_RULE = 'no allow rule matches this caller';

async function expectForbidden(sidecar: Sidecar, leaf: Issued): Promise<void> {
  const expected = { ...refusedAs('not_allowed', NO_RULE, leaf), ...namesOf(leaf) };
  await expectRefused({ sidecar, application }, presenting(leaf), expected);
}

describe.each(RULES)('the rule $allow', (rule) => {
  let sidecar: Sidecar;

  beforeAll(async () => {
    sidecar = await start(rule.allow);
  });

  it('lets in whom it names', async () => {
    for (const leaf of rule.in) expect((await call(sidecar, presenting(leaf))).status).toBe(200);
  });

  it('keeps out whoever only looks like it', async () => {
    for (const leaf of rule.out) await expectForbidden(sidecar, leaf);
  });
});

it('without rules everybody under the CA comes in', async () => {
  const sidecar = await start('[]');
  expect((await call(sidecar, presenting(named(['CN', 'anybody'])))).status).toBe(200);
  expect(await sidecar.logged(({ msg }) => msg.startsWith('clientCert.allow is empty'))).toBeDefined();
});

describe('whoever is not verified satisfies no condition about who it is', () => {
  const own = selfSigned({ subject: CLIENT_SUBJECT, keys, san: [{ dns: 'im.qq.com' }] });
  const ownPin = createHash('sha256').update(own.certDer).digest('hex');

  it.each([
    '[{commonName: im.qq.com}]',
    '[{commonName: "**"}]',
    '[{dnsName: im.qq.com}]',
    `[{spkiSha256: "${spki}"}]`,
    `[{certSha256: "${ownPin}"}]`,
  ])('with optional-no-ca: %s', async (allow) => {
    const sidecar = await start(allow, { 'clientCert.verify': 'optional-no-ca' });
    await expectForbidden(sidecar, own);
    await expectRefused({ sidecar, application }, { as: null }, refusedAs('not_allowed', NO_RULE, null));
  });

  it('with optional: a caller without a certificate', async () => {
    const sidecar = await start('[{commonName: im.qq.com}]', { 'clientCert.verify': 'optional' });
    await expectRefused({ sidecar, application }, { as: null }, refusedAs('not_allowed', NO_RULE, null));
    expect((await call(sidecar)).status).toBe(200);
  });

  it('but may use what is open to everybody', async () => {
    const allow = '[{commonName: im.qq.com}, {methods: [GET], paths: [/healthz]}]';
    const sidecar = await start(allow, { 'clientCert.verify': 'optional' });
    expect((await call(sidecar, { as: null, path: '/healthz' })).status).toBe(200);
    expect(valuesOf(application.seen.at(-1)?.rawHeaders ?? [], 'X-SSL-Client-Verify')).toEqual(['NONE']);
    const before = application.seen.length;
    expect((await call(sidecar, { as: null, path: '/' })).status).toBe(403);
    expect((await call(sidecar, { as: null, path: '/healthz', body: 'x' })).status).toBe(403);
    expect(application.seen.length).toBe(before);
    expect((await call(sidecar, { path: '/' })).status).toBe(200);
  });
});
