import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config/load.js';
import { SETTINGS } from '../src/config/schema.js';
import { REQUIRED, configured, problemsOf, refused } from './support/settings.js';
import { temporaryDirectory, writePem } from './support/pki.js';

const dir = temporaryDirectory();
afterAll(() => dir.remove());

/** @param flags higher than the file: what they set is not judged in it */
const inFile = (text: string, flags: Readonly<Record<string, string>> = REQUIRED): readonly string[] => {
  const file = writePem(dir.path, 'sidecar.yaml', text);
  const problems = problemsOf(() => loadConfig({ file, env: {}, flags }));
  return problems.map((problem) => problem.replace(`${file} `, ''));
};

/** A setting in a file of its own, and what stands behind its colon. */
const nested = (name: string, behind: string): string =>
  name
    .split('.')
    .map((key, depth) => `${'  '.repeat(depth)}${key}:`)
    .join('\n') + `${behind}\n`;

describe('problems', () => {
  it('are told all at once, each with setting, source and what is allowed', () => {
    const file = writePem(dir.path, 'sidecar.yaml', 'listen:\n  port: 8443abc\ntls:\n  minVersion: TLSv1\n');
    const env = { MTLS_SIDECAR_LIMITS_BODY: '1MB' };
    const problems = problemsOf(() => loadConfig({ file, env, flags: { 'clientCert.ca': 'x', 'log.level': 'loud' } }));
    expect(problems).toEqual([
      `listen.port (${file} line 2): must be a whole number from 0 to 65535: value was "8443abc"`,
      'limits.body (environment variable MTLS_SIDECAR_LIMITS_BODY): must be a size such as 512 (bytes), 16KiB or 1MiB; 0 = no limit: value was "1MB"',
      'log.level (flag --log.level): must be one of trace, debug, info, warn, error, fatal, silent: value was "loud"',
      'tls.cert (default): is required: the PEM file of the server certificate',
      "tls.key (default): is required: the PEM file of the server certificate's key",
      `tls.minVersion (${file} line 4): TLSv1 needs tls.legacy: true`,
    ]);
  });

  it('include what nobody knows, with what was probably meant', () => {
    expect(inFile('listen: {prot: 1}\nclientcert: {verify: off}\n')).toEqual([
      'listen.prot (line 1): there is no such setting (did you mean listen.port?)',
      'clientcert (line 2): there is no such setting (did you mean clientCert?)',
    ]);
    const env = { MTLS_SIDECAR_TLS_MINVERSION: 'TLSv1.3' };
    expect(problemsOf(() => loadConfig({ env, flags: REQUIRED }))).toEqual([
      'environment variable MTLS_SIDECAR_TLS_MINVERSION: there is no such setting (did you mean MTLS_SIDECAR_TLS_MIN_VERSION?)',
    ]);
  });

  it.each([
    [
      'a duplicate key',
      'tls: {legacy: false}\nlog: {level: info}\ntls: {legacy: true}\n',
      /^line 3: Map keys must be unique/,
    ],
    ['text that is no YAML', 'listen:\n  port: [1\n', /^line 3: /],
    ['an unknown tag', 'listen:\n  port: !!js/function "x"\n', /^line 2: Unresolved tag/],
    ['a section that is none', 'tls: 5\n', /^line 1: tls must be a map of settings$/],
    ['a file that is a list', '- a\n', /^line 1: the file must be a map of settings$/],
    ['dots in a key', 'listen.port: 1\n', /^listen.port \(line 1\): must be nested/],
    [
      'a list of rules that is null',
      'clientCert: {allow: }\n',
      /^clientCert.allow \(line 1\): must be a list of rules/,
    ],
    [
      'a second document, which could hold the rules',
      'log: {level: info}\n---\nclientCert: {allow: [{commonName: a}]}\n',
      /^line 2: a second document begins here: settings are one document$/,
    ],
    ['a second document behind an empty one', '---\n---\ntls: {legacy: false}\n', /^line 2: a second document/],
    [
      'a second document behind an end',
      'tls: {legacy: false}\n...\ntls: {legacy: true}\n',
      /^line 3: a second document/,
    ],
    ['a second document that is empty', 'tls: {legacy: false}\n---\n', /^line 2: a second document/],
    ['an alias for nothing', 'tls: {cert: &x , key: a}\nclientCert: {crl: *x}\n', /^clientCert.crl \(line 2\): must/],
  ])('include %s, by line', (_, text, expected) => {
    expect(inFile(text)).toContainEqual(expect.stringMatching(expected));
  });

  it.each([...SETTINGS.keys()])('include %s with nothing behind it', (name) => {
    const flags = Object.fromEntries(Object.entries(REQUIRED).filter(([given]) => given !== name));
    for (const nothing of ['', ' # later']) {
      const [problem, ...more] = inFile(nested(name, nothing), flags);
      expect(problem).toMatch(new RegExp(`^${name} \\(line \\d\\): (?:must|is not)`));
      expect(more).toEqual([]);
    }
  });

  it('do not include null where that is the default, nor a section with nothing in it', () => {
    for (const [name, setting] of SETTINGS) {
      expect(inFile(nested(name, ' null')), name).toHaveLength(setting.default === null ? 0 : 1);
    }
    expect(inFile('# all of it\n---\nclientCert:\n  # crl: ca.crl\nlog: {format: ~}\n...\n')).toEqual([]);
  });

  it('include aliases that multiply', () => {
    const levels = [
      '&a [x,x,x,x,x,x,x,x,x,x]',
      ...'bcdefg'.split('').map(
        (name, i) =>
          `&${name} [${Array(10)
            .fill(`*${'abcdef'[i] ?? ''}`)
            .join()}]`,
      ),
    ];
    const text = levels.map((level, i) => `${'pqrstuv'[i] ?? ''}: ${level}`).join('\n');
    expect(inFile(`identity:\n  headers: {${text.replaceAll('\n', ', ')}}\n`)[0]).toMatch(/alias/i);
  });

  it('include a file that cannot be read', () => {
    expect(problemsOf(() => loadConfig({ file: '/nowhere/x.yaml', env: {}, flags: REQUIRED }))[0]).toMatch(
      /^--config \/nowhere\/x.yaml: cannot be read: ENOENT/,
    );
  });

  it.each([
    ['is not there', null],
    ['is no YAML', 'tls: {cert: [\n'],
    ['has a key twice', 'tls: {cert: c, key: k}\nclientCert: {ca: a}\ntls: {legacy: true}\n'],
    ['has a section that is none', 'tls: c\n'],
  ])('leave out what only seems to be missing, because the file %s', (_, text) => {
    const file = text === null ? '/nowhere/x.yaml' : writePem(dir.path, 'broken.yaml', text);
    const flags = { 'tls.minVersion': 'TLSv1', 'log.level': 'loud' };
    const problems = problemsOf(() => loadConfig({ file, env: {}, flags }));
    expect(problems[0]).toContain(file);
    // What is wrong in itself stays wrong whatever the file says.
    expect(problems.filter((problem) => !problem.includes(file))).toEqual([expect.stringMatching(/^log\.level/)]);
  });

  it.each([
    ['tls.sessions.lifetime', '500ms', '1s'],
    ['reload.interval', '50ms', '100ms'],
    ['tls.sessions.lifetime', '0', '1s'],
  ])('name the shortest time that %s can be', (name, tooShort, shortest) => {
    expect(refused({ [name]: tooShort })).toEqual([expect.stringMatching(`or 1h, at least ${shortest}: value was`)]);
    expect(refused({ [name]: shortest })).toEqual([]);
  });

  it('never repeat a key that was pasted where its file name belongs', () => {
    const pem = '-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END PRIVATE KEY-----';
    expect(refused({ 'tls.key': pem })).toEqual(['tls.key (flag --tls.key): must be the name of a file, not its text']);
    expect(refused({ 'tls.keyPassphraseFile': 'hunter2\n' }).join()).not.toContain('hunter2');
  });
});

