import { writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, type Answer, type RawCaller } from './support/caller.js';
import { call2, openHttp2 } from './support/http2.js';
import { about, signedPss, signedSha224 } from './support/lists.js';
import { CA_SUBJECT, createAuthority, generateKeys, issueClient, issueServer, type Pki } from './support/pki.js';
import { sidecarForTest, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const ca = createAuthority({ subject: CA_SUBJECT, keys: generateKeys('rsa-2048') });
const other = createAuthority({ subject: [['CN', 'Other']] });
const pki: Pki = {
  ca,
  server: issueServer(ca),
  client: issueClient(ca),
  stranger: { ca: other, client: issueClient(other) },
};
const revoked = [pki.client.serial];

type Lists = (options?: { readonly revoked: readonly bigint[] }) => string;

/** Kinds of lists that OpenSSL takes, and so do we. */
const SHARED: Readonly<Record<string, Lists>> = {
  'a list signed with RSASSA-PSS': (options) => signedPss(ca.crl(options), ca.key, { hash: 'sha256', salt: 32 }),
  'a list about users and one about CAs': (options) =>
    ca.crl({ ...options, extensions: [about('users')] }) + ca.crl({ extensions: [about('authorities')] }),
};
const BEYOND: Lists = (options) => signedSha224(ca.crl(options), ca.key);

let application: Application;
const agents: Agent[] = [];

beforeAll(async () => {
  application = await startApplication();
  application.server.on('upgrade', (_request, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    socket.on('error', () => undefined).pipe(socket);
  });
});
afterEach(() => agents.splice(0).forEach((agent) => agent.destroy()));
afterAll(() => application.stop());

function start(crl: string, settings: Readonly<Record<string, string>> = {}): Promise<Sidecar> {
  const files = { 'clientCert.crl': crl, 'clientCert.ca': ca.certPem + other.certPem };
  return sidecarForTest({ pki, upstream: application.url, files, settings: { 'reload.interval': '1h', ...settings } });
}

async function replace(sidecar: Sidecar, crl: string): Promise<void> {
  writeFileSync(join(sidecar.directory, 'clientCert.crl.pem'), crl);
  expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
}

/** An open connection with one request served. */
async function connected(sidecar: Sidecar): Promise<() => Promise<Answer>> {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  agents.push(agent);
  const ask = () => call(sidecar, { agent });
  expect((await ask()).status).toBe(200);
  return ask;
}

const UPGRADE = 'GET /echo HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

async function tunnel(sidecar: Sidecar): Promise<RawCaller> {
  const caller = await openRaw(sidecar);
  caller.socket.write(UPGRADE);
  await caller.receive(/^HTTP\/1\.1 101 [^]*\r\n\r\n/);
  return caller;
}

const reasonOf = (sidecar: Sidecar) => sidecar.refusals().at(-1)?.['reason'];

describe.each(Object.entries(SHARED))('%s', (_kind, lists) => {
  it.each(['refuse', 'warn'])('lets the same callers in by every handshake (%s)', async (crlExpired) => {
    const sidecar = await start(lists(), { 'clientCert.crlExpired': crlExpired });
    for (const version of ['TLSv1.2', 'TLSv1.3'] as const) {
      const { status, session } = await visit(sidecar, { version });
      expect(status).toBe(200);
      expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: true });
    }
    expect(sidecar.refusals()).toEqual([]);
  });

  it.each(['refuse', 'warn'])('keeps the same callers out (%s)', async (crlExpired) => {
    const sidecar = await start(lists(), { 'clientCert.crlExpired': crlExpired });
    const ask = await connected(sidecar);
    await replace(sidecar, lists({ revoked }));
    expect((await visit(sidecar, { version: 'TLSv1.3' })).status).toBe(400);
    expect(reasonOf(sidecar)).toBe('revoked');
    expect((await ask()).status).toBe(400);
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'revoked', outcome: 'refused' });
  });

  it('counts on open connections', async () => {
    const sidecar = await start(ca.crl());
    const [ask, echo] = [await connected(sidecar), await tunnel(sidecar)];
    await replace(sidecar, lists());
    expect((await ask()).status).toBe(200);
    echo.socket.write('still there');
    await echo.receive(/still there$/);
    echo.socket.destroy();
  });
});

describe('a list that only OpenSSL evaluates', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('resumes no session of %s, and lets its caller in', async (version) => {
    const sidecar = await start(BEYOND());
    const { status, session } = await visit(sidecar, { version });
    expect(status).toBe(200);
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: false });
    expect(sidecar.refusals()).toEqual([]);
  });

  it('is waited for by an open connection, which ends with its next answer', async () => {
    const sidecar = await start(ca.crl());
    const ask = await connected(sidecar);
    await replace(sidecar, BEYOND());
    expect(await ask()).toMatchObject({ status: 200, headers: { connection: 'close' } });
    expect((await ask()).status).toBe(200);
    await replace(sidecar, BEYOND({ revoked }));
    expect(await ask()).toMatchObject({ status: 200, headers: { connection: 'close' } });
    expect((await visit(sidecar, { version: 'TLSv1.3' })).status).toBe(400);
    expect(reasonOf(sidecar)).toBe('revoked');
  });

  it('ends a tunnel, whose caller can open another', async () => {
    const sidecar = await start(ca.crl());
    const echo = await tunnel(sidecar);
    await replace(sidecar, BEYOND());
    await echo.closed();
    expect((await tunnel(sidecar)).socket.destroyed).toBe(false);
  });

  it('lets no tunnel begin on a connection that has to end', async () => {
    const sidecar = await start(ca.crl());
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await caller.receive(/ok$/);
    await replace(sidecar, BEYOND());
    caller.socket.write(UPGRADE);
    expect(await caller.closed()).toMatch(/ok.*HTTP\/1\.1 421 /s);
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'misdirected', outcome: 'refused' });
  });

  it('is waited for by a connection of HTTP/2', async () => {
    const sidecar = await start(ca.crl(), { 'listen.http2': 'true' });
    const session = await openHttp2(sidecar);
    expect((await call2(session)).status).toBe(200);
    const goaway = new Promise((resolve) => session.once('goaway', resolve));
    await replace(sidecar, BEYOND());
    expect(await goaway).toBe(0);
    session.destroy();
    expect(sidecar.requests().map(({ status }) => status)).toEqual([200]);
  });

  it('keeps its caller out under warn, where nobody else is asked', async () => {
    const sidecar = await start(ca.crl(), { 'clientCert.crlExpired': 'warn' });
    const ask = await connected(sidecar);
    await replace(sidecar, BEYOND());
    expect((await ask()).status).toBe(400);
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'crl_missing', outcome: 'refused' });
    expect((await visit(sidecar, { version: 'TLSv1.3' })).status).toBe(400);
    expect(sidecar.refusals().at(-1)).toMatchObject({
      reason: 'crl_missing',
      detail: 'no certificate CRL of this CA can be evaluated here',
    });
  });
});

it('without any list of its CA an open connection is refused', async () => {
  const sidecar = await start(ca.crl());
  const ask = await connected(sidecar);
  await replace(sidecar, other.crl());
  expect((await ask()).status).toBe(400);
  expect(sidecar.requests().at(-1)).toMatchObject({ code: 'crl_missing', outcome: 'refused' });
});
