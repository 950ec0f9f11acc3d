import { generateKeyPairSync, sign, X509Certificate, type KeyObject } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { bitString, element, integer, objectIdentifier, sequence, toPem } from '../src/pki/der.js';
import { readDer } from '../src/identify/der.js';
import { loadCredentials } from '../src/trust/credentials.js';
import { readCrl, readCrlParts } from '../src/trust/crl.js';
import { derOf } from '../src/trust/pem.js';
import { createRevocationCheck, type RevocationFinding } from '../src/trust/revocation.js';
import {
  CA_SUBJECT,
  createAuthority,
  generateKeys,
  issueClient,
  issueServer,
  temporaryDirectory,
  writePem,
  type Authority,
  type Issued,
} from './support/pki.js';
import { pssHash, pssMask, pssNumber, pssParameters, signedPss } from './support/lists.js';
import { configured, problemsOf } from './support/settings.js';

const DAY = 86_400_000;
const REVOKED: RevocationFinding = { reason: 'revoked', detail: 'certificate revoked' };
const MISSING: RevocationFinding = { reason: 'crl_missing', detail: 'unable to get certificate CRL' };
const UNCLEAR: RevocationFinding = {
  reason: 'crl_missing',
  detail: 'no certificate CRL of this CA can be evaluated here',
  unclear: true,
};
const TRUE = Uint8Array.of(0xff);

const root = createAuthority({ subject: CA_SUBJECT });
const stranger = createAuthority({ subject: CA_SUBJECT });
const client = issueClient(root);
const rsa = generateKeys('rsa-2048');
const ed25519 = generateKeys('ed25519');

/** The same list, signed again in another way. */
function resigned(pem: string, key: KeyObject, oid: string, digest: string | null): string {
  const { signed } = readCrlParts({ pem });
  return toPem('X509 CRL', sequence(signed, sequence(objectIdentifier(oid)), bitString(sign(digest, signed, key))));
}

const x509 = ({ certDer }: Issued): X509Certificate => new X509Certificate(certDer);

/** What the lists say about a chain: the leaf first, the anchor last. */
function ask(
  lists: readonly string[],
  [leaf, ...path]: readonly Issued[],
  expired: 'refuse' | 'warn' = 'warn',
): RevocationFinding | null {
  const read = lists.map((pem) => readCrl('list.crl', { label: 'X509 CRL', pem }));
  return createRevocationCheck(read, expired)(x509(leaf as Issued), path.map(x509), Date.now());
}

describe('a certificate on a list of its issuer', () => {
  test('is revoked; its neighbours are not', () => {
    for (const [serial, on, finding] of [
      [1000n, [1000n], REVOKED],
      [1000n, [999n, 1000n, 1001n], REVOKED],
      [1000n, [999n, 1001n], null],
      [1000n, [], null],
      // ff and 00ff: one is minus one.
      [255n, [-1n], null],
      [-1n, [255n], null],
      [-1n, [-1n], REVOKED],
    ] as const) {
      expect(
        ask([root.crl({ revoked: on })], [issueClient(root, { serial }), root]),
        `${serial} on ${on.join()}`,
      ).toEqual(finding);
    }
  });

  test('is revoked whatever the reason, and whatever time has come', () => {
    const { serial } = client;
    const long = { thisUpdate: Date.now() - 9 * DAY };
    expect(ask([root.crl({ revoked: [{ serial, reason: 'certificateHold' }] })], [client, root])).toEqual(REVOKED);
    expect(ask([root.crl({ ...long, nextUpdate: Date.now() - DAY, revoked: [serial] })], [client, root])).toEqual(
      REVOKED,
    );
    expect(ask([root.crl({ ...long, nextUpdate: null, revoked: [serial] })], [client, root])).toEqual(REVOKED);
  });

  test('is revoked by one of several lists', () => {
    const lists = [root.crl(), root.crl({ revoked: [client.serial] }), root.crl()];
    expect(ask(lists, [client, root])).toEqual(REVOKED);
  });

  test('is found at the end of a long list', () => {
    const others = Array.from({ length: 10_000 }, (_, index) => BigInt(index) << 64n);
    expect(ask([root.crl({ revoked: [...others, client.serial] })], [client, root])).toEqual(REVOKED);
    expect(ask([root.crl({ revoked: others })], [client, root])).toBeNull();
  });
});

