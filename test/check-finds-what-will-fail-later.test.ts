import { chmodSync, mkdirSync, symlinkSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest';
import { check } from '../src/commands/check.js';
import { checkFiles } from '../src/commands/check-files.js';
import { mountFate } from '../src/trust/mounts.js';
import { element, objectIdentifier, sequence } from '../src/pki/der.js';
import { startApplication, type Application } from './support/application.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueServer,
  makePki,
  selfSigned,
  temporaryDirectory,
  writePem,
  writePki,
  type RawExtension,
} from './support/pki.js';
import { about, signedPss, signedSha224 } from './support/lists.js';
import { configured } from './support/settings.js';

const pki = makePki();
const keys = generateKeys();
const other = createAuthority({ subject: [['CN', 'Other']] });
const shortRsa = generateKeys('rsa-1024');
const dirs: { readonly path: string; remove(): void }[] = [];
let dir = '';
let files: ReturnType<typeof writePki>;
let application: Application;

beforeAll(async () => {
  application = await startApplication();
});
beforeEach(() => {
  const fresh = temporaryDirectory();
  dirs.push(fresh);
  dir = fresh.path;
  files = writePki(dir, pki);
});
afterAll(async () => {
  await application.stop();
  dirs.forEach((one) => one.remove());
});

async function run(settings: Readonly<Record<string, string>> = {}, ...more: readonly string[]) {
  const usual = { 'tls.cert': files.cert, 'tls.key': files.key, 'clientCert.ca': files.ca };
  const all = { ...usual, 'upstream.url': application.url, ...settings };
  const lines: string[] = [];
  const out = (line: string): void => void lines.push(line);
  const argv = [...Object.entries(all).map(([name, value]) => `--${name}=${value}`), ...more];
  const code = await check({ argv, terminal: { out, err: out, colour: false }, env: {} });
  return { code, text: lines.join('\n') };
}

/** Where the certificate of the issuer can be fetched (RFC 5280 §4.2.2.1). */
const CA_ISSUERS: RawExtension = {
  oid: '1.3.6.1.5.5.7.1.1',
  value: sequence(
    sequence(objectIdentifier('1.3.6.1.5.5.7.48.2'), element(0x86, Buffer.from('http://ca.example/i.crt'))),
  ),
};

describe('the chain of the server', () => {
  it('that leads to a CA of the bundle is complete', async () => {
    expect((await run()).text).toMatch(/^ok +tls\.cert +complete up to CN=TencentQQAuthCA,O=Tencent,C=CN$/m);
  });

  it('that ends below a CA of nobody is noted', async () => {
    writePem(dir, 'server.pem', issueServer(other, { keys: pki.server.keys }).certPem);
    expect((await run()).text).toMatch(/^note +tls\.cert +ends below CN=Other, which callers must trust$/m);
  });

  it('that lacks an intermediate is warned about', async () => {
    writePem(dir, 'server.pem', issueServer(other, { keys: pki.server.keys, extensions: [CA_ISSUERS] }).certPem);
    expect((await run()).text).toMatch(/^warning +tls\.cert +ends below CN=Other.*is an intermediate missing\?$/m);
  });

  it('that ends in a root carries it in vain', async () => {
    writePem(dir, 'server.pem', chainPem(pki.server, pki.ca));
    expect((await run()).text).toMatch(/^note +tls\.cert +ends in a root, which callers do not need$/m);
  });

  it('of one self-signed certificate must be trusted as it is', async () => {
    const own = selfSigned({ subject: [['CN', 'localhost']], keys: pki.server.keys });
    writePem(dir, 'server.pem', own.certPem);
    expect((await run()).text).toMatch(/^note +tls\.cert +is self-signed/m);
  });
});

