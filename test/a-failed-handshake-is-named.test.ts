import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as tlsConnect, type SecureContextOptions } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { CA_SUBJECT, createAuthority, issueClient, makePki } from './support/pki.js';
import { expectRefused, refusedAs } from './support/refusal.js';
import { startSidecar, type LogLine, type Sidecar } from './support/sidecar.js';

const pki = makePki();
let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    pki,
    upstream: application.url,
    settings: {
      'tls.ciphers': 'ECDHE-ECDSA-AES256-GCM-SHA384',
      'tls.handshakeTimeout': '300ms',
      'limits.connections': '1',
      'log.level': 'debug',
    },
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const NAMELESS = { subject: null, issuer: null, serial: null, sha256: null, notAfter: null };
const PEER = expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string;

const counted = (result: string, reason: string): Promise<number> =>
  sidecar.metric(`mtls_sidecar_handshakes_total{result="${result}",reason="${reason}"}`);

/** Connects, does what is asked, and gives everything that came back until the sidecar closed. */
async function plainly(act: (socket: Socket) => void): Promise<string> {
  const socket = connect(sidecar.port, '127.0.0.1');
  let received = '';
  socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1'))).on('error', () => undefined);
  const closed = once(socket, 'close');
  await once(socket, 'connect');
  act(socket);
  await closed;
  return received;
}

function expectNothingInside(): void {
  expect(sidecar.requests()).toEqual([]);
  expect(application.seen).toEqual([]);
}

