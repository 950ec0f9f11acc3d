import { once } from 'node:events';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { openRaw, type RawCaller } from './support/caller.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** The head of a WebSocket frame that announces 1 MiB (RFC 6455 §5.2), and not all of it. */
const ANNOUNCED = Buffer.from([0x82, 0x7f, 0, 0, 0, 0, 0, 0x10, 0, 0]);
const PART = Buffer.concat([ANNOUNCED, Buffer.alloc(1_000, 'a')]);

const SWITCHED = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n';

let application: RawApplication;
let sidecar: Sidecar;
let onUpgrade: (socket: Socket) => void;

beforeAll(async () => {
  application = await startRawApplication((socket) => socket.once('data', () => onUpgrade(socket)));
  sidecar = await startSidecar({ upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

/** A tunnel, its two ends. */
async function open(path: string): Promise<{ readonly caller: RawCaller; readonly upstream: Socket }> {
  const arrived = new Promise<Socket>((resolve) => (onUpgrade = resolve));
  const caller = await openRaw(sidecar);
  caller.socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n`);
  const upstream = await arrived;
  upstream.write(SWITCHED);
  await caller.receive(/\r\n\r\n/);
  return { caller, upstream };
}

/** Resolves with everything that comes, once it is this long. */
function collect(socket: Socket, length: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  return new Promise((resolve) => {
    socket.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      const all = Buffer.concat(chunks);
      if (all.length >= length) resolve(all);
    });
  });
}

it('when the caller vanishes', async () => {
  const { caller, upstream } = await open('/caller');
  const received = collect(upstream, PART.length);
  caller.socket.write(PART);
  expect(await received).toEqual(PART);
  const ended = once(upstream, 'close');
  caller.socket.destroy();
  await ended;
  expect(await recordOf(sidecar, '/caller')).toMatchObject({
    status: 101,
    upgraded: true,
    bytesIn: PART.length,
    bytesOut: 0,
  });
});

it('when the application vanishes', async () => {
  const { caller, upstream } = await open('/application');
  upstream.end(PART);
  const everything = await caller.closed();
  expect(everything.slice(everything.indexOf('\r\n\r\n') + 4)).toBe(PART.toString('latin1'));
  expect(await recordOf(sidecar, '/application')).toMatchObject({ status: 101, bytesIn: 0, bytesOut: PART.length });
});

it('and who does not read holds up the other end, not our memory', async () => {
  const { caller, upstream } = await open('/unread');
  caller.socket.pause();
  const piece = Buffer.alloc(1_048_576);
  let written = 0;
  // Until nothing moves any more: what is taken lies in the buffers of three sockets.
  while (upstream.writableLength === 0 && written < 256) {
    upstream.write(piece);
    written += 1;
    await Promise.race([once(upstream, 'drain'), new Promise((resolve) => setTimeout(resolve, 300))]);
  }
  expect(written).toBeLessThan(64);
  const length = written * piece.length;
  caller.socket.resume();
  upstream.end();
  const everything = await caller.closed();
  expect(everything.length - everything.indexOf('\r\n\r\n') - 4).toBe(length);
  expect(await recordOf(sidecar, '/unread')).toMatchObject({ bytesOut: length });
});
