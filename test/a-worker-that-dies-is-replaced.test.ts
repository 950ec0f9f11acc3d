import { readFileSync } from 'node:fs';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { issueServer, makePki, writePem } from './support/pki.js';
import { endPrograms, startRun, type RunningProgram } from './support/program.js';
import { askBoth, linesOf, metricOf, openBoth, serialOf, statusOf, workersOf } from './support/workers.js';

const pki = makePki();
const REQUESTS = 'mtls_sidecar_requests_total{status="2xx",method="GET"}';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

async function start(settings: Readonly<Record<string, string>> = {}) {
  const application: Application = await startApplication();
  closing.push(() => application.stop());
  return startRun(application.url, { workers: '2', ...settings }, pki);
}

async function pidOf(sidecar: RunningProgram, number: number): Promise<number> {
  const member = (await workersOf(sidecar)).find(({ worker }) => worker === number);
  if (member === undefined) throw new Error(`no worker ${number}`);
  return member.pid;
}

const replaced = (sidecar: RunningProgram) => sidecar.said(/"worker":1,"pid":\d+,"msg":"a worker was replaced"/);

// Each test starts four processes or five, the last of them after pauses.
describe('a worker that is killed', { timeout: 60_000 }, () => {
  it('takes its own connections along and no others, and another takes its place', async () => {
    const sidecar = await start();
    const pid = await pidOf(sidecar, 1);
    const [of, others] = await openBoth(sidecar);
    const served = await metricOf(sidecar, REQUESTS);
    process.kill(pid, 'SIGKILL');
    await of.closed();
    // Meanwhile the other serves all that comes, and readiness stays.
    for (let number = 0; number < 4; number += 1) expect((await call(sidecar)).status).toBe(200);
    expect((await sidecar.admin('/readyz')).status).toBe(200);
    await replaced(sidecar);

    others.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await others.receive(/ok[^]*ok$/);
    others.socket.destroy();
    await askBoth(sidecar);
    expect(await pidOf(sidecar, 1)).not.toBe(pid);

    const ends = linesOf(sidecar).filter(({ msg }) => msg === 'a worker ended, with its connections');
    expect(ends).toEqual([expect.objectContaining({ level: 'error', worker: 1, pid, signal: 'SIGKILL' })]);
    expect(await metricOf(sidecar, 'mtls_sidecar_worker_failures_total')).toBe(1);
    // A counter that fell back would look as if all of it had begun anew.
    const { length } = linesOf(sidecar).filter(({ msg }) => msg === 'request');
    expect(await metricOf(sidecar, REQUESTS)).toBe(length);
    expect(length).toBeGreaterThan(served + 5);
  });

  it('counts each time, also before it has served', async () => {
    const sidecar = await start();
    const early = /"worker":1,"detail":"[^"]+ before it served","msg":"a worker could not be replaced"/;
    // Twice, or more often: on a busy machine a worker may serve before it is killed.
    for (let kills = 1; !early.test(sidecar.stdout()); kills += 1) {
      const pid = await pidOf(sidecar, 1);
      process.kill(pid, 'SIGKILL');
      await sidecar.said(new RegExp(`(?:"msg":"a worker (?:ended|could not be replaced)[^]*){${kills}}`));
      expect(await metricOf(sidecar, 'mtls_sidecar_worker_failures_total')).toBe(kills);
      if (kills === 1) expect(sidecar.stdout()).not.toMatch(early);
      if (!early.test(sidecar.stdout())) {
        await expect.poll(() => pidOf(sidecar, 1), { interval: 5, timeout: 5_000 }).not.toBe(pid);
      }
    }
    await sidecar.said(/"msg":"a worker could not be replaced"[^]*"msg":"a worker was replaced"/);
  });

  it('comes back with what is in force, which files that are no good now do not change', async () => {
    const sidecar = await start({ 'reload.interval': '1h' });
    const server = issueServer(pki.ca);
    writePem(sidecar.directory, 'server.key', server.keyPem);
    process.kill(await pidOf(sidecar, 1), 'SIGKILL');
    await sidecar.said(/"worker":1,"detail":"tls\.key: [^"]+","msg":"a worker could not be replaced"/);
    expect((await sidecar.admin('/readyz')).status).toBe(200);
    expect((await call(sidecar)).status).toBe(200);
    expect(await metricOf(sidecar, 'mtls_sidecar_workers{state="serving"}')).toBe(1);
    // Whole again, and other than those in force: the others take them over before the new one serves.
    writePem(sidecar.directory, 'server.pem', server.certPem);
    await replaced(sidecar);
    expect((await statusOf(sidecar)).reloads[0]).toMatchObject({ result: 'applied' });
    for (const { socket } of await openBoth(sidecar)) {
      expect(socket.getPeerCertificate().serialNumber).toBe(serialOf(server));
      socket.destroy();
    }
  });

  it('during a drain is replaced by one that drains, too', async () => {
    const sidecar = await start();
    await sidecar.admin('/drain', 'POST');
    process.kill(await pidOf(sidecar, 1), 'SIGKILL');
    await replaced(sidecar);
    for (const { answer } of await askBoth(sidecar)) expect(answer.headers.connection).toBe('close');
    expect(await sidecar.admin('/readyz')).toEqual({ status: 503, body: 'draining\n' });
    sidecar.child.kill('SIGTERM');
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
  });
});

