import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { describe, expect, test } from 'vitest';
import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  type Issued,
} from './support/pki.js';

const pki = makePki();
const HOUR = 3_600_000;

interface Trust {
  readonly ca?: string[];
  readonly crl?: string;
  readonly ciphers?: string;
}

/** OpenSSL's verdict about a client certificate, and about our own server certificate on the way. */
async function verdict(client: Pick<Issued, 'certPem' | 'keyPem'>, trust: Trust = {}): Promise<string | null> {
  const ca = trust.ca ?? [pki.ca.certPem];
  const server = createServer({
    ca,
    cert: pki.server.certPem,
    key: pki.server.keyPem,
    requestCert: true,
    rejectUnauthorized: false,
    ...(trust.crl === undefined ? {} : { crl: trust.crl }),
    ...(trust.ciphers === undefined ? {} : { ciphers: trust.ciphers }),
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const secured = once(server, 'secureConnection') as Promise<[TLSSocket]>;
  const { port } = server.address() as AddressInfo;
  const socket = connect({
    host: '127.0.0.1',
    port,
    servername: 'localhost',
    ca: pki.ca.certPem,
    cert: client.certPem,
    key: client.keyPem,
    // Its own OpenSSL would refuse to present what the server is meant to refuse.
    ciphers: 'DEFAULT@SECLEVEL=0',
  });
  socket.on('error', () => undefined);
  const [accepted] = await secured;
  const error = accepted.authorized ? null : String(accepted.authorizationError);
  accepted.on('error', () => undefined).destroy();
  socket.destroy();
  server.close();
  return error;
}

describe('OpenSSL accepts', () => {
  test('the usual client certificate', async () => {
    expect(await verdict(pki.client)).toBeNull();
  });

  test('a leaf three intermediates down, with every kind of key on the way', async () => {
    const rsa = pki.ca.subordinate({
      subject: [['CN', 'RSA']],
      key: 'rsa-2048',
      basicConstraints: { ca: true, pathLength: 2 },
    });
    const edwards = rsa.subordinate({ subject: [['CN', 'Ed25519']], key: 'ed25519' });
    const curve = edwards.subordinate({ subject: [['CN', 'P-256']] });
    const leaf = issueClient(curve);
    expect(await verdict({ ...leaf, certPem: chainPem(leaf, curve, edwards, rsa) })).toBeNull();
  });

  test('a CA that another CA has certified with the same key and name', async () => {
    const other = createAuthority({ subject: [['CN', 'Other Root']] });
    const cross = other.subordinate({
      subject: [
        ['C', 'CN'],
        ['O', 'Tencent'],
        ['CN', 'TencentQQAuthCA'],
      ],
      keys: pki.ca.keys,
    });
    const leaf = { ...pki.client, certPem: chainPem(pki.client, cross) };
    expect(await verdict(leaf, { ca: [other.certPem] })).toBeNull();
  });

  test('a client that the CRL does not list', async () => {
    expect(
      await verdict(pki.client, { crl: pki.ca.crl({ revoked: [1n, { serial: 2n, reason: 'keyCompromise' }] }) }),
    ).toBeNull();
  });

  test('a name of every string type and every kind of alternative name', async () => {
    const client = issueClient(pki.ca, {
      subject: [
        {
          all: [
            ['CN', 'a'],
            ['OU', '北京', 'bmp'],
          ],
        },
        ['O', '', 'printable'],
        ['1.2.3.4', '北😀', 'universal'],
        ['CN', 'a\0\r\n', 't61'],
      ],
      san: [
        { dns: 'a\r\n' },
        { uri: '\xff' },
        { ip: '::1' },
        { registeredId: '1.2.3' },
        { directoryName: [['CN', 'x']] },
        { otherName: '1.2.3', value: Uint8Array.of(5, 0) },
      ],
    });
    expect(await verdict(client)).toBeNull();
  });
});

describe('OpenSSL refuses, for the reason meant', () => {
  const now = Date.now();
  test.each<[string, string, () => Issued, Trust]>([
    ['a stranger of the same CA name', 'UNABLE_TO_VERIFY_LEAF_SIGNATURE', () => pki.stranger.client, {}],
    ['an expired one', 'CERT_HAS_EXPIRED', () => issueClient(pki.ca, { notAfter: now - HOUR / 2 }), {}],
    ['one from tomorrow', 'CERT_NOT_YET_VALID', () => issueClient(pki.ca, { notBefore: now + HOUR }), {}],
    ['one for servers', 'INVALID_PURPOSE', () => issueClient(pki.ca, { eku: ['serverAuth'] }), {}],
    ['a self-signed one', 'DEPTH_ZERO_SELF_SIGNED_CERT', () => selfSigned({ subject: [['CN', 'x']] }), {}],
    ['a revoked one', 'CERT_REVOKED', () => pki.client, { crl: pki.ca.crl({ revoked: [pki.client.serial] }) }],
    ['any with an old CRL', 'CRL_HAS_EXPIRED', () => pki.client, { crl: pki.ca.crl({ nextUpdate: now - HOUR / 2 }) }],
  ])('%s', async (_label, error, client, trust) => {
    expect(await verdict(client(), trust)).toBe(error);
  });

  test('a forged issuer without key identifiers, by its signature', async () => {
    const forger = createAuthority({
      subject: [
        ['C', 'CN'],
        ['O', 'Tencent'],
        ['CN', 'TencentQQAuthCA'],
      ],
    });
    expect(await verdict(issueClient(forger, { keyIdentifiers: false }))).toBe('CERT_SIGNATURE_FAILURE');
  });

  test('weak keys and hashes, at security level 2', async () => {
    const level2 = { ciphers: 'DEFAULT@SECLEVEL=2' };
    const weak = await verdict(issueClient(pki.ca, { key: 'rsa-1024' }), level2);
    const sha1 = await verdict(issueClient(pki.ca, { hash: 'sha1' }), level2);
    expect([weak, sha1]).not.toContain(null);
    expect(await verdict(issueClient(pki.ca, { key: 'rsa-2048' }), level2)).toBeNull();
  });
});

test('a key can be reused, and the serial chosen', () => {
  const keys = generateKeys();
  const first = new X509Certificate(issueClient(pki.ca, { keys, serial: 255n }).certPem);
  const second = new X509Certificate(selfSigned({ subject: [['CN', 'x']], keys }).certPem);
  expect(first.serialNumber).toBe('FF');
  expect(first.publicKey.equals(second.publicKey)).toBe(true);
  expect(first.verify(pki.ca.keys.publicKey)).toBe(true);
  expect(second.verify(keys.publicKey)).toBe(true);
});
