import { describe, expect, test } from 'vitest';
import type { Attribute, Preset } from '../src/config/config.js';
import { createIdentityHeaders, isReservedHeader, reservedNames } from '../src/rewrite/identity-headers.js';
import { everyPreset, identityOf } from './support/identity.js';

const NONE = reservedNames({});

/** Every name that some preset sends, read from what is sent, so that a new header cannot be forgotten here. */
const SENT = everyPreset.flatMap((preset: Preset) => {
  const headers = createIdentityHeaders({ presets: [preset], headers: {}, onOmitted: () => undefined });
  return headers(identityOf({}), 0).filter((_, index) => index % 2 === 0);
});

const BY_CONTRACT = [
  'X-SSL-Client-Cert',
  'X-SSL-Client-Anything',
  'ssl-client-anything',
  'X-Client-Cert',
  'X-Client-Cert-Chain',
  'Client-Cert',
  'Client-Cert-Chain',
  'Client-Certificate',
  'X-Forwarded-Client-Cert',
  'X-Forwarded-Client-Cert-Chain',
  'X-Forwarded-Tls-Client-Cert',
  'X-Forwarded-Tls-Client-Cert-Info',
  'X-SSL',
  'X-SSL-Issuer',
  'X-SSL-Session_ID',
];

/** What CGI, WSGI, PHP and others read as the same name. */
function spellings(name: string): string[] {
  const cases = [name, name.toLowerCase(), name.toUpperCase(), swapCase(name)];
  return cases.flatMap((one) => ['-', '_', '.', '!', '~', '|'].map((mark) => one.replace(/[-_]/g, mark)));
}

function swapCase(name: string): string {
  return Array.from(name, (letter, index) => (index % 2 === 0 ? letter.toLowerCase() : letter.toUpperCase())).join('');
}

describe('a caller cannot send an identity header', () => {
  test('the presets send what the list below expects of them', () => {
    expect(SENT).toHaveLength(24);
  });

  test.each([...new Set([...SENT, ...BY_CONTRACT])])('%s, however it is spelled', (name) => {
    for (const spelling of spellings(name))
      expect([spelling, isReservedHeader(spelling, NONE)]).toEqual([spelling, true]);
  });

  test('nor mix the marks', () => {
    expect(isReservedHeader('X_SSL-Client.Verify', NONE)).toBe(true);
    expect(isReservedHeader('x.forwarded_tls-client.cert', NONE)).toBe(true);
  });

  test('nor one of the operator’s own names', () => {
    const own: Record<string, Attribute> = { 'X-Caller': 'commonName', remote_user: 'subject' };
    const custom = reservedNames(own);
    for (const spelling of [...spellings('X-Caller'), ...spellings('Remote-User')]) {
      expect([spelling, isReservedHeader(spelling, custom)]).toEqual([spelling, true]);
    }
    expect(isReservedHeader('X-SSL-Client-Verify', custom)).toBe(true);
    expect(isReservedHeader('X-Caller', NONE)).toBe(false);
  });
});

describe('other headers pass', () => {
  const ordinary = [
    ...[
      'Host',
      'User-Agent',
      'Accept',
      'Content-Type',
      'Content-Length',
      'Connection',
      'Cookie',
      'Client',
      'Clear-Site-Data',
    ],
    ...['X-Forwarded-For', 'X-Request-Id', 'X-SSL-Other', 'X-Client', 'X-Forwarded-Client', 'SSL', 'Sec-Fetch-Site'],
    ...['', 'x', 'c', 's', 'ss', 'XX-SSL-Client-Verify', 'Not-X-SSL-Client-Verify'],
  ];
  test.each(ordinary)('%s', (name) => {
    expect(isReservedHeader(name, NONE)).toBe(false);
    expect(isReservedHeader(name, reservedNames({ 'X-Caller': 'commonName' }))).toBe(false);
  });
});