describe('a list that has expired', () => {
  const old = { thisUpdate: Date.now() - 9 * DAY, nextUpdate: Date.now() - DAY };
  const EXPIRED: RevocationFinding = { reason: 'crl_expired', detail: 'CRL has expired' };

  test('counts under warn, and not under refuse', () => {
    expect(ask([root.crl(old)], [client, root], 'warn')).toBeNull();
    expect(ask([root.crl(old)], [client, root], 'refuse')).toEqual(EXPIRED);
    expect(ask([root.crl()], [client, root], 'refuse')).toBeNull();
    expect(ask([root.crl({ ...old, nextUpdate: null })], [client, root], 'refuse')).toBeNull();
  });

  test('is made up for by another of the same CA', () => {
    expect(ask([root.crl(old), root.crl()], [client, root], 'refuse')).toBeNull();
    expect(ask([root.crl(), root.crl(old)], [client, root], 'refuse')).toBeNull();
  });

  test('still revokes', () => {
    expect(ask([root.crl({ ...old, revoked: [client.serial] }), root.crl()], [client, root], 'refuse')).toEqual(
      REVOKED,
    );
  });
});

describe('each CA of a chain needs a list', () => {
  const middle = root.subordinate({ subject: [['CN', 'middle']] });
  const leaf = issueClient(middle);
  const chain = [leaf, middle, root];

  test('its own, and no other', () => {
    expect(ask([], chain)).toEqual(MISSING);
    expect(ask([root.crl()], chain)).toEqual(MISSING);
    expect(ask([middle.crl()], chain)).toEqual(MISSING);
    expect(ask([middle.crl(), root.crl()], chain)).toBeNull();
  });

  test('and an intermediate can be revoked too', () => {
    expect(ask([middle.crl(), root.crl({ revoked: [middle.serial] })], chain)).toEqual(REVOKED);
    // The number says nothing without the issuer.
    expect(ask([middle.crl({ revoked: [middle.serial] }), root.crl()], chain)).toBeNull();
  });

  test('except for an anchor, which nobody revokes', () => {
    expect(ask([root.crl({ revoked: [root.serial] })], [client, root])).toBeNull();
    expect(ask([], [root])).toBeNull();
  });
});

describe('a list counts only when the issuer signed it', () => {
  test.each(['p256', 'rsa-2048', 'ed25519'] as const)('not a CA of the same name with another key: %s', (kind) => {
    const keys = { 'rsa-2048': rsa, ed25519, p256: generateKeys() }[kind];
    const other = createAuthority({ subject: CA_SUBJECT, keys });
    const { serial } = client;
    expect(ask([other.crl()], [client, root])).toEqual(MISSING);
    expect(ask([other.crl({ revoked: [serial] }), root.crl()], [client, root])).toBeNull();
    expect(ask([other.crl(), root.crl({ revoked: [serial] })], [client, root])).toEqual(REVOKED);
    // And the other way round: what the root signed says nothing about the other CA.
    expect(ask([root.crl()], [issueClient(other), other])).toEqual(MISSING);
  });

  test('not a CA of another name with the same key', () => {
    const renamed = createAuthority({ subject: [['CN', 'renamed']], keys: root.keys });
    expect(ask([renamed.crl({ revoked: [client.serial] })], [client, root])).toEqual(MISSING);
  });

  test('and a CA with two certificates is one CA', () => {
    const again = createAuthority({ subject: CA_SUBJECT, keys: root.keys });
    expect(ask([again.crl({ revoked: [client.serial] })], [client, root])).toEqual(REVOKED);
  });

  test('not one whose content or signature was changed', () => {
    const der = derOf({ pem: root.crl({ revoked: [client.serial + 1n] }) });
    const serial = Buffer.from((client.serial + 1n).toString(16), 'hex');
    const inSerial = der.indexOf(serial) + serial.length - 1;
    expect(inSerial).toBeGreaterThan(serial.length);
    for (const at of [inSerial, der.length - 1]) {
      const damaged = Buffer.from(der);
      damaged[at] = (damaged[at] ?? 0) ^ 1;
      expect(ask([toPem('X509 CRL', damaged)], [client, root]), `byte ${at}`).toEqual(MISSING);
    }
  });
});

