import { once } from 'node:events';
import { createServer as createTcpServer, type AddressInfo, type Server } from 'node:net';
import { createServer as createTlsServer } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../src/commands/command-line.js';
import { explain } from '../src/commands/explain.js';
import { startApplication, type Application } from './support/application.js';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  issueServer,
  makePki,
  writePem,
  type Issued,
} from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const keys = generateKeys();
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle']], keys });
const below = issueClient(middle, { keys });
const stranger = createAuthority({ subject: [['CN', 'Stranger']] });

let application: Application;
let sidecar: Sidecar;
const servers: Server[] = [];

beforeAll(async () => {
  application = await startApplication();
  const settings = { 'clientCert.allow': '[{commonName: im.qq.com, methods: [POST], paths: [/im/*]}]' };
  sidecar = await startSidecar({ pki, upstream: application.url, settings });
});
afterAll(async () => {
  servers.forEach((server) => server.close());
  await sidecar.stop();
  await application.stop();
});

async function run(...argv: readonly string[]) {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = {
    out: (line: string) => void out.push(line),
    err: (line: string) => void err.push(line),
    colour: false,
  };
  const load = () => Promise.resolve(explain);
  const loaders = new Proxy({}, { get: () => load }) as Parameters<typeof runCommandLine>[0]['loaders'];
  const code = await runCommandLine({ argv: ['explain', ...argv], version: '1', loaders, terminal, env: {} });
  return { code, text: out.join('\n'), err: err.join('\n') };
}

/** Settings of a sidecar that trusts the CA of the callers. */
function settings(more: Readonly<Record<string, string>> = {}): string[] {
  const { cert, key, ca } = sidecar.paths;
  const all = { 'tls.cert': cert, 'tls.key': key, 'clientCert.ca': ca, ...more };
  return Object.entries(all).map(([name, value]) => `--${name}=${value}`);
}

const file = (name: string, pem: string): string => writePem(sidecar.directory, name, pem);
const client = (): string => sidecar.paths.clientCert;

