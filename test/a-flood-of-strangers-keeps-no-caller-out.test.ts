import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { afterEach, beforeAll, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** Handshakes and refusals that have room at once. */
const ROOM = 256;

const pki = makePki();
const flood: Socket[] = [];
let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  return () => application.stop();
});

afterEach(async () => {
  for (const socket of flood.splice(0)) socket.destroy();
  await sidecar.stop();
});

async function start(): Promise<void> {
  sidecar = await startSidecar({ pki, upstream: application.url, settings: { 'limits.connections': '10' } });
}

/** Opens TCP connections, one after the other, that say nothing. */
async function stayingSilent(count: number, localAddress = '127.0.0.1'): Promise<Socket[]> {
  const opened: Socket[] = [];
  for (let index = 0; index < count; index += 1) {
    const socket = connect({ port: sidecar.port, host: '127.0.0.1', localAddress });
    socket.on('error', () => undefined);
    flood.push(socket);
    opened.push(socket.resume());
    await once(socket, 'connect');
  }
  return opened;
}

const ended = (labels: string) => sidecar.metric(`mtls_sidecar_handshakes_total{${labels}}`);
const crowdedOut = () => ended('result="refused",reason="overloaded"');
const left = () => ended('result="aborted",reason="handshake_aborted"');

it('of silent ones', async () => {
  await start();
  await stayingSilent(10 + ROOM + 20);
  expect((await call(sidecar)).status).toBe(200);
  const held = await Promise.all(Array.from({ length: 10 }, () => openRaw(sidecar)));
  held[0]?.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  expect(await held[0]?.receive(/ok$/)).toMatch(/^HTTP\/1\.1 200 /);
  for (const { socket } of held) socket.destroy();
});

it('of silent ones that does not stop', async () => {
  await start();
  await stayingSilent(ROOM);
  let over = false;
  const goingOn = (async () => {
    while (!over) await stayingSilent(1);
  })();
  for (let index = 0; index < 20; index += 1) expect((await call(sidecar)).status).toBe(200);
  over = true;
  await goingOn;
});

it('of refused ones that do not leave', async () => {
  await start();
  for (let begun = 0; begun < ROOM + 20; begun += 20) {
    const more = await Promise.all(Array.from({ length: 20 }, () => openRaw(sidecar, { as: null })));
    flood.push(...more.map(({ socket }) => socket));
  }
  expect((await call(sidecar)).status).toBe(200);
});

it('and makes the oldest go, each recorded and counted', async () => {
  await start();
  const [first, second] = await stayingSilent(ROOM);
  expect(await crowdedOut()).toBe(0);
  await Promise.all([once(first as Socket, 'close'), stayingSilent(1)]);
  expect(second?.closed).toBe(false);
  expect(await crowdedOut()).toBe(1);
  expect(await sidecar.logged(({ reason }) => reason === 'overloaded')).toMatchObject({
    msg: 'connection refused',
    level: 'warn',
    detail: `more than ${ROOM} handshakes and refusals at once`,
    peer: expect.stringMatching(/^127\.0\.0\.1:\d+$/) as string,
    subject: null,
  });
  await Promise.all([once(second as Socket, 'close'), stayingSilent(1)]);
  expect(await crowdedOut()).toBe(2);
});

it('and makes those of the address go that has most', async () => {
  await start();
  const [patient] = await stayingSilent(1, '127.0.0.1');
  const [first] = await stayingSilent(ROOM - 1, '127.0.0.2');
  await Promise.all([once(first as Socket, 'close'), stayingSilent(1, '127.0.0.3')]);
  await stayingSilent(50, '127.0.0.2');
  expect(patient?.closed).toBe(false);
  expect(await crowdedOut()).toBe(51);
});

it('nor those out that are inside', async () => {
  await start();
  const inside = await openRaw(sidecar);
  await expect.poll(() => sidecar.app.connections()).toBe(1);
  await stayingSilent(10 + 2 * ROOM);
  inside.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
  expect(await inside.receive(/ok$/)).toMatch(/^HTTP\/1\.1 200 /);
  inside.socket.destroy();
});

it('nor one that waits, for those that have left', async () => {
  await start();
  const [patient] = await stayingSilent(1);
  for (const hasty of await stayingSilent(ROOM - 1)) hasty.destroy();
  await expect.poll(left).toBe(ROOM - 1);
  await stayingSilent(20);
  expect(await crowdedOut()).toBe(0);
  expect(patient?.closed).toBe(false);
});
