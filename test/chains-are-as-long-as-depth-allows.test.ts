import { X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { pathToAnchor } from '../src/listen/chain.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  type Authority,
  type Issued,
} from './support/pki.js';
import { CARELESS, expectRefused, namesOf, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const keys = generateKeys();
const pki = makePki();
const { ca } = pki;
const upper = ca.subordinate({ subject: [['CN', 'Upper']] });
const lower = upper.subordinate({ subject: [['CN', 'Lower']] });
/** The same key and name as `ca`, certified by somebody whom nobody trusts: a cross-signed root. */
const elsewhere = createAuthority({ subject: [['CN', 'Elsewhere']] });
const crossed = elsewhere.subordinate({
  subject: [
    ['C', 'CN'],
    ['O', 'Tencent'],
    ['CN', 'TencentQQAuthCA'],
  ],
  keys: ca.keys,
});
/** Clouds issue certificates that vouch for themselves and are no CA; the bundle then lists callers. */
const pinned = selfSigned({ subject: [['CN', 'pinned']], keys, basicConstraints: null });
const pinnedForClients = selfSigned({ subject: [['CN', 'pinned too']], keys, eku: ['clientAuth'] });
const leafOf = (authority: Authority): Issued => issueClient(authority, { keys });

let application: Application;
const sidecars = new Map<string, Sidecar>();

const SETUPS = {
  'depth 0': { depth: '0', bundle: [ca] },
  'depth 1': { depth: '1', bundle: [ca] },
  'depth 2': { depth: '2', bundle: [ca] },
  'depth 1, intermediates in the bundle': { depth: '1', bundle: [lower, upper, ca] },
  'depth 2, intermediates in the bundle': { depth: '2', bundle: [lower, upper, ca] },
  'no root in the bundle': { depth: '2', bundle: [lower, upper] },
  'callers in the bundle': { depth: '0', bundle: [pinned, pinnedForClients, ca] },
} as const;
type Setup = keyof typeof SETUPS;

beforeAll(async () => {
  application = await startApplication();
  for (const [name, { depth, bundle }] of Object.entries(SETUPS)) {
    const files = { 'clientCert.ca': chainPem(...bundle) };
    const settings = { 'clientCert.depth': depth, 'identity.headers': '{X-Chain: chainDer}' };
    sidecars.set(name, await startSidecar({ pki, upstream: application.url, files, settings }));
  }
});

afterAll(async () => {
  for (const sidecar of sidecars.values()) await sidecar.stop();
  await application.stop();
});

const presenting = (leaf: Issued, chain: readonly Issued[]): CallOptions => ({
  as: { certPem: chainPem(leaf, ...chain), keyPem: leaf.keyPem },
  ...CARELESS,
});

describe('admitted, with the path to the anchor as the chain', () => {
  it.each<readonly [setup: Setup, what: string, leaf: Issued, sent: readonly Issued[], chain: readonly Issued[]]>([
    ['depth 0', 'no intermediate', leafOf(ca), [], []],
    ['depth 0', 'no intermediate, and the root is sent', leafOf(ca), [ca], []],
    ['depth 1', 'one intermediate', leafOf(upper), [upper], [upper]],
    ['depth 1', 'one intermediate, and the root is sent', leafOf(upper), [upper, ca], [upper]],
    ['depth 1', 'one intermediate behind one that does not belong', leafOf(upper), [lower, upper], [upper]],
    [
      'depth 1',
      'no intermediate, though one is sent that the root does not need',
      leafOf(ca),
      [crossed, elsewhere],
      [],
    ],
    ['depth 2', 'two intermediates', leafOf(lower), [lower, upper], [lower, upper]],
    ['depth 2', 'two intermediates in the wrong order', leafOf(lower), [upper, lower], [lower, upper]],
    ['depth 1, intermediates in the bundle', 'one intermediate that is not sent', leafOf(upper), [], [upper]],
    ['depth 2, intermediates in the bundle', 'two intermediates that are not sent', leafOf(lower), [], [lower, upper]],
    ['callers in the bundle', 'a self-signed caller of the bundle', pinned, [], []],
    ['callers in the bundle', 'one that says what it is for', pinnedForClients, [], []],
  ])('%s: %s', async (setup, _what, leaf, sent, chain) => {
    const sidecar = sidecars.get(setup) as Sidecar;
    expect((await call(sidecar, presenting(leaf, sent))).status).toBe(200);
    const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
    expect(valuesOf(rawHeaders, 'X-SSL-Client-Verify')).toEqual(['SUCCESS']);
    const expected = chain.map(({ certDer }) => `:${Buffer.from(certDer).toString('base64')}:`);
    expect(valuesOf(rawHeaders, 'X-Chain')).toEqual(expected.length === 0 ? [] : [expected.join(', ')]);
  });
});

const TOO_LONG = 'chain_too_long';
const UNKNOWN = 'untrusted_issuer';

describe('refused', () => {
  it.each<readonly [setup: Setup, what: string, leaf: Issued, sent: readonly Issued[], reason: string, detail: string]>(
    [
      ['depth 0', 'one intermediate', leafOf(upper), [upper], TOO_LONG, tooLong(1, 0)],
      ['depth 1', 'two intermediates', leafOf(lower), [lower, upper], TOO_LONG, tooLong(2, 1)],
      ['depth 1', 'two intermediates and the root', leafOf(lower), [lower, upper, ca], TOO_LONG, tooLong(2, 1)],
      ['depth 1', 'a missing intermediate', leafOf(lower), [lower], UNKNOWN, 'unable to get local issuer certificate'],
      ['depth 2', 'a gap', leafOf(lower), [upper], UNKNOWN, 'unable to verify the first certificate'],
      [
        'depth 1, intermediates in the bundle',
        'two intermediates, sent or not',
        leafOf(lower),
        [],
        TOO_LONG,
        tooLong(2, 1),
      ],
      ['depth 1, intermediates in the bundle', 'both sent', leafOf(lower), [lower, upper], TOO_LONG, tooLong(2, 1)],
      [
        'no root in the bundle',
        'an intermediate is no anchor',
        leafOf(lower),
        [],
        UNKNOWN,
        'unable to get issuer certificate',
      ],
      [
        'callers in the bundle',
        'a self-signed twin of a caller of the bundle',
        twin(),
        [],
        'self_signed',
        'self-signed certificate',
      ],
      [
        'callers in the bundle',
        'what a caller of the bundle issued',
        byPinned(),
        [],
        'wrong_purpose',
        'unsuitable certificate purpose',
      ],
    ],
  )('%s: %s', async (setup, _what, leaf, sent, reason, detail) => {
    const sidecar = sidecars.get(setup) as Sidecar;
    await expectRefused({ sidecar, application }, presenting(leaf, sent), {
      ...refusedAs(reason, detail, leaf),
      ...namesOf(leaf),
    });
  });

  function tooLong(found: number, allowed: number): string {
    return `certificate chain too long: ${found} intermediates, ${allowed} allowed`;
  }

  function twin(): Issued {
    return selfSigned({ subject: [['CN', 'pinned']], basicConstraints: null, serial: pinned.serial });
  }

  function byPinned(): Issued {
    return issueClient(createAuthority({ subject: [['CN', 'pinned']], keys }), { keys: generateKeys() });
  }
});

it('of roots with one name, the path leads to the one that signed', () => {
  const subject = [['CN', 'Root']] as const;
  const roots = Array.from({ length: 3 }, () => createAuthority({ subject, keyIdentifiers: false }));
  const anchors = roots.map(({ certDer }) => new X509Certificate(certDer));
  for (const [index, root] of roots.entries()) {
    const leaf = new X509Certificate(issueClient(root, { keys, keyIdentifiers: false }).certDer);
    expect(pathToAnchor(leaf, { presented: [], anchors, now: Date.now() })).toEqual([anchors[index]]);
  }
});
