import { createPrivateKey } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { ConnectionOptions } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { tableOfNames } from '../src/admit/host-names.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { generateKeys, issueServer, makePki, temporaryDirectory, writePem, type Issued } from './support/pki.js';
import { sidecarForTest, type Sidecar, type SidecarOptions } from './support/sidecar.js';
import { visit } from './support/visit.js';

const pki = makePki();
const { ca } = pki;
const keys = generateKeys();
const serverFor = (...names: string[]): Issued =>
  issueServer(ca, { keys, subject: [['CN', names[0] ?? '']], san: names.map((dns) => ({ dns })) });

const directory = temporaryDirectory();
const at = (name: string): string => join(directory.path, name);
const write = (name: string, { certPem, keyPem }: Issued): string => {
  writePem(directory.path, `${name}.pem`, certPem);
  writePem(directory.path, `${name}.key`, keyPem);
  return `{cert: ${at(`${name}.pem`)}, key: ${at(`${name}.key`)}}`;
};

const exact = write('exact', serverFor('a.example.com', 'b.example.com'));
const wild = write('wild', serverFor('*.example.com'));
const deeper = write('deeper', serverFor('*.deep.example.com'));
const told = write('told', serverFor('other.test')).replace('}', ', serverNames: [Given.Test, "*.given.test"]}');

let application: Application;
beforeAll(async () => {
  application = await startApplication();
});
afterAll(async () => {
  await application.stop();
  directory.remove();
});

async function start(certificates: readonly string[], options: SidecarOptions = {}): Promise<Sidecar> {
  return sidecarForTest({
    pki,
    upstream: application.url,
    ...options,
    settings: {
      'reload.interval': '1h',
      'identity.headers': '{X-Name: serverName, X-Reused: sessionReused}',
      ...(certificates.length === 0 ? {} : { 'tls.certificates': `[${certificates.join(', ')}]` }),
      ...options.settings,
    },
  });
}

/** Common name of the certificate that a caller is shown. */
async function shown(sidecar: Sidecar, servername: string, options: ConnectionOptions = {}): Promise<string> {
  const caller = await openRaw(sidecar, { servername, checkServerIdentity: () => undefined, ...options });
  const { subject } = caller.socket.getPeerCertificate();
  caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  expect(await caller.closed()).toMatch(/^HTTP\/1\.1 200/);
  return String(subject.CN);
}

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('with %s', (version) => {
  it('the exact name wins, then the longest wildcard, then the default', async () => {
    const sidecar = await start([wild, exact, deeper, told]);
    for (const [name, expected] of [
      ['a.example.com', 'a.example.com'],
      ['B.Example.COM', 'a.example.com'],
      ['c.example.com', '*.example.com'],
      ['x.deep.example.com', '*.deep.example.com'],
      ['deep.example.com', '*.example.com'],
      ['given.test', 'other.test'],
      ['x.given.test', 'other.test'],
      // Where names are given, those of the certificate do not count.
      ['other.test', 'localhost'],
      ['example.com', 'localhost'],
      ['localhost', 'localhost'],
      ['unknown.test', 'localhost'],
      // No name at all.
      ['', 'localhost'],
    ]) {
      expect(await shown(sidecar, name ?? '', { minVersion: version, maxVersion: version }), name).toBe(expected);
    }
  });

  it('whoever is refused under one name is refused under all', async () => {
    const crl = ca.crl({ revoked: [pki.client.serial] });
    const sidecar = await start([exact], { files: { 'clientCert.crl': crl } });
    for (const servername of ['localhost', 'a.example.com']) {
      for (const [as, reason] of [
        [pki.client, 'revoked'],
        [pki.stranger.client, 'untrusted_issuer'],
        [null, 'no_certificate'],
      ] as const) {
        const tls = { servername };
        expect(await visit(sidecar, { as, version, tls })).toMatchObject({ status: 400 });
        expect(sidecar.refusals().at(-1)).toMatchObject({ reason, serverName: servername });
      }
    }
  });

  it('a session is resumed under its name, and is the same caller under another', async () => {
    const sidecar = await start([exact]);
    const named = { servername: 'a.example.com' };
    const { session } = await visit(sidecar, { version, tls: named });
    expect(await visit(sidecar, { version, tls: named, session })).toMatchObject({ status: 200, reused: true });
    const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
    expect(valuesOf(rawHeaders, 'X-Name')).toEqual(['a.example.com']);
    expect(await visit(sidecar, { version, tls: { servername: 'localhost' }, session })).toMatchObject({ status: 200 });
    const after = application.seen.at(-1)?.rawHeaders ?? [];
    expect(valuesOf(after, 'X-Name')).toEqual(['localhost']);
    expect(valuesOf(after, 'X-SSL-Client-CN')).toEqual(valuesOf(rawHeaders, 'X-SSL-Client-CN'));
  });

  it('resumption off holds for every name', async () => {
    const sidecar = await start([exact], { settings: { 'tls.sessions.resumption': 'false' } });
    const tls = { servername: 'a.example.com' };
    const { session } = await visit(sidecar, { version, tls });
    expect(await visit(sidecar, { version, tls, session })).toMatchObject({ status: 200, reused: false });
  });
});