describe('offline', () => {
  it('tells who is admitted, by which CA, and what the application sees', async () => {
    const { code, text } = await run('--client', client(), ...settings());
    expect(code).toBe(0);
    expect(text).toMatch(/^ADMITTED$/m);
    expect(text).toMatch(/^ {2}subject +CN=im\.qq\.com,O=Tencent,C=CN$/m);
    expect(text).toMatch(/^ {4}CN=TencentQQAuthCA,O=Tencent,C=CN {2}\(\S+ca\.pem\)$/m);
    expect(text).toMatch(/^ {2}allow +no rules: every certificate under the CA$/m);
    expect(text).toMatch(/^ {4}X-SSL-Client-Verify: SUCCESS$/m);
    expect(text).toMatch(/^ {4}X-Forwarded-For: \(depends on the connection\)$/m);
    expect(text).toMatch(/^By OpenSSL \S+, .*Nobody proved to hold the key/m);
  });

  it('tells which rule matches, by number and content, and which condition of the others fails', async () => {
    const rules = '[{commonName: other, organization: Tencent}, {commonName: im.qq.com, methods: [POST]}]';
    const allow = settings({ 'clientCert.allow': rules });
    const post = await run('--client', client(), '--method', 'POST', ...allow);
    expect(post.code).toBe(0);
    expect(post.text).toMatch(/^ {2}rule 1 +\{"commonName":"other",.*\} does not match: commonName$/m);
    expect(post.text).toMatch(/^ {2}rule 2 +\{"commonName":"im\.qq\.com","methods":\["POST"\]\} MATCHES$/m);
    const get = await run('--client', client(), '--path', '/x', ...allow);
    expect(get.code).toBe(1);
    expect(get.text).toMatch(/^REFUSED {2}not_allowed: rule 2 is for other requests \(the request gets status 403\)$/m);
    expect(get.text).toMatch(/^ {2}rule 2 .*does not match: methods$/m);
    expect(get.text).not.toMatch(/X-SSL-Client/);
  });

  it('tells what is missing of a chain', async () => {
    const alone = await run('--client', file('below.pem', below.certPem), ...settings());
    expect(alone.code).toBe(1);
    expect(alone.text).toMatch(/^REFUSED {2}untrusted_issuer: /m);
    expect(alone.text).toMatch(/^ {2}chain +ends: neither the caller nor clientCert\.ca has CN=Middle$/m);
    const chain = file('middle.pem', middle.certPem);
    const whole = await run('--client', file('below.pem', below.certPem), '--chain', chain, ...settings());
    expect(whole.code).toBe(0);
    expect(whole.text).toMatch(/^ {2}chain +1 intermediates, clientCert\.depth allows 1$/m);
    expect(whole.text).toMatch(/^ {4}CN=Middle {2}\(brought by the caller\)$/m);
    const namesake = await run('--client', file('stranger.pem', pki.stranger.client.certPem), ...settings());
    expect(namesake.text).toMatch(/has CN=TencentQQAuthCA,.*; a certificate of that name is there/m);
  });

  it('says the same as JSON', async () => {
    const { code, text } = await run('--client', client(), '--json', ...settings());
    const said = JSON.parse(text) as Record<string, unknown>;
    expect(code).toBe(0);
    expect(said).toMatchObject({
      ...{ admitted: true, stage: null, reason: null, detail: null, status: null, verify: 'SUCCESS' },
      ...{ intermediates: 0, intermediatesAllowed: 1, missingIssuer: null, rules: [], omitted: [] },
      certificate: { subject: 'CN=im.qq.com,O=Tencent,C=CN', issuer: 'CN=TencentQQAuthCA,O=Tencent,C=CN' },
      path: [{ subject: 'CN=TencentQQAuthCA,O=Tencent,C=CN', file: sidecar.paths.ca }],
    });
    expect(said['headers']).toContainEqual({ name: 'X-SSL-Client-CN', value: 'im.qq.com', hidden: null });
    expect(said['headers']).toContainEqual({ name: 'X-Request-Id', value: null, hidden: 'connection' });
  });

  it('a certificate that is not even asked for makes no difference', async () => {
    const { code, text } = await run('--client', client(), ...settings({ 'clientCert.verify': 'off' }));
    expect(code).toBe(0);
    expect(text).toMatch(/^ {2}verify +NONE$/m);
  });

  it('a long chain is presented whole, and one that OpenSSL does not take is refused', async () => {
    const padding = { oid: '1.3.6.1.4.1.99999.1', value: Buffer.alloc(40_000) };
    const large = issueClient(pki.ca, { keys, extensions: [padding] });
    expect((await run('--client', file('large.pem', large.certPem), ...settings())).code).toBe(0);
    const tooLarge = file('too-large.pem', chainPem(large, large, large));
    const { code, text } = await run('--client', tooLarge, ...settings());
    expect(code).toBe(1);
    expect(text).toMatch(/^REFUSED {2}handshake_failed: /m);
  });

  it('keeps to itself the texts of forwarded.headers, keys and passphrases', async () => {
    const both = file('both.pem', pki.client.certPem + pki.client.keyPem);
    const secret = settings({ 'forwarded.headers': '{X-Password: "text:hunter2"}' });
    for (const json of [[], ['--json']]) {
      const { code, text, err } = await run('--client', both, ...secret, ...json);
      expect([code, err]).toEqual([0, '']);
      expect(text).toContain('X-Password');
      expect(text).not.toMatch(/hunter2|PRIVATE KEY/);
    }
  });

  it('hostile names cannot rewrite the terminal', async () => {
    const hostile = issueClient(pki.ca, { keys, subject: [['CN', 'x\u001b[2J\nADMITTED\u202e']] });
    const argv = ['--client', file('hostile.pem', hostile.certPem), ...settings()];
    for (const json of [[], ['--json']]) {
      const { text } = await run(...argv, ...json);
      expect(text).toMatch(/^[\n\u0020-\u007e]*$/);
    }
  });
});

