import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import type { makePki } from '../support/pki.js';
import { startRecorder } from '../support/recorder.js';
import { statusOf, WireReader } from '../support/wire.js';
import { startSubject, type Subject } from './subject.js';

export interface AttackResult {
  /** Requests of the honest caller, and those that did not get their 200. */
  readonly honest: number;
  readonly failed: readonly string[];
  /** Slowest answer to the honest caller, milliseconds. */
  readonly slowest: number;
  /** How often each attack was begun. */
  readonly attacks: Readonly<Record<string, number>>;
  /** Bytes that the sidecar held before and after the last round, rubbish collected. */
  readonly before: number;
  readonly after: number;
  /** Connections that it still counted as open when all attackers had gone. */
  readonly leftOpen: number;
}

interface Arena {
  readonly subject: Subject;
  readonly open: Set<Socket>;
  readonly counts: Record<string, number>;
  readonly over: () => boolean;
}

/** Collects rubbish when told, so that what is left can be compared. */
const COLLECTOR = "process.on('SIGUSR2', () => globalThis.gc())";

const SETTINGS = {
  'limits.connections': '8000',
  'limits.headTimeout': '2s',
  'limits.bodyIdleTimeout': '2s',
  'tls.handshakeTimeout': '2s',
  'log.access': 'false',
};

/** Rounds in all, and by how much memory may differ between two of them. Bytes. */
const MOST_ROUNDS = 6;
const PLATEAU = 20 * 1_048_576;

/** Requests of the honest caller in a round, at least. */
const FEWEST = 10;

/** One attack, begun anew as often as it ends. */
const ATTACKS: Readonly<Record<string, readonly [lanes: number, attack: (arena: Arena) => Promise<void>]>> = {
  'silent before the handshake': [40, async (arena) => wait(await tcp(arena))],
  'a handshake byte by byte': [10, handshakeByByte],
  'a head byte by byte': [20, (arena) => trickle(arena, 'GET /slow HTTP/1.1\r\nHost: a\r\nX-A: ', 'a')],
  'a body byte by byte': [
    20,
    (arena) => trickle(arena, 'POST /slow HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n', 'a'),
  ],
  'an answer unread': [10, unread],
  'connections opened and left': [4, churn],
  'a thousand requests in one write': [2, pipeline],
  'heads of 60 KiB': [4, (arena) => bomb(arena, `GET / HTTP/1.1\r\nHost: a\r\nX-A: ${'a'.repeat(60_000)}\r\n\r\n`)],
  'ten thousand headers': [2, (arena) => bomb(arena, `GET / HTTP/1.1\r\nHost: a\r\n${'a:b\r\n'.repeat(10_000)}\r\n`)],
  'chunks of one byte': [
    2,
    (arena) =>
      bomb(arena, `POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n${'1\r\na\r\n'.repeat(5_000)}`),
  ],
};

/**
 * All attacks at once, and an honest caller among them.
 * @param idle connections that are opened and never used
 */
export async function attack(pki: ReturnType<typeof makePki>, seconds: number, idle: number): Promise<AttackResult> {
  const large = Buffer.alloc(1_048_576, 'a');
  const recorder = await startRecorder(({ message }, socket) => {
    const body = message.line.includes('/large') ? large : Buffer.from('ok');
    socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]));
    recorder.forget();
  });
  const subject = await startSubject(pki, recorder.url, SETTINGS, [
    '--expose-gc',
    `--import=data:text/javascript,${COLLECTOR}`,
  ]);
  let [before, after, leftOpen] = [0, 0, 0];
  let result = await round(subject, seconds, idle);
  const failed = [...result.failed];
  // The first rounds fill what is filled once: caches, pools, the heap's own room. What leaks goes on growing.
  for (let turn = 1; turn < MOST_ROUNDS && (turn === 1 || after - before > PLATEAU); turn += 1) {
    leftOpen += await settle(subject);
    before = await collected(subject);
    result = await round(subject, seconds, idle);
    failed.push(...result.failed);
    leftOpen += await settle(subject);
    after = await collected(subject);
  }
  await subject.stop();
  await recorder.stop();
  return { ...result, failed, before, after, leftOpen };
}

async function round(subject: Subject, seconds: number, idle: number) {
  const until = performance.now() + seconds * 1000;
  const counts: Record<string, number> = { idle: 0 };
  let served = 0;
  // On a machine without time the honest caller still has its say.
  const over = (): boolean => performance.now() >= until && served >= FEWEST;
  const arena: Arena = { subject, open: new Set(), counts, over };
  const lanes = Object.entries(ATTACKS).flatMap(([name, [count, run]]) =>
    Array.from({ length: count }, async () => {
      for (counts[name] ??= 0; !arena.over(); counts[name] += 1) await run(arena).catch(() => undefined);
    }),
  );
  const honest = beHonest(arena, () => (served += 1));
  await occupy(arena, idle);
  const told = await honest;
  for (const socket of arena.open) socket.destroy();
  await Promise.all(lanes);
  return { ...told, attacks: counts };
}

