import { chmodSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { check } from '../src/commands/check.js';
import { startApplication, type Application } from './support/application.js';
import { createAuthority, generateKeys, issueServer, selfSigned, temporaryDirectory, writePem } from './support/pki.js';

const DAY = 24 * 3_600_000;
const now = Date.now();
const keys = generateKeys();
const root = createAuthority({ subject: [['CN', 'Root']], notAfter: now + 900 * DAY });
const roots: { remove(): void }[] = [];
let dir = '';
let application: Application;

beforeAll(async () => {
  application = await startApplication();
});
afterAll(() => application.stop());

beforeEach(() => {
  const fresh = temporaryDirectory();
  roots.push(fresh);
  dir = fresh.path;
  serve({ notAfter: now + 90.5 * DAY });
  write('ca.pem', root.certPem);
});
afterAll(() => roots.forEach((one) => one.remove()));

const write = (name: string, text: string): string => writePem(dir, name, text);

function serve(options: Parameters<typeof issueServer>[1]): void {
  const server = issueServer(root, { keys, ...options });
  write('server.pem', server.certPem);
  write('server.key', server.keyPem);
}

async function run(settings: Readonly<Record<string, string>> = {}, colour = false) {
  const files = {
    'tls.cert': 'server.pem',
    'tls.key': 'server.key',
    'clientCert.ca': 'ca.pem',
    'upstream.url': application.url,
  };
  const argv = Object.entries({ ...files, ...settings }).map(([name, value]) => {
    return `--${name}=${/\.(pem|key|crl|txt)$/.test(value) ? join(dir, value) : value}`;
  });
  const lines: string[] = [];
  const out = (line: string): void => void lines.push(line);
  const code = await check({ argv, terminal: { out, err: out, colour }, env: {} });
  return { code, lines, text: lines.join('\n') };
}

describe('a good configuration', () => {
  it('is said to be good, fact by fact', async () => {
    const { code, text } = await run({ 'clientCert.allow': '[{"commonName":"im.qq.com"}]' });
    expect(code).toBe(0);
    expect(text).toMatch(/^ok +tls\.cert +CN=localhost, EC prime256v1$/m);
    expect(text).toMatch(/^ok +tls\.cert +for DNS:localhost, IP Address:127\.0\.0\.1/m);
    expect(text).toMatch(/^ok +tls\.cert +valid from .* UTC to .* UTC, 90 days left$/m);
    expect(text).toMatch(/^ok +tls\.key +belongs to the certificate$/m);
    expect(text).toMatch(/^ok +clientCert\.ca +CN=Root, EC prime256v1, self-signed$/m);
    expect(text).toMatch(/^ok +clientCert\.allow +\[\{"commonName":"im\.qq\.com"\}\] \(flag --clientCert\.allow\)$/m);
    expect(text).toMatch(/good to run: 0 errors, 0 warnings$/);
  });

  it('is shown in aligned lines, coloured only where colours are seen', async () => {
    const plain = await run();
    const columns = plain.lines
      .slice(0, -1)
      .map((line) => /^(?:ok|note|warning|error) +[a-zA-Z.]+ +/.exec(line)?.[0].length);
    expect(new Set(columns).size).toBe(1);
    expect(plain.text).not.toContain('\u001b');
    expect((await run({}, true)).text).toContain('\u001b[32mok');
  });

  it('without rules is noted to let every certificate in', async () => {
    expect((await run()).text).toMatch(/^note +clientCert\.allow +every certificate under the CA gets in$/m);
  });
});

describe('a bad configuration', () => {
  it('ends with 78, every problem on a line of its own', async () => {
    const { code, lines } = await run({ 'listen.port': 'x', 'tls.minVersion': 'TLSv1' });
    expect(code).toBe(78);
    expect(lines.filter((line) => line.startsWith('error'))).toHaveLength(2);
    expect(lines.at(-1)).toBe('would refuse to run: 2 errors, 0 warnings');
  });

  it('shows what is right beside what is wrong', async () => {
    const { code, text } = await run({ 'tls.key': 'ca.pem', 'clientCert.ca': 'missing.pem' });
    expect(code).toBe(78);
    expect(text).toMatch(/^ok +tls\.cert +CN=localhost/m);
    expect(text).toMatch(/^error +tls\.key +\S+ca\.pem has no private key \(flag --tls\.key\)$/m);
    expect(text).toMatch(/^error +clientCert\.ca +\S+missing\.pem cannot be read: .* \(flag --clientCert\.ca\)$/m);
    expect(text).not.toContain('belongs to the certificate');
  });

  it('never shows a passphrase or a key', async () => {
    write('pass.txt', 'hunter2');
    const { text } = await run({ 'tls.keyPassphraseFile': 'pass.txt' });
    expect(text).not.toMatch(/hunter2|PRIVATE KEY/);
  });
});

describe('a warning is given about', () => {
  it('a server certificate that has expired, is about to, or is not valid yet', async () => {
    serve({ notBefore: now - 9 * DAY, notAfter: now - 3.5 * DAY });
    const expired = await run();
    expect(expired.code).toBe(0);
    expect(expired.text).toMatch(/^warning +tls\.cert +EXPIRED 3 days ago/m);
    serve({ notAfter: now + 5.5 * DAY });
    expect((await run()).text).toMatch(/^warning +tls\.cert .* 5 days left$/m);
    serve({ notBefore: now + DAY, notAfter: now + 90 * DAY });
    expect((await run()).text).toMatch(/^warning +tls\.cert +is NOT YET VALID/m);
  });

  it('a server certificate without names, for other names, or not for servers', async () => {
    serve({ san: [] });
    expect((await run()).text).toMatch(/^warning +tls\.cert +has no subject alternative names/m);
    serve({ eku: ['clientAuth'] });
    expect((await run({ 'listen.serverNames': 'im.example' })).text).toMatch(
      /^warning +tls\.cert +its extended key usage[^]*^warning +listen\.serverNames +the server certificate is not for im\.example$/m,
    );
  });

  it('a chain in the wrong order', async () => {
    const middle = root.subordinate({ subject: [['CN', 'middle']] });
    const server = issueServer(middle, { keys });
    write('server.pem', server.certPem + root.certPem + middle.certPem);
    expect((await run()).text).toMatch(
      /^warning +tls\.cert +certificate 1 of the file is not issued by certificate 2/m,
    );
    write('server.pem', server.certPem + middle.certPem);
    expect((await run()).text).toMatch(/^ok +tls\.cert +chain of 2, each issued by the next$/m);
  });

  it('a CA that is expired, none, weak, or without its issuer', async () => {
    const old = createAuthority({ subject: [['CN', 'Old']], notBefore: now - 9 * DAY, notAfter: now - DAY * 2.5 });
    const middle = old.subordinate({ subject: [['CN', 'Middle']], hash: 'sha1' });
    const weak = createAuthority({ subject: [['CN', 'Weak']], keys: generateKeys('rsa-1024'), hash: 'sha1' });
    const leaf = selfSigned({ subject: [['CN', 'Leaf']] });
    write('ca.pem', old.certPem + weak.certPem + leaf.certPem);
    const { text } = await run();
    expect(text).toMatch(/^warning +clientCert\.ca +EXPIRED 2 days ago.*every caller under it is refused/m);
    expect(text).toMatch(/^warning +clientCert\.ca +CN=Weak: its key \(RSA 1024\) is too weak for security level 2/m);
    expect(text).not.toMatch(/CN=Weak: its signature/);
    expect(text).toMatch(/^warning +clientCert\.ca +CN=Leaf: is no CA certificate/m);
    write('ca.pem', middle.certPem);
    const alone = await run();
    expect(alone.text).toMatch(/^warning +clientCert\.ca +CN=Middle: its issuer is not in the bundle/m);
    expect(alone.text).toMatch(/^warning +clientCert\.ca +CN=Middle: its signature \(SHA-1\) is too weak/m);
  });

  it('revocation lists that are expired, of nobody, or missing', async () => {
    const other = createAuthority({ subject: [['CN', 'Other']] });
    write('ca.pem', root.certPem + other.certPem);
    write('a.crl', root.crl({ thisUpdate: now - 9 * DAY, nextUpdate: now - 2.5 * DAY }));
    const refused = await run({ 'clientCert.crl': 'a.crl' });
    expect(refused.code).toBe(0);
    expect(refused.text).toMatch(/^warning +clientCert\.crl +CN=Root: EXPIRED 2 days ago: every caller .*crl_expired/m);
    expect(refused.text).toMatch(/^warning +clientCert\.crl +no list of CN=Other: .*crl_missing/m);
    const warned = await run({ 'clientCert.crl': 'a.crl', 'clientCert.crlExpired': 'warn' });
    expect(warned.text).toMatch(/EXPIRED 2 days ago: it is still used/);
    write('ca.pem', other.certPem);
    expect((await run({ 'clientCert.crl': 'a.crl' })).text).toMatch(
      /^note +clientCert\.crl +CN=Root: no CA of the bundle/m,
    );
  });

  it('a key that others can read', async () => {
    chmodSync(join(dir, 'server.key'), 0o640);
    expect((await run()).text).toMatch(/^warning +tls\.key +\S+server\.key can be read by group or others$/m);
  });

  it.each([
    [{ 'tls.legacy': 'true' }, /^warning +tls\.legacy +LEGACY/m],
    [{ 'tls.securityLevel': '1' }, /^warning +tls\.securityLevel/m],
    [{ 'clientCert.verify': 'off' }, /^warning +clientCert\.verify +OFF/m],
    [{ 'clientCert.verify': 'optional-no-ca' }, /^warning +clientCert\.verify/m],
    [{ 'upstream.url': 'http://10.0.0.1', 'upstream.unsafeRemote': 'true' }, /^warning +upstream\.url/m],
    [{ 'admin.host': '0.0.0.0' }, /^note +admin\.host/m],
  ])('%o', async (settings, expected) => {
    expect((await run(settings)).text).toMatch(expected);
  });

  it('and hostile names in certificates cannot rewrite the terminal', async () => {
    write('ca.pem', createAuthority({ subject: [['CN', 'x\u001b[2J\r\nok  all is well\u202e']] }).certPem);
    const { lines } = await run();
    expect(lines.every((line) => /^[\u0020-\u007e…]*$/.test(line))).toBe(true);
    expect(lines.some((line) => line.startsWith('ok  all is well'))).toBe(false);
  });
});
