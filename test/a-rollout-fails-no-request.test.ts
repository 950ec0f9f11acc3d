import { X509Certificate } from 'node:crypto';
import type { ServerResponse } from 'node:http';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { openRaw } from './support/caller.js';
import { credentialsOf, mountSecret, namesIn } from './support/mounted-secret.js';
import { issueServer, makePki, type Pki } from './support/pki.js';
import { endPrograms, startRun, type RunningProgram } from './support/program.js';
import { startBalancer, startLoad, undisturbed, type Attempt, type Balancer, type Load } from './support/service.js';

/** How long a balancer goes on sending new connections to a pod that is going. Milliseconds. */
const NEWS_TRAVEL = 300;
/** The application's preStop sleep, here. Longer than that. */
const SLEEP = 1_500;
/** More than any answer may take where something is up; a request that takes longer hangs. */
const PATIENCE = 5_000;

let pki: Pki;
beforeAll(() => {
  pki = makePki();
});
const closing: (() => unknown)[] = [];
afterEach(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

/** A pod: application and sidecar, which is a process of its own. */
interface Pod {
  application: Application;
  readonly sidecar: RunningProgram;
}

/** Takes a moment for each answer, so that there is always something in flight. */
const answer = (_seen: unknown, response: ServerResponse): void => {
  setTimeout(() => response.end('ok'), 20);
};

async function application(port = 0): Promise<Application> {
  const started = await startApplication(answer, { port, host: '127.0.0.1' });
  closing.push(() => started.stop().catch(() => undefined));
  return started;
}

async function startPod(settings: Readonly<Record<string, string>> = {}): Promise<Pod> {
  const started = await application();
  return { application: started, sidecar: await startRun(started.url, settings, pki) };
}

/** Becomes an endpoint once it is ready, as a pod does. */
async function join(balancer: Balancer, { sidecar }: Pod): Promise<void> {
  await until(async () => (await sidecar.admin('/readyz')).status === 200);
  balancer.add(sidecar.port);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  const deadline = Date.now() + PATIENCE;
  while (!(await holds())) {
    if (Date.now() > deadline) throw new Error('never came true');
    await undisturbed(20);
  }
}

/** Two pods behind a balancer, under load. */
async function startService(settings: Readonly<Record<string, string>> = {}) {
  const balancer = await startBalancer();
  closing.push(() => balancer.stop());
  const pods = [await startPod(settings), await startPod(settings)];
  for (const pod of pods) await join(balancer, pod);
  const load = startLoad({ pki, port: balancer.port });
  closing.push(() => load.finish());
  await undisturbed(500);
  return { balancer, pods, load };
}

const failed = (attempts: readonly Attempt[]): Attempt[] => attempts.filter(({ outcome }) => outcome !== 200);
const since = (attempts: readonly Attempt[], moment: number): Attempt[] =>
  attempts.filter(({ startedAt }) => startedAt >= moment);

/** What every scenario demands: requests went all the while, and nothing hung. */
async function settled(load: Load): Promise<readonly Attempt[]> {
  const attempts = await load.finish();
  expect(attempts.length).toBeGreaterThan(30);
  expect(Math.max(...attempts.map(({ milliseconds }) => milliseconds))).toBeLessThan(PATIENCE);
  return attempts;
}

/** What a kubelet does with a pod that is deleted: both preStop hooks at once, and the news travels. */
async function beginTermination(balancer: Balancer, { sidecar }: Pod): Promise<void> {
  expect((await sidecar.admin('/drain', 'POST')).status).toBe(202);
  await undisturbed(NEWS_TRAVEL);
  balancer.remove(sidecar.port);
}

async function endSidecar({ sidecar }: Pod): Promise<void> {
  sidecar.child.kill('SIGTERM');
  expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
}

describe('a rollout of two replicas fails no request', { timeout: 60_000 }, () => {
  it('with native sidecars: the application is stopped first', async () => {
    const { balancer, pods, load } = await startService();
    for (const old of pods) {
      await join(balancer, await startPod());
      await beginTermination(balancer, old);
      await undisturbed(SLEEP - NEWS_TRAVEL);
      await old.application.stop();
      await endSidecar(old);
    }
    expect(failed(await settled(load))).toEqual([]);
  });

  it('with classic pods: both are stopped at once, and the application sleeps longer', async () => {
    const settings = { 'shutdown.delay': '1500ms' };
    const { balancer, pods, load } = await startService(settings);
    for (const old of pods) {
      await join(balancer, await startPod(settings));
      // SIGTERM follows the drain at once; what is new is still served for shutdown.delay.
      const ended = beginTermination(balancer, old);
      await Promise.all([ended, endSidecar(old)]);
      await old.application.stop();
    }
    expect(failed(await settled(load))).toEqual([]);
  });

  it('in compose, where a replica goes with its sidecar first', async () => {
    const { balancer, pods, load } = await startService({ 'shutdown.delay': '1500ms' });
    const [gone] = pods as [Pod, Pod];
    setTimeout(() => balancer.remove(gone.sidecar.port), NEWS_TRAVEL);
    await endSidecar(gone);
    await gone.application.stop();
    await undisturbed(300);
    expect(failed(await settled(load))).toEqual([]);
  });
});

describe('certificates that change', { timeout: 60_000 }, () => {
  it('under two replicas at different times fail no request, and are shown by both', async () => {
    const mounts = [mountSecret(credentialsOf(pki)), mountSecret(credentialsOf(pki))];
    for (const mount of mounts) closing.push(() => mount.remove());
    const balancer = await startBalancer();
    closing.push(() => balancer.stop());
    const pods: Pod[] = [];
    for (const mount of mounts) pods.push(await startPod({ ...namesIn(mount), 'reload.interval': '100ms' }));
    for (const pod of pods) await join(balancer, pod);
    const load = startLoad({ pki, port: balancer.port });
    closing.push(() => load.finish());
    await undisturbed(500);
    const server = issueServer(pki.ca);
    for (const [index, { sidecar }] of pods.entries()) {
      mounts[index]?.swap(credentialsOf({ ca: pki.ca, server }));
      await sidecar.said(/"msg":"reloaded"/);
      await undisturbed(300);
    }
    expect(failed(await settled(load))).toEqual([]);
    const { serialNumber } = new X509Certificate(server.certPem);
    for (const { sidecar } of pods) {
      const caller = await openRaw(sidecar);
      expect(caller.socket.getPeerX509Certificate()?.serialNumber).toBe(serialNumber);
      caller.socket.destroy();
    }
  });
});

describe('where the application is away', { timeout: 60_000 }, () => {
  it('at the start: 503 with Retry-After, and never again once it is there', async () => {
    const placeholder = await application();
    await placeholder.stop();
    const sidecar = await startRun(placeholder.url, {}, pki);
    const load = startLoad(sidecar);
    closing.push(() => load.finish());
    await undisturbed(500);
    expect((await sidecar.admin('/readyz')).status).toBe(503);
    expect((await sidecar.admin('/livez')).status).toBe(200);
    await application(placeholder.port);
    const back = Date.now();
    await undisturbed(700);
    const attempts = await settled(load);
    expect(failed(since(attempts, back))).toEqual([]);
    const refused = failed(attempts);
    expect(refused.length).toBeGreaterThan(5);
    expect(new Set(refused.map(({ outcome }) => outcome))).toEqual(new Set([503]));
    for (const { retryAfter } of refused) expect(retryAfter).toMatch(/^\d+$/);
  });

  it('after a crash: an answer for every request, and 200 again as soon as it is back', async () => {
    const pod = await startPod();
    const load = startLoad(pod.sidecar);
    closing.push(() => load.finish());
    await undisturbed(500);
    const crash = Date.now();
    await pod.application.stop();
    await until(async () => (await pod.sidecar.admin('/readyz')).status === 503);
    await undisturbed(300);
    await application(pod.application.port);
    const back = Date.now();
    await until(async () => (await pod.sidecar.admin('/readyz')).status === 200);
    await undisturbed(500);
    const attempts = await settled(load);
    const broken = failed(attempts);
    expect(broken.length).toBeGreaterThan(2);
    expect(new Set(broken.map(({ outcome }) => outcome))).toEqual(new Set([502]));
    expect(failed(since(attempts, back))).toEqual([]);
    // What had been answered before the crash is not touched by it.
    expect(Math.min(...broken.map(({ startedAt, milliseconds }) => startedAt + milliseconds))).toBeGreaterThanOrEqual(
      crash,
    );
  });
});

describe('a sidecar that is killed', { timeout: 60_000 }, () => {
  it('takes no more along than what is in flight', async () => {
    const { balancer, pods, load } = await startService();
    const [victim] = pods as [Pod, Pod];
    balancer.remove(victim.sidecar.port);
    const killed = Date.now();
    victim.sidecar.child.kill('SIGKILL');
    expect(await victim.sidecar.ended()).toEqual({ code: null, signal: 'SIGKILL' });
    // Until callers hear that their connections are gone, they send over them.
    await balancer.deserted(victim.sidecar.port);
    const gone = Date.now();
    await undisturbed(700);
    const lost = failed(await settled(load));
    const inFlight = lost.filter(
      ({ startedAt, milliseconds }) => startedAt <= gone && startedAt + milliseconds >= killed,
    );
    expect(lost).toEqual(inFlight);
    expect(lost.filter(({ outcome }) => typeof outcome === 'number')).toEqual([]);
  });
});
