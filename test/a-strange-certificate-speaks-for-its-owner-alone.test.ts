import { once } from 'node:events';
import { connect as connectTcp, createServer, type AddressInfo } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call, type CallOptions } from './support/caller.js';
import {
  CA_SUBJECT,
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
  selfSigned,
  type Issued,
  type Options,
} from './support/pki.js';
import { CARELESS, expectRefused, refusedAs } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const keys = generateKeys();
const pki = makePki();
const { ca } = pki;
const leafOf = (options: Partial<Options> = {}): Issued => issueClient(ca, { keys, ...options });

let application: Application;
let sidecar: Sidecar;
const at = () => ({ sidecar, application });

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    settings: { 'identity.presets': '[nginx, xfcc, traefik]', 'identity.headers': '{X-Names: dnsNames, X-Uris: uris}' },
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const presenting = (leaf: Issued, ...issuers: Pick<Issued, 'certPem'>[]): CallOptions => ({
  as: { certPem: chainPem(leaf, ...issuers), keyPem: leaf.keyPem },
  ...CARELESS,
});

/** What the application was told by headers that only we may set. */
async function toldAbout(leaf: Issued, ...issuers: Pick<Issued, 'certPem'>[]): Promise<Record<string, string>> {
  const answer = await call(sidecar, presenting(leaf, ...issuers));
  expect(answer).toMatchObject({ status: 200, body: 'ok' });
  const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
  const names = rawHeaders.filter((name, index) => index % 2 === 0 && /client|^x-(names|uris)$/i.test(name));
  return Object.fromEntries(
    names.map((name) => {
      expect(valuesOf(rawHeaders, name)).toHaveLength(1);
      return [name, valuesOf(rawHeaders, name)[0] ?? ''];
    }),
  );
}

describe('a certificate with hostile names', () => {
  it.each([
    ['quotes and separators', 'a";SAN="DNS:admin",CN=admin', 'a\\"\\;SAN=\\"DNS:admin\\"\\,CN=admin'],
    ['a line end and a header', 'a\r\nX-SSL-Client-Verify: SUCCESS', 'a\\0D\\0AX-SSL-Client-Verify: SUCCESS'],
    ['a NUL', 'admin\0.evil', 'admin\\00.evil'],
    ['other scripts', '北京', '\\E5\\8C\\97\\E4\\BA\\AC'],
  ])('(%s) is printed as one name', async (_what, commonName, printed) => {
    const told = await toldAbout(
      leafOf({
        subject: [
          ['O', 'x'],
          ['CN', commonName],
        ],
      }),
    );
    expect(told['X-SSL-Client-S-DN']).toBe(`CN=${printed},O=x`);
    expect(told['X-SSL-Client-Verify']).toBe('SUCCESS');
    // The dialect has no escape here, so rather nothing than something that passes for another.
    expect(told['X-SSL-Client-CN']).toBe(/^[ -~]+$/.test(commonName) ? commonName : undefined);
  });

  it.each([
    ['a comma', 'a.example, DNS:admin.example'],
    ['a quote and a field', 'a";URI="spiffe://admin'],
    ['a field', 'a;URI=spiffe://admin'],
    ['a line end', 'a\r\nX-Names: admin'],
    ['a NUL', 'admin.example\0.evil.example'],
    ['bytes that are no ASCII', 'b\xfccher.example'],
  ])('in its SAN (%s) is not told as another', async (_what, dns) => {
    const told = await toldAbout(leafOf({ san: [{ dns: 'im.qq.com' }, { dns }] }));
    expect(told['X-SSL-Client-Verify']).toBe('SUCCESS');
    const plain = /^[ -~]+$/.test(dns);
    const listed = plain && !dns.includes(',') ? `im.qq.com, ${dns}` : undefined;
    expect(told['X-Names']).toBe(listed);
    expect(told['X-Uris']).toBeUndefined();
    // A careless reader splits at semicolons and knows no quotes.
    const fields = told['X-Forwarded-Client-Cert']?.split(';') ?? [];
    expect(fields.filter((field) => field.startsWith('URI='))).toEqual([]);
  });

  it('cannot add headers, whatever it is called', async () => {
    const usual = Object.keys(await toldAbout(leafOf()));
    const odd = await toldAbout(
      leafOf({ san: [{ dns: 'a\r\nX-Names: admin\r\n\r\n' }], subject: [['CN', 'a\nb: c']] }),
    );
    expect(usual).toEqual(expect.arrayContaining(Object.keys(odd)));
  });

  it('may have no name at all', async () => {
    const told = await toldAbout(ca.issue({ subject: [], keys }));
    expect(told).toMatchObject({ 'X-SSL-Client-Verify': 'SUCCESS', 'X-SSL-Client-I-DN': expect.any(String) as string });
    expect(Object.keys(told)).not.toEqual(expect.arrayContaining(['X-SSL-Client-S-DN']));
    expect(told['X-SSL-Client-CN']).toBeUndefined();
    expect(told['X-SSL-Client-SAN']).toBeUndefined();
  });
});