describe('signatures of every kind in use are verified', () => {
  const RSA = '1.2.840.113549.1.1.';
  const ECDSA = '1.2.840.10045.4.';
  const authorities = {
    rsa: createAuthority({ subject: CA_SUBJECT, keys: rsa }),
    ecdsa: root,
    ed25519: createAuthority({ subject: CA_SUBJECT, keys: ed25519 }),
  };

  test.each([
    ['rsa', `${RSA}5`, 'sha1'],
    ['rsa', `${RSA}11`, 'sha256'],
    ['rsa', `${RSA}12`, 'sha384'],
    ['rsa', `${RSA}13`, 'sha512'],
    ['ecdsa', `${ECDSA}1`, 'sha1'],
    ['ecdsa', `${ECDSA}3.2`, 'sha256'],
    ['ecdsa', `${ECDSA}3.3`, 'sha384'],
    ['ecdsa', `${ECDSA}3.4`, 'sha512'],
    ['ed25519', '1.3.101.112', null],
  ] as const)('%s %s', (kind, oid, digest) => {
    const ca = authorities[kind];
    const leaf = issueClient(ca);
    const list = resigned(ca.crl({ revoked: [leaf.serial] }), ca.key, oid, digest);
    expect(ask([list], [leaf, ca])).toEqual(REVOKED);
  });

  test('and one of an unknown kind counts for nothing', () => {
    const list = resigned(root.crl({ revoked: [client.serial] }), root.key, '1.2.3.4', 'sha256');
    expect(ask([list], [client, root])).toEqual(UNCLEAR);
    expect(ask([list, root.crl()], [client, root])).toBeNull();
  });

  test('but OpenSSL may go by it, where it is asked', () => {
    const list = resigned(root.crl({ revoked: [client.serial] }), root.key, '1.2.3.4', 'sha256');
    expect(ask([list, root.crl()], [client, root], 'refuse')).toEqual(UNCLEAR);
    expect(ask([list, root.crl({ revoked: [client.serial] })], [client, root], 'refuse')).toEqual(REVOKED);
  });
});

describe('a list that does not speak for all certificates of its issuer does not count', () => {
  const { serial } = client;
  const critical = (oid: string, value: Uint8Array): string =>
    root.crl({ revoked: [serial], extensions: [{ oid, critical: true, value }] });

  test('a delta list', () => {
    expect(ask([root.crl({ deltaOf: 1n, revoked: [serial] })], [client, root])).toEqual(UNCLEAR);
    // RFC 5280 §5.2.4 makes the mark critical; a CA that forgets to does not make a whole list of it.
    const unmarked = root.crl({ extensions: [{ oid: '2.5.29.27', value: integer(1n) }] });
    expect(ask([unmarked], [client, root])).toEqual(UNCLEAR);
    expect(ask([root.crl({ deltaOf: 1n, revoked: [serial] }), root.crl()], [client, root])).toBeNull();
  });

  test.each([
    ['of CAs only', MISSING, [element(0x82, TRUE)]],
    ['of attribute certificates only', MISSING, [element(0x85, TRUE)]],
    ['of some reasons only', UNCLEAR, [element(0x83, Uint8Array.of(6, 0x40))]],
    ['of other issuers too', UNCLEAR, [element(0x84, TRUE)]],
    ['of users only, and of other issuers too', UNCLEAR, [element(0x81, TRUE), element(0x84, TRUE)]],
    ['of users only and of CAs only', UNCLEAR, [element(0x81, TRUE), element(0x82, TRUE)]],
    ['of one distribution point', UNCLEAR, [element(0xa0, element(0xa0, element(0x86, Buffer.from('http://x/'))))]],
    ['with a flag of two bytes', UNCLEAR, [element(0x81, Uint8Array.of(0, 0))]],
    ['of no limit that exists', UNCLEAR, [element(0x86, TRUE)]],
  ])('a list %s', (_label, finding, limits) => {
    expect(ask([critical('2.5.29.28', sequence(...limits))], [client, root])).toEqual(finding);
    // Whatever it says of itself: somebody else's is none.
    expect(ask([critical('2.5.29.28', sequence(...limits))], [issueClient(stranger), stranger])).toEqual(MISSING);
  });

  test('unless what it speaks for is what is asked about', () => {
    expect(ask([critical('2.5.29.28', sequence(element(0x81, TRUE)))], [client, root])).toEqual(REVOKED);
    expect(ask([critical('2.5.29.28', sequence())], [client, root])).toEqual(REVOKED);
    expect(ask([critical('2.5.29.28', sequence(element(0x82, Uint8Array.of(0))))], [client, root])).toEqual(REVOKED);
  });

  test('a list whose limits stand there twice, or cannot be read', () => {
    const limit = { oid: '2.5.29.28', critical: true, value: sequence(element(0x81, TRUE)) };
    expect(ask([root.crl({ extensions: [limit, limit] })], [client, root])).toEqual(UNCLEAR);
    expect(ask([critical('2.5.29.28', integer(1n))], [client, root])).toEqual(UNCLEAR);
  });

  test('a list with something critical that nobody here understands', () => {
    expect(ask([critical('1.2.3.4', Uint8Array.of(5, 0))], [client, root])).toEqual(UNCLEAR);
    const harmless = [{ oid: '1.2.3.4', value: Uint8Array.of(5, 0) }];
    expect(ask([root.crl({ revoked: [serial], extensions: harmless })], [client, root])).toEqual(REVOKED);
  });
});

