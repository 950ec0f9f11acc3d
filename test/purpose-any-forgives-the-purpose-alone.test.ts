import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { objectIdentifier, sequence } from '../src/pki/der.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import {
  CLIENT_SUBJECT,
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  type Authority,
  type Issued,
  type NameInput,
  type Options,
} from './support/pki.js';
import { CARELESS, expectRefused, namesOf, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const SERVERS_ONLY = ['serverAuth'];
const keys = generateKeys();
const middleKeys = generateKeys();
const pki = makePki();
const { ca } = pki;
const ROGUE: NameInput = [['CN', 'Rogue']];

const leafOf = (authority: Authority, options: Partial<Options> = {}): Issued =>
  issueClient(authority, { keys, eku: SERVERS_ONLY, ...options });
const below = (authority: Authority, name: string, options: Partial<Options> = {}): Authority =>
  authority.subordinate({ subject: [['CN', name]], keys: middleKeys, ...options });
const middle = below(ca, 'Middle');
const middleForServers = below(ca, 'Middle', { eku: SERVERS_ONLY });

/** A self-signed caller of the bundle, as some clouds use them: no CA. */
const pinned = selfSigned({ subject: [['CN', 'pinned']], eku: SERVERS_ONLY, basicConstraints: null });
/** What the owner of that key, or of a client certificate, can sign. */
const byPinned = createAuthority({ subject: [['CN', 'pinned']], keys: pinned.keys });
let application: Application;
let sidecar: Sidecar;
const at = () => ({ sidecar, application });

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    files: { 'clientCert.ca': chainPem(ca, pinned) },
    settings: { 'clientCert.purpose': 'any', 'clientCert.depth': '3' },
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const presenting = (leaf: Issued, ...issuers: Issued[]): CallOptions => ({
  as: { certPem: chainPem(leaf, ...issuers), keyPem: leaf.keyPem },
  ...CARELESS,
});

describe('admitted', () => {
  it.each([
    ['a certificate for servers only', leafOf(ca), []],
    ['one with an intermediate', leafOf(middle), [middle]],
    ['one with an intermediate for servers only', leafOf(middleForServers), [middleForServers]],
    ['one for clients', leafOf(ca, { eku: ['clientAuth'] }), []],
    ['a self-signed one that is in the bundle', pinned, []],
  ] as const)('%s', async (_what, leaf, issuers) => {
    expect((await call(sidecar, presenting(leaf, ...issuers))).status).toBe(200);
    expect(valuesOf(application.seen.at(-1)?.rawHeaders ?? [], 'X-SSL-Client-Verify')).toEqual(['SUCCESS']);
  });
});

/** OpenSSL tells only the last of several errors, and the purpose hides these. */
describe('refused', () => {
  it.each([
    ['under an unknown CA', leafOf(pki.stranger.ca), [], 'untrusted_issuer', 'unable to verify the first certificate'],
    ['under an unknown CA with its intermediate', ...underStranger(), 'untrusted_issuer', /no path to a CA/],
    ['under an unknown CA that is sent along', ...withStranger(), 'untrusted_issuer', /no path to a CA/],
    ['issued by another caller', ...byCaller(), 'untrusted_issuer', /no path to a CA/],
    ['issued by a self-signed caller', leafOf(byPinned), [], 'invalid', 'invalid CA certificate'],
    ['that is a proxy certificate of another caller', ...byProxy(), 'untrusted_issuer', /no path to a CA/],
    ['below a CA that may have no CA below', ...withoutRoom(), 'invalid', 'path length constraint exceeded'],
    ['with an unknown critical extension', ...withExtension(ca), 'invalid', 'unhandled critical extension'],
    ['whose weak intermediate hides behind a twin', ...behindTwin(), 'untrusted_issuer', /several issuers/],
    ['that has expired', leafOf(ca, { notAfter: Date.now() - 1000 }), [], 'expired', 'certificate has expired'],
    ['signed with SHA-1', leafOf(ca, { hash: 'sha1' }), [], 'weak_signature', /digest algorithm too weak/],
  ] as const)('a certificate for servers %s', async (_what, leaf, issuers, reason, detail) => {
    await expectRefused(at(), presenting(leaf, ...issuers), { ...refusedAs(reason, detail, leaf), ...namesOf(leaf) });
  });
});

it('refused, too, when it was let in before without the twin', async () => {
  const leaf = leafOf(middle);
  expect((await call(sidecar, presenting(leaf, middle))).status).toBe(200);
  const refusal = refusedAs('untrusted_issuer', /several issuers/, leaf);
  await expectRefused(at(), presenting(leaf, below(pki.stranger.ca, 'Middle'), middle), {
    ...refusal,
    ...namesOf(leaf),
  });
});

type Presented = readonly [leaf: Issued, issuers: readonly Issued[]];

function underStranger(): Presented {
  const lower = below(pki.stranger.ca, 'Middle');
  return [leafOf(lower), [lower]];
}

function withStranger(): Presented {
  return [leafOf(pki.stranger.ca), [pki.stranger.ca]];
}

function byCaller(): Presented {
  const rogue = createAuthority({ subject: ROGUE, keys: middleKeys });
  return [leafOf(rogue), [ca.issue({ subject: ROGUE, keys: middleKeys, eku: ['clientAuth'] })]];
}

/** RFC 3820: whoever has a client certificate could sign certificates for names below its own. */
function byProxy(): Presented {
  const honest = issueClient(ca, { keys: middleKeys });
  const policy = sequence(sequence(objectIdentifier('1.3.6.1.5.5.7.21.1')));
  const leaf = createAuthority({ subject: CLIENT_SUBJECT, keys: middleKeys }).issue({
    subject: [...CLIENT_SUBJECT, ['CN', 'admin']],
    keys,
    eku: SERVERS_ONLY,
    basicConstraints: null,
    extensions: [{ oid: '1.3.6.1.5.5.7.1.14', critical: true, value: policy }],
  });
  return [leaf, [honest]];
}

/** The purpose of the uppermost hides what is wrong with the one below it. */
function withoutRoom(): Presented {
  const top = below(ca, 'Top', { eku: SERVERS_ONLY, keys: generateKeys() });
  const upper = below(top, 'Upper', { basicConstraints: { ca: true, pathLength: 0 }, keys: generateKeys() });
  const lower = below(upper, 'Lower');
  return [leafOf(lower), [lower, upper, top]];
}

function withExtension(authority: Authority): Presented {
  const extension = { oid: '1.2.3.4', critical: true, value: Uint8Array.of(5, 0) };
  return [leafOf(authority, { extensions: [extension] }), []];
}

/** OpenSSL takes the twin, which nobody trusts; we would find the way through the other, whose SHA-1 it never saw. */
function behindTwin(): Presented {
  const twin = below(pki.stranger.ca, 'Middle');
  const weak = below(ca, 'Middle', { hash: 'sha1' });
  return [leafOf(weak), [twin, weak]];
}
