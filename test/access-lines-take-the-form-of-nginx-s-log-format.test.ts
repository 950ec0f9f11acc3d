import { afterEach, describe, expect, it } from 'vitest';
import { createLog } from '../src/observe/log.js';
import { accessForm, createAccessLog } from '../src/observe/access-log.js';
import { compileFormat } from '../src/observe/log-format.js';
import { LOG_VARIABLES, parseTemplate } from '../src/nginx/log-template.js';
import { clfTime, isoLocalTime } from '../src/observe/timestamps.js';
import { startApplication } from './support/application.js';
import { call } from './support/caller.js';
import { aConnection, aRecord } from './support/observed.js';
import { configured, refused } from './support/settings.js';
import { startApp, type App } from '../src/app.js';
import { loadConfig } from '../src/config/load.js';
import { loadCredentials } from '../src/trust/credentials.js';
import { makePki, temporaryDirectory, writePki } from './support/pki.js';

const line = (template: string, record = aRecord()) => compileFormat(template, 'default')(record);

describe('each variable', () => {
  const { certificate } = aConnection().identity;
  const record = aRecord({ startedAt: Date.parse('2026-01-31T23:59:59.900Z'), durationMs: 234.9, upstreamMs: 12.3 });
  it.each<[string, string]>([
    ['args', 'SdkAppid=1&Sign=***'],
    ['body_bytes_sent', '20'],
    ['connection', '1'],
    ['content_length', '-'],
    ['content_type', '-'],
    ['host', 'im.example.com'],
    ['https', 'on'],
    ['is_args', '?'],
    ['msec', '1769904000.134'],
    ['pipe', '.'],
    ['query_string', 'SdkAppid=1&Sign=***'],
    ['remote_addr', '192.0.2.7'],
    ['remote_port', '40000'],
    ['remote_user', '-'],
    ['request', 'POST /im?SdkAppid=1&Sign=*** HTTP/1.1'],
    ['request_id', 'r-1'],
    ['request_method', 'POST'],
    ['request_time', '0.234'],
    ['request_uri', '/im?SdkAppid=1&Sign=***'],
    ['scheme', 'https'],
    ['server_port', '8443'],
    ['server_protocol', 'HTTP/1.1'],
    ['ssl_cipher', 'TLS_AES_256_GCM_SHA384'],
    ['ssl_client_fingerprint', certificate?.sha1 ?? ''],
    ['ssl_client_i_dn', 'CN=IM CA'],
    ['ssl_client_s_dn', 'CN=im.qq.com,O=Tencent'],
    ['ssl_client_s_dn_legacy', '/O=Tencent/CN=im.qq.com'],
    ['ssl_client_serial', '0A'],
    ['ssl_client_v_end', 'Jan  1 00:00:00 2027 GMT'],
    ['ssl_client_v_remain', '333'],
    ['ssl_client_v_start', 'Jan  1 00:00:00 2025 GMT'],
    ['ssl_client_verify', 'SUCCESS'],
    ['ssl_protocol', 'TLSv1.3'],
    ['ssl_server_name', '-'],
    ['ssl_session_reused', '.'],
    ['status', '200'],
    ['time_iso8601', isoLocalTime(record.startedAt + record.durationMs)],
    ['time_local', clfTime(record.startedAt + record.durationMs)],
    ['upstream_header_time', '0.012'],
    ['upstream_status', '200'],
  ])('$%s', (name, expected) => {
    expect(line(`<$${name}>`, record)).toBe(`<${expected}>`);
    expect(line(`<\${${name}}x>`, record)).toBe(`<${expected}x>`);
  });

  it('is one of the list, and none is left out', () => {
    expect(() => compileFormat(LOG_VARIABLES.map((name) => `$${name}`).join(' '), 'json')(record)).not.toThrow();
    expect(isoLocalTime(0)).toMatch(/^19(70|69)-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d$/);
  });
});

describe('headers of the request', () => {
  it('are there by their names, several of a name joined, secrets of the referer masked', () => {
    const rawHeaders = ['X-Multi', 'a', 'x-multi', 'b', 'Referer', 'https://x/?token=1', 'X-Empty', ''];
    const record = aRecord({ rawHeaders });
    expect(line('$http_x_multi|$http_referer|$http_x_empty|$http_missing', record)).toBe(
      'a, b|https://x/?token=***||-',
    );
  });
});

