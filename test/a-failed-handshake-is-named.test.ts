import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import { connect as tlsConnect } from 'node:tls';
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
function inPieces(raw: Socket, size: number): Duplex {
  const pieces = new Duplex({
    read: () => void raw.resume(),
    write(chunk: Buffer, _encoding, done) {
      const send = (at: number): void => {
        if (at >= chunk.length) return done();
        raw.write(chunk.subarray(at, at + size), () => setImmediate(send, at + size));
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

  it('invalid, for a certificate with a wrong signature that comes in pieces', async () => {
    const namesake = createAuthority({ subject: CA_SUBJECT, keyIdentifiers: false });
    const { certPem, keyPem } = issueClient(namesake, { keyIdentifiers: false });
    const socket = tlsConnect({
      socket: inPieces(connect(sidecar.port, '127.0.0.1').setNoDelay(true), 300),
      cert: certPem,
      key: keyPem,
      rejectUnauthorized: false,
    });
    socket.on('error', () => undefined).resume();
    await once(socket, 'close');
    const detail = 'certificate signature failure';
    expect(await recordOf('invalid')).toMatchObject({ level: 'warn', detail, peer: PEER });
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