it('a name of the default certificate is not lost to a wildcard', async () => {
  const own = serverFor('main.example.com');
  const sidecar = await start([wild], { pki: { ...pki, server: own } });
  expect(await shown(sidecar, 'main.example.com')).toBe('main.example.com');
  expect(await shown(sidecar, 'x.example.com')).toBe('*.example.com');
  expect(await shown(sidecar, 'unknown.test')).toBe('main.example.com');
});

it('listen.serverNames says who is served, whatever certificates there are', async () => {
  const sidecar = await start([exact], { settings: { 'listen.serverNames': 'a.example.com' } });
  const headers = (host: string) => ({ headers: { host }, checkServerIdentity: () => undefined });
  const asked = async (servername: string, host: string) =>
    (await call(sidecar, { servername, ...headers(host) })).status;
  expect(await asked('a.example.com', 'a.example.com')).toBe(200);
  expect(await asked('b.example.com', 'b.example.com')).toBe(421);
  expect(await asked('localhost', 'localhost')).toBe(421);
});

it('a key may have a passphrase', async () => {
  const server = serverFor('locked.test');
  const passphrase = 'correct horse';
  const keyPem = createPrivateKey(server.keyPem)
    .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase })
    .toString();
  writeFileSync(at('locked.pass'), `${passphrase}\n`);
  const locked = write('locked', { ...server, keyPem });
  const sidecar = await start([locked.replace('}', `, keyPassphraseFile: ${at('locked.pass')}}`)]);
  expect(await shown(sidecar, 'locked.test')).toBe('locked.test');
  await expect(start([locked])).rejects.toThrow(/tls\.certificates: .*locked\.key is encrypted: set its keyPassphrase/);
});

it('each of them shows in status and metrics', async () => {
  const sidecar = await start([exact]);
  const { serverCertificate, serverCertificates } = JSON.parse((await sidecar.admin('/status')).body);
  expect(serverCertificate).toMatchObject({ subject: 'CN=localhost' });
  expect(serverCertificates).toMatchObject([
    { file: sidecar.paths.cert, subject: 'CN=localhost', serverNames: ['localhost'] },
    { file: at('exact.pem'), subject: 'CN=a.example.com', serverNames: ['a.example.com', 'b.example.com'] },
  ]);
  const line = `mtls_sidecar_server_certificate_expiry_seconds{file="${at('exact.pem')}",subject="CN=a.example.com"}`;
  expect(await sidecar.metric(line)).toBeGreaterThan(3_600);
});

it('one with an empty list of names shows without any', async () => {
  const nameless = write('nameless', issueServer(ca, { keys, san: [] }));
  const sidecar = await start([nameless.replace('}', ', serverNames: [nameless.test]}')]);
  const { status, body } = await sidecar.admin('/status');
  expect(status).toBe(200);
  expect(JSON.parse(body).serverCertificates[1]).toMatchObject({ file: at('nameless.pem'), subjectAltName: null });
});

const DAY = 24 * 3_600_000;

it('one that ends soon is warned of', async () => {
  const validity = { notBefore: Date.now() - 60 * DAY, notAfter: Date.now() + DAY * 1.5 };
  const soon = issueServer(ca, { keys, san: [{ dns: 'soon.test' }], ...validity });
  const sidecar = await start([write('soon', soon)]);
  await sidecar.logged(({ msg, file }) => /server certificate expires within/.test(msg) && file === at('soon.pem'));
});

