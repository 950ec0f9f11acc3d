import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import { queryObjects } from 'node:v8';
import { Worker } from 'node:worker_threads';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Http2Line } from '../src/listen/http2-line.js';
import { startApplication, type Application } from './support/application.js';
import { tlsOptions } from './support/caller.js';
import { call2, openHttp2 } from './support/http2.js';
import { block, FLAGS, frame, openFrames, request, uint32, type FrameCaller } from './support/http2-frames.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const WHOLE = FLAGS.endStream | FLAGS.endHeaders;
const CONNECTIONS = 20;

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication((seen, response) => {
    if (seen.url !== '/never') response.end('ok');
  });
  sidecar = await startSidecar({ upstream: application.url, settings: { 'listen.http2': 'true' } });
});
afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const alive = (): number => queryObjects(Http2Line, { format: 'count' });

/** None of these callers ever acknowledges our SETTINGS, which for Node is a question that stays open. */
const ENDINGS: Readonly<Record<string, (caller: FrameCaller) => Promise<unknown>>> = {
  'by too many CONTINUATION frames, one by one': async (caller) => {
    caller.send(frame('headers', FLAGS.endStream, 1, block(request('/'))));
    for (; !caller.socket.destroyed; await turn()) caller.send(frame('continuation', 0, 1));
    return caller.ended();
  },
  'by too many CONTINUATION frames in one write': async (caller) => {
    const head = frame('headers', FLAGS.endStream, 1, block(request('/')));
    caller.send(head, ...Array.from({ length: 50 }, () => frame('continuation', 0, 1)));
    return caller.ended();
  },
  'in the middle of a head, by its caller': async (caller) => {
    caller.send(frame('headers', FLAGS.endStream, 1, block(request('/'))));
    await turn();
    caller.socket.destroy();
    return caller.ended();
  },
  'in the middle of a request, by its caller': async (caller) => {
    caller.send(frame('headers', WHOLE, 1, block(request('/never'))));
    await expect.poll(() => application.seen.length).toBeGreaterThanOrEqual(CONNECTIONS);
    caller.socket.destroy();
    return caller.ended();
  },
  'by a frame that cannot be': async (caller) => {
    caller.send(frame('headers', WHOLE, 1, block(request('/'))), frame('windowUpdate', 0, 0, uint32(0)));
    return caller.ended();
  },
  'by too many PING frames': async (caller) => {
    caller.send(...Array.from({ length: 20_000 }, () => frame('ping', 0, 0, Buffer.alloc(8))));
    return caller.ended();
  },
};

it.each(Object.entries(ENDINGS))('ended %s', async (_how, end) => {
  const callers = await Promise.all(Array.from({ length: CONNECTIONS }, () => openFrames(sidecar)));
  await expect.poll(alive).toBe(CONNECTIONS);
  await Promise.all(callers.map(end));
  await expect.poll(alive, { timeout: 5_000 }).toBe(0);
});

/** In a thread of its own, so that its frames come while the sidecar is about to end the connection. */
const FLOOD = `
  const { parentPort, workerData } = require('node:worker_threads');
  const { connect } = require('node:tls');
  const { options, head, more, lanes, times } = workerData;
  const flood = (left) => {
    const socket = connect(options, () => {
      parentPort.postMessage('in');
      socket.write(head);
    });
    const timer = setInterval(() => socket.write(more), 1);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      clearInterval(timer);
      if (left > 1) flood(left - 1);
    });
    socket.resume();
  };
  for (let lane = 0; lane < lanes; lane += 1) flood(times);
`;

it('ended by too many CONTINUATION frames of callers that go on', { timeout: 30_000 }, async () => {
  const preface = Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame('settings', 0, 0)]);
  const head = Buffer.concat([preface, frame('headers', FLAGS.endStream, 1, block(request('/')))]);
  const more = frame('continuation', 0, 1);
  const options = { ...tlsOptions(sidecar), ALPNProtocols: ['h2'] };
  const worker = new Worker(FLOOD, { eval: true, workerData: { options, head, more, lanes: 10, times: 60 } });
  let floods = 0;
  worker.on('message', () => (floods += 1));
  await once(worker, 'exit');
  expect(floods).toBe(600);
  await expect.poll(alive, { timeout: 5_000 }).toBe(0);
});

it('ended after an answer, in good order', async () => {
  const session = await openHttp2(sidecar);
  expect((await call2(session)).status).toBe(200);
  expect(alive()).toBe(1);
  await new Promise<void>((resolve) => session.close(resolve));
  await expect.poll(alive, { timeout: 5_000 }).toBe(0);
});
