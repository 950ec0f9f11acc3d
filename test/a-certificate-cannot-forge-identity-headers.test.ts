import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { ATTRIBUTES } from '../src/config/config.js';
import { slashedName, nameParts } from '../src/rewrite/name-parts.js';
import type { AltName, NameInput } from './support/pki.js';
import { certificateOf, everyPreset, identityOf, send } from './support/identity.js';

const everyAttribute = Object.fromEntries(ATTRIBUTES.map((attribute) => [`X-Own-${attribute}`, attribute]));

/** Text that likes to be mistaken for syntax. */
const nasty = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 12 }),
  fc
    .array(
      fc.constantFrom(
        ...'",;=+\\/#% \0\r\n\t\x7fé北😀a:<>\'',
        'CN=admin',
        '";SAN="x',
        ';URI=spiffe://admin',
        '\\22',
        '%22',
      ),
      {
        maxLength: 6,
      },
    )
    .map((parts) => parts.join('')),
);
const ascii = nasty.map((text) => Buffer.from(text, 'utf8').toString('latin1'));
const type = fc.constantFrom('CN', 'O', 'OU', 'C', 'ST', 'L', 'DC', 'serialNumber', 'emailAddress', '1.2.3.4');
const attribute = fc.tuple(type, nasty);
const subject: fc.Arbitrary<NameInput> = fc.array(
  fc.oneof(
    attribute,
    fc.array(attribute, { minLength: 1, maxLength: 2 }).map((all) => ({ all })),
  ),
  { maxLength: 4 },
);
const altName: fc.Arbitrary<AltName> = fc.oneof(
  ascii.map((dns) => ({ dns })),
  ascii.map((uri) => ({ uri })),
  ascii.map((email) => ({ email })),
  fc.constantFrom<AltName>(
    { dns: 'im.qq.com' },
    { uri: 'spiffe://im/a?b=c' },
    { ip: '192.0.2.1' },
    { ip: '2001:db8::1' },
  ),
);
const caller = fc.record({ subject, san: fc.array(altName, { maxLength: 3 }) });

test('no header ever holds anything but printable ASCII, without a space at either end', () => {
  fc.assert(
    fc.property(caller, (options) => {
      const identity = identityOf(options);
      for (const choice of [...everyPreset.map((preset) => ({ presets: [preset] })), { headers: everyAttribute }]) {
        for (const value of Object.values(send(identity, choice).headers))
          expect(value).toMatch(/^[!-~]([ -~]*[!-~])?$/);
      }
    }),
    { numRuns: 300 },
  );
});