describe('the files are followed', () => {
  const reload = async (sidecar: Sidecar) => (await sidecar.admin('/reload', 'POST')).status;
  const serial = async (sidecar: Sidecar) => {
    const caller = await openRaw(sidecar, { servername: 'moving.test', checkServerIdentity: () => undefined });
    const { serialNumber } = caller.socket.getPeerCertificate();
    caller.socket.destroy();
    return serialNumber;
  };

  it('to a good pair, to a bad one, and back', async () => {
    const moving = write('moving', serverFor('moving.test'));
    const sidecar = await start([moving]);
    const { session } = await visit(sidecar, { version: 'TLSv1.3', tls: { servername: 'moving.test' } });
    const first = await serial(sidecar);
    write('moving', serverFor('moving.test'));
    expect(await reload(sidecar)).toBe(200);
    const second = await serial(sidecar);
    expect(second).not.toBe(first);
    // It is about whom we show, not about whom we trust.
    const again = await visit(sidecar, { version: 'TLSv1.3', tls: { servername: 'moving.test' }, session });
    expect(again).toMatchObject({ status: 200, reused: true });
    writeFileSync(at('moving.key'), issueServer(ca).keyPem);
    expect(await reload(sidecar)).toBe(500);
    const line = await sidecar.logged(({ msg }) => msg.startsWith('reload refused'));
    expect(line['detail']).toBe(
      `tls.certificates: ${at('moving.key')} does not belong to the first certificate of ${at('moving.pem')}`,
    );
    expect(await serial(sidecar)).toBe(second);
    write('moving', serverFor('moving.test'));
    expect(await reload(sidecar)).toBe(200);
    expect(await serial(sidecar)).not.toBe(second);
  });

  it('without being asked', async () => {
    const sidecar = await start([write('moving', serverFor('moving.test'))], {
      settings: { 'reload.interval': '100ms' },
    });
    const first = await serial(sidecar);
    write('moving', serverFor('moving.test'));
    await sidecar.logged(({ msg }) => msg === 'reloaded');
    expect(await serial(sidecar)).not.toBe(first);
  });
});

describe('a start is refused', () => {
  it.each([
    ['a map', '{cert: a, key: b}', /must be a list such as/],
    ['no map', '[a.pem]', /number 1 must be a map of cert, key/],
    ['no key', '[{cert: a.pem}]', /number 1 needs key/],
    ['an unknown part', '[{cert: a, key: b, serverName: c}]', /number 1 has the unknown key "serverName".*serverNames/],
    ['an empty file name', '[{cert: "", key: b}]', /number 1 cert must be a file name/],
    ['no list of names', '[{cert: a, key: b, serverNames: c}]', /serverNames must be a list of host names/],
    ['a pattern', '[{cert: a, key: b, serverNames: ["a*.test"]}]', /"a\*\.test" is none/],
    [
      'a name twice',
      '[{cert: a, key: b, serverNames: [x.test]}, {cert: c, key: d, serverNames: [X.test]}]',
      /"x\.test" is there twice/,
    ],
    ['a missing file', '[{cert: nowhere.pem, key: nowhere.key}]', /tls\.certificates: .*nowhere\.pem cannot be read/],
  ])('over %s', async (_what, text, message) => {
    await expect(start([], { settings: { 'tls.certificates': text } })).rejects.toThrow(message);
  });

  it('over a certificate without names', async () => {
    const nameless = write('nameless', issueServer(ca, { keys, san: [] }));
    await expect(start([nameless])).rejects.toThrow(/nameless\.pem is for no DNS name, so it needs serverNames/);
  });
});

describe('a table of names', () => {
  const find = tableOfNames([
    { names: ['a.test', '*.b.test'], value: 1 },
    { names: ['a.test', '*.test', '*.c.b.test'], value: 2 },
  ]);

  it.each([
    ['a.test', 1],
    ['A.TEST.', 1],
    ['x.b.test', 1],
    ['x.c.b.test', 2],
    ['b.test', 2],
    ['test', null],
    ['', null],
    ['.', null],
    ['*.b.test', null],
    ['a.test\0.b.test', null],
    ['evil.test:1.b.test', null],
    ['.b.test', null],
    ['__proto__', null],
  ])('%s', (name, value) => expect(find(name)).toBe(value));
});
