import type { Socket } from 'node:net';
import { afterEach, expect, it } from 'vitest';
import { startRawApplication } from './support/application.js';
import { call } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const stops: (() => unknown)[] = [];

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

/**
 * An application that answers the first request of each connection and does `second` upon the next one; `third` tells
 * what it does with the first request of the second connection.
 */
async function forgetful(
  second: (socket: Socket) => void,
  third: (socket: Socket) => void = (socket) => socket.write(OK),
) {
  const requests: string[] = [];
  const application = await startRawApplication((socket) => {
    let count = 0;
    const first = application.sockets.length === 1;
    socket.on('data', (chunk) => {
      if (!/^[A-Z]+ \//.test(chunk.toString('latin1'))) return;
      requests.push(chunk.toString('latin1').split(' HTTP/')[0] as string);
      count += 1;
      if (count > 1) second(socket);
      else if (first) socket.write(OK);
      else third(socket);
    });
  });
  stops.push(() => application.stop());
  const sidecar = await startSidecar({ pki, upstream: application.url });
  stops.push(() => sidecar.stop());
  await call(sidecar, { path: '/warm-up' });
  return { requests, sidecar };
}

const closing = (socket: Socket): void => void socket.end();

it.each(['GET', 'HEAD', 'OPTIONS', 'PUT', 'DELETE'])(
  '%s without a body, when a kept connection closes',
  async (method) => {
    const { requests, sidecar } = await forgetful(closing, (socket) => {
      socket.write(method === 'HEAD' ? 'HTTP/1.1 200 OK\r\n\r\n' : OK);
    });
    expect((await call(sidecar, { method, path: '/again' })).status).toBe(200);
    expect(requests).toEqual(['GET /warm-up', `${method} /again`, `${method} /again`]);
    expect(await recordOf(sidecar, '/again')).toMatchObject({ status: 200, outcome: 'ok', code: null });
  },
);

it('when a kept connection is reset', async () => {
  const { requests, sidecar } = await forgetful((socket) => socket.resetAndDestroy());
  expect((await call(sidecar, { path: '/again' })).status).toBe(200);
  expect(requests).toHaveLength(3);
});

/** Expects a 502 and no second sending. */
async function expectOnce(
  sidecar: Sidecar,
  requests: readonly string[],
  options: Parameters<typeof call>[1],
): Promise<void> {
  expect((await call(sidecar, options)).status).toBe(502);
  expect(requests).toHaveLength(2);
}

it.each(['POST', 'PATCH'])('never %s, not even without a body', async (method) => {
  const { requests, sidecar } = await forgetful(closing);
  await expectOnce(sidecar, requests, { method, path: '/once' });
  expect(await recordOf(sidecar, '/once')).toMatchObject({ status: 502, code: 'upstream_closed' });
});

it.each(['POST', 'PUT', 'DELETE'])('never %s with a body', async (method) => {
  const { requests, sidecar } = await forgetful(closing);
  await expectOnce(sidecar, requests, { method, path: '/once', body: 'x', headers: { 'content-length': 1 } });
});

it('never what was answered in part', async () => {
  const { requests, sidecar } = await forgetful((socket) => socket.end('HTTP/1.1 200'));
  await expectOnce(sidecar, requests, { path: '/once' });
});

it('never what was answered with an interim answer', async () => {
  const { requests, sidecar } = await forgetful((socket) =>
    socket.end('HTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\n'),
  );
  await expectOnce(sidecar, requests, { path: '/once' });
});

it('never what was answered with nonsense', async () => {
  const { requests, sidecar } = await forgetful((socket) => socket.end('nonsense\r\n\r\n'));
  await expectOnce(sidecar, requests, { path: '/once' });
});

it('never over a fresh connection', async () => {
  let requests = 0;
  const application = await startRawApplication((socket) => {
    socket.once('data', () => {
      requests += 1;
      socket.end();
    });
  });
  stops.push(() => application.stop());
  const sidecar = await startSidecar({ pki, upstream: application.url });
  stops.push(() => sidecar.stop());
  expect((await call(sidecar)).status).toBe(502);
  expect(requests).toBe(1);
});

it('never a third time', async () => {
  const { requests, sidecar } = await forgetful(closing, closing);
  expect((await call(sidecar, { path: '/twice' })).status).toBe(502);
  expect(requests).toEqual(['GET /warm-up', 'GET /twice', 'GET /twice']);
});
