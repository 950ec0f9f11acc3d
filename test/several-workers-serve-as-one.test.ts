import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { SecureVersion } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, type Identity } from './support/caller.js';
import { chainPem, issueClient, makePki } from './support/pki.js';
import { endPrograms, startRun, type RunningProgram } from './support/program.js';
import { askBoth, linesOf, metricOf, openBoth, recordFor, statusOf, workersOf } from './support/workers.js';

const pki = makePki();
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle']] });
const leafBelow = issueClient(middle);
const below: Identity = { certPem: chainPem(leafBelow, middle), keyPem: leafBelow.keyPem };
const REQUESTS = 'mtls_sidecar_requests_total{status="2xx",method="GET"}';

let application: Application;
let sidecar: RunningProgram;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startRun(application.url, { workers: '2', 'limits.connections': '24', 'log.level': 'info' }, pki);
});

afterAll(async () => {
  endPrograms();
  await application.stop();
});

describe('two workers', () => {
  it('begin with one line, which names the port and how many they are', () => {
    const start = linesOf(sidecar).filter(({ msg }) => msg === 'listening');
    expect(start).toEqual([expect.objectContaining({ port: sidecar.port, workers: 2 })]);
    expect(start[0]).not.toHaveProperty('worker');
    expect(sidecar.stdout().match(/clientCert\.allow is empty/g)).toHaveLength(1);
  });

  it('are processes of their own, under the one that was started', async () => {
    const workers = await workersOf(sidecar);
    expect(workers).toMatchObject([
      { worker: 1, state: 'serving' },
      { worker: 2, state: 'serving' },
    ]);
    const pids = new Set([...workers.map(({ pid }) => pid), sidecar.child.pid]);
    expect(pids.size).toBe(3);
  });

  it('both serve, and the record says which', async () => {
    const [one, other] = await askBoth(sidecar);
    expect([one.worker, other.worker]).toEqual([1, 2]);
    expect([one.answer.status, other.answer.status]).toEqual([200, 200]);
  });

  it('count what they do together', async () => {
    const before = await metricOf(sidecar, REQUESTS);
    for (let sent = 0; sent < 7; sent += 1) await call(sidecar);
    expect(await metricOf(sidecar, REQUESTS)).toBe(before + 7);
    expect(await metricOf(sidecar, 'mtls_sidecar_workers{state="serving"}')).toBe(2);
    expect(await metricOf(sidecar, 'mtls_sidecar_reload_last_successful')).toBe(1);
    const { body } = await sidecar.admin('/metrics');
    // Of what each of them has, the one that ends first; not the sum.
    const [, expiry] = /^mtls_sidecar_server_certificate_expiry_seconds\{[^}]*\} (\S+)$/m.exec(body) ?? [];
    const { notAfter } = (await statusOf(sidecar)).serverCertificate;
    expect(Math.abs(Number(expiry) - (Date.parse(notAfter) - Date.now()) / 1000)).toBeLessThan(60);
    const names = body.split('\n').filter((line) => line.startsWith('# TYPE '));
    expect(new Set(names).size).toBe(names.length);
  });

  it('show their callers, connections and refusals as those of one', async () => {
    const caller = issueClient(pki.ca, { subject: [['CN', 'twice']] });
    const [one, other] = await openBoth(sidecar, { as: caller });
    const status = await statusOf(sidecar);
    const [seen, ...more] = status.callers.filter(({ subject }: { subject: string }) => subject === 'CN=twice');
    expect(more).toEqual([]);
    expect(seen.openConnections).toBeGreaterThanOrEqual(2);
    expect(seen.requests).toBe(seen.connections);
    expect(linesOf(sidecar).filter(({ subject, msg }) => subject === 'CN=twice' && msg === 'request')).toHaveLength(
      seen.requests,
    );
    expect(status.connections).toBeGreaterThanOrEqual(2);
    expect(status.cas[0].callers.connections).toBeGreaterThanOrEqual(seen.connections);
    expect(status.recent.reduce((sum: number, step: { requests: number }) => sum + step.requests, 0)).toBeGreaterThan(
      3,
    );
    expect(status.recent.some(({ p50Ms }: { p50Ms: number | null }) => p50Ms !== null)).toBe(true);
    expect(status.listen.port).toBe(sidecar.port);
    for (const { socket } of [one, other]) socket.destroy();

    const before = JSON.parse((await sidecar.admin('/refusals')).body).length;
    for (let sent = 0; sent < 4; sent += 1) await call(sidecar, { as: pki.stranger.client });
    const refusals = JSON.parse((await sidecar.admin('/refusals')).body);
    expect(refusals).toHaveLength(before + 4);
    const times = refusals.map(({ time }: { time: string }) => time);
    expect(times).toEqual([...times].sort().reverse());
    await sidecar.said(/("worker":[12],[^]*"msg":"connection refused"[^]*){4}/);
  });

  it('share limits.connections: together they let in no more than one would', async () => {
    const open = await openBoth(sidecar);
    const answers: string[] = [];
    const more = [];
    for (let number = 0; number < 30; number += 1) {
      const caller = await openRaw(sidecar);
      more.push(caller);
      caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
      answers.push((await caller.receive(/^HTTP\/1\.1 \d+ /)).slice(9, 12));
    }
    expect(answers.filter((status) => status === '200').length).toBeLessThanOrEqual(22);
    expect(answers).toContain('503');
    for (const { socket } of [...open, ...more]) {
      socket.destroy();
      if (!socket.closed) await once(socket, 'close');
    }
  });

  it.each<[SecureVersion, string, Identity]>([
    ['TLSv1.3', 'alone', pki.client],
    ['TLSv1.2', 'alone', pki.client],
    ['TLSv1.3', 'with an intermediate', below],
    ['TLSv1.2', 'with an intermediate', below],
  ])('a %s session of a caller %s that began with one is served by the other', async (version, _, as) => {
    const first = await openRaw(sidecar, { as, maxVersion: version });
    // Up to TLS 1.2 the ticket comes within the handshake.
    const session =
      version === 'TLSv1.3'
        ? once(first.socket, 'session').then(([ticket]) => ticket as Buffer)
        : first.socket.getSession();
    first.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await first.closed();
    const ticket = await session;
    if (ticket === undefined) throw new Error('no session');
    const again = await askBoth(sidecar, { as, maxVersion: version, session: ticket });
    expect(again.map(({ answer }) => answer.status)).toEqual([200, 200]);
    // Where the chain of a resumed session is not known, its caller does the whole handshake again.
    if (as === pki.client) expect(again.map(({ record }) => record['sessionReused'])).toEqual([true, true]);
  });

  it('write whole lines, however long and however many', async () => {
    const long = 'x'.repeat(9_000);
    const paths = Array.from({ length: 60 }, (_, number) => `/${number}-${long}`);
    await Promise.all(paths.slice(0, 4).map((path) => call(sidecar, { path })));
    for (const path of paths.slice(4)) await call(sidecar, { path });
    // Each on its own: the last line of one worker may come before the last of the other.
    for (const path of paths) await recordFor(sidecar, path);
    const logged = linesOf(sidecar).map((line) => line['path']);
    expect(logged.filter((path) => paths.includes(String(path))).sort()).toEqual([...paths].sort());
  });

  it('are told no secret where other processes could read it', async () => {
    for (const { pid } of await workersOf(sidecar)) {
      const environment = readFileSync(`/proc/${pid}/environ`, 'utf8');
      const names = environment.split('\0').map((entry) => entry.split('=')[0]);
      expect(
        names.filter(
          (name) => !['', 'PATH', 'NODE_CHANNEL_FD', 'NODE_CHANNEL_SERIALIZATION_MODE'].includes(name ?? ''),
        ),
      ).toEqual(['NODE_UNIQUE_ID']);
      const argv = readFileSync(`/proc/${pid}/cmdline`, 'utf8');
      expect(argv.split('\0').slice(1)).toEqual(
        readFileSync(`/proc/${sidecar.child.pid}/cmdline`, 'utf8').split('\0').slice(1),
      );
    }
  });
});
