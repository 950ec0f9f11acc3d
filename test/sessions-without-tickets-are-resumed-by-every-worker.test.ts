import { constants } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { dirname } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import type { Identity } from './support/caller.js';
import { chainPem, generateKeys, issueClient, makePki, writePem } from './support/pki.js';
import { endPrograms, programDirectory, startRun, type RunningProgram } from './support/program.js';
import { visit, type Visited } from './support/visit.js';
import { askBoth, linesOf, openBoth, workersOf } from './support/workers.js';

const keys = generateKeys();
const pki = makePki();
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle']] });
const leafBelow = issueClient(middle, { keys });
const below: Identity = { certPem: chainPem(leafBelow, middle), keyPem: leafBelow.keyPem };

/** A caller of TLS 1.2 that knows no tickets. */
const NO_TICKETS = { maxVersion: 'TLSv1.2', secureOptions: constants.SSL_OP_NO_TICKET } as const;
const PLAIN = { version: 'TLSv1.2', tls: NO_TICKETS } as const;
/** More connections than ever go to the same of two workers by chance. */
const TRIES = 60;

let application: Application;

beforeAll(async () => {
  application = await startApplication();
});
afterEach(endPrograms);
afterAll(() => application.stop());

const start = (settings: Readonly<Record<string, string>> = {}): Promise<RunningProgram> =>
  startRun(application.url, { workers: '2', 'reload.interval': '1h', ...settings }, pki);

async function begin(sidecar: RunningProgram, as: Identity = pki.client): Promise<Buffer> {
  const { session, reused } = await visit(sidecar, { ...PLAIN, as });
  if (session === undefined || reused) throw new Error('no session of its own');
  return session;
}

/** How each of the two workers begins with a caller who offers this session. */
async function reusedByBoth(sidecar: RunningProgram, session: Buffer, as: Identity = pki.client) {
  const both = await askBoth(sidecar, { ...NO_TICKETS, as, session });
  return both.map(({ record }) => record['sessionReused']);
}

/** Resolves once both resume it: the other worker is told of it a moment after the caller has it. */
const untilBothKnow = (sidecar: RunningProgram, session: Buffer, as?: Identity) =>
  expect.poll(() => reusedByBoth(sidecar, session, as), { timeout: 10_000 }).toEqual([true, true]);

/** Visits until both workers have refused, and what the visits were like. */
async function refusedByBoth(sidecar: RunningProgram, session: Buffer, as: Identity): Promise<Visited[]> {
  const before = linesOf(sidecar).length;
  const refusals = () =>
    linesOf(sidecar)
      .slice(before)
      .filter(({ msg }) => msg === 'connection refused');
  const visits: Visited[] = [];
  while (new Set(refusals().map(({ worker }) => worker)).size < 2) {
    if (visits.length === TRIES) throw new Error('one of them refused nobody');
    visits.push(await visit(sidecar, { ...PLAIN, as, session }));
  }
  return visits;
}

describe('a session without a ticket is resumed', { timeout: 60_000 }, () => {
  it('by the worker that did not begin it as well', async () => {
    const sidecar = await start();
    for (let round = 0; round < 3; round += 1) await untilBothKnow(sidecar, await begin(sidecar));
  });

  it('of a caller below an intermediate, where that has been shown', async () => {
    const sidecar = await start();
    await askBoth(sidecar, { as: below });
    await untilBothKnow(sidecar, await begin(sidecar, below), below);
  });

  it('after the worker that began it has died, and later by the one that takes its place', async () => {
    const sidecar = await start();
    const [first, second] = await openBoth(sidecar, NO_TICKETS);
    const session = first.socket.getSession();
    if (session === undefined) throw new Error('no session');
    await untilBothKnow(sidecar, session);
    const [one] = await workersOf(sidecar);
    process.kill(one?.pid ?? 0, 'SIGKILL');
    await first.closed();
    await sidecar.said(/"msg":"a worker ended, with its connections"/);
    expect(await visit(sidecar, { ...PLAIN, session })).toMatchObject({ status: 200, reused: true });
    // The one that takes its place begins with nothing, and is told of what begins from now on.
    await sidecar.said(/"msg":"a worker was replaced"/);
    await untilBothKnow(sidecar, await begin(sidecar));
    second.socket.destroy();
  });
});

describe('a session without a ticket is not resumed by the worker that did not begin it', { timeout: 60_000 }, () => {
  it('when its caller has been revoked', async () => {
    const as = issueClient(pki.ca, { keys });
    const list = writePem(programDirectory(), 'list.pem', pki.ca.crl());
    const sidecar = await start({ 'clientCert.crl': list });
    const session = await begin(sidecar, as);
    await untilBothKnow(sidecar, session, as);
    writePem(dirname(list), 'list.pem', pki.ca.crl({ revoked: [as.serial] }));
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    const visits = await refusedByBoth(sidecar, session, as);
    expect(visits.filter(({ status, reused }) => status !== 400 || reused)).toEqual([]);
  });

  it('when no rule lets it in any more', async () => {
    const settings = `${programDirectory()}/settings.yaml`;
    writeFileSync(settings, 'clientCert: {depth: 1}\n');
    const sidecar = await start({ config: settings });
    const session = await begin(sidecar);
    await untilBothKnow(sidecar, session);
    // Rules are no part of what a session is bound to: both still have it.
    writeFileSync(settings, 'clientCert: {depth: 1, allow: [{commonName: else}]}\n');
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    const visits = await refusedByBoth(sidecar, session, pki.client);
    expect(visits.filter(({ status, reused }) => status !== 403 || reused)).toEqual([]);
  });

  it('when verification has changed', async () => {
    const settings = `${programDirectory()}/settings.yaml`;
    writeFileSync(settings, 'clientCert: {depth: 1}\n');
    const sidecar = await start({ config: settings });
    const session = await begin(sidecar);
    await untilBothKnow(sidecar, session);
    writeFileSync(settings, 'clientCert: {depth: 2}\n');
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    expect(await reusedByBoth(sidecar, session)).toEqual([false, false]);
    await untilBothKnow(sidecar, await begin(sidecar));
  });
});

describe('nobody is kept waiting', { timeout: 60_000 }, () => {
  it('by a primary that hangs, whether a session is known or not', async () => {
    const [sidecar, other] = [await start(), await start()];
    const session = await begin(sidecar);
    await untilBothKnow(sidecar, session);
    const unknown = await begin(other);
    sidecar.child.kill('SIGSTOP');
    for (let number = 0; number < 10; number += 1) {
      expect(await visit(sidecar, { ...PLAIN, session })).toMatchObject({ status: 200, reused: true });
      expect(await visit(sidecar, { ...PLAIN, session: unknown })).toMatchObject({ status: 200, reused: false });
    }
    sidecar.child.kill('SIGCONT');
    await untilBothKnow(sidecar, await begin(sidecar));
  });

  it('by a worker that hangs', async () => {
    const sidecar = await start();
    const [one] = await workersOf(sidecar);
    process.kill(one?.pid ?? 0, 'SIGSTOP');
    const session = await begin(sidecar);
    expect(await visit(sidecar, { ...PLAIN, session })).toMatchObject({ status: 200, reused: true });
    process.kill(one?.pid ?? 0, 'SIGCONT');
    await untilBothKnow(sidecar, session);
  });
});
