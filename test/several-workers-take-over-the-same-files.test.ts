import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { startApplication } from './support/application.js';
import { call } from './support/caller.js';
import { issueClient, issueServer, makePki, writePem, type Issued } from './support/pki.js';
import { endPrograms, programDirectory, startRun, type RunningProgram } from './support/program.js';
import { askBoth, linesOf, metricOf, openBoth, serialOf, statusOf } from './support/workers.js';

const pki = makePki();
const leaver = issueClient(pki.ca, { subject: [['CN', 'leaver']] });
const NEVER = { 'reload.interval': '1h' };

const closing: (() => unknown)[] = [];
afterEach(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

async function start(settings: Readonly<Record<string, string>>): Promise<RunningProgram> {
  const application = await startApplication();
  closing.push(() => application.stop());
  return startRun(application.url, { workers: '2', ...settings }, pki);
}

interface Told {
  readonly ok: boolean;
  readonly message: string;
}

async function reload(sidecar: RunningProgram): Promise<Told> {
  return JSON.parse((await sidecar.admin('/reload', 'POST')).body) as Told;
}

function put(sidecar: RunningProgram, server: Pick<Issued, 'certPem' | 'keyPem'>): void {
  writePem(sidecar.directory, 'server.key', server.keyPem);
  writePem(sidecar.directory, 'server.pem', server.certPem);
}

/** Serial numbers of the certificates that new connections to both workers are shown. */
async function shown(sidecar: RunningProgram): Promise<Set<string>> {
  const callers = await openBoth(sidecar);
  const serials = callers.map(({ socket }) => socket.getPeerCertificate().serialNumber);
  for (const { socket } of callers) socket.destroy();
  return new Set(serials);
}

const told = (sidecar: RunningProgram, message: string) => linesOf(sidecar).filter(({ msg }) => msg === message);

// Each test starts three processes, and one waits eight seconds for an answer besides.
describe('a reload', { timeout: 60_000 }, () => {
  it('reaches both workers, and is one reload with one answer', async () => {
    const sidecar = await start(NEVER);
    const server = issueServer(pki.ca);
    put(sidecar, server);
    expect(await reload(sidecar)).toEqual({ ok: true, message: 'settings and files were read anew' });
    expect(await shown(sidecar)).toEqual(new Set([serialOf(server)]));
    expect(await reload(sidecar)).toEqual({ ok: true, message: 'nothing has changed' });
    await sidecar.said(/"msg":"reloaded"/);
    expect(told(sidecar, 'reloaded')).toHaveLength(1);
    expect(await metricOf(sidecar, 'mtls_sidecar_reloads_total{result="success"}')).toBe(1);
    expect((await statusOf(sidecar)).reloads).toHaveLength(1);

    const third = issueServer(pki.ca);
    put(sidecar, third);
    sidecar.child.kill('SIGHUP');
    await sidecar.said(/("msg":"reloaded"[^]*){2}/);
    expect(await shown(sidecar)).toEqual(new Set([serialOf(third)]));
  });

  it('that finds bad files changes nothing in either, and says why once', async () => {
    const sidecar = await start(NEVER);
    writePem(sidecar.directory, 'server.key', issueServer(pki.ca).keyPem);
    const { ok, message } = await reload(sidecar);
    expect(ok).toBe(false);
    expect(message).toMatch(/^tls\.key: .*server\.key does not belong to [^;]*$/);
    expect(await shown(sidecar)).toEqual(new Set([serialOf(pki.server)]));
    await sidecar.said(/"msg":"reload refused/);
    expect(told(sidecar, 'reload refused, the old settings and files stay in force')).toHaveLength(1);
    expect(await metricOf(sidecar, 'mtls_sidecar_reload_last_successful')).toBe(0);
    expect(await metricOf(sidecar, 'mtls_sidecar_reloads_total{result="failure"}')).toBe(1);
    expect((await statusOf(sidecar)).reloads).toEqual([expect.objectContaining({ result: 'refused', message })]);
  });

  it('that one worker refuses is refused by both', async () => {
    const sidecar = await start(NEVER);
    const [{ pid }] = (await statusOf(sidecar)).workers;
    put(sidecar, issueServer(pki.ca));
    // It cannot answer, so nobody knows whether it could take the files.
    process.kill(pid, 'SIGSTOP');
    closing.push(() => process.kill(pid, 'SIGKILL'));
    const { ok, message } = await reload(sidecar);
    expect(ok).toBe(false);
    expect(message).toBe('worker 1 did not answer in time');
    process.kill(pid, 'SIGCONT');
    expect(await shown(sidecar)).toEqual(new Set([serialOf(pki.server)]));
  });
});

describe('a change of the files', { timeout: 60_000 }, () => {
  it('is noticed once, and a caller who is revoked loses its connections to both within seconds', async () => {
    const crl = writePem(programDirectory(), 'crl.pem', pki.ca.crl());
    const sidecar = await start({ 'clientCert.crl': crl });
    const open = await openBoth(sidecar, { as: leaver });
    const before = Date.now();
    writePem(join(crl, '..'), 'crl.pem', pki.ca.crl({ revoked: [leaver.serial] }));
    await sidecar.said(/"msg":"reloaded"/);
    expect(Date.now() - before).toBeLessThan(5_000);
    for (const caller of open) {
      caller.socket.write('GET /again HTTP/1.1\r\nHost: localhost\r\n\r\n');
      expect(await caller.closed()).toMatch(/HTTP\/1\.1 400 /);
    }
    for (let sent = 0; sent < 6; sent += 1) expect((await call(sidecar, { as: leaver })).status).toBe(400);
    for (const { answer } of await askBoth(sidecar)) expect(answer.status).toBe(200);
    expect(told(sidecar, 'reloaded')).toHaveLength(1);
  });

  it('that takes a file away is told once', async () => {
    const sidecar = await start({ 'reload.interval': '100ms' });
    rmSync(join(sidecar.directory, 'ca.pem'));
    await sidecar.said(/"msg":"reload refused/);
    expect(await reload(sidecar)).toMatchObject({ ok: false });
    for (const { answer } of await askBoth(sidecar)) expect(answer.status).toBe(200);
  });
});