test('Envoy’s form reads back as the certificate, for readers strict and careless', () => {
  fc.assert(
    fc.property(caller, (options) => {
      const certificate = certificateOf(options);
      const value = send(identityOf({}, { certificate }), { presets: ['xfcc'] }).headers['X-Forwarded-Client-Cert'];
      const uris = valuesOf(certificate.subjectAltNames, 'uri');
      const names = valuesOf(certificate.subjectAltNames, 'dns');
      const sayable = [...uris, ...names].every((text) => /^[!-~]+$/.test(text) && !/[",;\\]/.test(text));
      expect(value !== undefined).toBe(sayable);
      if (value === undefined) return;
      // The careless reader does not know quotes at all.
      for (const fields of [
        readXfcc(value),
        value.split(';').map((pair) => pair.replace(/^(\w+)="?(.*?)"?$/, '$1=$2')),
      ]) {
        const all = (key: string): string[] =>
          fields.filter((field) => field.startsWith(`${key}=`)).map((field) => field.slice(key.length + 1));
        expect(all('Hash')).toEqual([certificate.sha256]);
        expect(all('URI')).toEqual(uris);
        expect(all('DNS')).toEqual(names);
        expect(all('Subject').map((text) => nameParts(text))).toEqual([nameParts(certificate.subject)]);
        expect(fields).toHaveLength(2 + uris.length + names.length);
      }
    }),
    { numRuns: 500 },
  );
});

test('Traefik’s form reads back as the certificate', () => {
  fc.assert(
    fc.property(caller, (options) => {
      const certificate = certificateOf(options);
      const info =
        send(identityOf(options), { presets: ['traefik'] }).headers['X-Forwarded-Tls-Client-Cert-Info'] ?? '';
      const fields = readTraefik(decodeURIComponent(info.replaceAll('+', ' ')));
      const parts = fields['Subject'] ?? [];
      const values = (key: string): string[] =>
        parts
          .filter((part) => part.startsWith(`${key}=`))
          .map((part) => decodeURIComponent(part.slice(key.length + 1)));
      expect(values('O')).toEqual(certificate.organizations.filter((name) => name !== ''));
      expect(values('OU')).toEqual(certificate.organizationalUnits.filter((name) => name !== ''));
      expect(values('CN')).toEqual(certificate.commonNames.filter((name) => name !== '').slice(-1));
      const order = (['dns', 'email', 'ip', 'uri'] as const).flatMap((kind) =>
        valuesOf(certificate.subjectAltNames, kind),
      );
      const sans = (fields['SAN'] ?? []).map((text) => decodeURIComponent(text));
      // A list of one empty name cannot be told from no list; neither names anybody.
      expect(sans.join() === '' ? '' : sans).toEqual(order.join() === '' && order.length < 2 ? '' : order);
      expect(fields['Issuer']).toEqual(['O=Tencent', 'CN=Root']);
    }),
    { numRuns: 500 },
  );
});

test('the slashed form names each attribute once, and no other', () => {
  fc.assert(
    fc.property(subject, (name) => {
      const text = slashedName(certificateOf({ subject: name }).subject);
      const attributes = text.match(/\/(?:\\.|[^/\\])+/g) ?? [];
      const types = name.flatMap((rdn) => ('all' in rdn ? rdn.all : [rdn])).map(([one]) => one);
      expect(attributes.join('')).toBe(text);
      expect(attributes.map((one) => one.slice(1, one.indexOf('='))).sort()).toEqual(types.sort());
    }),
  );
});

describe('values that no escape can save are left out and reported', () => {
  test.each([
    ['a comma in a DNS name', { dns: 'a, DNS:admin' }, 'X-SSL-Client-SAN san'],
    ['a line end in an address', { email: 'a@b\r\nX-SSL-Client-Verify: SUCCESS' }, 'X-SSL-Client-SAN san'],
    ['a NUL in a URI', { uri: 'spiffe://im\0' }, 'X-SSL-Client-SAN san'],
    ['a trailing space', { dns: 'im.qq.com ' }, 'X-SSL-Client-SAN san'],
    ['an empty name', { dns: '' }, 'X-SSL-Client-SAN san'],
    ['non-ASCII', { dns: '\xe5\x8c' }, 'X-SSL-Client-SAN san'],
  ] as const)('%s', (_label, name, expected) => {
    const sent = send(identityOf({ san: [{ dns: 'im.qq.com' }, name] }), { presets: ['nginx'] });
    expect(sent.omitted).toEqual([expected]);
    expect(sent.headers).not.toHaveProperty('X-SSL-Client-SAN');
    expect(sent.headers['X-SSL-Client-Verify']).toBe('SUCCESS');
  });

  test.each(['北京', 'a\r\nb', ' a', 'a ', 'a\0'])('common name %j', (name) => {
    const sent = send(identityOf({ subject: [['CN', name]] }), { presets: ['nginx'] });
    expect(sent.omitted).toEqual(['X-SSL-Client-CN commonName']);
  });

  test('one list’s comma does not cost another list', () => {
    const headers = { A: 'dnsNames', B: 'uris' } as const;
    const sent = send(identityOf({ san: [{ dns: 'im.qq.com' }, { uri: 'ldap:///cn=a,dc=b' }] }), { headers });
    expect(sent).toEqual({ headers: { A: 'im.qq.com' }, omitted: ['B uris'] });
  });

  test('a URI that could pass for a field costs the whole element', () => {
    const uri = 'spiffe://im;URI=spiffe://admin;x=y';
    const sent = send(identityOf({ san: [{ dns: 'im.qq.com' }, { uri }] }), { presets: ['xfcc'] });
    expect(sent).toEqual({ headers: {}, omitted: ['X-Forwarded-Client-Cert xfcc'] });
  });
});

describe('several common names', () => {
  test('the most specific one counts', () => {
    const directory: NameInput = [
      ['DC', 'com'],
      ['CN', 'Users'],
      ['CN', 'Ann'],
    ];
    expect(send(identityOf({ subject: directory }), { headers: { A: 'commonName' } }).headers).toEqual({ A: 'Ann' });
  });

  test('none and empty are no header', () => {
    for (const subject of [[], [['CN', '']]] as const) {
      expect(send(identityOf({ subject }), { headers: { A: 'commonName' } })).toEqual({ headers: {}, omitted: [] });
    }
  });
});

test('a space at the end of a name survives HTTP', () => {
  const subject: NameInput = [
    ['O', 'x'],
    ['CN', 'admin '],
  ];
  const sent = send(identityOf({ subject }), { headers: { A: 'subject', B: 'subjectLegacy' } });
  expect(sent.headers).toEqual({ A: 'CN=admin\\ ,O=x', B: '/O=x/CN=admin\\x20' });
  const last = send(identityOf({ subject: [['O', 'x ']] }), {
    headers: { A: 'subject' },
    presets: ['haproxy'],
  }).headers;
  expect(last).toMatchObject({ A: 'O=x\\20', 'X-SSL-Client-DN': '/O=x\\x20' });
});

function valuesOf(names: readonly { readonly type: string; readonly value: string }[], kind: string): string[] {
  return names.filter((name) => name.type === kind).map(({ value }) => value);
}

/** A reader by Envoy's documentation: `;` separates outside quotes, and `\"` is a quote. */
function readXfcc(element: string): string[] {
  const pairs = element.match(/(?:"(?:\\"|[^"])*"|[^";])+/g) ?? [];
  return pairs.map((pair) =>
    pair.replace(/^(\w+)="(.*)"$/, (_, key: string, value: string) => `${key}=${value.replaceAll('\\"', '"')}`),
  );
}

/** Fields of Traefik's form, each split at its commas. */
function readTraefik(text: string): Record<string, string[]> {
  const fields = [...text.matchAll(/(?:^|;)(\w+)="([^"]*)"/g)];
  expect(fields.map(([whole]) => whole).join('')).toBe(text);
  return Object.fromEntries(fields.map(([, name = '', value = '']) => [name, value.split(',')]));
}
