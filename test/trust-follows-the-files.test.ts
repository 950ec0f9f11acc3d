import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import type { TLSSocket } from 'node:tls';
import { afterEach, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, type Answer, type CallOptions } from './support/caller.js';
import { credentialsOf, mountSecret, namesIn, type MountedSecret } from './support/mounted-secret.js';
import { createAuthority, issueClient, issueServer, makePki, writePem, type Pki } from './support/pki.js';
import { startSidecar, type Sidecar, type SidecarOptions } from './support/sidecar.js';
import { visit } from './support/visit.js';

const QUICK = { 'reload.interval': '100ms' };
const GET = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';

let running: (Sidecar | Application)[] = [];

afterEach(async () => {
  await Promise.all(running.map((one) => one.stop()));
  running = [];
});

async function start(options: SidecarOptions = {}): Promise<Sidecar> {
  const application = await startApplication();
  const sidecar = await startSidecar({
    upstream: application.url,
    ...options,
    settings: { ...QUICK, ...options.settings },
  });
  running.push(sidecar, application);
  return sidecar;
}

/** Resolves when it has been reloaded so many times. */
const reloaded = (sidecar: Sidecar, times = 1) => {
  return sidecar.logged(({ msg }) => {
    return msg === 'reloaded' && sidecar.log.filter((line) => line.msg === 'reloaded').length === times;
  });
};
const turnedDown = (sidecar: Sidecar) => sidecar.logged(({ msg }) => msg.startsWith('reload refused'));

/** Serial number of the certificate that the sidecar shows to new callers. */
async function shownSerial(sidecar: Sidecar, ca = sidecar.pki.ca.certPem): Promise<string> {
  const caller = await openRaw(sidecar, { ca });
  const serial = caller.socket.getPeerCertificate().serialNumber;
  caller.socket.destroy();
  return serial;
}

/** Two requests over one connection; `between` happens while it is idle. */
async function twice(sidecar: Sidecar, between: () => Promise<unknown>, options: CallOptions = {}) {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const first = await call(sidecar, { ...options, agent });
  await between();
  const second: Answer = await call(sidecar, { ...options, agent });
  agent.destroy();
  return [first, second] as const;
}

describe('the server certificate follows its files', () => {
  async function replaceBy(write: (sidecar: Sidecar, pki: Pki) => void): Promise<void> {
    const pki = makePki();
    const sidecar = await start({ pki });
    const before = await shownSerial(sidecar);
    write(sidecar, { ...pki, server: issueServer(pki.ca) });
    await reloaded(sidecar);
    const after = await shownSerial(sidecar);
    expect(after).not.toBe(before);
    expect((await call(sidecar)).status).toBe(200);
  }

  it('written in place', () =>
    replaceBy(({ paths }, { server }) => {
      writeFileSync(paths.cert, server.certPem);
      writeFileSync(paths.key, server.keyPem);
    }));

  it('renamed over', () =>
    replaceBy(({ paths, directory }, { server }) => {
      renameSync(writePem(directory, 'new.pem', server.certPem), paths.cert);
      renameSync(writePem(directory, 'new.key', server.keyPem), paths.key);
    }));
});

