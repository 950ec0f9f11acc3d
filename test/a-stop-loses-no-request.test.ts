import { EventEmitter, once } from 'node:events';
import type { ClientRequest, IncomingMessage, ServerResponse } from 'node:http';
import { Agent } from 'node:https';
import { connect } from 'node:net';
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { Management, type Managed } from '../src/management.js';
import type { Expiring } from '../src/trust/expiry.js';
import { startApplication, startRawApplication } from './support/application.js';
import { begin, call, openRaw, readAnswer, type Answer } from './support/caller.js';
import { collectingLog } from './support/observed.js';
import { endPrograms, startRun, type RunningProgram } from './support/program.js';
import { configured } from './support/settings.js';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

/** An application that answers `/held` when the test says so, and everything else at once. */
async function startHolding() {
  const held: ServerResponse[] = [];
  const arrivals = new EventEmitter();
  const application = await startApplication(({ url }, response) => {
    if (url !== '/held') return void response.end('ok');
    held.push(response);
    arrivals.emit('held', response);
  });
  closing.push(() => application.stop());
  const release = (): void => held.splice(0).forEach((response) => response.end('at last'));
  return { application, release, arrival: () => once(arrivals, 'held') as Promise<[ServerResponse]> };
}
type Holding = Awaited<ReturnType<typeof startHolding>>;

async function answerTo(outgoing: ClientRequest): Promise<Answer> {
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  return readAnswer(response);
}

/** Resolves once nobody listens any more. */
async function closedPort(port: number): Promise<void> {
  for (;;) {
    const socket = connect(port, '127.0.0.1');
    const open = await once(socket, 'connect').then(
      () => true,
      () => false,
    );
    socket.destroy();
    if (!open) return;
  }
}