describe('what callers sent', () => {
  const record = aRecord({ rawHeaders: ['User-Agent', 'a"b\\c\x01\xe5\xad\x97\x7f\xff'] });
  it.each([
    ['default', 'a\\x22b\\x5Cc\\x01\\xE5\\xAD\\x97\\x7F\\xFF', '-'],
    ['json', 'a\\"b\\\\c\\u0001字\\u007f\ufffd', ''],
    ['none', 'a"b\\c\\x01字\\x7F\ufffd', ''],
  ] as const)('is escaped as escape=%s', (escape, agent, absent) => {
    expect(compileFormat('$http_user_agent|$http_missing', escape)(record)).toBe(`${agent}|${absent}`);
  });

  it.each(['default', 'json', 'none'] as const)('never ends a line, nor steers a terminal: %s', (escape) => {
    const evil = aRecord({ target: '/\u2028\u0085', rawHeaders: ['X', 'a\r\nb\u001b[2Jc\u0085d\u2028e\u0000'] });
    expect(compileFormat('$http_x $request', escape)(evil)).not.toMatch(/[\u0000-\u001f\u007f-\u009f\u2028\u2029]/);
  });

  it('is JSON in a template of JSON', () => {
    const written = compileFormat('{"a":"$http_user_agent","r":"$request"}', 'json')(record);
    expect(JSON.parse(written)).toMatchObject({ r: 'POST /im?SdkAppid=1&Sign=*** HTTP/1.1' });
  });
});

it('the combined line by its template is the combined line', () => {
  const lines: string[] = [];
  const log = createLog({ level: 'info', pretty: false, destination: { write: (text) => lines.push(text) } });
  const record = aRecord({ referer: 'https://a/?q="', rawHeaders: ['Referer', 'https://a/?q="', 'User-Agent', 'IM'] });
  const template =
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"';
  createAccessLog('combined', log).write(record);
  createAccessLog({ template, escape: 'default' }, log).write(record);
  expect(lines[0]).toBe(lines[1]);
});

it('a request that was left, a URL as target, an empty query and one that could not be read', () => {
  expect(line('$status $upstream_status', aRecord({ status: 0 }))).toBe('499 -');
  expect(line('$request_uri $args', aRecord({ target: 'https://a/b?' }))).toBe('/b? -');
  const unread = aRecord({ method: '', target: '', httpVersion: '', status: 400, code: 'bad_request', host: null });
  expect(line('"$request" $request_method $request_uri $server_protocol $host', unread)).toBe('"" - - - -');
});

describe('settings', () => {
  it.each([
    ['$nonsense', 'there is no variable $nonsense'],
    ['a $ b', 'a $ must be followed by the name of a variable'],
    ['a\nb', 'must be a text with variables'],
  ])('%j is refused', (format, message) => {
    expect(refused({ 'log.format': format })).toEqual([expect.stringContaining(message)]);
  });

  it('a format and another form exclude each other', () => {
    expect(refused({ 'log.format': '$status', 'log.access': 'combined' })).toEqual([
      expect.stringMatching(/^log.format .*needs log.access: true/),
    ]);
  });

  it('choose the form', () => {
    expect(accessForm(configured().log)).toBe('json');
    expect(accessForm(configured({ 'log.access': 'false' }).log)).toBeNull();
    expect(accessForm(configured({ 'log.access': 'combined' }).log)).toBe('combined');
    expect(accessForm(configured({ 'log.format': '$status', 'log.escape': 'json' }).log)).toEqual({
      template: '$status',
      escape: 'json',
    });
  });

  it('a template without variables is text', () => {
    expect(parseTemplate('a b')).toEqual([{ kind: 'text', text: 'a b' }]);
  });
});

describe('over a real connection', () => {
  const dir = temporaryDirectory();
  let app: App | null = null;
  afterEach(async () => {
    await app?.close();
    dir.remove();
  });

  it('the line of a request is in the log', async () => {
    const pki = makePki();
    const { ca, cert, key } = writePki(dir.path, pki);
    const application = await startApplication();
    const flags = {
      ...{ 'listen.host': '127.0.0.1', 'listen.port': '0', 'admin.port': 'off', 'upstream.url': application.url },
      ...{ 'tls.cert': cert, 'tls.key': key, 'clientCert.ca': ca },
      'log.format': 'LINE $request_method $request_uri $status $ssl_client_s_dn "$http_x_why"',
    };
    const config = loadConfig({ flags, env: {} });
    let found = (_text: string): void => undefined;
    const written = new Promise<string>((resolve) => (found = resolve));
    const write = (text: string): void => {
      if (text.startsWith('LINE')) found(text);
    };
    app = await startApp(config, loadCredentials(config), { logTo: { write } });
    await call(
      { port: app.address.port, pki },
      {
        path: '/p?token=1',
        headers: { 'x-why': 'a"b' },
      },
    );
    expect(await written).toBe('LINE GET /p?token=*** 200 CN=im.qq.com,O=Tencent,C=CN "a\\x22b"\n');
    await application.stop();
  });
});
