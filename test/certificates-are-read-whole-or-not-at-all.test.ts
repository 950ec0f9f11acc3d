import { createHash, X509Certificate } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readPeerCertificate, UnreadableCertificateError } from '../src/identify/peer-certificate.js';
import { element } from '../src/pki/der.js';
import { subjectAltName } from '../src/pki/extensions.js';
import { generateKeys, selfSigned, type AltName, type Options, type RawExtension } from './support/pki.js';

const keys = generateKeys();
const bytes = (hex: string): Uint8Array => Buffer.from(hex, 'hex');
const make = (options: Partial<Options> = {}): Uint8Array =>
  selfSigned({ subject: [['CN', 'im.qq.com']], keys, ...options }).certDer;
const read = (options: Partial<Options> = {}): ReturnType<typeof readPeerCertificate> =>
  readPeerCertificate(make(options));

describe('a certificate is read whole', () => {
  test('as Node reads it', () => {
    const der = make({
      subject: [
        ['C', 'CN'],
        ['O', 'Tencent'],
        ['OU', 'IM'],
        ['OU', 'Chat'],
        ['CN', 'im.qq.com'],
      ],
    });
    const node = new X509Certificate(der);
    const ours = readPeerCertificate(der);
    expect(ours.sha256).toBe(node.fingerprint256.replaceAll(':', '').toLowerCase());
    expect(ours.sha1).toBe(node.fingerprint.replaceAll(':', '').toLowerCase());
    expect(ours.serial).toBe(node.serialNumber);
    expect(new Date(ours.notBefore).getTime()).toBe(Date.parse(node.validFrom));
    expect(new Date(ours.notAfter).getTime()).toBe(Date.parse(node.validTo));
    const spki = node.publicKey.export({ type: 'spki', format: 'der' });
    expect(ours.spkiSha256).toBe(`sha256:${createHash('sha256').update(spki).digest('base64')}`);
    expect(ours.subject).toBe('CN=im.qq.com,OU=Chat,OU=IM,O=Tencent,C=CN');
    expect(ours.issuer).toBe(ours.subject);
    expect(ours.subjectLegacy).toBe('/C=CN/O=Tencent/OU=IM/OU=Chat/CN=im.qq.com');
    expect(ours.commonNames).toEqual(['im.qq.com']);
    expect(ours.organizations).toEqual(['Tencent']);
    expect(ours.organizationalUnits).toEqual(['IM', 'Chat']);
    expect(ours.subjectAltNames).toEqual([]);
  });

  test.each([
    [0n, '00'],
    [10n, '0A'],
    [255n, 'FF'],
    [-1n, '-01'],
    [-256n, '-0100'],
    [1n << 151n, '80000000000000000000000000000000000000'],
  ])('serial %s as nginx prints it', (serial, text) => {
    expect(read({ serial }).serial).toBe(text);
  });

  test.each([
    '1950-01-01T00:00:00Z',
    '1999-12-31T23:59:59Z',
    '2049-12-31T23:59:59Z',
    '2050-01-01T00:00:00Z',
    '9999-12-31T23:59:59Z',
  ])('a validity up to %s', (date) => {
    const { notBefore, notAfter } = read({ notBefore: Date.parse(date), notAfter: Date.parse(date) });
    expect([notBefore, notAfter]).toEqual([Date.parse(date), Date.parse(date)]);
  });
});

describe('subject alternative names', () => {
  test.each<[string, AltName, { type: string; value: string }]>([
    ['a DNS name', { dns: 'im.qq.com' }, { type: 'dns', value: 'im.qq.com' }],
    ['a NUL in a DNS name', { dns: 'im.qq.com\0.evil.example' }, { type: 'dns', value: 'im.qq.com\0.evil.example' }],
    ['bytes that are no ASCII', { dns: '\xe5\x8c' }, { type: 'dns', value: '\xe5\x8c' }],
    ['a URI', { uri: 'spiffe://im/ns/a?b=c,d' }, { type: 'uri', value: 'spiffe://im/ns/a?b=c,d' }],
    ['an address that looks like two names', { email: 'a@b, DNS:c' }, { type: 'email', value: 'a@b, DNS:c' }],
    ['an IPv4 address', { ip: '192.0.2.1' }, { type: 'ip', value: '192.0.2.1' }],
    ['an IPv6 address', { ip: '2001:db8:0:0:1:0:0:1' }, { type: 'ip', value: '2001:db8::1:0:0:1' }],
    ['the longer run of zeros', { ip: '2001:0:0:1:0:0:0:1' }, { type: 'ip', value: '2001:0:0:1::1' }],
    ['a single zero group', { ip: '2001:db8:0:1:1:1:1:1' }, { type: 'ip', value: '2001:db8:0:1:1:1:1:1' }],
    ['zeros at the end', { ip: '2001:db8::' }, { type: 'ip', value: '2001:db8::' }],
    ['the unspecified address', { ip: '::' }, { type: 'ip', value: '::' }],
    ['loopback', { ip: '::1' }, { type: 'ip', value: '::1' }],
    ['a mapped address', { ip: '::ffff:c000:201' }, { type: 'ip', value: '::ffff:192.0.2.1' }],
    [
      'a directory name',
      {
        directoryName: [
          ['O', 'x'],
          ['CN', 'y,z'],
        ],
      },
      { type: 'other', value: 'directoryName:CN=y\\,z,O=x' },
    ],
    ['a registered id', { registeredId: '1.2.3.4000' }, { type: 'other', value: 'registeredID:1.2.3.4000' }],
    [
      'a user principal name',
      { otherName: '1.3.6.1.4.1.311.20.2.3', value: bytes('0c0161') },
      { type: 'other', value: 'otherName:1.3.6.1.4.1.311.20.2.3' },
    ],
  ])('%s', (_label, name, expected) => {
    expect(read({ san: [name] }).subjectAltNames).toEqual([expected]);
  });

  test('keep their order', () => {
    const names = read({ san: [{ uri: 'b' }, { dns: 'a' }, { uri: 'c' }] }).subjectAltNames;
    expect(names.map(({ value }) => value)).toEqual(['b', 'a', 'c']);
  });
});

