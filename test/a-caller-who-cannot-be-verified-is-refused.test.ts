import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { sendRaw, type CallOptions } from './support/caller.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  CA_SUBJECT,
  CLIENT_SUBJECT,
  type Authority,
  type Issued,
  type Options,
} from './support/pki.js';
import { CARELESS, expectRefused, namesOf, refusedAs, type Refused } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const HOUR = 3_600_000;
const now = Date.now();
const keys = generateKeys();
const middleKeys = generateKeys();
const shortKeys = generateKeys('rsa-1024');
const pki = makePki();
const { ca } = pki;
const stranger = pki.stranger.ca;

/** A client certificate under `authority`; all of them share a key. */
const leafOf = (authority: Authority, options: Partial<Options> = {}): Issued =>
  issueClient(authority, { keys, ...options });
/** An intermediate below `authority`. */
const below = (authority: Authority, name: string, options: Partial<Options> = {}): Authority =>
  authority.subordinate({ subject: [['CN', name]], keys: middleKeys, ...options });

const middle = below(ca, 'Middle');
const lower = below(middle, 'Lower', { keys: generateKeys() });
const strangersMiddle = below(stranger, 'Middle');

interface Case {
  readonly what: string;
  readonly reason: string;
  readonly detail: string;
  readonly leaf: Issued;
  /** What is sent after the leaf. */
  readonly chain?: readonly Issued[];
  /** Where it is not the usual CA. */
  readonly issuer?: string;
}

const UNKNOWN = { reason: 'untrusted_issuer', detail: 'unable to verify the first certificate' };
const UNKNOWN_TOP = { reason: 'untrusted_issuer', detail: 'unable to get local issuer certificate' };
const SELF_SIGNED = { reason: 'self_signed', detail: 'self-signed certificate' };
const WRONG_PURPOSE = { reason: 'wrong_purpose', detail: 'unsuitable certificate purpose' };
const viaMiddle = (authority: Authority): Pick<Case, 'leaf' | 'chain' | 'issuer'> => ({
  leaf: leafOf(authority),
  chain: [authority],
  issuer: 'CN=Middle',
});

