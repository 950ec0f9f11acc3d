import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { UnreadableCertificateError } from '../src/identify/der.js';
import { readSession } from '../src/identify/session.js';
import { SessionTickets } from '../src/trust/session-tickets.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import type { Identity } from './support/caller.js';
import { chainPem, createAuthority, generateKeys, issueClient, makePki, temporaryDirectory } from './support/pki.js';
import { endPrograms, startRun } from './support/program.js';
import { sidecarForTest, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const pki = makePki();
const keys = generateKeys();
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle']] });
const below = issueClient(middle, { keys });
/** Its intermediate is in no bundle: it has to bring it along. */
const deep: Identity = { certPem: chainPem(below, middle), keyPem: below.keyPem };

const directory = temporaryDirectory();
let count = 0;
function keyFile(bytes: Buffer = randomBytes(80)): string {
  const path = join(directory.path, `ticket-${(count += 1)}.key`);
  writeFileSync(path, bytes, { mode: 0o600 });
  return path;
}

let application: Application;

beforeAll(async () => {
  application = await startApplication();
});

afterEach(endPrograms);

afterAll(async () => {
  await application.stop();
  directory.remove();
});

/** One replica: what it remembers is its own. */
async function replica(keyFiles: readonly string[], options: Parameters<typeof sidecarForTest>[0] = {}) {
  return sidecarForTest({
    pki,
    upstream: application.url,
    ...options,
    settings: {
      'reload.interval': '1h',
      'identity.presets': '[nginx, xfcc]',
      'identity.headers': '{X-Chain: chainDer, X-Reused: sessionReused}',
      ...(keyFiles.length === 0 ? {} : { 'tls.sessions.ticketKeys': keyFiles.join(',') }),
      ...options.settings,
    },
  });
}

/** What the application learned about the caller of its last request. */
function told(): Record<string, string> {
  const { rawHeaders } = application.seen.at(-1) ?? { rawHeaders: [] };
  const names = rawHeaders.filter((name, index) => index % 2 === 0 && /client|^x-chain$/i.test(name));
  return Object.fromEntries(names.map((name) => [name, valuesOf(rawHeaders, name).join('|')]));
}

const reusedHeader = (): string[] => valuesOf(application.seen.at(-1)?.rawHeaders ?? [], 'X-Reused');

describe.each(['TLSv1.2', 'TLSv1.3'] as const)('with %s', (version) => {
  it.each([80, 48])('another replica with the same key of %i bytes resumes it', async (size) => {
    const shared = keyFile(randomBytes(size));
    const [one, other] = [await replica([shared]), await replica([shared])];
    const { session } = await visit(one, { version });
    const before = told();
    expect(await visit(other, { version, session })).toMatchObject({ status: 200, reused: true });
    expect(told()).toEqual(before);
    expect(reusedHeader()).toEqual(['r']);
    expect(other.requests().at(-1)).toMatchObject({ status: 200 });
  });

  it('a replica that was never shown the intermediates asks for them, once', async () => {
    const shared = keyFile();
    const [one, other] = [await replica([shared]), await replica([shared])];
    const first = await visit(one, { as: deep, version });
    const before = told();
    expect(before['X-Chain']).toBeDefined();
    const elsewhere = await visit(other, { as: deep, version, session: first.session });
    expect(elsewhere).toMatchObject({ status: 200, reused: false });
    expect(told()).toEqual(before);
    // What it was given there is good for both, and so is what it had.
    for (const sidecar of [other, one]) {
      for (const { session } of [elsewhere, first]) {
        expect(await visit(sidecar, { as: deep, version, session })).toMatchObject({ status: 200, reused: true });
        expect(told()).toEqual(before);
      }
    }
  });

  it('a replica whose bundle has the intermediate needs none', async () => {
    const shared = keyFile();
    const files = { 'clientCert.ca': chainPem(pki.ca, middle) };
    const [one, other] = [await replica([shared], { files }), await replica([shared], { files })];
    const { session } = await visit(one, { as: deep, version });
    expect(await visit(other, { as: deep, version, session })).toMatchObject({ status: 200, reused: true });
  });

  it('nobody else does', async () => {
    const shared = keyFile();
    const { session } = await visit(await replica([shared]), { version });
    const stranger = createAuthority({ subject: [['CN', 'Another CA']] });
    const others = [
      await replica([]),
      await replica([keyFile()]),
      await replica([shared], { files: { 'clientCert.ca': chainPem(pki.ca, stranger) } }),
      await replica([shared], { settings: { 'clientCert.depth': '0' } }),
      await replica([shared], { settings: { 'clientCert.purpose': 'any' } }),
      await replica([shared], { settings: { 'tls.securityLevel': '1' } }),
      // A session keeps the cipher that it began with, even one that a replica would not begin with.
      await replica([shared], { settings: { 'tls.ciphers': 'ECDHE+CHACHA20' } }),
      await replica([shared], { settings: { 'tls.curves': 'P-256' } }),
      await replica([shared], { files: { 'clientCert.crl': pki.ca.crl() } }),
    ];
    for (const other of others) {
      expect(await visit(other, { version, session })).toMatchObject({ status: 200, reused: false });
    }
    const foreign = await replica([shared], { files: { 'clientCert.ca': stranger.certPem } });
    expect(await visit(foreign, { version, session })).toMatchObject({ status: 400, reused: false });
  });

  it('nobody does where resumption is off', async () => {
    const shared = keyFile();
    const { session } = await visit(await replica([shared]), { version });
    const off = await replica([shared], { settings: { 'tls.sessions.resumption': 'false' } });
    expect(await visit(off, { version, session })).toMatchObject({ status: 200, reused: false });
  });

  it('a caller revoked meanwhile is refused although the key is shared', async () => {
    const shared = keyFile();
    const [good, bad] = [pki.ca.crl(), pki.ca.crl({ revoked: [pki.client.serial] })];
    const one = await replica([shared], { files: { 'clientCert.crl': good } });
    const other = await replica([shared], { files: { 'clientCert.crl': bad } });
    const { session } = await visit(one, { version });
    expect(await visit(other, { version, session })).toMatchObject({ status: 400, reused: false });
    expect(other.refusals().at(-1)).toMatchObject({ reason: 'revoked' });
  });

  it('a caller without a certificate gains nothing from the key', async () => {
    const shared = keyFile();
    const lenient = await replica([shared]);
    const { session } = await visit(lenient, { as: null, version });
    expect(await visit(await replica([shared]), { as: null, version, session })).toMatchObject({ status: 400 });
  });

  it('an older key still opens, and what it opened is sealed with the newest', async () => {
    const [older, newer] = [keyFile(), keyFile()];
    const before = await visit(await replica([older]), { version });
    const rotating = await replica([newer, older]);
    const renewed = await visit(rotating, { version, session: before.session });
    expect(renewed).toMatchObject({ status: 200, reused: true });
    const rotated = await replica([newer]);
    expect(await visit(rotated, { version, session: renewed.session })).toMatchObject({ status: 200, reused: true });
    expect(await visit(rotated, { version, session: before.session })).toMatchObject({ status: 200, reused: false });
  });

  it('a ticket that was tampered with is worth nothing', async () => {
    const sidecar = await replica([keyFile()]);
    const { session = Buffer.alloc(0) } = await visit(sidecar, { as: deep, version });
    // Node hands it out as ASN.1: the ticket is the longest run of octets that looks random, near the end.
    const spoilt = Buffer.from(session);
    const at = spoilt.length - 200;
    spoilt[at] = (spoilt[at] ?? 0) ^ 1;
    expect(await visit(sidecar, { as: deep, version, session: spoilt })).toMatchObject({ status: 200, reused: false });
    expect(await visit(sidecar, { as: deep, version, session })).toMatchObject({ status: 200, reused: true });
  });
});

it('a Node that cannot be given the keys gives no tickets', () => {
  const tickets = new SessionTickets([randomBytes(80)], 'trust');
  expect(() => tickets.useIn({ context: {} }, true)).toThrow(/tls\.sessions\.resumption/);
});

it('each ticket is sealed with an IV of its own (RFC 5077 §4)', () => {
  interface Handle {
    enableTicketKeyCallback(): void;
    onticketkeycallback?: (name: Buffer, iv: Buffer, seals: boolean) => [number, Buffer, Buffer, Buffer, Buffer];
  }
  const handle: Handle = { enableTicketKeyCallback: () => undefined };
  new SessionTickets([randomBytes(80)], 'trust').useIn({ context: handle }, true);
  const ivs = Array.from({ length: 1_000 }, () => {
    const iv = handle.onticketkeycallback?.(Buffer.alloc(16), Buffer.alloc(16), true)[4];
    return iv?.toString('hex');
  });
  expect(new Set(ivs).size).toBe(1_000);
  expect(ivs.every((iv) => iv?.length === 32)).toBe(true);
});

/** The other end's would not do: newer versions of Node put a name of their own in front of it. */
async function sessionOfAServer(): Promise<Buffer> {
  const { ca, server: own, client } = pki;
  const server = createServer({ cert: own.certPem, key: own.keyPem, ca: ca.certPem, requestCert: true });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const caller = connect({ port, host: '127.0.0.1', ca: ca.certPem, cert: client.certPem, key: client.keyPem });
  const [socket] = (await once(server, 'secureConnection')) as [TLSSocket];
  const session = socket.getSession();
  caller.destroy();
  server.close();
  return session ?? Buffer.alloc(0);
}

it('what is no session of OpenSSL is not read', async () => {
  const session = await sessionOfAServer();
  const { leaf, complaint } = readSession(session);
  expect([Buffer.from(leaf ?? []), complaint]).toEqual([Buffer.from(pki.client.certDer), 0]);
  expect(readSession(Buffer.from('3003020101', 'hex'))).toEqual({ leaf: null, complaint: 0 });
  expect(readSession(Buffer.from('3005a50302011a', 'hex'))).toEqual({ leaf: null, complaint: 26 });
  for (let length = 0; length < session.length; length++) {
    expect(() => readSession(session.subarray(0, length))).toThrow(UnreadableCertificateError);
  }
  // More behind it, another type, a length without an end, one beyond the end, a complaint that is no number; and a
  // field of a later OpenSSL, within whose content there is something like a certificate.
  const hidden = `3025bf1f22${'00'.repeat(30)}a3020500`;
  for (const wrong of [
    hidden,
    '300302010100',
    '3103020101',
    '3080020101',
    '30030203010101',
    '3005a503040105',
    '3084',
  ]) {
    expect(() => readSession(Buffer.from(wrong, 'hex'))).toThrow(UnreadableCertificateError);
  }
});

it('the next process resumes it, after a restart', async () => {
  const settings = { 'tls.sessions.ticketKeys': keyFile() };
  const first = await startRun(application.url, settings, pki);
  const { session } = await visit(first, { version: 'TLSv1.3' });
  first.child.kill('SIGTERM');
  await first.ended();
  const second = await startRun(application.url, settings, pki);
  expect(await visit(second, { version: 'TLSv1.3', session })).toMatchObject({ status: 200, reused: true });
});

describe('ticket keys follow their files', () => {
  const version = 'TLSv1.3';
  const reload = async (sidecar: Sidecar) => (await sidecar.admin('/reload', 'POST')).status;

  it('to good ones, to bad ones, and back', async () => {
    const file = keyFile();
    const [first, second] = [randomBytes(80), randomBytes(48)];
    writeFileSync(file, first);
    const sidecar = await replica([file]);
    const one = await visit(sidecar, { version });
    writeFileSync(file, second);
    expect(await reload(sidecar)).toBe(200);
    expect(await visit(sidecar, { version, session: one.session })).toMatchObject({ status: 200, reused: false });
    const two = await visit(sidecar, { version });
    writeFileSync(file, randomBytes(47));
    expect(await reload(sidecar)).toBe(500);
    const line = await sidecar.logged(({ msg }) => msg.startsWith('reload refused'));
    expect(line['detail']).toBe(`tls.sessions.ticketKeys: ${file} has 47 bytes; a ticket key is 80 or 48 random bytes`);
    expect(await visit(sidecar, { version, session: two.session })).toMatchObject({ status: 200, reused: true });
    writeFileSync(file, first);
    expect(await reload(sidecar)).toBe(200);
    expect(await visit(sidecar, { version, session: one.session })).toMatchObject({ status: 200, reused: true });
    expect(await visit(sidecar, { version, session: two.session })).toMatchObject({ status: 200, reused: false });
  });

  it('without being asked', async () => {
    const file = keyFile();
    const sidecar = await replica([file], { settings: { 'reload.interval': '100ms' } });
    const { session } = await visit(sidecar, { version });
    writeFileSync(file, randomBytes(80));
    await sidecar.logged(({ msg }) => msg === 'reloaded');
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: false });
  });

  it.each([
    ['a missing one', () => [join(directory.path, 'nowhere')], /^tls\.sessions\.ticketKeys: .*nowhere cannot be read/],
    ['an empty one', () => [keyFile(Buffer.alloc(0))], /^tls\.sessions\.ticketKeys: .* has 0 bytes/],
    ['a second one that is text', () => [keyFile(), keyFile(Buffer.from('secret\n'))], /has 7 bytes/],
  ])('and a start with %s is refused', async (_what, files, message) => {
    await expect(replica(files())).rejects.toThrow(message);
  });

  it('and one that is named twice is refused', async () => {
    const file = keyFile();
    await expect(replica([file, file])).rejects.toThrow(/tls\.sessions\.ticketKeys \(.*\): names a file twice/);
  });
});
