import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { createPrivateKey } from 'node:crypto';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, it } from 'vitest';
import { loadCredentials } from '../src/trust/credentials.js';
import type { Credentials } from '../src/trust/credentials.js';
import { configured, problemsOf } from './support/settings.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  issueServer,
  makePki,
  temporaryDirectory,
  writePem,
} from './support/pki.js';

const pki = makePki();
const roots: { remove(): void }[] = [];
let dir = '';

beforeEach(() => {
  const fresh = temporaryDirectory();
  roots.push(fresh);
  dir = fresh.path;
  write('server.pem', pki.server.certPem);
  write('server.key', pki.server.keyPem);
  write('ca.pem', pki.ca.certPem);
});
afterAll(() => roots.forEach((root) => root.remove()));

const at = (name: string): string => join(dir, name);
const write = (name: string, text: string): string => writePem(dir, name, text);

function load(flags: Readonly<Record<string, string>> = {}): Credentials {
  const files = { 'tls.cert': at('server.pem'), 'tls.key': at('server.key'), 'clientCert.ca': at('ca.pem') };
  return loadCredentials(configured({ ...files, ...flags }));
}

/** Problems with the directory's own name left out. */
const problems = (flags: Readonly<Record<string, string>> = {}): string[] =>
  problemsOf(() => load(flags)).map((problem) => problem.replaceAll(`${dir}/`, ''));

function encryptedKey(passphrase: string): string {
  return createPrivateKey(pki.server.keyPem)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase })
    .toString();
}

describe('good credentials', () => {
  it('are read whole', () => {
    write('crl.pem', pki.ca.crl());
    const credentials = load({ 'clientCert.crl': at('crl.pem') });
    expect(credentials.servers[0].cert).toBe(pki.server.certPem);
    expect(credentials.cas).toMatchObject([{ subject: 'CN=TencentQQAuthCA,O=Tencent,C=CN', file: at('ca.pem') }]);
    expect(credentials.crls).toMatchObject([{ issuer: 'CN=TencentQQAuthCA,O=Tencent,C=CN' }]);
    expect(credentials.crls[0]?.nextUpdate).toBeGreaterThan(Date.now());
    expect(Object.isFrozen(credentials)).toBe(true);
  });

  it('keep the chain in its order, and leave a key in the same file out of it', () => {
    const middle = pki.ca.subordinate({ subject: [['CN', 'middle']] });
    const server = issueServer(middle);
    const text = `remarks\n${chainPem(server, middle)}${server.keyPem}`;
    write('both.pem', text);
    expect(load({ 'tls.cert': at('both.pem'), 'tls.key': at('both.pem') }).servers[0].cert).toBe(
      chainPem(server, middle),
    );
  });

  it('take an encrypted key with its passphrase, with or without a line end', () => {
    write('server.key', encryptedKey('correct horse'));
    for (const end of ['', '\n', '\r\n']) {
      writeFileSync(at('pass'), `correct horse${end}`);
      expect(load({ 'tls.keyPassphraseFile': at('pass') }).servers[0].passphrase).toBe('correct horse');
    }
  });

  it('take a CA in DER', () => {
    writeFileSync(at('ca.crt'), pki.ca.certDer);
    expect(load({ 'clientCert.ca': at('ca.crt') }).cas).toHaveLength(1);
  });

  it('count a CA once, however often it is there', () => {
    write('twice.pem', pki.ca.certPem + pki.ca.certPem);
    expect(load({ 'clientCert.ca': `${at('ca.pem')},${at('twice.pem')}` }).cas).toHaveLength(1);
  });

  it('take every certificate of a directory as Kubernetes lays it out', () => {
    const other = createAuthority({ subject: [['CN', 'other']] });
    mkdirSync(at('bundle/..2026'), { recursive: true });
    write('bundle/..2026/a.pem', pki.ca.certPem);
    write('bundle/..2026/b.crt', other.certPem);
    symlinkSync('..2026', at('bundle/..data'));
    symlinkSync('..data/a.pem', at('bundle/a.pem'));
    symlinkSync('..data/b.crt', at('bundle/b.crt'));
    writeFileSync(at('bundle/README'), 'not a certificate');
    const { cas } = load({ 'clientCert.ca': at('bundle') });
    expect(cas.map(({ file }) => file)).toEqual([at('bundle/a.pem'), at('bundle/b.crt')]);
  });

  it('know a list without an end', () => {
    write('crls.pem', pki.ca.crl({ nextUpdate: null, revoked: [5n] }));
    expect(load({ 'clientCert.crl': at('crls.pem') }).crls).toMatchObject([{ nextUpdate: null }]);
  });

  it('can do without a CA only when nobody is verified', () => {
    const flags = { 'tls.cert': at('server.pem'), 'tls.key': at('server.key'), 'clientCert.verify': 'off' };
    const config = { ...configured(flags), clientCert: { ...configured(flags).clientCert, ca: [] } };
    expect(loadCredentials(config).cas).toEqual([]);
  });
});