describe('what cannot be explained', () => {
  it.each([
    [[], 64, /needs --client/],
    [['--client'], 64, /--client needs a value/],
    [['--client', 'a', '--client=b'], 64, /--client is given twice/],
    [['--client', 'a', '--key', 'b'], 64, /--key is of use with --url alone/],
    [['--client', 'a', '--ca', 'b'], 64, /--ca is of use with --url alone/],
    [['--client', 'a', '--proxy-header'], 64, /--proxy-header is of use with --url alone/],
    [['--client', 'a', '--path', 'x'], 64, /--path must begin with/],
    [['--client', 'a', '--method', 'post'], 64, /--method must be/],
    [['--client', 'a', '--cleint', 'b'], 64, /unknown flag "--cleint"/],
    [['--client', 'a'], 78, /clientCert\.ca .*is required/],
    [
      ['--client', 'a', '--tls.cert=/c', '--tls.key=/k', '--clientCert.ca=/ca'],
      78,
      /clientCert\.ca \(flag --clientCert\.ca\): \/ca cannot be read/,
    ],
    [['--url', 'http://localhost'], 64, /--url must be https/],
    [['--url', 'https://localhost/x'], 64, /--url must be https/],
    [['--url', 'https://localhost', '--client', 'a'], 64, /--client and --key/],
    [['--url', 'https://localhost', '--listen.port', '1'], 64, /those of the running sidecar/],
  ])('%j ends with %d', async (argv, code, message) => {
    const result = await run(...argv);
    expect(result.code).toBe(code);
    expect(result.err).toMatch(message);
    expect(result.text).toBe('');
  });

  it.each([
    ['a file that is missing', () => '/missing.pem', /--client: \/missing\.pem cannot be read: no such file/],
    ['a file without a certificate', () => sidecar.paths.key, /--client: \S+ has no certificate/],
  ])('%s ends with 78', async (_about, path, message) => {
    const { code, err } = await run('--client', path(), ...settings());
    expect(code).toBe(78);
    expect(err).toMatch(message);
  });

  it('a key of somebody else ends with 78, and is not shown', async () => {
    const { code, err } = await run('--url', 'https://localhost', '--client', client(), '--key', sidecar.paths.key);
    expect(code).toBe(78);
    expect(err).toMatch(/--key: \S+server\.key does not belong to the certificate of --client/);
    expect(err).not.toMatch(/PRIVATE KEY-/);
  });
});

/** Listens on a free loopback port until the end of the tests. */
async function listening(server: Server): Promise<string> {
  servers.push(server);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `https://localhost:${(server.address() as AddressInfo).port}`;
}

const as = ({ certPem, keyPem }: Issued): string[] => [
  ...['--client', file('as.pem', certPem), '--key', file('as.key', keyPem), '--ca', sidecar.paths.ca],
];