/** A request every 20 ms, every fifth over a new connection. */
async function beHonest({ subject, over }: Arena, done: () => void) {
  const failed: string[] = [];
  let [honest, slowest] = [0, 0];
  let kept: TLSSocket | null = null;
  for (; !over(); honest += 1) {
    if (honest % 5 === 0) {
      kept?.destroy();
      kept = null;
    }
    const started = performance.now();
    const socket: TLSSocket = kept?.destroyed === false ? kept : await subject.open();
    kept = socket;
    const status = await ask(socket, `GET /honest/${honest} HTTP/1.1\r\nHost: a\r\n\r\n`);
    slowest = Math.max(slowest, performance.now() - started);
    if (status !== 200) failed.push(`request ${honest}: ${status}`);
    done();
    await sleep(20);
  }
  kept?.destroy();
  return { honest, failed, slowest };
}

function ask(socket: TLSSocket, bytes: string): Promise<number> {
  const reader = new WireReader({ nextMethod: () => 'GET' });
  socket.write(bytes, 'latin1');
  return new Promise((resolve) => {
    const finish = (status: number): void => {
      socket.off('data', onData);
      socket.off('close', onClose);
      resolve(status);
    };
    const onData = (chunk: Buffer): void => {
      reader.push(chunk);
      const [answer] = reader.messages;
      if (answer !== undefined) finish(statusOf(answer));
    };
    const onClose = (): void => finish(0);
    socket.on('data', onData);
    socket.once('close', onClose);
  });
}

async function occupy({ subject, open, counts, over }: Arena, idle: number): Promise<void> {
  const lane = async (): Promise<void> => {
    while (!over() && (counts['idle'] ?? 0) < idle) {
      counts['idle'] = (counts['idle'] ?? 0) + 1;
      const socket = await subject.open();
      open.add(socket);
      // The deadline of a first head is for connections that never say anything.
      await ask(socket, 'GET /idle HTTP/1.1\r\nHost: a\r\n\r\n');
    }
  };
  await Promise.all(Array.from({ length: 16 }, lane));
}

async function tcp({ subject, open }: Arena): Promise<Socket> {
  const socket = connectTcp(subject.port, '127.0.0.1');
  open.add(socket);
  socket.on('error', () => undefined);
  socket.once('close', () => open.delete(socket));
  await once(socket, 'connect');
  return socket;
}

async function tls({ subject, open }: Arena): Promise<TLSSocket> {
  const socket = await subject.open();
  open.add(socket);
  socket.once('close', () => open.delete(socket));
  return socket;
}

async function wait(socket: Socket): Promise<void> {
  socket.resume();
  if (!socket.destroyed) await once(socket, 'close');
}

/** The beginning of a ClientHello, so that nobody can say yet that it is none. */
async function handshakeByByte(arena: Arena): Promise<void> {
  const socket = (await tcp(arena)).resume();
  for (const byte of [0x16, 0x03, 0x01, 0x01, 0x00, 0x01, 0x00, 0x00, 0xfc, 0x03, 0x03]) {
    if (socket.destroyed || arena.over()) break;
    socket.write(Buffer.from([byte]));
    await sleep(250);
  }
  await wait(socket);
}

async function trickle(arena: Arena, first: string, rest: string): Promise<void> {
  const socket = (await tls(arena)).resume();
  socket.write(first);
  for (; !socket.destroyed && !arena.over(); await sleep(100)) socket.write(rest);
  socket.destroy();
}

async function unread(arena: Arena): Promise<void> {
  const socket = await tls(arena);
  socket.pause();
  socket.write('GET /large HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(8));
  // Paused, it is not told that the other side has gone.
  await sleep(3_000);
  socket.destroy();
}

async function churn(arena: Arena): Promise<void> {
  const socket = await tls(arena);
  if (Math.random() < 0.5) socket.write('POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nhalf');
  socket.destroy();
}

async function pipeline(arena: Arena): Promise<void> {
  const socket = (await tls(arena)).resume();
  socket.write(
    `${'GET /many HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(999)}GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n`,
  );
  await wait(socket);
}

async function bomb(arena: Arena, bytes: string): Promise<void> {
  const socket = (await tls(arena)).resume();
  socket.write(bytes);
  await Promise.race([wait(socket), sleep(3_000)]);
  socket.destroy();
}

/** @returns how many connections the sidecar still holds when it has had time to let go of them */
async function settle(subject: Subject): Promise<number> {
  let open = 0;
  for (let turn = 0; turn < 100; turn += 1) {
    const { body } = await subject.admin('/metrics');
    open = Number(/^mtls_sidecar_connections_open (\d+)$/m.exec(body)?.[1]);
    if (open === 0) return 0;
    await sleep(100);
  }
  return open;
}

/** The least that is held within a few seconds: rubbish takes more than one round to go. */
async function collected(subject: Subject): Promise<number> {
  let least = Infinity;
  for (let turn = 0; turn < 8; turn += 1) {
    subject.child.kill('SIGUSR2');
    await sleep(250);
    least = Math.min(least, await subject.memory());
  }
  return least;
}