/** What is written to a socket, a few bytes at a time. */
function inPieces(raw: Socket, { size, alter = (bytes) => bytes }: Pieces): Duplex {
  let writes = 0;
  const pieces = new Duplex({
    read: () => void raw.resume(),
    write(chunk: Buffer, _encoding, done) {
      const bytes = alter(chunk, (writes += 1));
      const send = (at: number): void => {
        if (at >= bytes.length) return done();
        raw.write(bytes.subarray(at, at + size), () => setImmediate(send, at + size));
      };
      send(0);
    },
    final: (done) => void raw.end(done),
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => pieces.push(chunk));
  raw.on('error', () => pieces.destroy()).once('close', () => pieces.destroy());
  return pieces;
}

interface Pieces {
  readonly size: number;
  /** @param count of writes, this one included */
  readonly alter?: (bytes: Buffer, count: number) => Buffer;
}

/** Of the flight of a caller in TLS 1.3, the third encrypted record: after Certificate and CertificateVerify. */
function withBadFinished(flight: Buffer): Buffer {
  const encrypted = 23;
  const bytes = Buffer.from(flight);
  let count = 0;
  for (let at = 0; at + 5 <= bytes.length;) {
    const end = at + 5 + bytes.readUInt16BE(at + 3);
    count += bytes[at] === encrypted ? 1 : 0;
    if (count === 3 && end <= bytes.length) {
      bytes.writeUInt8(bytes.readUInt8(end - 1) ^ 1, end - 1);
      break;
    }
    at = end;
  }
  return bytes;
}

const namesake = createAuthority({ subject: CA_SUBJECT, keyIdentifiers: false });
const forged = issueClient(namesake, { keyIdentifiers: false });
const past = { notBefore: Date.now() - 7_200_000, notAfter: Date.now() - 3_600_000 };
const forgedAndExpired = issueClient(namesake, { keyIdentifiers: false, ...past });

/** Shows a certificate whose signature is wrong, asks, and gives all that came back. */
async function withForgedSignature(pieces: Pieces, options: SecureContextOptions = {}): Promise<string> {
  const socket = tlsConnect({
    socket: inPieces(connect(sidecar.port, '127.0.0.1').setNoDelay(true), pieces),
    cert: forged.certPem,
    key: forged.keyPem,
    rejectUnauthorized: false,
    ...options,
  });
  let received = '';
  socket.on('error', () => undefined).on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
  socket.once('secureConnect', () => socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'));
  await new Promise((resolve) => socket.once('close', resolve).once('error', resolve));
  return received;
}

async function recordOf(reason: string): Promise<LogLine> {
  return sidecar.logged((line) => line['reason'] === reason);
}

describe('a handshake that fails is recorded and counted once, and nothing of it is read as HTTP', () => {
  it.each([
    [
      'tls_version',
      { minVersion: 'TLSv1.1', maxVersion: 'TLSv1.1', ciphers: 'DEFAULT@SECLEVEL=0' },
      'unsupported protocol',
    ],
    ['no_shared_cipher', { maxVersion: 'TLSv1.2', ciphers: 'ECDHE-ECDSA-AES128-GCM-SHA256' }, 'no shared cipher'],
    ['handshake_failed', { ALPNProtocols: ['h2'] }, 'no application protocol'],
  ] as const)('%s', async (reason, options, detail) => {
    await expect(openRaw(sidecar, { ...options })).rejects.toThrow(/alert/);
    expect(await recordOf(reason)).toMatchObject({ level: 'warn', detail, tlsVersion: null, peer: PEER, ...NAMELESS });
    expect(await counted('failed', reason)).toBe(1);
    expectNothingInside();
  });

  it('handshake_failed, for bytes that are neither TLS nor HTTP', async () => {
    await plainly((socket) => socket.write('SSH-2.0-OpenSSH_9.6\r\n'));
    await sidecar.logged(({ detail }) => detail === 'wrong version number');
    expect(await counted('failed', 'handshake_failed')).toBe(2);
    expectNothingInside();
  });

  it.each([
    ['sends nothing', ''],
    ['stops in the middle of its first record', '\x16\x03\x01\x02\x00\x01'],
  ])('handshake_timeout, for a caller who %s', async (_what, bytes) => {
    const before = await counted('failed', 'handshake_timeout');
    expect(await plainly((socket) => socket.write(Buffer.from(bytes, 'latin1')))).toBe('');
    expect(await recordOf('handshake_timeout')).toMatchObject({
      detail: 'no complete handshake within 300 ms',
      tlsVersion: null,
      peer: PEER,
      ...NAMELESS,
    });
    expect(await counted('failed', 'handshake_timeout')).toBe(before + 1);
    expectNothingInside();
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'invalid, for a wrong signature in pieces, with the page: %s',
    async (version) => {
      const before = await counted('refused', 'invalid');
      for (const size of [40, 300, 1_000]) {
        const answer = await withForgedSignature({ size }, { minVersion: version, maxVersion: version });
        expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
        expect(answer).toContain('<title>400 The SSL certificate error</title>');
      }
      const record = { level: 'warn', detail: 'certificate signature failure', tlsVersion: version, peer: PEER };
      expect(await sidecar.logged((line) => line['tlsVersion'] === version)).toMatchObject({
        ...record,
        reason: 'invalid',
      });
      expect(await counted('refused', 'invalid')).toBe(before + 3);
      expectNothingInside();
    },
  );

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('expired, for one that is forged besides: %s', async (version) => {
    const before = await counted('refused', 'expired');
    const records = sidecar.refusals().length;
    const { certPem, keyPem } = forgedAndExpired;
    const options = { cert: certPem, key: keyPem, minVersion: version, maxVersion: version };
    for (const size of [40, 300, 10_000]) {
      const answer = await withForgedSignature({ size }, options);
      expect(answer).toContain('<title>400 The SSL certificate error</title>');
    }
    const record = { reason: 'expired', detail: 'certificate has expired', tlsVersion: version };
    expect(sidecar.refusals().slice(records)).toMatchObject([record, record, record]);
    expect(await counted('refused', 'expired')).toBe(before + 3);
    expectNothingInside();
  });

  it('invalid, for a wrong signature in a handshake that fails besides', async () => {
    const alter = (bytes: Buffer, count: number): Buffer => (count === 1 ? bytes : withBadFinished(bytes));
    const before = await counted('refused', 'invalid');
    expect(await withForgedSignature({ size: 300, alter }, { minVersion: 'TLSv1.3' })).toBe('');
    const isIt = ({ reason, tlsVersion }: LogLine): boolean => reason === 'invalid' && tlsVersion === null;
    expect(await sidecar.logged(isIt)).toMatchObject({ detail: 'certificate signature failure', peer: PEER });
    expect(await counted('refused', 'invalid')).toBe(before + 1);
    expectNothingInside();
  });

  it('handshake_aborted, for a caller who leaves: counted, but a line only for those who look for it', async () => {
    await plainly((socket) => socket.destroy());
    expect(await recordOf('handshake_aborted')).toMatchObject({ level: 'debug', peer: PEER });
    expect(await counted('aborted', 'handshake_aborted')).toBe(1);
    expect(sidecar.refusals().some(({ reason }) => reason === 'handshake_aborted')).toBe(false);
  });
});

describe('plain HTTP on the TLS port gets nginx’s page', () => {
  it.each([
    ['a request', 'GET /im HTTP/1.1\r\nHost: localhost\r\n\r\n'],
    ['two requests', 'GET /im HTTP/1.1\r\nHost: localhost\r\n\r\n'.repeat(2)],
    ['a request with a body', 'POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc'],
  ])('%s', async (_what, bytes) => {
    const before = await counted('refused', 'plain_http');
    const answer = await plainly((socket) => socket.write(bytes));
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer).toContain('400 The plain HTTP request was sent to HTTPS port');
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
    expect(answer).not.toContain('Location');
    expect(await recordOf('plain_http')).toMatchObject({ level: 'warn', tlsVersion: null, peer: PEER, ...NAMELESS });
    expect(await counted('refused', 'plain_http')).toBe(before + 1);
    expectNothingInside();
  });
});

it('one connection too many gets a 503 and its name into the record', async () => {
  const inside = await openRaw(sidecar);
  await sidecar.logged(({ msg }) => msg === 'connection admitted');
  const answer = await expectRefused(
    { sidecar, application },
    {},
    refusedAs('overloaded', '1 connections are open', pki.client),
  );
  expect(answer.headers['retry-after']).toBe('1');
  inside.socket.destroy();
  await sidecar.logged(({ msg }) => msg === 'connection closed');
  expect((await call(sidecar)).status).toBe(200);
});