describe('the trust bundle', () => {
  it('is searched for CAs that stand in it twice, or share a name', async () => {
    writePem(dir, 'ca.pem', chainPem(pki.ca, pki.stranger.ca, pki.ca));
    const { text } = await run();
    expect(text.match(/^note .*stands in the bundle more than once \(\S+ca\.pem\)$/gm)).toHaveLength(1);
    expect(text.match(/^note .*2 certificates have this name/gm)).toHaveLength(1);
  });

  it('with a weak CA is told the setting that would admit it', async () => {
    const weak = createAuthority({ subject: [['CN', 'Weak']], keys: shortRsa });
    writePem(dir, 'ca.pem', weak.certPem);
    expect((await run()).text).toMatch(
      /^warning +clientCert\.ca .*RSA 1024.*level 2: .*; tls\.securityLevel 1 or tls\.legacy would admit it$/m,
    );
    writePem(dir, 'ca.pem', weak.subordinate({ subject: [['CN', 'Old']], keys, hash: 'sha1' }).certPem);
    expect((await run()).text).toMatch(/SHA-1.*; tls\.legacy would admit it$/m);
    expect((await run({ 'tls.legacy': 'true' })).text).not.toMatch(/too weak/);
  });
});

describe('a file', () => {
  it('that everybody can write is warned about', async () => {
    expect((await run()).text).not.toMatch(/by everybody/);
    chmodSync(files.ca, 0o666);
    expect((await run()).text).toMatch(/^warning +clientCert\.ca +\S+ca\.pem can be changed by everybody/m);
  });

  const line = (root: string, point: string): string => `36 35 98:0 ${root} ${point} ro,relatime - tmpfs tmpfs rw\n`;
  const slash = line('/', '/');

  it.each([
    ['of the root file system', slash, null],
    ['of no known mount', '', null],
    ['of a volume that is mounted whole', slash + line('/', '@'), null],
    [
      'of a Secret mounted with subPath',
      slash + line('/..2026_01_31_12_00_00.123456789/tls.crt', '@/tls.crt'),
      'frozen',
    ],
    [
      'of a ConfigMap mounted with subPath',
      slash + line('/kubelet/pods/1/volumes/kubernetes.io~configmap/c/..2026_01_31_12_00_00.1/tls.crt', '@/tls.crt'),
      'frozen',
    ],
    [
      'of a directory mounted with subPath',
      slash + line('/', '@') + line('/..2026_01_31_12_00_00.123456789/sub', '@'),
      'frozen',
    ],
    ['that Docker mounted alone', slash + line('/srv/me/tls.crt', '@/tls.crt'), 'in-place-only'],
    ['beside one that is mounted alone', slash + line('/srv/me/x', '@/tls.crt.old'), null],
    ['in a directory whose name begins as that of a mount', slash + line('/..2026_01_31_12_00_00.1/x', '@/tls'), null],
  ])('%s', (_about, mountinfo, fate) => {
    const path = writePem(dir, 'tls.crt', pki.server.certPem);
    expect(mountFate(path, () => mountinfo.replaceAll('@', dir))).toBe(fate);
  });

  it('that will never change is warned about, and one that only changes in place is noted', () => {
    const mounts = [line('/..2026_01_31_12_00_00.1/ca.crt', files.ca), line('/srv/me/server.pem', files.cert)];
    const config = configured({ 'tls.cert': files.cert, 'tls.key': files.key, 'clientCert.ca': files.ca });
    const found = checkFiles(config, () => [slash, ...mounts].join(''));
    expect(found.map(({ grade, about, text }) => [grade, about, text.slice(text.indexOf(' '))])).toEqual([
      ['note', 'tls.cert', ' is a mount of its own: another file put in its place is not seen; mount the directory'],
      ['warning', 'clientCert.ca', ' is mounted with subPath: it NEVER CHANGES in here; mount the directory instead'],
    ]);
  });

  it('behind links is looked for where it is, in names with spaces, too', () => {
    const real = join(dir, 'a volume', '..2026_01_31_12_00_00.1');
    mkdirSync(real, { recursive: true });
    writePem(real, 'tls.crt', pki.server.certPem);
    symlinkSync('..2026_01_31_12_00_00.1', join(dir, 'a volume', '..data'));
    symlinkSync('..data/tls.crt', join(dir, 'a volume', 'tls.crt'));
    const point = join(dir, 'a\\040volume');
    const path = join(dir, 'a volume', 'tls.crt');
    expect(mountFate(path, () => slash + line('/', point))).toBe(null);
    expect(mountFate(path, () => slash + line('/..2026_01_31_12_00_00.9', point))).toBe('frozen');
  });
});