async function signal(sidecar: RunningProgram, name: NodeJS.Signals): Promise<void> {
  sidecar.child.kill(name);
  await sidecar.said(/"msg":"draining/);
}

interface Hanging {
  readonly outgoing: ClientRequest;
  /** Resolves when the caller's side, or the application's, is closed. */
  readonly callerClosed: Promise<unknown>;
  readonly applicationClosed: Promise<unknown>;
}

/** A request that the application has, and does not answer. */
async function hang(sidecar: RunningProgram, { arrival }: Holding): Promise<Hanging> {
  const outgoing = begin(sidecar, { path: '/held' });
  const callerClosed = new Promise((resolve) => outgoing.once('close', resolve).on('error', () => undefined));
  const arriving = arrival();
  outgoing.end();
  const [response] = await arriving;
  return { outgoing, callerClosed, applicationClosed: once(response, 'close') };
}

describe.each(['SIGTERM', 'SIGINT'] as const)('after %s', (name) => {
  it('a request under way finishes, whatever of it is still to come', async () => {
    const { application, release, arrival } = await startHolding();
    const sidecar = await startRun(application.url);
    const outgoing = begin(sidecar, { path: '/held', method: 'POST', headers: { 'content-length': '8' } });
    outgoing.write('half');
    await once(application.server, 'request');
    await signal(sidecar, name);
    await closedPort(sidecar.port);
    const whole = arrival();
    outgoing.end('half');
    await whole;
    release();
    const answer = await answerTo(outgoing);
    expect(answer).toMatchObject({ status: 200, body: 'at last', headers: { connection: 'close' } });
    expect(application.seen[0]?.body.toString()).toBe('halfhalf');
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
    expect(sidecar.stdout()).toContain('"msg":"stopped"');
    expect(sidecar.stderr()).toBe('');
  });
});

describe('while it drains', () => {
  it('readiness fails at once, and new requests are served for shutdown.delay, each as the last', async () => {
    const holding = await startHolding();
    const { application, release } = holding;
    const sidecar = await startRun(application.url, { 'shutdown.delay': '3s' });
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    closing.push(() => agent.destroy());
    expect((await call(sidecar, { agent })).headers.connection).not.toBe('close');
    expect((await sidecar.admin('/readyz')).status).toBe(200);
    const { outgoing: held } = await hang(sidecar, holding);

    await signal(sidecar, 'SIGTERM');
    expect(await sidecar.admin('/readyz')).toEqual({ status: 503, body: 'draining\n' });
    expect(await sidecar.admin('/livez')).toMatchObject({ status: 200 });
    expect(JSON.parse((await sidecar.admin('/status')).body)).toMatchObject({ phase: 'draining' });
    for (const answer of [await call(sidecar, { agent }), await call(sidecar)]) {
      expect(answer).toMatchObject({ status: 200, headers: { connection: 'close' } });
    }

    await closedPort(sidecar.port);
    release();
    expect(await answerTo(held)).toMatchObject({ status: 200, body: 'at last' });
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
  });

  it('idle connections, and callers who never say anything, hold nothing up', async () => {
    const { application } = await startHolding();
    const sidecar = await startRun(application.url, { 'shutdown.grace': '1m' });
    const silent = connect(sidecar.port, '127.0.0.1');
    closing.push(() => silent.destroy());
    await once(silent, 'connect');
    const idle = await openRaw(sidecar);
    idle.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await idle.receive(/\r\n\r\n/);
    sidecar.child.kill('SIGTERM');
    await idle.closed();
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
  });

  it('POST /drain does the same and ends nothing', async () => {
    const { application } = await startHolding();
    const sidecar = await startRun(application.url);
    expect(await sidecar.admin('/drain', 'POST')).toEqual({ status: 202, body: 'draining\n' });
    expect(await sidecar.admin('/readyz')).toEqual({ status: 503, body: 'draining\n' });
    expect(await call(sidecar)).toMatchObject({ status: 200, headers: { connection: 'close' } });
    sidecar.child.kill('SIGTERM');
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
  });
});

describe('what does not end', () => {
  it('is cut short after shutdown.grace, with 75, on both sides', async () => {
    const holding = await startHolding();
    const sidecar = await startRun(holding.application.url, { 'shutdown.grace': '300ms' });
    const { callerClosed, applicationClosed } = await hang(sidecar, holding);
    sidecar.child.kill('SIGTERM');
    expect(await sidecar.ended()).toEqual({ code: 75, signal: null });
    expect(sidecar.stdout()).toContain('"msg":"stopped: connections were cut short"');
    await Promise.all([callerClosed, applicationClosed]);
    expect(sidecar.stdout().match(/"path":"\/held".*"msg":"request"/g)).toHaveLength(1);
  });

  it('is cut short by a second signal', async () => {
    const holding = await startHolding();
    const sidecar = await startRun(holding.application.url, { 'shutdown.grace': '10m' });
    await hang(sidecar, holding);
    await signal(sidecar, 'SIGTERM');
    sidecar.child.kill('SIGINT');
    expect(await sidecar.ended()).toEqual({ code: 75, signal: null });
  });

  it('is cut short within shutdown.delay as well', async () => {
    const { application } = await startHolding();
    const sidecar = await startRun(application.url, { 'shutdown.grace': '10m', 'shutdown.delay': '9m' });
    await signal(sidecar, 'SIGTERM');
    sidecar.child.kill('SIGTERM');
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
  });

  it('a tunnel counts as under way', async () => {
    const application = await startRawApplication((socket) => {
      socket.once('data', () => socket.write('HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n'));
    });
    closing.push(() => application.stop());
    const sidecar = await startRun(application.url, { 'shutdown.grace': '300ms' });
    const tunnel = await openRaw(sidecar);
    tunnel.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
    await tunnel.receive(/^HTTP\/1\.1 101/);
    sidecar.child.kill('SIGTERM');
    await tunnel.closed();
    expect(await sidecar.ended()).toEqual({ code: 75, signal: null });
  });
});

// Signals are listened for when the start is over, and whoever waits for this line may stop the process.
it('that it listens is said when nothing is left to wait for', async () => {
  const { log, text } = collectingLog('info');
  let answer = (_items: readonly Expiring[]): void => undefined;
  const expiring: Managed['expiring'] = () => new Promise((resolve) => (answer = resolve));
  const config = configured({ 'admin.port': 'off' });
  const management = new Management({ config, log, readConfig: null, managed: { expiring } as Managed });
  closing.push(() => management.close());
  const address = { address: '127.0.0.1', family: 'IPv4', port: 1 };
  const begun = management.begin({ version: '0', address, cas: [], workers: 2 });
  // A worker that is asked for something takes its time.
  await turn();
  expect(text()).not.toContain('"msg":"listening"');
  answer([]);
  await begun;
  expect(text()).toContain('"msg":"listening"');
});