describe('refused, with setting and file:', () => {
  it('files that are not there, all at once', () => {
    const flags = { 'tls.cert': at('a'), 'tls.key': at('b'), 'clientCert.ca': at('c'), 'clientCert.crl': at('d') };
    expect(problems({ ...flags, 'tls.keyPassphraseFile': at('e') })).toEqual([
      'tls.cert: a cannot be read: no such file or directory',
      'tls.keyPassphraseFile: the file it names cannot be read: no such file or directory',
      'tls.key: b cannot be read: no such file or directory',
      'clientCert.ca: c cannot be read: no such file or directory',
      'clientCert.crl: d cannot be read: no such file or directory',
    ]);
  });

  it('a directory where a file belongs, and a directory with nothing in it', () => {
    mkdirSync(at('empty'));
    expect(problems({ 'tls.cert': at('empty') })).toEqual([
      'tls.cert: empty cannot be read: illegal operation on a directory',
    ]);
    expect(problems({ 'clientCert.ca': at('empty') })).toEqual([
      'clientCert.ca: empty is a directory without .pem, .crt or .cer files',
    ]);
  });

  it('a revocation list in the name of a CA of the bundle that none of this name has signed', () => {
    const forged = `clientCert.crl: list.pem has a revocation list (number 2) of CN=TencentQQAuthCA,O=Tencent,C=CN`;
    const { ca, stranger } = pki;
    for (const crlExpired of ['refuse', 'warn']) {
      const flags = { 'clientCert.crl': at('list.pem'), 'clientCert.crlExpired': crlExpired };
      write('list.pem', ca.crl() + stranger.ca.crl());
      expect(problems(flags)).toEqual([`${forged} that no CA of this name in clientCert.ca has signed`]);
      write('list.pem', ca.crl() + stranger.ca.crl({ deltaOf: 1n }));
      expect(problems(flags)).toHaveLength(1);
    }
    // Once one of them has signed it, and where the bundle says nothing of its name.
    const elsewhere = createAuthority({ subject: [['CN', 'Elsewhere']] });
    write('list.pem', ca.crl() + stranger.ca.crl() + elsewhere.crl());
    write('both.pem', ca.certPem + stranger.ca.certPem);
    expect(load({ 'clientCert.crl': at('list.pem'), 'clientCert.ca': at('both.pem') }).crls).toHaveLength(3);
    // What is left of a damaged bundle does not say whose a list is.
    write('both.pem', `${ca.certPem}-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n`);
    expect(problems({ 'clientCert.crl': at('list.pem'), 'clientCert.ca': at('both.pem') })).toEqual([
      'clientCert.ca: both.pem has a damaged certificate (number 2)',
    ]);
  });

  it('a delta list, which OpenSSL may take for all that its CA has revoked', () => {
    write('list.pem', pki.ca.crl({ revoked: [5n] }) + pki.ca.crl({ deltaOf: 1n, number: 2n }));
    for (const crlExpired of ['refuse', 'warn']) {
      expect(problems({ 'clientCert.crl': at('list.pem'), 'clientCert.crlExpired': crlExpired })).toEqual([
        'clientCert.crl: list.pem has a delta revocation list (number 2) of CN=TencentQQAuthCA,O=Tencent,C=CN; give the whole list',
      ]);
    }
  });

  it('a file without what it is named for', () => {
    write('text', 'nothing here\n');
    expect(problems({ 'tls.cert': at('text') })).toEqual(['tls.cert: text has no certificate']);
    expect(problems({ 'tls.key': at('server.pem') })).toEqual(['tls.key: server.pem has no private key']);
    expect(problems({ 'clientCert.ca': at('text') })).toEqual(['clientCert.ca: text has no certificate']);
    expect(problems({ 'clientCert.crl': at('ca.pem') })).toEqual(['clientCert.crl: ca.pem has no revocation list']);
  });

  it('a file that is only half written', () => {
    write('half.pem', pki.ca.certPem.slice(0, 300));
    write('second-half.pem', pki.ca.certPem + pki.ca.certPem.slice(0, 300));
    expect(problems({ 'clientCert.ca': at('half.pem') })[0]).toBe(
      'clientCert.ca: half.pem has a PEM block that is damaged or has no end',
    );
    expect(problems({ 'clientCert.ca': at('second-half.pem') })[0]).toMatch(/has a PEM block that is damaged/);
    expect(problems({ 'tls.cert': at('half.pem') })[0]).toMatch(/has a PEM block that is damaged/);
  });

  it('blocks that hold no certificate or list', () => {
    const junk = (label: string): string => `-----BEGIN ${label}-----\nAAAA\n-----END ${label}-----\n`;
    write('junk.pem', pki.ca.certPem + junk('CERTIFICATE'));
    write('junk.crl', junk('X509 CRL'));
    write('trusted.pem', junk('TRUSTED CERTIFICATE'));
    write('junk.key', junk('PRIVATE KEY'));
    expect(problems({ 'clientCert.ca': at('junk.pem') })).toEqual([
      'clientCert.ca: junk.pem has a damaged certificate (number 2)',
    ]);
    expect(problems({ 'clientCert.crl': at('junk.crl') })).toEqual([
      'clientCert.crl: junk.crl has a damaged revocation list (number 1)',
    ]);
    expect(problems({ 'clientCert.ca': at('trusted.pem') })[0]).toContain('holds a TRUSTED CERTIFICATE');
    expect(problems({ 'tls.key': at('junk.key') })).toEqual(['tls.key: junk.key is damaged']);
  });

  it('a key of another certificate', () => {
    write('other.key', pki.client.keyPem);
    expect(problems({ 'tls.key': at('other.key') })).toEqual([
      'tls.key: other.key does not belong to the first certificate of server.pem',
    ]);
  });

  it('a chain that does not begin with the leaf', () => {
    write('chain.pem', chainPem(pki.ca, pki.server));
    expect(problems({ 'tls.cert': at('chain.pem') })).toEqual([
      'tls.key: server.key does not belong to the first certificate of chain.pem: number 2 of the file does, and must stand first',
    ]);
  });

  it('an encrypted key without its passphrase, or with a wrong one, which is never shown', () => {
    write('server.key', encryptedKey('correct horse'));
    writeFileSync(at('pass'), 'hunter2\n');
    writeFileSync(at('empty'), '\n');
    expect(problems()).toEqual(['tls.key: server.key is encrypted: set tls.keyPassphraseFile']);
    expect(problems({ 'tls.keyPassphraseFile': at('pass') })).toEqual([
      'tls.key: server.key cannot be decrypted: wrong passphrase?',
    ]);
    expect(problems({ 'tls.keyPassphraseFile': at('empty') })[0]).toBe('tls.keyPassphraseFile: empty is empty');
  });

  it('a private key among the CAs', () => {
    write('mixed.pem', pki.ca.certPem + pki.ca.keyPem);
    expect(problems({ 'clientCert.ca': at('mixed.pem') })).toEqual([
      'clientCert.ca: mixed.pem holds a private key; a trust bundle has no use for one: was it mixed up?',
    ]);
  });

  it('what OpenSSL does not take: a key below the security level, an unknown cipher, an unknown curve', () => {
    const weak = issueServer(pki.ca, { keys: generateKeys('rsa-1024') });
    write('weak.pem', weak.certPem);
    write('weak.key', weak.keyPem);
    expect(problems({ 'tls.cert': at('weak.pem'), 'tls.key': at('weak.key') })[0]).toMatch(
      /OpenSSL does not take .*key too small/,
    );
    expect(problems({ 'tls.cert': at('weak.pem'), 'tls.key': at('weak.key'), 'tls.legacy': 'true' })).toEqual([]);
    expect(problems({ 'tls.ciphers': 'NO-SUCH-CIPHER' })[0]).toMatch(/^tls\.ciphers: "NO-SUCH-CIPHER" .*ECDHE/);
    expect(problems({ 'tls.curves': 'no-such-curve' })[0]).toMatch(/^tls\.curves: "no-such-curve" .*X25519/);
  });

  it('a list of another client that looks like a certificate file', () => {
    write('client.pem', issueClient(pki.ca).certPem);
    expect(problems({ 'clientCert.crl': at('client.pem') })).toEqual([
      'clientCert.crl: client.pem has no revocation list',
    ]);
  });
});
