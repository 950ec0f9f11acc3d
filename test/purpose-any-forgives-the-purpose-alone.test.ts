import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { basicConstraints, encodeExtension } from '../src/pki/extensions.js';
import { element, objectIdentifier, sequence } from '../src/pki/der.js';
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
import { CARELESS, expectRefused, refusedAs } from './support/refusal.js';
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
const rogue = createAuthority({ subject: ROGUE, keys: middleKeys });

let application: Application;
let sidecar: Sidecar;
const at = () => ({ sidecar, application });

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    files: { 'clientCert.ca': chainPem(ca, pinned) },
    settings: { 'clientCert.purpose': 'any' , 'clientCert.depth': '3'},
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

describe('refused', () => {
  it('what another caller issued', async () => {
    const leaf = leafOf(rogue);
    await expectRefused(at(), presenting(leaf, ca.issue({ subject: ROGUE, keys: middleKeys, eku: ['clientAuth'] })), { ...refusedAs('invalid', /./, leaf), issuer: 'CN=Rogue' });
  });
  it('what a self-signed caller issued', async () => {
    const leaf = leafOf(byPinned);
    await expectRefused(at(), presenting(leaf), { ...refusedAs('invalid', /./, leaf), issuer: 'CN=pinned' });
  });
  it('proxy', async () => {
    const caller = createAuthority({ subject: CLIENT_SUBJECT, keys: middleKeys });
    const callerCert = issueClient(ca, { keys: middleKeys });
    const policy = sequence(objectIdentifier('1.3.6.1.5.5.7.21.1'));
    const leaf = caller.issue({ keys, subject: [...CLIENT_SUBJECT, ['CN', 'admin']], eku: SERVERS_ONLY, basicConstraints: null, extensions: [{ oid: '1.3.6.1.5.5.7.1.14', critical: true, value: sequence(policy) }] });
    await expectRefused(at(), presenting(leaf, callerCert), { ...refusedAs('invalid', /./, leaf) });
  });
  it('pathlen', async () => {
    const top = below(ca, 'Top', { eku: SERVERS_ONLY, keys: generateKeys() });
    const upper = below(top, 'Upper', { basicConstraints: { ca: true, pathLength: 0 } , keys: generateKeys()});
    const lower = below(upper, 'Lower');
    const leaf = leafOf(lower);
    await expectRefused(at(), presenting(leaf, lower, upper, top), { ...refusedAs('invalid', /./, leaf) });
  });
});
void [basicConstraints, encodeExtension, element];
