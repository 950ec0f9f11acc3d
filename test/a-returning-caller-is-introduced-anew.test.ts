import { describe, expect, it } from 'vitest';
import { anonymousOf } from '../src/admit/standing.js';
import { ATTRIBUTES, type Attribute } from '../src/config/config.js';
import type { PeerIdentity } from '../src/identify/peer-identity.js';
import { createIdentityHeaders } from '../src/rewrite/identity-headers.js';
import { everyPreset, identityOf } from './support/identity.js';

const NOW = Date.parse('2026-06-01T00:00:00Z');
const DAY = 86_400_000;

const first = identityOf({ notAfter: NOW + 30 * DAY });
/** With the same certificate, everything else that may differ from one connection to the next. */
const later: PeerIdentity = {
  ...first,
  chain: [...first.chain, Uint8Array.of(0x30, 0x00)],
  tls: { version: 'TLSv1.2', cipher: 'AES256-SHA', serverName: 'elsewhere', sessionReused: true },
};

const introducer = (headers: Readonly<Record<string, Attribute>>, omitted: string[] = []) =>
  createIdentityHeaders({
    presets: Object.keys(headers).length === 0 ? everyPreset : [],
    headers,
    onOmitted: (header) => omitted.push(header),
  });

describe('what is told of a caller who comes back is true of this connection', () => {
  it.each(ATTRIBUTES)('%s', (attribute) => {
    const introduce = introducer({ 'X-Told': attribute });
    introduce(first, NOW);
    expect(introduce(later, NOW + DAY)).toEqual(introducer({ 'X-Told': attribute })(later, NOW + DAY));
  });

  it('as in every preset together', () => {
    const introduce = introducer({});
    introduce(first, NOW);
    expect(introduce(later, NOW + DAY)).toEqual(introducer({})(later, NOW + DAY));
  });

  it('whether it is verified, and as whom nobody asks', () => {
    const introduce = introducer({ 'X-Verify': 'verify', 'X-Serial': 'serial' });
    const serial = ['X-Serial', first.certificate?.serial];
    expect(introduce(first, NOW)).toEqual(['X-Verify', 'SUCCESS', ...serial]);
    for (const verify of ['FAILED:certificate not trusted', 'FAILED:self-signed certificate'] as const) {
      expect(introduce({ ...first, verify }, NOW)).toEqual(['X-Verify', verify, ...serial]);
    }
    expect(introduce({ ...first, verify: 'NONE', certificate: null }, NOW)).toEqual(['X-Verify', 'NONE']);
    expect(introduce(first, NOW)).toEqual(['X-Verify', 'SUCCESS', ...serial]);
  });
});

it.each(ATTRIBUTES)('whom nobody asks has nothing said of it: %s', (attribute) => {
  const introduce = introducer({ 'X-Told': attribute });
  introduce(first, NOW);
  const nobody: PeerIdentity = { ...first, verify: 'NONE', certificate: null, chain: [], anchorSha256: null };
  expect(introduce(anonymousOf(first), NOW)).toEqual(introducer({ 'X-Told': attribute })(nobody, NOW));
});

it('what cannot be said is reported each time', () => {
  const omitted: string[] = [];
  const introduce = introducer({ 'X-Name': 'commonName', 'X-Serial': 'serial' }, omitted);
  const unsayable = identityOf({ subject: [['CN', '北京']] });
  introduce(unsayable, NOW);
  introduce(unsayable, NOW);
  expect(omitted).toEqual(['X-Name', 'X-Name']);
});