describe('Kubernetes’ atomic writer', () => {
  it('is noticed by the swap of its link', async () => {
    const pki = makePki();
    const mount = mountOf(credentialsOf(pki));
    const sidecar = await start({ pki, settings: namesIn(mount) });
    const before = await shownSerial(sidecar);
    mount.swap(credentialsOf({ ca: pki.ca, server: issueServer(pki.ca) }));
    await reloaded(sidecar);
    expect(await shownSerial(sidecar)).not.toBe(before);
  });

  it.each([
    ['a file', (mount: MountedSecret) => mount.at('list.pem')],
    ['a directory', (mount: MountedSecret) => mount.path],
  ])('brings revocation lists, named as %s', async (_what, named) => {
    const pki = makePki();
    const mount = mountOf({ 'list.pem': pki.ca.crl() });
    const sidecar = await start({ pki, settings: { 'clientCert.crl': named(mount) } });
    const [first, second] = await twice(sidecar, async () => {
      mount.swap({ 'list.pem': pki.ca.crl({ revoked: [{ serial: pki.client.serial }] }) });
      await reloaded(sidecar);
    });
    expect([first.status, second.status]).toEqual([200, 400]);
    expect((await call(sidecar)).status).toBe(400);
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'revoked' });
  });

  it('brings ticket keys, of which the older still opens until it is gone', async () => {
    const [older, newer, newest] = [randomBytes(80), randomBytes(80), randomBytes(80)];
    const mount = mountOf({ 'newest.key': newer, 'previous.key': older });
    const settings = { 'tls.sessions.ticketKeys': `${mount.at('newest.key')},${mount.at('previous.key')}` };
    const sidecar = await start({ settings });
    const version = 'TLSv1.3';
    const { session } = await visit(sidecar, { version });
    mount.swap({ 'newest.key': newest, 'previous.key': newer });
    await reloaded(sidecar, 1);
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: true });
    mount.swap({ 'newest.key': randomBytes(80), 'previous.key': newest });
    await reloaded(sidecar, 2);
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: false });
  });

  const mounts: { remove(): void }[] = [];
  afterEach(() => {
    for (const mount of mounts.splice(0)) mount.remove();
  });

  function mountOf(files: Parameters<typeof mountSecret>[0]): MountedSecret {
    const mount = mountSecret(files);
    mounts.push(mount);
    return mount;
  }
});

describe('a bad set keeps the old one', () => {
  async function spoil(write: (sidecar: Sidecar) => void, expected: RegExp): Promise<void> {
    const sidecar = await start();
    const before = await shownSerial(sidecar);
    write(sidecar);
    const line = await turnedDown(sidecar);
    expect(line).toMatchObject({ level: 'error' });
    expect(line['detail']).toMatch(expected);
    expect(await shownSerial(sidecar)).toBe(before);
    expect((await call(sidecar)).status).toBe(200);
    expect(await sidecar.metric('mtls_sidecar_reloads_total{result="failure"}')).toBeGreaterThan(0);
    expect(JSON.parse((await sidecar.admin('/status')).body)).toMatchObject({ reloads: [{ result: 'refused' }] });
    // Changed back.
    writeFileSync(sidecar.paths.cert, sidecar.pki.server.certPem);
    writeFileSync(sidecar.paths.key, sidecar.pki.server.keyPem);
    writeFileSync(sidecar.paths.ca, sidecar.pki.ca.certPem);
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    expect((await call(sidecar)).status).toBe(200);
  }

  it('half-written certificate', () =>
    spoil(({ paths, pki }) => writeFileSync(paths.cert, pki.server.certPem.slice(0, 200)), /tls\.cert/));

  it('key of another certificate', () =>
    spoil(({ paths, pki }) => writeFileSync(paths.key, issueServer(pki.ca).keyPem), /does not belong/));

  it('emptied bundle', () => spoil(({ paths }) => writeFileSync(paths.ca, ''), /clientCert\.ca/));

  it('deleted file', () => spoil(({ paths }) => rmSync(paths.ca), /no such file/));

  it('and says so once, however long it stays', async () => {
    const sidecar = await start();
    writeFileSync(sidecar.paths.ca, '');
    await turnedDown(sidecar);
    writeFileSync(sidecar.paths.ca, sidecar.pki.ca.certPem);
    writeFileSync(sidecar.paths.cert, issueServer(sidecar.pki.ca).certPem);
    await sidecar.logged(({ msg, detail }) => msg.startsWith('reload refused') && /belong/.test(String(detail)));
    expect(sidecar.log.filter(({ detail }) => /clientCert\.ca/.test(String(detail)))).toHaveLength(1);
  });

  it('is looked for where new settings name it before it is there', async () => {
    const sidecar = await start({ yaml: 'log: {level: info}\n' });
    writeFileSync(join(sidecar.directory, 'sidecar.yaml'), 'clientCert: {crl: late.pem}\n');
    expect((await turnedDown(sidecar))['detail']).toMatch(/late\.pem/);
    writePem(sidecar.directory, 'late.pem', sidecar.pki.ca.crl({ revoked: [{ serial: sidecar.pki.client.serial }] }));
    await reloaded(sidecar);
    expect((await call(sidecar)).status).toBe(400);
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'revoked' });
  });

  it('is not noticed at all when key and certificate fit again a moment later', async () => {
    const pki = makePki();
    const sidecar = await start({ pki });
    const server = issueServer(pki.ca);
    writeFileSync(sidecar.paths.cert, server.certPem);
    // Longer than a look apart, shorter than it takes to complain.
    await new Promise((resolve) => setTimeout(resolve, 150));
    writeFileSync(sidecar.paths.key, server.keyPem);
    await reloaded(sidecar);
    expect(sidecar.log.filter(({ level }) => level === 'error')).toEqual([]);
  });
});