describe('by a handshake', () => {
  const url = (): string => `https://localhost:${sidecar.port}`;

  it('says who is admitted, and what the application answered', async () => {
    const before = application.seen.length;
    const argv = ['--url', url(), ...as(pki.client), '--method', 'POST', '--path', '/im/x'];
    const { code, text } = await run(...argv);
    expect(code).toBe(0);
    expect(text).toMatch(/^ADMITTED {2}answered with status 200$/m);
    expect(text).toMatch(/^ {2}tls +TLSv1\.3, TLS_/m);
    expect(application.seen.slice(before).map(({ method, url: target }) => `${method} ${target}`)).toEqual([
      'POST /im/x',
    ]);
    const json = JSON.parse((await run(...argv, '--json')).text) as unknown;
    expect(json).toMatchObject({ admitted: true, step: 'answer', reason: null, status: 200 });
  });

  it.each([
    ['no certificate', null, 'no_certificate'],
    ['a certificate of a namesake', pki.stranger.client, 'untrusted_issuer'],
    ['one for servers', issueClient(pki.ca, { keys, eku: ['serverAuth'] }), 'wrong_purpose'],
    ['an expired one', issueClient(pki.ca, { keys, notAfter: Date.now() - 1000 }), 'expired'],
    ['a weak one', issueClient(pki.ca, { keys: generateKeys('rsa-1024') }), 'weak_signature'],
    ['one of no rule', issueClient(pki.ca, { keys, subject: [['CN', 'x']] }), 'not_allowed'],
    ['one whose rule is for other requests', pki.client, 'not_allowed'],
  ])('says why not: %s', async (_about, caller, reason) => {
    const argv = caller === null ? ['--ca', sidecar.paths.ca] : as(caller);
    const { code, text } = await run('--url', url(), ...argv, '--json');
    expect(code).toBe(1);
    const status = reason === 'not_allowed' ? 403 : 400;
    expect(JSON.parse(text)).toMatchObject({ admitted: false, step: 'answer', reason, status });
  });

  it('an application that is not there admits, and answers with our status', async () => {
    const lonely = await startSidecar({ pki });
    try {
      const { code, text } = await run('--url', `https://localhost:${lonely.port}`, ...as(pki.client));
      expect(code).toBe(0);
      expect(text).toMatch(/^ADMITTED {2}upstream_connect: answered with status 503$/m);
    } finally {
      await lonely.stop();
    }
  });

  it('says at which step it failed: the name', async () => {
    const { code, text } = await run('--url', 'https://nobody.invalid', '--json');
    expect([code, JSON.parse(text)]).toMatchObject([1, { step: 'dns', reason: 'unknown_host' }]);
  });

  it('the connection', async () => {
    const server = createTcpServer();
    const closed = await listening(server);
    await new Promise((resolve) => server.close(resolve));
    const { code, text } = await run('--url', closed);
    expect(code).toBe(1);
    expect(text).toMatch(/^REFUSED {2}unreachable: .*ECONNREFUSED/m);
    expect(text).toMatch(/^ {2}ok +name\n {2}FAILED +connection$/m);
  });

  it('the TLS version', async () => {
    const { certPem: cert, keyPem: key } = pki.server;
    const old = createTlsServer({
      cert,
      key,
      maxVersion: 'TLSv1.1',
      minVersion: 'TLSv1',
      ciphers: 'DEFAULT@SECLEVEL=0',
    });
    old.on('tlsClientError', () => undefined);
    const { code, text } = await run('--url', await listening(old), '--json');
    expect([code, JSON.parse(text)]).toMatchObject([1, { step: 'tls', reason: 'tls_version' }]);
  });

  it('something that speaks no TLS, and something that hangs up', async () => {
    const chatty = createTcpServer((socket) =>
      socket.on('error', () => undefined).end('HTTP/1.1 400 Bad Request\r\n\r\n'),
    );
    expect(JSON.parse((await run('--url', await listening(chatty), '--json')).text)).toMatchObject({
      ...{ step: 'tls', reason: 'no_tls' },
    });
    const curt = createTcpServer((socket) => socket.destroy());
    expect(JSON.parse((await run('--url', await listening(curt), '--json')).text)).toMatchObject({
      ...{ step: 'tls', reason: 'connection_closed' },
    });
  });

  it('a sidecar behind a balancer that speaks the PROXY protocol, asked as one of its addresses or not', async () => {
    const settings = { 'listen.proxyProtocol': 'true', 'listen.proxyProtocolFrom': '127.0.0.0/8' };
    const proxied = await startSidecar({ pki, upstream: application.url, settings });
    const ask = async (to: Sidecar, ...more: string[]) => {
      const { text } = await run('--url', `https://localhost:${to.port}`, ...as(pki.client), '--json', ...more);
      return JSON.parse(text) as unknown;
    };
    try {
      const { text } = await run('--url', `https://localhost:${proxied.port}`, ...as(pki.client), '--proxy-header');
      expect(text).toMatch(/^ADMITTED {2}answered with status 200$/m);
      expect(proxied.requests().at(-1)?.['peer']).toMatch(/^127\.0\.0\.1:/);
      expect(await ask(proxied)).toMatchObject({
        step: 'tls',
        reason: 'connection_closed',
        detail: expect.stringMatching(/--proxy-header is needed$/) as string,
      });
      expect(await ask(sidecar, '--proxy-header')).toMatchObject({ admitted: false, step: 'tls' });
    } finally {
      await proxied.stop();
    }
  });

  it('the server certificate: of an unknown CA, or for other names', async () => {
    const { code, text } = await run('--url', url());
    expect(code).toBe(1);
    expect(text).toMatch(/^REFUSED {2}server_untrusted: .*--ca FILE names whom to trust/m);
    expect(text).toMatch(/^ {2}ok +TLS handshake\n {2}FAILED +server certificate$/m);
    const { certPem: cert, keyPem: key } = issueServer(pki.ca, { san: [{ dns: 'other.example' }] });
    const other = createTlsServer({ cert, key });
    other.on('tlsClientError', () => undefined);
    const named = await run('--url', await listening(other), '--ca', sidecar.paths.ca);
    expect(named.text).toMatch(/^REFUSED {2}server_untrusted: it is for other names/m);
  });

  it('a server that wants another CA and says so in the handshake', async () => {
    const { certPem: cert, keyPem: key } = pki.server;
    const strict = createTlsServer({ cert, key, ca: stranger.certPem, requestCert: true, rejectUnauthorized: true });
    strict.on('tlsClientError', () => undefined);
    const { code, text } = await run('--url', await listening(strict), ...as(pki.client), '--json');
    expect([code, JSON.parse(text)]).toMatchObject([1, { admitted: false, status: null }]);
  });
});
