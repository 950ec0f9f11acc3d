import { afterAll, beforeAll, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, type RawCaller } from './support/caller.js';
import { makePki } from './support/pki.js';
import { endPrograms, startRun } from './support/program.js';
import { metricOf, statusOf } from './support/workers.js';

const LIMIT = 4;
const pki = makePki();
let application: Application;

beforeAll(async () => {
  application = await startApplication();
});

afterAll(async () => {
  endPrograms();
  await application.stop();
});

it.each(['1', '2'])('because limits.connections are open (%s workers)', async (workers) => {
  const sidecar = await startRun(application.url, { workers, 'limits.connections': `${LIMIT}` }, pki);
  const inside: RawCaller[] = [];
  // The kernel chooses the worker, and each has room for its part alone.
  while (inside.length < LIMIT) {
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    if ((await caller.receive(/^HTTP\/1\.1 \d+ /)).startsWith('HTTP/1.1 200 ')) inside.push(caller);
    else await caller.closed();
  }
  expect((await call(sidecar)).status).toBe(503);
  for (const path of ['/livez', '/readyz', '/metrics', '/status']) expect((await sidecar.admin(path)).status).toBe(200);
  expect((await statusOf(sidecar)).connections).toBe(LIMIT);
  expect(await metricOf(sidecar, 'mtls_sidecar_connections_open')).toBe(LIMIT);
  for (const { socket } of inside) socket.destroy();
});