describe('the bundle', () => {
  it('lets the callers of a new CA in', async () => {
    const other = createAuthority({ subject: [['CN', 'Another CA']] });
    const client = issueClient(other);
    const sidecar = await start();
    expect((await call(sidecar, { as: client })).status).toBe(400);
    writeFileSync(sidecar.paths.ca, sidecar.pki.ca.certPem + other.certPem);
    await reloaded(sidecar);
    expect((await call(sidecar, { as: client })).status).toBe(200);
    expect((await call(sidecar)).status).toBe(200);
  });

  it('turns the callers of a removed CA away, on open connections as well', async () => {
    const other = createAuthority({ subject: [['CN', 'Another CA']] });
    const sidecar = await start();
    const [first, second] = await twice(sidecar, async () => {
      writeFileSync(sidecar.paths.ca, other.certPem);
      await reloaded(sidecar);
    });
    expect(first.status).toBe(200);
    expect(second).toMatchObject({ status: 400, headers: { connection: 'close' } });
    expect(second.body).toContain('The SSL certificate error');
    expect(sidecar.requests().at(-1)).toMatchObject({ status: 400, code: 'untrusted_issuer', outcome: 'refused' });
    expect((await call(sidecar)).status).toBe(400);
  });

  it('tells open connections that stay good to close', async () => {
    const other = createAuthority({ subject: [['CN', 'Another CA']] });
    const sidecar = await start();
    const [first, second] = await twice(sidecar, async () => {
      writeFileSync(sidecar.paths.ca, sidecar.pki.ca.certPem + other.certPem);
      await reloaded(sidecar);
    });
    expect(first.headers.connection).toBe('keep-alive');
    expect(second).toMatchObject({ status: 200, headers: { connection: 'close' } });
  });

  it('may be a directory, in which files come and go', async () => {
    const pki = makePki();
    const other = createAuthority({ subject: [['CN', 'Another CA']] });
    const directory = `${writePem(process.env['TMPDIR'] ?? '/tmp', `cas-${process.pid}-${Date.now()}`, '')}.d`;
    mkdirSync(directory);
    writePem(directory, 'one.pem', pki.ca.certPem);
    const sidecar = await start({ pki, settings: { 'clientCert.ca': directory } });
    const two = writePem(directory, 'two.pem', other.certPem);
    await reloaded(sidecar);
    const client = issueClient(other);
    expect((await call(sidecar, { as: client })).status).toBe(200);
    rmSync(two);
    await sidecar.logged(
      ({ msg }) => msg === 'reloaded' && sidecar.log.filter((line) => line.msg === 'reloaded').length === 2,
    );
    expect((await call(sidecar, { as: client })).status).toBe(400);
    rmSync(directory, { recursive: true });
  });
});