it('a worker that hangs keeps neither readiness nor metrics waiting for long', async () => {
  const sidecar = await start();
  const pid = await pidOf(sidecar, 1);
  process.kill(pid, 'SIGSTOP');
  // Stopped, it would not notice that the others have gone.
  onTestFinished(() => void process.kill(pid, 'SIGKILL'));
  // Whoever waits for an answer of this one waits for 8 seconds; metrics are given up after 3.
  const before = Date.now();
  expect((await sidecar.admin('/readyz')).status).toBe(200);
  expect(Date.now() - before).toBeLessThan(3_000);
  expect(await metricOf(sidecar, 'mtls_sidecar_workers{state="wanted"}')).toBe(2);
  expect(Date.now() - before).toBeLessThan(7_500);
});

it('when all are killed at once, nothing is ready until they are back', async () => {
  const sidecar = await start();
  for (const { pid } of await workersOf(sidecar)) process.kill(pid, 'SIGKILL');
  await sidecar.said(/("msg":"a worker ended[^]*){2}/);
  expect((await sidecar.admin('/livez')).status).toBe(200);
  await sidecar.said(/("msg":"a worker was replaced"[^]*){2}/);
  expect((await sidecar.admin('/readyz')).status).toBe(200);
});

it('when the process that looks after them is killed, they end', async () => {
  const sidecar = await start();
  const pids = (await workersOf(sidecar)).map(({ pid }) => pid);
  sidecar.child.kill('SIGKILL');
  // Its pipes are closed when the last process that holds them ends: Linux closes files first, and only then lets go of the process.
  await sidecar.ended();
  await expect.poll(() => pids.filter(isRunning), { interval: 5, timeout: 5_000 }).toEqual([]);
});

it('when it is killed before it hears what it asked for, they end without a word', async () => {
  const sidecar = await start();
  const pids = (await workersOf(sidecar)).map(({ pid }) => pid);
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  onTestFinished(() => pids.filter(isRunning).forEach((pid) => process.kill(pid, 'SIGKILL')));
  // Given up after three seconds, with the orders still unread.
  await sidecar.admin('/metrics');
  process.kill(sidecar.child.pid as number, 'SIGKILL');
  for (const pid of pids) process.kill(pid, 'SIGCONT');
  await sidecar.ended();
  expect(sidecar.stderr()).toBe('');
});

function isRunning(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(readFileSync(`/proc/${pid}/status`, 'utf8'));
  } catch {
    return false;
  }
}