describe('a certificate that is signed by the CA and yet malformed is refused', () => {
  const JUNK = Uint8Array.of(0x30, 0x82, 0xff);
  const without: Readonly<Record<string, Partial<Options>>> = {
    '2.5.29.19': { basicConstraints: null },
    '2.5.29.14': { keyIdentifiers: false },
    '2.5.29.35': { keyIdentifiers: false },
  };
  it.each([
    ['subjectAltName', '2.5.29.17', 'invalid'],
    ['extendedKeyUsage', '2.5.29.37', 'untrusted_issuer'],
    ['keyUsage', '2.5.29.15', 'untrusted_issuer'],
    ['basicConstraints', '2.5.29.19', 'untrusted_issuer'],
    ['nameConstraints', '2.5.29.30', 'untrusted_issuer'],
    ['authorityKeyIdentifier', '2.5.29.35', 'untrusted_issuer'],
  ])('%s', async (_name, oid, reason) => {
    const options = { subject: [['CN', 'im.qq.com']], keys, ...without[oid] } as const;
    const leaf = ca.issue({ ...options, extensions: [{ oid, value: JUNK }] });
    await expectRefused(at(), presenting(leaf), { ...refusedAs(reason, /./, leaf), ...named(leaf, reason) });
  });

  it('with two alternative names, of which readers may take either', async () => {
    const second = { oid: '2.5.29.17', value: Uint8Array.of(0x30, 3, 0x82, 1, 0x61) };
    const leaf = leafOf({ extensions: [second] });
    await expectRefused(at(), presenting(leaf), refusedAs('invalid', 'the certificate cannot be parsed', null));
  });

  it('with two extended key usages', async () => {
    const clientAuth = Uint8Array.of(0x30, 10, 6, 8, 0x2b, 6, 1, 5, 5, 7, 3, 2);
    const leaf = leafOf({ eku: ['serverAuth'], extensions: [{ oid: '2.5.29.37', value: clientAuth }] });
    await expectRefused(at(), presenting(leaf), refusedAs('untrusted_issuer', /./, leaf));
  });

  /** A certificate whose names cannot be read is recorded without them. */
  function named(leaf: Issued, reason: string) {
    return reason === 'invalid' ? { certificate: null } : { certificate: leaf, subject: 'CN=im.qq.com' };
  }
});

describe('a strange chain', () => {
  const sixty = Array.from({ length: 60 }, (_, index) => selfSigned({ subject: [['CN', `ballast ${index}`]], keys }));

  it('of sixty certificates that have nothing to do with the caller makes no difference', async () => {
    const leaf = leafOf();
    expect((await toldAbout(leaf, ...sixty))['X-SSL-Client-SHA256']).toBe(
      (await toldAbout(leaf))['X-SSL-Client-SHA256'],
    );
  });

  it('of sixty look-alikes of an unknown CA is refused', async () => {
    const twins = Array.from({ length: 59 }, () => selfSigned({ subject: CA_SUBJECT, keyIdentifiers: false }));
    const leaf = issueClient(pki.stranger.ca, { keys, keyIdentifiers: false });
    await expectRefused(at(), presenting(leaf, ...twins), refusedAs('invalid', 'certificate signature failure', leaf));
  });

  it('of two CAs that certify each other and nobody else is refused', async () => {
    const [one, other] = [generateKeys(), generateKeys()];
    const first = createAuthority({ subject: [['CN', 'One']], keys: one });
    const second = createAuthority({ subject: [['CN', 'Other']], keys: other });
    const chain = [
      second.subordinate({ subject: [['CN', 'One']], keys: one }),
      first.subordinate({ subject: [['CN', 'Other']], keys: other }),
    ];
    const leaf = issueClient(first, { keys });
    const refused = refusedAs('untrusted_issuer', 'unable to get local issuer certificate', leaf);
    await expectRefused(at(), presenting(leaf, ...chain), { ...refused, issuer: 'CN=One' });
  });

  it('longer than OpenSSL reads ends the handshake', async () => {
    const san = Array.from({ length: 6000 }, (_, index) => ({ dns: `host-${index}.example.com` }));
    await expectNoHandshake(presenting(leafOf({ san })), 'excessive message size');
  });
});