describe('lists about users, and about CAs', () => {
  const only = (ca: Authority, tag: number, revoked: readonly bigint[] = []): string => {
    const value = sequence(element(tag, TRUE));
    return ca.crl({ revoked, extensions: [{ oid: '2.5.29.28', critical: true, value }] });
  };
  const [USERS, CAS] = [0x81, 0x82];
  // A CA by its basic constraints, whatever its key is for.
  const middle = root.subordinate({ subject: [['CN', 'middle']], keyUsage: ['cRLSign'] });
  const leaf = issueClient(middle);
  const lists = [only(root, CAS), only(middle, USERS)];

  test('are asked about their own', () => {
    expect(ask(lists, [leaf, middle, root])).toBeNull();
    expect(ask([only(root, USERS), only(middle, USERS)], [leaf, middle, root])).toEqual(MISSING);
    expect(ask([only(root, CAS), only(middle, CAS)], [leaf, middle, root])).toEqual(MISSING);
    expect(ask([only(root, CAS, [middle.serial]), only(middle, USERS)], [leaf, middle, root])).toEqual(REVOKED);
    expect(ask([only(root, CAS), only(middle, USERS, [leaf.serial])], [leaf, middle, root])).toEqual(REVOKED);
    expect(ask([only(root, CAS), only(root, USERS, [client.serial])], [client, root])).toEqual(REVOKED);
    // As a CA it is none of the users.
    expect(ask([...lists, only(root, USERS, [middle.serial])], [leaf, middle, root])).toBeNull();
  });

  test('a certificate without basic constraints is a user', () => {
    const plain = issueClient(root, { basicConstraints: null });
    expect(ask([only(root, USERS, [plain.serial])], [plain, root])).toEqual(REVOKED);
    expect(ask([only(root, CAS)], [plain, root])).toEqual(MISSING);
  });

  test('what is certain of one CA counts for more than what is unclear of another', () => {
    const delta = middle.crl({ deltaOf: 1n });
    expect(ask([delta, root.crl()], [leaf, middle, root])).toEqual(UNCLEAR);
    expect(ask([delta, root.crl({ revoked: [middle.serial] })], [leaf, middle, root])).toEqual(REVOKED);
    expect(ask([delta], [leaf, middle, root])).toEqual(MISSING);
  });
});