describe('the application', () => {
  it('that accepts connections is fine', async () => {
    expect((await run()).text).toMatch(/^ok +upstream\.url +http:\/\/127\.0\.0\.1:\d+ accepts connections$/m);
  });

  it('of a route is asked as well, and what the route lets in is noted', async () => {
    const routes = `[{"path":"/a","upstream":"http://127.0.0.1:1","headers":{"X-Key":"text:s3cret"}},
      {"path":"/b","verify":"off"},{"path":"/c","upstream":"file:/nowhere"}]`;
    const { code, text } = await run({ routes });
    expect(code).toBe(0);
    expect(text).toMatch(/^ok +routes +\/a, \/b, \/c /m);
    expect(text).toMatch(/^warning +route \/a +http:\/\/127\.0\.0\.1:1 does not accept connections/m);
    expect(text).toMatch(/^note +route \/b +verify: off: every caller gets this/m);
    expect(text).toMatch(/^warning +route \/c +upstream is no directory/m);
    expect(text).not.toContain('s3cret');
  });

  it('that does not is warned about, and no reason to refuse', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    const { port } = await new Promise<{ port: number }>((resolve) =>
      server.once('listening', () => resolve(server.address() as { port: number })),
    );
    await new Promise((resolve) => server.close(resolve));
    const { code, text } = await run({ 'upstream.url': `http://127.0.0.1:${port}` });
    expect(code).toBe(0);
    expect(text).toMatch(/^warning +upstream\.url .*does not accept connections now \(ECONNREFUSED\)/m);
    expect((await run({ 'upstream.url': `unix:${dir}/app.sock` })).text).toMatch(/\(ENOENT\): callers would get 503$/m);
  });
});

describe('as JSON', () => {
  const parse = (text: string) =>
    JSON.parse(text) as { good: boolean; errors: number; warnings: number; findings: Record<string, string>[] };

  it('the findings are the same, counted', async () => {
    const { code, text } = await run({ 'tls.legacy': 'true' }, '--json');
    const { findings, ...sums } = parse(text);
    const warnings = findings.filter(({ grade }) => grade === 'warning').map(({ about }) => about);
    expect([code, sums]).toEqual([0, { good: true, errors: 0, warnings: warnings.length }]);
    expect(warnings).toContain('tls.legacy');
    for (const finding of findings) expect(Object.keys(finding)).toEqual(['grade', 'about', 'text']);
  });

  it('a bad configuration is bad', async () => {
    const { code, text } = await run({ 'tls.key': files.ca }, '--json');
    expect([code, parse(text)]).toMatchObject([78, { good: false, errors: 1 }]);
  });

  it('hostile names cannot rewrite the terminal, and arrive whole', async () => {
    const name = 'x\u001b[2J\u009b\u202e\u{e0041}';
    writePem(dir, 'ca.pem', createAuthority({ subject: [['CN', name]] }).certPem);
    const { text } = await run({}, '--json');
    expect(text).toMatch(/^[\n\u0020-\u007e…]*$/);
    expect(() => parse(text)).not.toThrow();
  });
});