/** TLS 1.3 brings its tickets after the handshake. */
async function sessionOf(socket: TLSSocket, version: string): Promise<Buffer> {
  if (version === 'TLSv1.2') return socket.getSession() ?? Buffer.alloc(0);
  const [ticket] = (await once(socket, 'session')) as [Buffer];
  return ticket;
}

describe('a certificate revoked on disk is refused', () => {
  async function withCrl(): Promise<Sidecar> {
    const pki = makePki();
    return start({ pki, files: { 'clientCert.crl': pki.ca.crl() } });
  }

  async function revoke(sidecar: Sidecar): Promise<void> {
    const crl = sidecar.pki.ca.crl({ revoked: [{ serial: sidecar.pki.client.serial }] });
    writeFileSync(join(sidecar.directory, 'clientCert.crl.pem'), crl);
    await reloaded(sidecar);
  }

  it('in a new handshake', async () => {
    const sidecar = await withCrl();
    expect((await call(sidecar)).status).toBe(200);
    await revoke(sidecar);
    expect((await call(sidecar)).status).toBe(400);
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'revoked' });
  });

  it('on an open connection', async () => {
    const sidecar = await withCrl();
    const [first, second] = await twice(sidecar, () => revoke(sidecar));
    expect(first.status).toBe(200);
    expect(second.status).toBe(400);
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'revoked', outcome: 'refused' });
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('in a resumed session (%s)', async (version) => {
    const sidecar = await withCrl();
    const options = { minVersion: version, maxVersion: version };
    const first = await openRaw(sidecar, options);
    const ticket = await sessionOf(first.socket, version);
    first.socket.destroy();
    const honest = await openRaw(sidecar, { ...options, session: ticket });
    expect(honest.socket.isSessionReused()).toBe(true);
    honest.socket.write(GET);
    expect(await honest.receive(/ok$/)).toMatch(/^HTTP\/1\.1 200/);
    honest.socket.destroy();
    await revoke(sidecar);
    const late = await openRaw(sidecar, { ...options, session: ticket });
    late.socket.write(GET);
    expect(await late.closed()).toMatch(/^HTTP\/1\.1 400/);
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'revoked' });
  });

  it('in the middle of an answer, which is cut', async () => {
    const pki = makePki();
    const application = await startApplication((_seen, response) => void response.write('begun'));
    running.push(application);
    const sidecar = await start({ pki, upstream: application.url, files: { 'clientCert.crl': pki.ca.crl() } });
    const caller = await openRaw(sidecar);
    caller.socket.write(GET);
    await caller.receive(/begun/);
    await revoke(sidecar);
    expect(await caller.closed()).not.toMatch(/0\r\n\r\n$/);
  });
});

describe('the allow list', () => {
  const yaml = (name: string): string => `clientCert:\n  allow: [{commonName: ${name}}]\n`;

  it('is asked anew with each request of an open connection', async () => {
    const sidecar = await start({ yaml: yaml('im.qq.com') });
    const [first, second] = await twice(sidecar, async () => {
      writeFileSync(join(sidecar.directory, 'sidecar.yaml'), yaml('somebody.else'));
      await reloaded(sidecar);
    });
    expect([first.status, second.status]).toEqual([200, 403]);
    expect((await call(sidecar)).status).toBe(403);
  });

  it('stays when its new form is wrong', async () => {
    const sidecar = await start({ yaml: yaml('im.qq.com') });
    writeFileSync(join(sidecar.directory, 'sidecar.yaml'), 'clientCert:\n  allow: [{comonName: im.qq.com}]\n');
    expect((await turnedDown(sidecar))['detail']).toMatch(/comonName/);
    expect((await call(sidecar)).status).toBe(200);
  });
});

