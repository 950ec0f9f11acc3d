import { describe, expect, test } from 'vitest';
import { ATTRIBUTES, type Attribute, type Preset } from '../src/config/config.js';
import { conflictingHeaders } from '../src/rewrite/identity-headers.js';
import type { Options } from './support/pki.js';
import { identityOf, send } from './support/identity.js';

const CALLER: Partial<Options> = {
  subject: [
    ['C', 'CN'],
    ['O', 'Tencent, Inc'],
    ['OU', '即时通信'],
    ['CN', 'im.qq.com'],
  ],
  serial: 0x0abcn,
  notBefore: Date.parse('2025-11-04T09:08:07Z'),
  notAfter: Date.parse('2027-11-24T11:00:00Z'),
  san: [
    { dns: 'im.qq.com' },
    { uri: 'spiffe://im/callback?v=1' },
    { ip: '2001:db8::1' },
    { email: 'im@qq.com' },
    { registeredId: '1.2.3' },
    { dns: '*.im.qq.com' },
  ],
};
const identity = identityOf(CALLER);
const certificate = identity.certificate;
const der = Buffer.from(certificate?.der ?? []);
const base64 = der.toString('base64');

describe('what a verified caller looks like', () => {
  test('to an application that stood behind nginx', () => {
    expect(send(identity, { presets: ['nginx'] })).toEqual({
      headers: {
        'X-SSL-Client-Verify': 'SUCCESS',
        'X-SSL-Client-S-DN': String.raw`CN=im.qq.com,OU=\E5\8D\B3\E6\97\B6\E9\80\9A\E4\BF\A1,O=Tencent\, Inc,C=CN`,
        'X-SSL-Client-I-DN': 'CN=Root,O=Tencent',
        'X-SSL-Client-CN': 'im.qq.com',
        'X-SSL-Client-Serial': '0ABC',
        'X-SSL-Client-SHA256': certificate?.sha256,
        'X-SSL-Client-SAN':
          'DNS:im.qq.com, URI:spiffe://im/callback?v=1, IP Address:2001:db8::1, email:im@qq.com, DNS:*.im.qq.com',
        'X-SSL-Client-Not-After': 'Nov 24 11:00:00 2027 GMT',
      },
      omitted: [],
    });
  });

  test('behind ingress-nginx', () => {
    const { headers } = send(identity, { presets: ['ingress-nginx'] });
    expect(headers).toEqual({
      'ssl-client-verify': 'SUCCESS',
      'ssl-client-subject-dn': certificate?.subject,
      'ssl-client-issuer-dn': 'CN=Root,O=Tencent',
      'ssl-client-cert': headers['ssl-client-cert'],
    });
    const escaped = headers['ssl-client-cert'] ?? '';
    expect(escaped).toMatch(/^-----BEGIN%20CERTIFICATE-----%0A[A-Za-z0-9%]+-----END%20CERTIFICATE-----%0A$/);
    const pem = decodeURIComponent(escaped);
    expect(pem.split('\n').slice(1, -2).join('')).toBe(base64);
    expect(Math.max(...pem.split('\n').map((line) => line.length))).toBe(64);
  });

  test('behind HAProxy', () => {
    expect(send(identity, { presets: ['haproxy'] }).headers).toEqual({
      'X-SSL': '1',
      'X-SSL-Client-Verify': '0',
      'X-SSL-Client-DN': String.raw`/C=CN/O=Tencent, Inc/OU=\xE5\x8D\xB3\xE6\x97\xB6\xE9\x80\x9A\xE4\xBF\xA1/CN=im.qq.com`,
      'X-SSL-Client-CN': 'im.qq.com',
      'X-SSL-Issuer': '/O=Tencent/CN=Root',
      'X-SSL-Client-NotBefore': '251104090807Z',
      'X-SSL-Client-NotAfter': '271124110000Z',
    });
  });

  test('behind Envoy', () => {
    expect(send(identity, { presets: ['xfcc'] }).headers).toEqual({
      'X-Forwarded-Client-Cert': [
        `Hash=${certificate?.sha256 ?? ''}`,
        String.raw`Subject="CN=im.qq.com,OU=\E5\8D\B3\E6\97\B6\E9\80\9A\E4\BF\A1,O=Tencent\2C Inc,C=CN"`,
        'URI="spiffe://im/callback?v=1"',
        'DNS=im.qq.com',
        'DNS=*.im.qq.com',
      ].join(';'),
    });
  });

  test('by RFC 9440', () => {
    const chain = [Uint8Array.of(1, 2, 3), Uint8Array.of(4, 5, 6)];
    expect(send({ ...identity, chain }, { presets: ['rfc9440'] }).headers).toEqual({
      'Client-Cert': `:${base64}:`,
      'Client-Cert-Chain': ':AQID:, :BAUG:',
    });
    expect(send({ ...identity, chain: [] }, { presets: ['rfc9440'] }).headers).toEqual({
      'Client-Cert': `:${base64}:`,
    });
  });

  test('behind Traefik', () => {
    const { headers } = send(identity, { presets: ['traefik'] });
    expect(headers['X-Forwarded-Tls-Client-Cert']).toBe(base64);
    const info = headers['X-Forwarded-Tls-Client-Cert-Info'] ?? '';
    expect(info).toMatch(/^[A-Za-z0-9._~%+-]+$/);
    expect(decodeURIComponent(info.replaceAll('+', ' '))).toBe(
      'Subject="C=CN,O=Tencent%2C Inc,OU=即时通信,CN=im.qq.com";Issuer="O=Tencent,CN=Root";SerialNumber="2748";' +
        'NB="1762247287";NA="1827054000";SAN="im.qq.com,*.im.qq.com,im@qq.com,2001:db8::1,spiffe://im/callback?v=1"',
    );
  });

  test('in headers of the operator’s own', () => {
    const headers = Object.fromEntries(ATTRIBUTES.map((attribute) => [`X-${attribute}`, attribute]));
    const sent = send(identity, { headers }, Date.parse('2027-11-22T10:59:59Z'));
    expect(sent.omitted).toEqual([]);
    expect(Object.keys(sent.headers)).toHaveLength(ATTRIBUTES.length);
    expect(sent.headers).toMatchObject({
      'X-subjectLegacy': String.raw`/C=CN/O=Tencent, Inc/OU=\xE5\x8D\xB3\xE6\x97\xB6\xE9\x80\x9A\xE4\xBF\xA1/CN=im.qq.com`,
      'X-sha1': certificate?.sha1,
      'X-spkiSha256': certificate?.spkiSha256,
      'X-notBefore': 'Nov  4 09:08:07 2025 GMT',
      'X-daysRemaining': '2',
      'X-dnsNames': 'im.qq.com, *.im.qq.com',
      'X-uris': 'spiffe://im/callback?v=1',
      'X-emails': 'im@qq.com',
      'X-tlsVersion': 'TLSv1.3',
      'X-cipher': 'TLS_AES_256_GCM_SHA384',
      'X-serverName': 'localhost',
      'X-sessionReused': '.',
    });
  });

  test('daysRemaining never goes below zero', () => {
    const at = (now: string): unknown =>
      send(identity, { headers: { A: 'daysRemaining' } }, Date.parse(now)).headers['A'];
    expect([at('2027-11-23T11:00:00Z'), at('2027-11-23T11:00:01Z'), at('2030-01-01T00:00:00Z')]).toEqual([
      '1',
      '0',
      '0',
    ]);
  });

  test('a resumed session is told', () => {
    const resumed = { ...identity, tls: { ...identity.tls, sessionReused: true } };
    expect(send(resumed, { headers: { A: 'sessionReused' } }).headers).toEqual({ A: 'r' });
  });
});