describe('critical extensions', () => {
  const critical = (oid: string): Partial<Options> => ({ extensions: [{ oid, critical: true, value: bytes('0500') }] });

  test.each(['2.5.29.16', '2.5.29.18', '2.5.29.46', '1.3.6.1.5.5.7.1.1', '1.3.6.1.5.5.7.1.24', '1.2.3.4'])(
    '%s is not understood',
    (oid) => {
      expect(read(critical(oid)).hasUnknownCriticalExtension).toBe(true);
      expect(read({ extensions: [{ oid, value: bytes('0500') }] }).hasUnknownCriticalExtension).toBe(false);
    },
  );

  test.each(['2.5.29.30', '2.5.29.36', '1.3.6.1.5.5.7.48.1.5', '2.16.840.1.113730.1.1'])('%s is', (oid) => {
    expect(read(critical(oid)).hasUnknownCriticalExtension).toBe(false);
  });

  test('our own are', () => {
    const options: Partial<Options> = { keyUsage: ['digitalSignature'], eku: ['clientAuth'], san: [{ dns: 'a' }] };
    expect(read(options).hasUnknownCriticalExtension).toBe(false);
  });
});

describe('a certificate that cannot be read whole is not read at all', () => {
  const san = (value: Uint8Array): RawExtension => ({ oid: '2.5.29.17', value });
  const good = subjectAltName([{ dns: 'good.example' }]).value;

  test.each<[string, Partial<Options>]>([
    ['an IP address of five bytes', { san: [{ dns: 'good.example' }, { ip: bytes('7f00000100') }] }],
    ['an unknown kind of name', { san: [{ dns: 'good.example' }, { der: bytes('890161') }] }],
    ['a constructed DNS name', { san: [{ der: element(0xa2, bytes('160161')) }] }],
    ['a DNS name cut short', { extensions: [san(bytes('3003820561'))] }],
    ['bytes behind the names', { extensions: [san(Buffer.concat([good, bytes('00')]))] }],
    ['a list of names that is none', { extensions: [san(bytes('0c0161'))] }],
    ['an empty extension', { extensions: [san(bytes(''))] }],
    ['a directory name that is none', { san: [{ der: element(0xa4, bytes('0c0161')) }] }],
    ['two lists of names', { extensions: [san(good), san(good)] }],
    ['a subject that breaks its encoding', { subject: [['CN', bytes('ff'), 'utf8']] }],
  ])('%s', (_label, options) => {
    expect(() => read(options)).toThrow(UnreadableCertificateError);
  });

  test('bytes behind the certificate', () => {
    expect(() => readPeerCertificate(Buffer.concat([make(), bytes('00')]))).toThrow(UnreadableCertificateError);
  });

  test('deep nesting costs nothing', () => {
    const depth = 30_000;
    const nested = Buffer.alloc(depth * 4, Uint8Array.of(0x30, 0x82, 0xff, 0xff));
    expect(() => readPeerCertificate(nested)).toThrow(UnreadableCertificateError);
  });

  const der = make({ san: [{ dns: 'a.example' }, { ip: '::1' }], eku: ['clientAuth'] });

  test('every truncation', () => {
    for (let length = 0; length < der.length; length += 1) {
      expect(() => readPeerCertificate(der.subarray(0, length))).toThrow(UnreadableCertificateError);
    }
  });

  test('any damage gives a readable certificate or this error, and the text of names stays printable', () => {
    const damage = fc.array(fc.tuple(fc.nat(der.length - 1), fc.nat(255)), { minLength: 1, maxLength: 4 });
    fc.assert(
      fc.property(damage, (changes) => {
        const damaged = Uint8Array.from(der);
        for (const [at, value] of changes) damaged[at] = value;
        const text = textOf(damaged);
        expect(text).toMatch(/^[ -~]*$/);
      }),
      { numRuns: 3000 },
    );
  });
});

function textOf(der: Uint8Array): string {
  try {
    const { subject, issuer, subjectLegacy, serial, sha256, sha1, spkiSha256 } = readPeerCertificate(der);
    return [subject, issuer, subjectLegacy, serial, sha256, sha1, spkiSha256].join(' ');
  } catch (error) {
    if (error instanceof UnreadableCertificateError) return '';
    throw error;
  }
}