describe('an RSASSA-PSS signature is verified by its parameters', () => {
  const ca = createAuthority({ subject: CA_SUBJECT, keys: rsa });
  const leaf = issueClient(ca);
  const plain = ca.crl({ revoked: [leaf.serial] });
  const askPss = (list: string): RevocationFinding | null => ask([list], [leaf, ca]);

  test.each([
    ['none said, SHA-1 and 20 bytes of salt', { hash: 'sha1', salt: 20, parameters: sequence() }],
    ['SHA-224', { hash: 'sha224', salt: 28 }],
    ['SHA-256', { hash: 'sha256', salt: 32 }],
    ['SHA-384', { hash: 'sha384', salt: 48 }],
    ['SHA-512 and the longest salt', { hash: 'sha512', salt: 190 }],
    ['no salt', { hash: 'sha256', salt: 0 }],
  ] as const)('%s', (_label, options) => {
    expect(askPss(signedPss(plain, ca.key, options))).toEqual(REVOKED);
  });

  test('a key for such signatures alone', () => {
    const keys = generateKeyPairSync('rsa-pss', { modulusLength: 2048 });
    const own = createAuthority({ subject: CA_SUBJECT, keys: { ...rsa, publicKey: keys.publicKey } });
    expect(ask([signedPss(plain, keys.privateKey, { hash: 'sha256', salt: 32 })], [leaf, own])).toEqual(REVOKED);
  });

  const sha256 = { hash: 'sha256', salt: 32 } as const;
  const [hash, mask] = [pssHash('sha256'), pssMask('sha256')];
  test.each([
    ['another salt', pssParameters(hash, mask, pssNumber(2, 31n))],
    ['another hash', pssParameters(pssHash('sha384'), pssMask('sha384'), pssNumber(2, 32n))],
    ['another trailer', pssParameters(hash, mask, pssNumber(2, 32n), pssNumber(3, 2n))],
    ['a negative salt', pssParameters(hash, mask, pssNumber(2, -2n))],
    ['a salt beyond all keys', pssParameters(hash, mask, pssNumber(2, 2n ** 40n))],
    ['another mask function', pssParameters(hash, pssMask('sha256', '1.2.3.4'), pssNumber(2, 32n))],
    ['fields out of order', pssParameters(mask, hash, pssNumber(2, 32n))],
    ['a field that is not known', pssParameters(hash, mask, pssNumber(2, 32n), element(0xa4, integer(1n)))],
    ['no sequence', integer(1n)],
    ['none at all', new Uint8Array()],
  ])('not one by %s', (_label, parameters) => {
    expect(askPss(signedPss(plain, ca.key, { ...sha256, parameters }))).toEqual(MISSING);
  });

  test('not one by another key, or under the key of another kind', () => {
    expect(askPss(signedPss(plain, generateKeys('rsa-2048').privateKey, sha256))).toEqual(MISSING);
    const list = resigned(root.crl({ revoked: [client.serial] }), root.key, '1.2.840.113549.1.1.11', 'sha256');
    expect(ask([list], [client, root])).toEqual(MISSING);
    const ecdsa = { ...sha256, parameters: pssParameters(hash, mask, pssNumber(2, 32n)) };
    expect(ask([signedPss(root.crl(), root.key, ecdsa)], [client, root])).toEqual(MISSING);
  });

  test.each([
    ['a mask by another hash', pssParameters(hash, pssMask('sha384'), pssNumber(2, 32n))],
    ['a hash that is not known', pssParameters(pssHash('1.2.3.4'), pssMask('1.2.3.4'), pssNumber(2, 32n))],
  ])('one by %s cannot be evaluated', (_label, parameters) => {
    expect(askPss(signedPss(plain, ca.key, { ...sha256, parameters }))).toEqual(UNCLEAR);
  });
});

describe('a damaged list is noticed when it is loaded', () => {
  const server = issueServer(root);
  const parts = readCrlParts({ pem: root.crl({ revoked: [1000n] }) });
  // The serial number becomes an octet string of the same length: damage that only shows inside the entries.
  const at = Buffer.from(parts.signed).indexOf(Buffer.from('020203e8', 'hex'));
  const inEntry = Buffer.from(parts.signed);
  inEntry[at] = 4;
  const damaged = toPem('X509 CRL', sequence(inEntry, parts.algorithm.bytes, bitString(parts.signature)));

  test.each(['refuse', 'warn'])('with crlExpired: %s', (crlExpired) => {
    expect(at).toBeGreaterThan(0);
    const dir = temporaryDirectory();
    try {
      const flags = {
        'tls.cert': writePem(dir.path, 'server.pem', server.certPem),
        'tls.key': writePem(dir.path, 'server.key', server.keyPem),
        'clientCert.ca': writePem(dir.path, 'ca.pem', root.certPem),
        'clientCert.crlExpired': crlExpired,
      };
      const load = (pem: string): unknown =>
        loadCredentials(configured({ ...flags, 'clientCert.crl': writePem(dir.path, 'list.pem', pem) }));
      expect(load(root.crl({ revoked: [1000n] }))).toBeDefined();
      const [problem = '', ...more] = problemsOf(() => load(damaged));
      expect(more).toEqual([]);
      expect(problem).toBe(`clientCert.crl: ${join(dir.path, 'list.pem')} has a damaged revocation list (number 1)`);
    } finally {
      dir.remove();
    }
  });

  test('and so is a list with an unknown field', () => {
    const fields = readDer(parts.signed).children.map(({ bytes }) => bytes);
    const extra = sequence(...fields, element(0xa1, sequence()));
    const pem = toPem('X509 CRL', sequence(extra, parts.algorithm.bytes, bitString(parts.signature)));
    expect(() => readCrl('list.crl', { label: 'X509 CRL', pem })).toThrow('unknown field');
  });
});