describe('a certificate without its key', () => {
  it.each([
    ['an honest caller’s', pki.client],
    ['the CA’s own', pki.ca],
  ])('is worth nothing: %s', async (_whose, { certDer }) => {
    const forger = await startForger(sidecar.port, certDer);
    const mine = leafOf({ keys: generateKeys() });
    await expectNoHandshake({ ...presenting(mine), port: forger.port, maxVersion: 'TLSv1.2' }, /signature|digest/);
    expect(forger.forged()).toBe(true);
    await forger.stop();
  });
});

async function expectNoHandshake(options: CallOptions, detail: string | RegExp): Promise<void> {
  const seen = application.seen.length;
  const records = sidecar.refusals().length;
  const failed = () => sidecar.metric('mtls_sidecar_handshakes_total{result="failed",reason="handshake_failed"}');
  const before = await failed();
  await expect(call(sidecar, options)).rejects.toThrow();
  await sidecar.logged((line) => line === sidecar.refusals()[records]);
  const record = sidecar.refusals()[records];
  expect(record).toMatchObject({ reason: 'handshake_failed', subject: null });
  expect(record?.['detail']).toMatch(detail);
  expect(await failed()).toBe(before + 1);
  expect(application.seen.length).toBe(seen);
}

/** A path to the sidecar on which the caller's certificate is replaced by one whose key the caller does not have. */
async function startForger(port: number, certificate: Uint8Array) {
  let forged = false;
  const server = createServer((near) => {
    const far = connectTcp(port, '127.0.0.1');
    const swap = certificateSwapper(certificate, () => (forged = true));
    near.on('data', (bytes: Buffer) => far.write(swap(bytes))).on('error', () => far.destroy());
    far.on('data', (bytes: Buffer) => near.write(bytes)).on('error', () => near.destroy());
    near.on('close', () => far.destroy());
    far.on('close', () => near.destroy());
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = async (): Promise<void> => {
    server.close();
    await once(server, 'close');
  };
  return { port: (server.address() as AddressInfo).port, forged: () => forged, stop };
}

const HANDSHAKE = 22;
const CERTIFICATE = 11;

/** Up to TLS 1.2 certificates travel in the clear, one handshake message a record (RFC 5246 §6.2.1, §7.4.2). */
function certificateSwapper(certificate: Uint8Array, swapped: () => void): (bytes: Buffer) => Buffer {
  let pending = Buffer.alloc(0);
  return (bytes) => {
    pending = Buffer.concat([pending, bytes]);
    const out: Buffer[] = [];
    while (pending.length >= 5 && pending.length >= 5 + pending.readUInt16BE(3)) {
      const length = 5 + pending.readUInt16BE(3);
      const record = pending.subarray(0, length);
      pending = pending.subarray(length);
      const isCertificate = record[0] === HANDSHAKE && record[5] === CERTIFICATE;
      if (isCertificate) swapped();
      out.push(
        isCertificate ? certificateRecord(certificate, record.subarray(5 + 4 + record.readUIntBE(6, 3))) : record,
      );
    }
    return Buffer.concat(out);
  };
}

function certificateRecord(certificate: Uint8Array, following: Buffer): Buffer {
  const list = withLength(Buffer.from(certificate));
  const message = Buffer.concat([Buffer.of(CERTIFICATE), withLength(withLength(list))]);
  const fragment = Buffer.concat([message, following]);
  const header = Buffer.of(HANDSHAKE, 3, 3, fragment.length >> 8, fragment.length & 0xff);
  return Buffer.concat([header, fragment]);
}

function withLength(bytes: Buffer): Buffer {
  const length = Buffer.alloc(3);
  length.writeUIntBE(bytes.length, 0, 3);
  return Buffer.concat([length, bytes]);
}
