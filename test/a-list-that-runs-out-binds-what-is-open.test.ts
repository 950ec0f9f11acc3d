import { writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { Duplex } from 'node:stream';
import { connect as connectTls } from 'node:tls';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, tlsOptions, type Identity } from './support/caller.js';
import { chainPem, generateKeys, issueClient, makePki } from './support/pki.js';
import { sidecarForTest, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const SECOND = 1_000;
const pki = makePki();
const { ca } = pki;
const middle = ca.subordinate({ subject: [['CN', 'Middle']] });
const below = issueClient(middle, { keys: generateKeys() });
const deep: Identity = { certPem: chainPem(below, middle), keyPem: below.keyPem };

/** In force for long enough to start under it. */
const brief = () => ({ thisUpdate: Date.now() - 60 * SECOND, nextUpdate: Date.now() + 30 * SECOND });

let application: Application;
const agents: Agent[] = [];

beforeAll(async () => {
  application = await startApplication((seen, response) => {
    if (seen.url === '/slow') response.write('begun');
    else response.end('ok');
  });
});

afterEach(async () => {
  vi.useRealTimers();
  agents.splice(0).forEach((agent) => agent.destroy());
});

afterAll(() => application.stop());

async function start(crl: string, settings: Readonly<Record<string, string>> = {}): Promise<Sidecar> {
  const files = { 'clientCert.crl': crl };
  const given = { 'reload.interval': '1h', ...settings };
  return sidecarForTest({ pki, upstream: application.url, files, settings: given });
}

/** Only the clock is put forward: timers go on as they are, so what has to happen happens within seconds. */
function afterTheEnd(): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 35 * SECOND });
}

/** An open connection with one request served. */
async function connected(sidecar: Sidecar, as: Identity = pki.client) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  agents.push(agent);
  const ask = () => call(sidecar, { agent, as });
  expect((await ask()).status).toBe(200);
  return ask;
}

const sleep = (milliseconds: number) => new Promise((resolve) => setTimeout(resolve, milliseconds));

const CHANGE_CIPHER_SPEC = 20;

/**
 * Sends all of a caller's handshake but Finished, and what follows it.
 * @param place of Finished among the records behind ChangeCipherSpec
 */
function holdFinished(raw: Socket, place: number) {
  let unsent: Buffer = Buffer.alloc(0);
  /** Negative before ChangeCipherSpec. */
  let behind = -1;
  let holding = (): void => undefined;
  const isHolding = new Promise<void>((resolve) => (holding = resolve));
  let isReleased = false;
  const send = (): void => {
    for (let end = endOfRecord(unsent); end <= unsent.length; end = endOfRecord(unsent)) {
      if (behind + 1 === place && !isReleased) return holding();
      if (behind >= 0 || unsent[0] === CHANGE_CIPHER_SPEC) behind += 1;
      raw.write(unsent.subarray(0, end));
      unsent = unsent.subarray(end);
    }
  };
  const socket = new Duplex({
    read: () => undefined,
    write(bytes: Buffer, _encoding, done) {
      unsent = Buffer.concat([unsent, bytes]);
      send();
      done();
    },
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => socket.push(chunk)).on('end', () => socket.push(null));
  raw.on('error', (error) => socket.destroy(error));
  const release = (): void => {
    isReleased = true;
    send();
  };
  return { socket, isHolding, release };
}

function endOfRecord(bytes: Buffer): number {
  return bytes.length < 5 ? Infinity : 5 + bytes.readUInt16BE(3);
}

describe('by default', () => {
  it.each([
    ['of the root', pki.client, () => ca.crl(brief())],
    ['of an intermediate', deep, () => ca.crl() + middle.crl(brief())],
    ['of the root, for one below an intermediate', deep, () => ca.crl(brief()) + middle.crl()],
  ])('an open connection is refused within 5 seconds: the list %s', async (_whose, as, crl) => {
    const sidecar = await start(crl());
    const ask = await connected(sidecar, as);
    afterTheEnd();
    await sleep(2 * SECOND);
    expect(await ask()).toMatchObject({ status: 400, headers: { connection: 'close' } });
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'crl_expired', outcome: 'refused' });
  });

  it('what is under way is cut', async () => {
    const sidecar = await start(ca.crl(brief()));
    const caller = await openRaw(sidecar);
    caller.socket.write('GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await caller.receive(/begun/);
    afterTheEnd();
    expect(await caller.closed()).not.toMatch(/0\r\n\r\n$/);
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'a handshake of %s that was held open meanwhile is refused',
    async (version) => {
      const sidecar = await start(ca.crl(brief()));
      // In TLS 1.3, behind Certificate and CertificateVerify.
      const held = holdFinished(connect(sidecar.port, '127.0.0.1'), version === 'TLSv1.2' ? 1 : 3);
      const { host: _host, port: _port, ...identity } = tlsOptions(sidecar);
      const caller = connectTls({ ...identity, socket: held.socket, minVersion: version, maxVersion: version });
      caller.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      await held.isHolding;
      afterTheEnd();
      await sleep(2 * SECOND);
      held.release();
      let answer = '';
      for await (const chunk of caller) answer += String(chunk);
      expect(answer).toMatch(/^HTTP\/1\.1 400 /);
      expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'crl_expired', tlsVersion: version });
      expect(sidecar.requests()).toEqual([]);
    },
  );

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('a session of %s is worth nothing', async (version) => {
    // By the real clock, for OpenSSL looks at no other, and it is OpenSSL that is asked again.
    const nextUpdate = Date.now() + 5 * SECOND;
    const sidecar = await start(ca.crl({ thisUpdate: Date.now() - 60 * SECOND, nextUpdate }));
    const { session } = await visit(sidecar, { version });
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: true });
    await sleep(nextUpdate + SECOND - Date.now());
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 400, reused: false });
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'crl_expired', detail: 'CRL has expired' });
  });

  it('another list of the same CA makes up for it', async () => {
    const sidecar = await start(ca.crl(brief()) + ca.crl());
    const ask = await connected(sidecar);
    const { session } = await visit(sidecar, { version: 'TLSv1.3' });
    afterTheEnd();
    await sleep(2 * SECOND);
    expect((await ask()).status).toBe(200);
    expect(await visit(sidecar, { version: 'TLSv1.3', session })).toMatchObject({ status: 200, reused: true });
  });

  it('and so does a new list in its place', async () => {
    const sidecar = await start(ca.crl(brief()));
    const ask = await connected(sidecar);
    writeFileSync(join(sidecar.directory, 'clientCert.crl.pem'), ca.crl());
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    afterTheEnd();
    await sleep(2 * SECOND);
    expect((await ask()).status).toBe(200);
  });
});

it('under warn everything stays open, and the log says at once that a list has ended', async () => {
  const ends = { thisUpdate: Date.now() - 60 * SECOND, nextUpdate: Date.now() + 2 * SECOND };
  const sidecar = await start(ca.crl(ends), { 'clientCert.crlExpired': 'warn' });
  const ask = await connected(sidecar);
  const { session } = await visit(sidecar, { version: 'TLSv1.3' });
  const line = await sidecar.logged(({ msg }) => msg === 'CRL has expired');
  expect(line).toMatchObject({ level: 'warn', subject: 'CN=TencentQQAuthCA,O=Tencent,C=CN' });
  expect((await ask()).status).toBe(200);
  expect(await visit(sidecar, { version: 'TLSv1.3', session })).toMatchObject({ status: 200, reused: true });
});