describe('a caller without a certificate', () => {
  const anonymous = identityOf({}, { verify: 'NONE', certificate: null, chain: [] });

  test('is NONE, and nothing else', () => {
    expect(send(anonymous, { presets: ['nginx', 'xfcc', 'rfc9440', 'traefik'] })).toEqual({
      headers: { 'X-SSL-Client-Verify': 'NONE' },
      omitted: [],
    });
    expect(send(anonymous, { presets: ['ingress-nginx'] }).headers).toEqual({ 'ssl-client-verify': 'NONE' });
  });

  test('is not HAProxy’s 0, which means success', () => {
    expect(send(anonymous, { presets: ['haproxy'] }).headers).toEqual({ 'X-SSL': '1' });
  });
});

describe('a certificate that nobody vouches for', () => {
  test.each([
    ['self-signed certificate', '18'],
    ['self signed certificate', '18'],
    ['self-signed certificate in certificate chain', '19'],
    ['unable to get local issuer certificate', '20'],
    ['unable to verify the first certificate', '21'],
    ['certificate not trusted', '27'],
    ['something new', '1'],
  ] as const)('%s', (text, code) => {
    const unverified = identityOf({}, { verify: `FAILED:${text}` });
    expect(send(unverified, { presets: ['nginx'] }).headers['X-SSL-Client-Verify']).toBe(`FAILED:${text}`);
    expect(send(unverified, { presets: ['haproxy'] }).headers['X-SSL-Client-Verify']).toBe(code);
  });
});

describe('two sources for one header', () => {
  const conflicts = (headers: Record<string, Attribute>, ...presets: Preset[]): string[] =>
    conflictingHeaders({ presets, headers });

  test('with different contents are a problem that names both', () => {
    expect(conflicts({}, 'nginx', 'haproxy')).toEqual([
      'preset haproxy and preset nginx give the header X-SSL-Client-Verify different contents',
    ]);
    expect(conflicts({ x_ssl_client_cn: 'serial' }, 'nginx')).toEqual([
      'identity.headers and preset nginx give the header x_ssl_client_cn different contents',
    ]);
    expect(conflicts({ 'X-Caller': 'commonName', 'x-caller': 'subject' })).toHaveLength(1);
  });

  test('with the same content are sent once', () => {
    const headers = { 'X-SSL-Client-CN': 'commonName', 'x-ssl-client-cn': 'commonName' } as const;
    expect(conflicts(headers, 'nginx')).toEqual([]);
    const names = Object.keys(send(identity, { presets: ['nginx'], headers }).headers);
    expect(names.filter((name) => /client-cn/i.test(name))).toEqual(['X-SSL-Client-CN']);
  });

  test('all other presets go together', () => {
    expect(conflicts({}, 'nginx', 'ingress-nginx', 'xfcc', 'rfc9440', 'traefik')).toEqual([]);
    expect(conflicts({}, 'haproxy', 'ingress-nginx', 'xfcc', 'rfc9440', 'traefik')).toEqual([]);
  });
});
