import type { ServerResponse } from 'node:http';
import { afterEach, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { begin, call } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf, refusalsOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const stops: (() => unknown)[] = [];

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** A sidecar that may open two connections, before an application that holds its answers back. */
async function start(settings: Record<string, string> = {}) {
  const held: ServerResponse[] = [];
  const application: Application = await startApplication((_seen, response) => void held.push(response));
  stops.push(() => application.stop());
  const sidecar: Sidecar = await startSidecar({
    pki,
    upstream: application.url,
    settings: { 'upstream.maxConnections': '2', 'upstream.connectTimeout': '5s', ...settings },
  });
  stops.push(() => sidecar.stop());
  const waiting = (): Promise<number> => sidecar.metric('mtls_sidecar_upstream_requests_waiting');
  const busy = (): Promise<number> => sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}');
  return { held, application, sidecar, waiting, busy };
}

it('by upstream.maxConnections; what is too much waits its turn', async () => {
  const { held, application, sidecar, waiting, busy } = await start();
  const answers = ['/1', '/2', '/3', '/4', '/5'].map((path) => call(sidecar, { path }));
  await expect.poll(waiting).toBe(3);
  await expect.poll(() => held.length).toBe(2);
  expect(await busy()).toBe(2);
  for (let served = 0; served < 5; served += 1) {
    await expect.poll(() => held.length).toBeGreaterThan(served);
    held[served]?.end(`answer ${served}`);
  }
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200, 200, 200]);
  expect(application.seen).toHaveLength(5);
  const connections = new Set(held.map(({ req }) => req.socket.remotePort));
  expect(connections.size).toBe(2);
  await expect.poll(async () => [await busy(), await waiting()]).toEqual([0, 0]);
});

it('for requests that need a connection of their own, too', async () => {
  const { held, sidecar, waiting, busy } = await start();
  const ask = { expect: '100-continue' };
  const answers = ['/1', '/2', '/3'].map((path) => call(sidecar, { path, headers: ask }));
  await expect.poll(waiting).toBe(1);
  await expect.poll(() => held.length).toBe(2);
  held[0]?.end('one');
  await expect.poll(() => held.length).toBe(3);
  held[1]?.end('two');
  held[2]?.end('three');
  expect((await Promise.all(answers)).map(({ status }) => status)).toEqual([200, 200, 200]);
  await expect.poll(busy).toBe(0);
});

it('and who waits longer than connecting may take gets 504', async () => {
  const { held, sidecar, waiting, busy } = await start({ 'upstream.connectTimeout': '300ms' });
  const first = [call(sidecar), call(sidecar)];
  await expect.poll(() => held.length).toBe(2);
  const before = await refusalsOf(sidecar, 'upstream_timeout');
  const late = await Promise.all([call(sidecar, { path: '/late' }), call(sidecar, { path: '/late-body', body: 'x' })]);
  expect(late.map(({ status }) => status)).toEqual([504, 504]);
  expect(await recordOf(sidecar, '/late')).toMatchObject({ status: 504, code: 'upstream_timeout', outcome: 'refused' });
  expect(await refusalsOf(sidecar, 'upstream_timeout')).toBe(before + 2);
  expect(await waiting()).toBe(0);
  for (const response of held) response.end();
  expect((await Promise.all(first)).map(({ status }) => status)).toEqual([200, 200]);
  await expect.poll(busy).toBe(0);
  expect(held).toHaveLength(2);
});

it('and who leaves while waiting is not sent', async () => {
  const { held, application, sidecar, waiting, busy } = await start();
  const first = [call(sidecar), call(sidecar)];
  await expect.poll(() => held.length).toBe(2);
  const leaver = begin(sidecar, { path: '/left' });
  leaver.on('error', () => undefined);
  leaver.end();
  await expect.poll(waiting).toBe(1);
  leaver.destroy();
  expect(await recordOf(sidecar, '/left')).toMatchObject({ status: 0, outcome: 'caller_aborted' });
  for (const response of held) response.end();
  await Promise.all(first);
  await expect.poll(async () => [await busy(), await waiting()]).toEqual([0, 0]);
  expect(application.seen.map(({ url }) => url)).not.toContain('/left');
});
