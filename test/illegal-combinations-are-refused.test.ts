import { describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config/load.js';
import { SETTINGS } from '../src/config/schema.js';
import { configured, problemsOf, refused } from './support/settings.js';

describe('refused:', () => {
  it.each<[string, Record<string, string>, string]>([
    [
      'an oldest version that is newer than the newest',
      { 'tls.minVersion': 'TLSv1.3', 'tls.maxVersion': 'TLSv1.2' },
      'tls.minVersion (flag --tls.minVersion): must not be newer than tls.maxVersion [tls.maxVersion (flag --tls.maxVersion)]',
    ],
    [
      'TLS 1.1 without legacy',
      { 'tls.minVersion': 'TLSv1.1' },
      'tls.minVersion (flag --tls.minVersion): TLSv1.1 needs tls.legacy: true',
    ],
    [
      'a security level hidden in the ciphers',
      { 'tls.ciphers': 'DEFAULT:@seclevel=0' },
      'tls.ciphers (flag --tls.ciphers): must not contain @SECLEVEL: set tls.securityLevel',
    ],
    [
      'rules that have nothing to match',
      { 'clientCert.verify': 'off', 'clientCert.allow': '[{"commonName":"a"}]' },
      'clientCert.allow (flag --clientCert.allow): has nothing to match when clientCert.verify is off [clientCert.verify (flag --clientCert.verify)]',
    ],
    [
      'unverified callers that the application cannot tell from verified ones',
      { 'clientCert.verify': 'optional-no-ca', 'identity.presets': '[]' },
      'identity.headers (default): must have a header with the attribute verify',
    ],
    ...['xfcc', 'rfc9440', 'traefik'].map((preset): [string, Record<string, string>, string] => [
      `unverified callers in ${preset}, whose readers know verified ones alone`,
      { 'clientCert.verify': 'optional-no-ca', 'identity.presets': `nginx,${preset}` },
      `identity.presets (flag --identity.presets): must be without ${preset} when clientCert.verify is optional-no-ca`,
    ]),
    [
      'a security level that tls.legacy overrules',
      { 'tls.legacy': 'true', 'tls.securityLevel': '3' },
      'tls.securityLevel (flag --tls.securityLevel): has no effect with tls.legacy, which makes it 0: leave one of them out [tls.legacy (flag --tls.legacy)]',
    ],
    [
      'index files without a directory',
      { 'upstream.index': 'index.htm' },
      'upstream.index (flag --upstream.index): is of use with a file: upstream alone',
    ],
    [
      'a delay that leaves nothing of the grace',
      { 'shutdown.delay': '25s' },
      'shutdown.delay (flag --shutdown.delay): must be smaller than shutdown.grace',
    ],
    [
      'presets that want one header for two things',
      { 'identity.presets': 'nginx,haproxy' },
      'identity.presets (flag --identity.presets): ',
    ],
    [
      'the PROXY protocol from anybody',
      { 'listen.proxyProtocol': 'true' },
      'listen.proxyProtocolFrom (default): is required with listen.proxyProtocol',
    ],
    [
      'senders of a PROXY protocol that nobody expects',
      { 'listen.proxyProtocolFrom': '10.0.0.1' },
      'listen.proxyProtocolFrom (flag --listen.proxyProtocolFrom): has no effect without listen.proxyProtocol',
    ],
    [
      'two listeners on one port',
      { 'admin.port': '8443' },
      'admin.port (flag --admin.port): must differ from listen.port',
    ],
  ])('%s', (_, flags, expected) => {
    const problems = refused(flags);
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(expected);
  });

  it.each<Record<string, string>>([
    { 'tls.legacy': 'true', 'tls.securityLevel': '0' },
    { 'tls.legacy': 'true', 'tls.securityLevel': '2' },
    { 'tls.securityLevel': '3' },
    { 'upstream.url': 'file:/srv', 'upstream.index': 'index.htm' },
    { 'shutdown.delay': '24s' },
    { 'shutdown.grace': '0' },
    { 'clientCert.verify': 'optional-no-ca' },
    { 'listen.proxyProtocol': 'true', 'listen.proxyProtocolFrom': '10.0.0.0/8,::1' },
    { 'clientCert.verify': 'optional', 'identity.presets': 'nginx,xfcc,rfc9440,traefik' },
  ])('but not %j', (flags) => {
    expect(refused(flags)).toEqual([]);
  });

  it('verification without a CA, which would fall back to the public roots', () => {
    const flags = { 'tls.cert': 'c', 'tls.key': 'k' };
    expect(problemsOf(() => loadConfig({ flags, env: {} }))).toEqual([
      'clientCert.ca (default): is required unless clientCert.verify is off: the CA of the callers',
    ]);
    expect(problemsOf(() => loadConfig({ flags: { ...flags, 'clientCert.verify': 'off' }, env: {} }))).toEqual([]);
  });

  it.each(['http://10.0.0.1', 'http://app', 'http://0.0.0.0', 'http://[fd00::1]', 'http://localhost.example'])(
    'the application on another machine: %s',
    (url) => {
      expect(refused({ 'upstream.url': url })[0]).toContain('is not this machine');
      expect(refused({ 'upstream.url': url, 'upstream.unsafeRemote': 'true' })).toEqual([]);
    },
  );

  it.each(['http://localhost', 'http://127.9.9.9:1', 'http://[::1]', 'http://[::ffff:127.0.0.1]', 'http://0x7f.1'])(
    'but not on this one: %s',
    (url) => expect(refused({ 'upstream.url': url })).toEqual([]),
  );

  it('settings whose feature is not there', () => {
    const values: Record<string, string> = {
      'callback.kind': 'tencent-im',
      'callback.sdkAppIds': '[1400000000]',
      'callback.onFailure.commands': '{"a":"deny"}',
      'callback.sign.tokenFiles': '[[]]',
    };
    for (const [name, value] of Object.entries(values)) {
      expect(refused({ [name]: value })).toEqual([
        expect.stringContaining(`${name} (flag --${name}): is not available in this version`),
      ]);
    }
    const unavailable = [...SETTINGS].filter(([, { format }]) => format === 'unavailable').map(([name]) => name);
    for (const name of unavailable) expect(refused({ [name]: 'anything' })).toHaveLength(1);
  });
});

describe('identity headers are refused', () => {
  it.each([
    ['{"Host":"commonName"}', 'has a meaning of its own'],
    ['{"content-length":"serial"}', 'has a meaning of its own'],
    ['{"Content_Length":"serial"}', 'has a meaning of its own'],
    ['{"Transfer-Encoding":"serial"}', 'has a meaning of its own'],
    ['{"Connection":"serial"}', 'has a meaning of its own'],
    ['{"X-Forwarded-For":"serial"}', 'has a meaning of its own'],
    ['{"X Caller":"serial"}', 'is no header name'],
    ['{"X-Caller\\r\\nX-Admin":"serial"}', 'is no header name'],
    ['{"":"serial"}', 'is no header name'],
    ['{"X-Caller":"comonName"}', 'unknown attribute "comonName" (did you mean commonName?)'],
    ['{"X-Caller":1}', 'unknown attribute 1'],
    ['{"X-Caller":"serial","x_caller":"verify"}', 'is there twice'],
    ['["X-Caller"]', 'must be a map of header names'],
  ])('%s', (text, expected) => {
    expect(refused({ 'identity.headers': text })[0]).toContain(expected);
  });
});

describe('allow rules', () => {
  const PIN = `sha256:${Buffer.alloc(32, 7).toString('base64')}`;
  const HASH = 'ab'.repeat(32);

  it.each([
    ['{}', 'rule 1 needs at least one of'],
    ['"im.qq.com"', 'rule 1 must be a map of conditions'],
    ['{"commonNam":"a"}', 'rule 1: unknown condition "commonNam" (did you mean commonName?)'],
    ['{"__proto__":"a"}', 'unknown condition "__proto__"'],
    ['{"toString":"a"}', 'unknown condition "toString"'],
    ['{"commonName":""}', 'commonName must be a text that is not empty'],
    ['{"commonName":null}', 'commonName must be a text that is not empty'],
    ['{"commonName":["a"]}', 'commonName must be a text that is not empty'],
    ['{"organizationalUnit":7}', 'put it in quotes'],
    ['{"commonName":"*bank.example"}', 'stand for whole labels'],
    ['{"dnsName":"a.***"}', 'stand for whole labels'],
    ['{"uri":"spiffe://a*/x"}', 'stand for whole labels'],
    ['{"issuer":"O=Ten*"}', 'stand for whole labels'],
    ['{"ipAddress":"10.1"}', 'is no IP address'],
    ['{"ipAddress":"10.0.0.0/8"}', 'is no IP address'],
    ['{"serial":"0x12"}', 'must be hexadecimal'],
    ['{"serial":12e4}', 'put it in quotes'],
    [`{"certSha256":"${HASH}0"}`, 'must be 64 hexadecimal digits'],
    [`{"spkiSha256":"${HASH}"}`, 'must be sha256:<base64>'],
    [`{"spkiSha256":"${PIN.slice(0, -2)}"}`, 'must be sha256:<base64>'],
    ['{"commonName":"a","methods":["post"]}', 'is no method'],
    ['{"commonName":"a","methods":[]}', 'must be a list that is not empty'],
    ['{"commonName":"a","methods":"POST"}', 'must be a list that is not empty'],
    ['{"commonName":"a","paths":["im"]}', 'must begin with /'],
    ['{"commonName":"a","paths":["/im?x"]}', 'must begin with /'],
  ])('%s is refused', (rule, expected) => {
    expect(refused({ 'clientCert.allow': `[${rule}]` })).toEqual([expect.stringContaining(expected)]);
  });

  it('name every bad rule at once', () => {
    const [problem] = refused({ 'clientCert.allow': '[{}, {"commonName":"a"}, {"serial":"x"}]' });
    expect(problem).toMatch(/rule 1 needs.*; rule 3: serial must/);
  });

  it('are brought to one form', () => {
    const rule = {
      commonName: '*.qq.com',
      dnsName: '**.QQ.com',
      uri: 'spiffe://trust/*/im',
      issuer: 'CN=*,O=Tencent',
      ipAddress: '2001:DB8:0:0::1',
      serial: '00:0a:bc',
      certSha256: HASH.toUpperCase().replace(/../g, '$&:').slice(0, -1),
      spkiSha256: PIN,
      paths: ['/im/*'],
    };
    expect(
      configured({ 'clientCert.allow': JSON.stringify([rule, { serial: '000' }, { serial: 'abc' }]) }).clientCert.allow,
    ).toEqual([
      { ...rule, dnsName: '**.qq.com', ipAddress: '2001:db8::1', serial: '0ABC', certSha256: HASH },
      { serial: '00' },
      { serial: '0ABC' },
    ]);
  });
});

describe('legacy', () => {
  it('lowers the effective security level', () => {
    expect(configured({ 'tls.legacy': 'true', 'tls.minVersion': 'TLSv1' }).tls).toMatchObject({
      securityLevel: 0,
      minVersion: 'TLSv1',
    });
    expect(configured().tls.securityLevel).toBe(2);
  });
});
