import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';
const HEAD_TIMEOUT = 200;

let application: RawApplication;
let sidecar: Sidecar;
let answer: (socket: Socket, text: string) => void;

beforeAll(async () => {
  application = await startRawApplication((socket) => {
    socket.on('data', (chunk) => answer(socket, chunk.toString('latin1')));
  });
  const settings = { 'upstream.headTimeout': `${HEAD_TIMEOUT}ms` };
  sidecar = await startSidecar({ upstream: application.url, settings });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

it.each([
  ['100 Continue', 'Expect: 100-continue\r\n', ''],
  ['103 Early Hints', '', 'first'],
])('a caller who takes its time after %s is not told that the application is slow', async (interim, expect_, first) => {
  answer = (socket, text) => socket.write(text.endsWith('last') ? OK : `HTTP/1.1 ${interim}\r\n\r\n`);
  const caller = await openRaw(sidecar);
  const length = `${first}last`.length;
  caller.socket.write(`POST / HTTP/1.1\r\nHost: localhost\r\n${expect_}Content-Length: ${length}\r\n\r\n${first}`);
  await caller.receive(new RegExp(`^HTTP/1\\.1 ${interim}\r\n`));
  // Time is what is tested: longer than an application may take.
  await sleep(3 * HEAD_TIMEOUT);
  caller.socket.write('last');
  expect(await caller.receive(/ok$/)).toMatch(/\r\n\r\nHTTP\/1\.1 200 OK\r\n/);
  caller.socket.destroy();
});

it('an application that falls silent after an interim answer is too slow', async () => {
  answer = (socket) => socket.write('HTTP/1.1 102 Processing\r\n\r\n');
  expect((await call(sidecar, { body: 'whole' })).status).toBe(504);
});

it('interim answers without end are no answer', async () => {
  answer = (socket) => socket.write('HTTP/1.1 102 Processing\r\n\r\n'.repeat(2_001));
  expect((await call(sidecar, { path: '/endless' })).status).toBe(502);
  expect(await recordOf(sidecar, '/endless')).toMatchObject({ code: 'upstream_protocol' });
});