describe('other settings', () => {
  it('wait for a restart, and that is said', async () => {
    const sidecar = await start({ yaml: 'log: {level: info}\n' });
    writeFileSync(join(sidecar.directory, 'sidecar.yaml'), 'log: {level: debug}\nlimits: {body: 5}\n');
    await reloaded(sidecar);
    expect(sidecar.app.log.level).toBe('debug');
    const waiting = await sidecar.logged(({ msg }) => msg.includes('take effect after a restart'));
    expect(waiting).toMatchObject({ settings: 'limits' });
    expect((await call(sidecar, { body: 'more than five' })).status).toBe(200);
  });
});

describe('reloads on demand', () => {
  it('answer what they did', async () => {
    const sidecar = await start({ settings: { 'reload.interval': '1h' } });
    expect(await sidecar.admin('/reload', 'POST')).toMatchObject({
      status: 200,
      body: expect.stringContaining('nothing'),
    });
    writeFileSync(sidecar.paths.cert, 'rubbish');
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(500);
    expect((await call(sidecar)).status).toBe(200);
  });
});

describe('a handshake that was open before a reload', () => {
  /** A caller whose TCP connection is accepted, and whose handshake has yet to begin. */
  async function held(sidecar: Sidecar): Promise<Socket> {
    const socket = connect(sidecar.port, '127.0.0.1');
    await once(socket, 'connect');
    // Accepted, and so under the old trust, once the next caller has been served.
    await call(sidecar);
    return socket;
  }

  it('is judged by what is in force at its end', async () => {
    const other = createAuthority({ subject: [['CN', 'Another CA']] });
    const sidecar = await start();
    const socket = await held(sidecar);
    writeFileSync(sidecar.paths.ca, other.certPem);
    await reloaded(sidecar);
    const answer = await call(sidecar, { socket });
    expect(answer.status).toBe(400);
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'untrusted_issuer' });
  });

  it('ends with its first answer when its caller stays good', async () => {
    const other = createAuthority({ subject: [['CN', 'Another CA']] });
    const sidecar = await start();
    const socket = await held(sidecar);
    writeFileSync(sidecar.paths.ca, sidecar.pki.ca.certPem + other.certPem);
    await reloaded(sidecar);
    expect(await call(sidecar, { socket })).toMatchObject({ status: 200, headers: { connection: 'close' } });
  });

  it('does not get in without a certificate when one has become required', async () => {
    const sidecar = await start({ yaml: 'clientCert: {verify: optional}\n' });
    const socket = await held(sidecar);
    writeFileSync(join(sidecar.directory, 'sidecar.yaml'), 'clientCert: {verify: required}\n');
    await reloaded(sidecar);
    expect((await call(sidecar, { as: null, socket })).status).toBe(400);
  });
});

describe('a settings file that is being written', () => {
  const whole = 'clientCert:\n  allow:\n    - commonName: somebody.else\n      paths: [/im/*]\n';
  const half = 'clientCert:\n  allow:\n    - commonName: im.qq.com\n';

  it('is not taken at its half', async () => {
    const sidecar = await start({ yaml: whole, settings: { 'reload.interval': '400ms' } });
    const file = join(sidecar.directory, 'sidecar.yaml');
    await sidecar.logged(({ msg }) => msg === 'listening');
    for (let round = 0; round < 20; round += 1) {
      writeFileSync(file, round % 2 === 0 ? half : `${half}      paths: [/im/*]\n# ${round}\n`);
      await new Promise((resolve) => setTimeout(resolve, 60));
    }
    expect(sidecar.log.filter(({ msg }) => msg === 'reloaded')).toEqual([]);
    await reloaded(sidecar);
    expect((await call(sidecar, { path: '/admin' })).status).toBe(403);
    expect((await call(sidecar, { path: '/im/x' })).status).toBe(200);
  });

  it('is taken with a warning when it lets everybody in', async () => {
    const sidecar = await start({ yaml: whole });
    writeFileSync(join(sidecar.directory, 'sidecar.yaml'), '{}\n');
    expect(
      await sidecar.logged(({ msg }) => msg.includes('clientCert.allow is empty: every') && msg.startsWith('since')),
    ).toMatchObject({ level: 'warn' });
  });
});