const CASES: readonly Case[] = [
  { what: 'under a CA of the same name with another key', ...UNKNOWN, leaf: pki.stranger.client },
  {
    what: 'under such a CA, which is sent along',
    reason: 'self_signed',
    detail: 'self-signed certificate in certificate chain',
    leaf: pki.stranger.client,
    chain: [stranger],
  },
  {
    what: 'under such a CA, with nothing but the signature to tell',
    reason: 'invalid',
    detail: 'certificate signature failure',
    leaf: leafOf(stranger, { keyIdentifiers: false }),
  },
  {
    what: 'under such a CA, with key, name and serial number of an honest caller',
    ...UNKNOWN,
    leaf: issueClient(stranger, { keys: pki.client.keys, serial: pki.client.serial }),
  },
  { what: 'under such a CA, with an intermediate', ...UNKNOWN_TOP, ...viaMiddle(strangersMiddle) },
  {
    what: 'under such a CA, with our own CA sent along',
    ...UNKNOWN,
    leaf: pki.stranger.client,
    chain: [ca],
  },
  { what: 'that is self-signed', ...SELF_SIGNED, leaf: selfSigned({ subject: CLIENT_SUBJECT, keys }), issuer: 'same' },
  {
    what: 'that is self-signed in the name of our CA',
    ...SELF_SIGNED,
    leaf: selfSigned({ subject: CA_SUBJECT, keys, basicConstraints: { ca: true } }),
    issuer: 'same',
  },
  { what: 'that is the CA’s own', ...WRONG_PURPOSE, leaf: ca, issuer: 'same' },
  {
    what: 'that has expired',
    reason: 'expired',
    detail: 'certificate has expired',
    leaf: leafOf(ca, { notBefore: now - 2 * HOUR, notAfter: now - HOUR }),
  },
  {
    what: 'whose intermediate has expired',
    reason: 'expired',
    detail: 'certificate has expired',
    ...viaMiddle(below(ca, 'Middle', { notBefore: now - 2 * HOUR, notAfter: now - HOUR })),
  },
  {
    what: 'that is not yet valid',
    reason: 'not_yet_valid',
    detail: 'certificate is not yet valid',
    leaf: leafOf(ca, { notBefore: now + HOUR }),
  },
  { what: 'for servers only', ...WRONG_PURPOSE, leaf: leafOf(ca, { eku: ['serverAuth'] }) },
  { what: 'whose key may not sign', ...WRONG_PURPOSE, leaf: leafOf(ca, { keyUsage: ['keyCertSign'] }) },
  {
    what: 'under an intermediate for servers only',
    ...WRONG_PURPOSE,
    ...viaMiddle(below(ca, 'Middle', { eku: ['serverAuth'] })),
  },
  {
    what: 'signed with SHA-1',
    reason: 'weak_signature',
    detail: 'CA signature digest algorithm too weak',
    leaf: leafOf(ca, { hash: 'sha1' }),
  },
  {
    what: 'whose intermediate is signed with SHA-1',
    reason: 'weak_signature',
    detail: 'CA signature digest algorithm too weak',
    ...viaMiddle(below(ca, 'Middle', { hash: 'sha1' })),
  },
  {
    what: 'with an RSA key of 1024 bits',
    reason: 'weak_signature',
    detail: 'EE certificate key too weak',
    leaf: leafOf(ca, { keys: shortKeys }),
  },
  {
    what: 'whose intermediate has an RSA key of 1024 bits',
    reason: 'weak_signature',
    detail: 'CA certificate key too weak',
    ...viaMiddle(below(ca, 'Middle', { keys: shortKeys })),
  },
  { what: 'whose intermediate is missing', ...UNKNOWN, leaf: leafOf(middle), issuer: 'CN=Middle' },
  {
    what: 'below two intermediates',
    reason: 'chain_too_long',
    detail: 'certificate chain too long: 2 intermediates, 1 allowed',
    leaf: leafOf(lower),
    chain: [lower, middle],
    issuer: 'CN=Lower',
  },
  {
    what: 'below an intermediate of an intermediate that may have none',
    reason: 'chain_too_long',
    detail: 'path length constraint exceeded',
    ...withoutRoom(),
  },
  {
    what: 'issued by another caller',
    reason: 'invalid',
    detail: 'key usage does not include certificate signing',
    ...viaMiddle(below(ca, 'Middle', { basicConstraints: { ca: false }, keyUsage: ['digitalSignature'] })),
  },
  {
    what: 'issued by another caller whose certificate does not say what its key is for',
    ...WRONG_PURPOSE,
    leaf: leafOf(createAuthority({ subject: [['CN', 'Middle']], keys: middleKeys })),
    chain: [ca.issue({ subject: [['CN', 'Middle']], keys: middleKeys })],
    issuer: 'CN=Middle',
  },
  {
    what: 'with a critical extension that nobody knows',
    reason: 'invalid',
    detail: 'unhandled critical extension',
    leaf: leafOf(ca, { extensions: [{ oid: '1.2.3.4', critical: true, value: Uint8Array.of(5, 0) }] }),
  },
];

function withoutRoom(): Pick<Case, 'leaf' | 'chain' | 'issuer'> {
  const upper = below(ca, 'Upper', { basicConstraints: { ca: true, pathLength: 0 } });
  const under = below(upper, 'Middle', { keys: generateKeys() });
  return { leaf: leafOf(under), chain: [under, upper], issuer: 'CN=Middle' };
}

let application: Application;
let sidecar: Sidecar;
const at = () => ({ sidecar, application });

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({ pki, upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const presenting = ({ leaf, chain = [] }: Case): CallOptions => ({
  as: { certPem: chainPem(leaf, ...chain), keyPem: leaf.keyPem },
  ...CARELESS,
});

function expected({ reason, detail, leaf, issuer }: Case): Refused {
  const refused = refusedAs(reason, detail, leaf);
  if (issuer === 'same') return { ...refused, ...namesOf(leaf) };
  return issuer === undefined ? refused : { ...refused, issuer };
}

describe.each(['TLSv1.3', 'TLSv1.2'] as const)('refused with %s', (version) => {
  const versions = { minVersion: version, maxVersion: version };

  it('a caller without a certificate', async () => {
    const refused = refusedAs('no_certificate', 'client sent no required SSL certificate', null);
    await expectRefused(at(), { as: null, ...versions }, refused);
  });

  it.each(CASES)('a certificate $what', async (one) => {
    await expectRefused(at(), { ...presenting(one), ...versions }, expected(one));
  });
});

it('answers once and ends the connection, whatever bytes a refused caller sends', async () => {
  const accepted = sidecar.requests().length;
  for (const bytes of [
    'GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(3),
    '\0\x01\x02',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ]) {
    const answer = await sendRaw(sidecar, bytes, null);
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n[^]*Connection: close\r\n[^]*<\/html>\n$/);
  }
  expect(sidecar.requests()).toHaveLength(accepted);
  expect(application.seen).toEqual([]);
});