describe('a revocation list', () => {
  const HOUR = 3_600_000;
  const NAME = 'CN=TencentQQAuthCA,O=Tencent,C=CN';
  const { ca } = pki;
  const of = (pem: string): Record<string, string> => ({ 'clientCert.crl': writePem(dir, 'list.crl', pem) });
  const aboutLists = ({ text }: { readonly text: string }): string[] =>
    text.split('\n').filter((line) => /^(?:warning|error) .*clientCert\.crl/.test(line));

  it('of which less than a quarter is left is warned about', async () => {
    const since = (elapsed: number, left: number) => ({
      thisUpdate: Date.now() - elapsed * HOUR,
      nextUpdate: Date.now() + left * HOUR,
    });
    const month = await run(of(ca.crl(since(719, 1.1))));
    expect(month.code).toBe(0);
    expect(aboutLists(month)).toEqual([expect.stringMatching(`${NAME}, from .* until .*: only 6[56] minutes left`)]);
    expect(aboutLists(await run(of(ca.crl(since(76, 24)))))).toEqual([expect.stringMatching('only 2[34] hours left')]);
    expect(aboutLists(await run(of(ca.crl(since(74, 26)))))).toEqual([]);
    expect(aboutLists(await run(of(ca.crl({ nextUpdate: null }))))).toEqual([]);
  });

  it('in the name of a CA that has not signed it is an error', async () => {
    for (const crlExpired of ['refuse', 'warn']) {
      const { code, text } = await run({ ...of(pki.stranger.ca.crl()), 'clientCert.crlExpired': crlExpired });
      expect(code).toBe(78);
      expect(text).toMatch(
        /^error +clientCert\.crl .*list\.crl has a revocation list .* of CN=TencentQQAuthCA.* signed/m,
      );
    }
  });

  it('of a less usual kind is as good as any', async () => {
    const rsa = createAuthority({ subject: [['CN', 'Rsa']], keys: generateKeys('rsa-2048') });
    writePem(dir, 'ca.pem', chainPem(ca, rsa));
    const split = ca.crl({ extensions: [about('users')] }) + ca.crl({ extensions: [about('authorities')] });
    const lists = of(split + signedPss(rsa.crl(), rsa.key, { hash: 'sha256', salt: 32 }));
    for (const crlExpired of ['refuse', 'warn']) {
      expect(aboutLists(await run({ ...lists, 'clientCert.crlExpired': crlExpired }))).toEqual([]);
    }
  });

  it.each([
    ['signed in an unknown way', () => signedSha224(ca.crl(), ca.key), /is signed in a way that is not understood/],
    ['about other issuers too', () => ca.crl({ extensions: [about('indirect')] }), /is about some .* issuers only/],
    [
      'with a critical extension',
      () => ca.crl({ extensions: [{ oid: '1.2.3.4', critical: true, value: element(5) }] }),
      /1\.2\.3\.4/,
    ],
  ])('that only OpenSSL may evaluate is warned about: %s', async (_kind, list, why) => {
    const alone = await run(of(list()));
    expect(alone.code).toBe(0);
    expect(aboutLists(alone)).toEqual([expect.stringMatching(why)]);
    expect(alone.text).toMatch(/^warning .*OpenSSL alone judges by it, so that no session under this CA is resumed$/m);
    const warn = { 'clientCert.crlExpired': 'warn' };
    const refusing = await run({ ...of(list()), ...warn });
    expect(refusing.code).toBe(78);
    expect(aboutLists(refusing)).toEqual([expect.stringMatching(/^error .*every caller .*refused \(crl_missing\)$/)]);
    const beside = await run({ ...of(list() + ca.crl()), ...warn });
    expect(beside.code).toBe(0);
    expect(aboutLists(beside)).toEqual([expect.stringMatching(why)]);
  });

  it('that leaves certificates out is warned about, by those whom it keeps out', async () => {
    const [users, authorities] = [about('users'), about('authorities')].map((one) => ca.crl({ extensions: [one] }));
    expect(aboutLists(await run(of(users ?? '')))).toEqual([
      expect.stringMatching(`no list of ${NAME} is about certificates of CAs, .*: every caller under it is refused`),
    ]);
    expect(aboutLists(await run({ ...of(users ?? ''), 'clientCert.crlExpired': 'warn' }))).toEqual([]);
    const direct = await run(of(authorities ?? ''));
    expect(aboutLists(direct)).toEqual([
      expect.stringMatching(`no list of ${NAME} is about certificates of users: callers whom it certifies itself`),
    ]);
    // With an intermediate in the bundle there may be no such callers.
    writePem(dir, 'ca.pem', chainPem(ca, ca.subordinate({ subject: [['CN', 'Middle']] })));
    expect((await run(of(authorities ?? ''))).text).toMatch(/^note +clientCert\.crl .*about certificates of users/m);
  });
});

it('a CA whose certificate has ended is named in the line that says so', async () => {
  const since = { notBefore: Date.now() - 9 * 86_400_000, notAfter: Date.now() - 3 * 86_400_000 };
  writePem(dir, 'ca.pem', chainPem(pki.ca, createAuthority({ subject: [['CN', 'Old']], ...since }), other));
  expect((await run()).text).toMatch(/EXPIRED 3 days ago, on .* UTC: CN=Old: every caller under it is refused/);
  const { findings } = JSON.parse((await run({}, '--json')).text) as { findings: { text: string }[] };
  expect(findings.filter(({ text }) => /EXPIRED 3 days/.test(text))).toMatchObject([
    { grade: 'warning', about: 'clientCert.ca', text: expect.stringContaining('CN=Old') as string },
  ]);
});
