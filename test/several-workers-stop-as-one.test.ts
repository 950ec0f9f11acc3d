import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { startApplication } from './support/application.js';
import { begin, call, readAnswer } from './support/caller.js';
import { makePki, writePem } from './support/pki.js';
import { asArguments, credentialFlags, endPrograms, startProgram, startRun } from './support/program.js';
import { linesOf, workersOf } from './support/workers.js';

const pki = makePki();
/** Enough for both workers to have some. */
const HELD = 6;
const closing: (() => unknown)[] = [];
afterEach(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

/** Two workers, with requests that the application does not answer yet. */
async function startHolding(settings: Readonly<Record<string, string>> = {}) {
  const held: ServerResponse[] = [];
  const application = await startApplication(({ url }, response) => {
    if (url === '/held') held.push(response);
    else response.end('ok');
  });
  closing.push(() => application.stop());
  const sidecar = await startRun(application.url, { workers: '2', ...settings }, pki);
  const answers = [];
  for (let number = 0; number < HELD; number += 1) {
    const outgoing = begin(sidecar, { path: '/held' });
    const arrived = once(application.server, 'request');
    outgoing.end();
    const answer = once(outgoing, 'response') as Promise<[IncomingMessage]>;
    // What is cut short is an error of the caller, too.
    answers.push(answer.then(([response]) => readAnswer(response)).catch((error: NodeJS.ErrnoException) => error.code));
    await arrived;
  }
  return { sidecar, answers, release: () => held.splice(0).forEach((response) => response.end('at last')) };
}

describe('after SIGTERM', () => {
  it('both finish what is under way, and all of it ends with 0', async () => {
    // Long enough for what is asked below while new connections are still served, however busy the machine.
    const { sidecar, answers, release } = await startHolding({ 'shutdown.delay': '3s' });
    sidecar.child.kill('SIGTERM');
    await sidecar.said(/"msg":"draining/);
    expect(await sidecar.admin('/readyz')).toEqual({ status: 503, body: 'draining\n' });
    for (let number = 0; number < 2; number += 1) expect((await call(sidecar)).headers.connection).toBe('close');
    release();
    for (const answer of await Promise.all(answers)) expect(answer).toMatchObject({ status: 200, body: 'at last' });
    expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
    expect(linesOf(sidecar).filter(({ msg }) => msg === 'stopped')).toEqual([
      expect.objectContaining({ connections: 0 }),
    ]);
    expect(linesOf(sidecar).filter(({ path }) => path === '/held')).toHaveLength(HELD);
    expect(sidecar.stdout().match(/draining/g)).toHaveLength(1);
    expect(sidecar.stderr()).toBe('');
  });

  it('what does not end is cut short after shutdown.grace, with 75', async () => {
    const { sidecar, answers } = await startHolding({ 'shutdown.grace': '300ms' });
    sidecar.child.kill('SIGTERM');
    expect(await sidecar.ended()).toEqual({ code: 75, signal: null });
    expect(await Promise.all(answers)).toEqual(answers.map(() => 'ECONNRESET'));
    expect(linesOf(sidecar).filter(({ path }) => path === '/held')).toHaveLength(HELD);
    expect(linesOf(sidecar).filter(({ msg }) => msg === 'stopped: connections were cut short')).toHaveLength(1);
  });

  it('a second signal ends it at once', async () => {
    const { sidecar } = await startHolding({ 'shutdown.grace': '10m' });
    sidecar.child.kill('SIGTERM');
    await sidecar.said(/"msg":"draining/);
    sidecar.child.kill('SIGTERM');
    expect(await sidecar.ended()).toEqual({ code: 75, signal: null });
  });
});

it('a signal that every process of the group gets is heard once', async () => {
  const { sidecar, answers, release } = await startHolding();
  for (const { pid } of await workersOf(sidecar)) process.kill(pid, 'SIGINT');
  sidecar.child.kill('SIGINT');
  await sidecar.said(/"msg":"draining/);
  release();
  for (const answer of await Promise.all(answers)) expect(answer).toMatchObject({ status: 200 });
  expect(await sidecar.ended()).toEqual({ code: 0, signal: null });
});

describe('a start that fails', () => {
  async function fail(settings: Readonly<Record<string, string>>) {
    const { directory, flags } = credentialFlags(pki);
    const ports = { 'listen.host': '127.0.0.1', 'listen.port': '0', 'admin.port': '0' };
    const program = startProgram(['run', ...asArguments({ ...flags, ...ports, workers: '3', ...settings })]);
    const { code } = await program.ended();
    return { code, directory, stderr: program.stderr(), stdout: program.stdout() };
  }

  it('for a file says so once, with the setting and its source', async () => {
    const { flags } = credentialFlags(pki);
    const bad = writePem(flags['tls.cert']?.replace(/[^/]+$/, '') ?? '', 'empty.pem', '');
    const { code, stderr, stdout } = await fail({ 'clientCert.ca': bad });
    expect(code).toBe(78);
    expect(stderr).toMatch(/^mtls-sidecar: clientCert\.ca \(flag --clientCert\.ca\): \S+empty\.pem [^\n]+\n$/);
    expect(stdout).toBe('');
  });

  it('for a setting says so once', async () => {
    const { code, stderr } = await fail({ workers: 'many' });
    expect(code).toBe(78);
    expect(stderr).toBe(
      'mtls-sidecar: workers (flag --workers): must be a whole number from 1 to 128, or auto: value was "many"\n',
    );
  });

  it('for a port that is taken says so once', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    closing.push(() => server.close());
    const { port } = server.address() as AddressInfo;
    const { code, stderr } = await fail({ 'listen.port': String(port) });
    expect(code).toBe(78);
    expect(stderr).toBe(`mtls-sidecar: listen.port (flag --listen.port): 127.0.0.1 port ${port} is already in use\n`);
    const admin = await fail({ 'admin.port': String(port) });
    expect(admin.stderr).toBe(
      `mtls-sidecar: admin.port (flag --admin.port): 127.0.0.1 port ${port} is already in use\n`,
    );
  });
});