describe('a value of the wrong form is refused:', () => {
  it.each([
    ['listen.port', '65536'],
    ['listen.port', '-1'],
    ['listen.port', '1.5'],
    ['listen.port', '0x10'],
    ['listen.host', 'a b'],
    ['listen.serverNames', 'a..b'],
    ['listen.serverNames', '*'],
    ['listen.serverNames', 'a*.example'],
    ['listen.serverNames', 'a.*.example'],
    ['listen.serverNames', '.example'],
    ['tls.legacy', 'yes'],
    ['tls.legacy', '1'],
    ['tls.minVersion', 'tlsv1.2'],
    ['tls.securityLevel', '6'],
    ['tls.ciphers', 'ALL\nX'],
    ['tls.handshakeTimeout', '10'],
    ['tls.handshakeTimeout', '0'],
    ['tls.handshakeTimeout', '10 s'],
    ['tls.handshakeTimeout', '-1s'],
    ['limits.connectionAge', '600h'],
    ['limits.head', '512'],
    ['limits.head', '16kb'],
    ['limits.connections', '0'],
    ['upstream.url', 'https://127.0.0.1'],
    ['upstream.url', 'http://127.0.0.1/path'],
    ['upstream.url', 'http://user@127.0.0.1'],
    ['upstream.url', 'http://127.0.0.1?'],
    ['upstream.url', 'http://127.0.0.1:99999'],
    ['upstream.url', 'http://127.0.0.1:0'],
    ['upstream.url', 'http://127.0.\t0.1'],
    ['upstream.url', 'unix:run/app.sock'],
    ['upstream.url', `unix:/${'x'.repeat(107)}`],
    ['upstream.url', 'file:html'],
    ['upstream.url', 'file://host/html'],
    ['upstream.index', 'sub/index.html'],
    ['log.format', '$nothing'],
    ['admin.port', 'on'],
    ['log.access', 'json'],
    ['identity.presets', 'nginx,apache'],
    ['forwarded.trustedProxies', '10.0.0.0/33'],
    ['forwarded.trustedProxies', '10.1/16'],
    ['forwarded.trustedProxies', 'example'],
    ['clientCert.ca', ''],
    ['clientCert.allow', 'commonName=a'],
    ['clientCert.allow', '[{"commonName":"a","commonName":"b"}]'],
    ['clientCert.allow', '[]\n---\n[{"commonName":"a"}]'],
  ])('%s %s', (name, text) => {
    expect(refused({ [name]: text })).toHaveLength(1);
    expect(refused({ [name]: text })[0]).toContain(`${name} (flag --${name}): `);
  });
});

describe('a value of the right form is taken:', () => {
  it('durations, sizes, ports', () => {
    const config = configured({
      'tls.handshakeTimeout': '500ms',
      'limits.connectionAge': '2h',
      'shutdown.grace': '0',
      'limits.body': '0',
      'limits.head': '2048',
      'admin.port': 'off',
    });
    expect([config.tls.handshakeTimeout, config.limits.connectionAge, config.shutdown.grace]).toEqual([
      500, 7_200_000, 0,
    ]);
    expect([config.limits.body, config.limits.head, config.admin.port]).toEqual([0, 2048, null]);
  });

  it('upstreams', () => {
    expect(configured({ 'upstream.url': 'http://[::1]:9' }).upstream.address).toEqual({
      kind: 'tcp',
      host: '::1',
      port: 9,
    });
    expect(configured({ 'upstream.url': 'http://localhost' }).upstream.address).toEqual({
      kind: 'tcp',
      host: 'localhost',
      port: 80,
    });
    expect(configured({ 'upstream.url': 'unix:/run/a.sock' }).upstream.address).toEqual({
      kind: 'unix',
      path: '/run/a.sock',
    });
  });
});
