import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { TLSSocket } from 'node:tls';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { openRaw } from './support/caller.js';
import { recordOf, refusalsOf } from './support/records.js';
import { repeat } from './support/repeat.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** As `src/forward/early-bytes.ts` has it. */
const MAX_EARLY = 65_536;

let application: RawApplication;
let sidecar: Sidecar;
let onUpgrade: (socket: Socket) => void;

beforeAll(async () => {
  application = await startRawApplication((socket) => socket.once('data', () => onUpgrade(socket.resume())));
  sidecar = await startSidecar({ upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

function upgradeHead(path: string): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`;
}

function arrival(): Promise<Socket> {
  return new Promise((resolve) => (onUpgrade = resolve));
}

/** A TCP connection that stays open when TLS is over: only `close_notify` says so. */
function withoutFin(tcp: Socket): Duplex {
  const stream = new Duplex({
    read: () => void tcp.resume(),
    write: (chunk: Buffer, _encoding, done) => void tcp.write(chunk, () => done()),
    final: (done) => done(),
  });
  tcp.on('data', (chunk: Buffer) => stream.push(chunk));
  tcp.on('close', () => stream.destroy());
  return stream;
}

interface Caller {
  readonly socket: TLSSocket;
  /** The TCP connection below, which alone can be reset. */
  readonly tcp: Socket;
}

async function open(over: (tcp: Socket) => Duplex): Promise<Caller> {
  const tcp = connect(sidecar.port, '127.0.0.1').on('error', () => undefined);
  const { socket } = await openRaw(sidecar, { socket: over(tcp) });
  return { socket, tcp };
}

/** @returns when the kernel has it all */
function write(socket: TLSSocket, bytes: string): Promise<unknown> {
  return new Promise((resolve) => socket.write(bytes, resolve));
}

const same = (tcp: Socket): Duplex => tcp;
const LEAVES = [
  { how: 'FIN', over: same, leave: ({ socket }: Caller) => socket.destroy() },
  { how: 'close_notify', over: withoutFin, leave: ({ socket }: Caller) => socket.end() },
  { how: 'close_notify and FIN', over: same, leave: ({ socket }: Caller) => socket.end() },
  { how: 'RST', over: same, leave: ({ tcp }: Caller) => tcp.resetAndDestroy() },
];
const SENDS = [
  { what: 'nothing', behind: '', later: '' },
  { what: 'bytes with the head', behind: 'hello', later: '' },
  { what: 'bytes after the head', behind: '', later: 'hello' },
  { what: 'as much as is kept', behind: 'hello', later: 'x'.repeat(MAX_EARLY - 5) },
  { what: 'a byte more than is kept', behind: 'hello', later: 'x'.repeat(MAX_EARLY - 4) },
  { what: 'far more than is kept', behind: '', later: 'x'.repeat(1_000_000) },
];
const ALL = SENDS.flatMap((sends) => LEAVES.map((leaves) => ({ ...sends, ...leaves })));

it.each(ALL)('behind $what, by $how', async ({ what, behind, later, how, over, leave }) => {
  const path = `/${what}-${how}`.replaceAll(' ', '-');
  const arrived = arrival();
  const caller = await open(over);
  caller.socket.write(upgradeHead(path) + behind);
  const upstream = await arrived;
  if (later !== '') await write(caller.socket, later);
  leave(caller);
  await once(upstream, 'close');
  expect(await recordOf(sidecar, path)).toMatchObject({
    level: 'info',
    status: 0,
    code: null,
    outcome: 'caller_aborted',
    upgraded: false,
    bytesIn: 0,
    bytesOut: 0,
  });
  await expect.poll(() => sidecar.app.connections()).toBe(0);
  caller.tcp.destroy();
});

it('and while it gets another answer than the 101', async () => {
  const arrived = arrival();
  const caller = await open(same);
  caller.socket.write(`${upgradeHead('/refused')}hello`);
  const upstream = await arrived;
  upstream.write('HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\nevent');
  await once(caller.socket, 'data');
  await write(caller.socket, 'x'.repeat(1_000_000));
  caller.socket.destroy();
  await once(upstream, 'close');
  expect(await recordOf(sidecar, '/refused')).toMatchObject({ status: 200, upgraded: false, bytesIn: 0, bytesOut: 5 });
});

it('and one that stays, but sends more than is kept, is told so', async () => {
  const before = await refusalsOf(sidecar, 'body_too_large');
  const arrived = arrival();
  const caller = await openRaw(sidecar);
  caller.socket.write(upgradeHead('/too-much') + 'x'.repeat(MAX_EARLY + 1));
  const upstream = await arrived;
  await once(upstream, 'close');
  expect(await caller.closed()).toMatch(/^HTTP\/1\.1 413 [^]*<code>body_too_large<\/code>/);
  expect(await recordOf(sidecar, '/too-much')).toMatchObject({
    status: 413,
    code: 'body_too_large',
    detail: 'more than 65536 bytes behind an Upgrade before its answer',
    outcome: 'refused',
    upgraded: false,
    bytesIn: 0,
    bytesOut: 0,
  });
  expect(await refusalsOf(sidecar, 'body_too_large')).toBe(before + 1);
});

it('and one that goes on sending then is not listened to for long', async () => {
  const arrived = arrival();
  const tcp = connect({ port: sidecar.port, host: '127.0.0.1', allowHalfOpen: true });
  const caller = await openRaw(sidecar, { socket: tcp });
  caller.socket.write(upgradeHead('/endless'));
  await arrived;
  const stop = repeat(20, () => caller.socket.write('x'.repeat(20_000)));
  await caller.receive(/^HTTP\/1\.1 413 /);
  // A caller that may be half open ends nothing by itself.
  await expect.poll(() => sidecar.app.connections(), { timeout: 10_000 }).toBe(0);
  expect(caller.socket.writableEnded).toBe(false);
  stop();
  expect(await recordOf(sidecar, '/endless')).toMatchObject({ status: 413, outcome: 'refused' });
});
