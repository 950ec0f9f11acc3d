import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { issueServer, makePki, selfSigned, writePem } from './support/pki.js';
import { asArguments, credentialFlags, endPrograms, startProgram } from './support/program.js';

const pki = makePki();
const other = issueServer(pki.ca);
const { key } = pki.server;
const encrypted = key
  .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: 'open sesame' })
  .toString();

const closing: (() => unknown)[] = [];
afterAll(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

/** Flags by setting, or a whole file of settings; made from the directory that holds the good files. */
type Bad = (directory: string) => {
  readonly flags?: Readonly<Record<string, string>>;
  readonly yaml?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly more?: readonly string[];
};

const file = (setting: string, name: string, content: string): Bad => {
  return (directory) => ({ flags: { [setting]: writePem(directory, name, content) } });
};

const setting = (name: string, value: string): Bad => {
  return () => ({ flags: { [name]: value } });
};

async function start(bad: Bad) {
  const { directory, flags } = credentialFlags(pki);
  const { yaml, env = {}, more = [], ...rest } = bad(directory);
  const config = yaml === undefined ? [] : ['--config', writePem(directory, 'sidecar.yaml', yaml)];
  const ports = { 'listen.host': '127.0.0.1', 'listen.port': '0', 'admin.port': '0' };
  const all = asArguments({ ...flags, ...ports, ...rest.flags }).filter((flag) => !flag.endsWith('='));
  const program = startProgram(['run', ...config, ...all, ...more], env);
  const { code } = await program.ended();
  const lines = program.stderr().replaceAll(`${directory}/`, '').trimEnd().split('\n');
  return { code, lines, stdout: program.stdout() };
}

async function takenPort(): Promise<string> {
  const server = createServer().listen(0, '127.0.0.1');
  closing.push(() => server.close());
  await once(server, 'listening');
  return String((server.address() as AddressInfo).port);
}

const CASES: readonly [what: string, bad: Bad, code: number, message: RegExp][] = [
  [
    'a certificate file that is not there',
    setting('tls.cert', '/none.pem'),
    78,
    /tls\.cert \(flag --tls\.cert\): \/none\.pem cannot be read/,
  ],
  [
    'a key file that is not there',
    setting('tls.key', '/none.key'),
    78,
    /tls\.key \(flag --tls\.key\): \/none\.key cannot be read/,
  ],
  [
    'a CA file that is not there',
    setting('clientCert.ca', '/no-ca'),
    78,
    /clientCert\.ca \(flag --clientCert\.ca\): \/no-ca cannot be read/,
  ],
  [
    'the key of another certificate',
    file('tls.key', 'o.key', other.keyPem),
    78,
    /tls\.key \(flag --tls\.key\): .*does not belong/,
  ],
  ['a key that is no key', file('tls.key', 'o.key', 'PRIVATE KEY'), 78, /tls\.key \(flag --tls\.key\): o\.key/],
  [
    'an encrypted key without a passphrase',
    file('tls.key', 'e.key', encrypted),
    78,
    /tls\.key \(flag --tls\.key\): e\.key is encrypted/,
  ],
  [
    'a certificate file without a certificate',
    file('tls.cert', 'c.pem', 'hello'),
    78,
    /tls\.cert \(flag --tls\.cert\): c\.pem/,
  ],
  [
    'a CA file without a certificate',
    file('clientCert.ca', 'ca.txt', 'hello'),
    78,
    /clientCert\.ca \(flag --clientCert\.ca\): ca\.txt/,
  ],
  ['an empty CA file', file('clientCert.ca', 'ca.txt', ''), 78, /clientCert\.ca \(flag --clientCert\.ca\): ca\.txt/],
  ['no CA at all', setting('clientCert.ca', ''), 78, /clientCert\.ca \(default\)/],
  [
    'a setting that does not exist',
    () => ({ yaml: 'listen:\n  prot: 1\n' }),
    78,
    /listen\.prot .*line 2.*listen\.port/,
  ],
  [
    'a variable that does not exist',
    () => ({ env: { MTLS_SIDECAR_LISTEN_PROT: '1' } }),
    78,
    /MTLS_SIDECAR_LISTEN_PROT.*MTLS_SIDECAR_LISTEN_PORT/,
  ],
  ['a flag that does not exist', () => ({ more: ['--listen.prot', '1'] }), 64, /--listen\.prot.*--listen\.port/],
  ['a value of the wrong type', setting('limits.body', 'much'), 78, /limits\.body \(flag --limits\.body\): .*much/],
  [
    'a certificate file that the file of settings names, and that is not there',
    () => ({ flags: { 'tls.cert': '' }, yaml: 'log: {level: info}\ntls:\n  cert: none.pem\n' }),
    78,
    /tls\.cert \(sidecar\.yaml line 3\): none\.pem cannot be read/,
  ],
  [
    'a CA file that a variable names, and that is not there',
    () => ({ flags: { 'clientCert.ca': '' }, env: { MTLS_SIDECAR_CLIENT_CERT_CA: '/no-ca' } }),
    78,
    /clientCert\.ca \(environment variable MTLS_SIDECAR_CLIENT_CERT_CA\): \/no-ca cannot be read/,
  ],
  ['ciphers that nobody knows', setting('tls.ciphers', 'NONSENSE'), 78, /tls\.ciphers \(flag .*"NONSENSE".*ECDHE/],
  ['a curve that nobody knows', setting('tls.curves', 'nocurve'), 78, /tls\.curves \(flag .*"nocurve".*X25519/],
  ['a file that is no YAML', () => ({ yaml: 'listen: [1\n' }), 78, /sidecar\.yaml line \d/],
  ['a file of settings that is not there', () => ({ more: ['--config', '/none.yaml'] }), 78, /\/none\.yaml/],
  [
    'an address of another machine',
    setting('listen.host', '192.0.2.1'),
    78,
    /listen\.host \(flag --listen\.host\): 192\.0\.2\.1 .*no address/,
  ],
];

describe.concurrent('a bad start ends with one message and nothing served', () => {
  it.each(CASES)('%s', async (_what, bad, code, message) => {
    const ended = await start(bad);
    expect(ended.lines).toEqual([expect.stringMatching(message)]);
    expect(ended.lines[0]).toMatch(/^mtls-sidecar: /);
    // Whoever listens says so.
    expect([ended.code, ended.stdout]).toEqual([code, '']);
  });

  it.each(['listen.port', 'admin.port'])('%s is taken', async (name) => {
    const port = await takenPort();
    const ended = await start(setting(name, port));
    expect(ended).toEqual({
      code: 78,
      lines: [`mtls-sidecar: ${name} (flag --${name}): 127.0.0.1 port ${port} is already in use`],
      stdout: '',
    });
  });

  it('tells all problems at once, one a line', async () => {
    const flags = { 'limits.body': 'much', 'listen.port': '99999', 'tls.minVersion': 'TLSv1' };
    const ended = await start(() => ({ flags }));
    expect(ended.code).toBe(78);
    expect(ended.lines.map((line) => /^mtls-sidecar: (\S+)/.exec(line)?.[1]).sort()).toEqual(Object.keys(flags).sort());
  });

  it('but a certificate that only ought to be better is no bad start', async () => {
    const { directory, flags } = credentialFlags(pki);
    const unnamed = selfSigned({ subject: [['CN', 'old']], keys: pki.server.keys, notAfter: Date.now() - 1000 });
    writeFileSync(join(directory, 'server.pem'), unnamed.certPem);
    const program = startProgram(['run', ...asArguments({ ...flags, 'listen.port': '0', 'admin.port': 'off' })]);
    await program.said(/"msg":"listening"/);
    expect(program.stderr()).toBe('');
  });
});

it('the encrypted key is good with its passphrase', async () => {
  const { directory, flags } = credentialFlags(pki);
  expect(() => createPrivateKey(encrypted)).toThrow();
  const more = {
    'tls.key': writePem(directory, 'e.key', encrypted),
    'tls.keyPassphraseFile': writePem(directory, 'pass', 'open sesame\n'),
    'listen.port': '0',
    'admin.port': 'off',
  };
  const program = startProgram(['run', ...asArguments({ ...flags, ...more })]);
  await program.said(/"msg":"listening"/);
});
