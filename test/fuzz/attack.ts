import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { connect as connectTcp, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import { begin2, http2Over } from '../support/http2.js';
import { block, FLAGS, frame, framesOver, request, uint32 } from '../support/http2-frames.js';
import type { makePki } from '../support/pki.js';
import { startRecorder } from '../support/recorder.js';
import { statusOf, WireReader } from '../support/wire.js';
import { PLAIN_NODE, startSubject, type Held, type NodeStart, type Subject } from './subject.js';

export interface AttackOptions {
  /** How long a round lasts. */
  readonly seconds: number;
  /** Connections that are there before it begins, each with one request behind it. */
  readonly idle: number;
  /** Whether idle and honest callers speak HTTP/2, and attackers as well as HTTP/1.1. */
  readonly http2: boolean;
  /** Without it Node has its defaults. */
  readonly node?: NodeStart;
  /**
   * Seconds that it has after a round to hold at most 20 MiB more than before the first. Without it, no more than after the round
   * before: no memory is given back without the image's allocator, nor at once.
   */
  readonly givesBackIn?: number;
}

export interface AttackResult {
  /** Of the last round: idle connections by `/status` when it began, and those that were still open when it was over. */
  readonly idle: { readonly open: number; readonly kept: number };
  /** Of the last round: requests of the honest caller, and its slowest answer in milliseconds. */
  readonly honest: number;
  readonly slowest: number;
  /** How often each attack was begun in the last round. */
  readonly attacks: Readonly<Record<string, number>>;
  /** What the sidecar held before the first round and after each, when all attackers had gone and it had come to rest, or rubbish was collected. */
  readonly memory: readonly Held[];
  /** What must not be, in any round; one sentence each. */
  readonly wrong: readonly string[];
}

interface Arena {
  readonly subject: Subject;
  readonly http2: boolean;
  readonly open: Set<Socket>;
  readonly counts: Record<string, number>;
  readonly over: () => boolean;
}

type Attacks = Readonly<Record<string, readonly [lanes: number, attack: (arena: Arena) => Promise<void>]>>;

/** Collects rubbish when told, so that what is left can be compared. */
const COLLECTOR = "process.on('SIGUSR2', () => globalThis.gc())";

const SETTINGS = {
  'limits.connections': '8000',
  'limits.headTimeout': '2s',
  'limits.bodyIdleTimeout': '2s',
  'tls.handshakeTimeout': '2s',
  // Of the idle ones, who wait for each other to come in.
  'limits.keepAliveTimeout': '10m',
  'log.access': 'false',
};

/** Rounds in all, and by how much memory may differ after them. MiB. */
const MOST_ROUNDS = 6;
const PLATEAU = 20;

/** Idle callers that come in at one time. */
const DOORS = 16;

/** Requests of the honest caller in a round, at least. */
const FEWEST = 10;

/** One attack, begun anew as often as it ends. */
const ATTACKS: Attacks = {
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

/** The same over HTTP/2, and what is possible there alone. */
const HTTP2_ATTACKS: Attacks = {
  'HTTP/2: a head byte by byte': [10, headByByte2],
  'HTTP/2: a body byte by byte': [10, bodyByByte2],
  'HTTP/2: answers unread': [10, unread2],
  'HTTP/2: a thousand requests at once': [2, pipeline2],
  'HTTP/2: heads of 60 KiB': [4, bomb2],
  'HTTP/2: requests opened and reset': [2, reset2],
};

/** All attacks at once, and an honest caller among them. */
export async function attack(pki: ReturnType<typeof makePki>, options: AttackOptions): Promise<AttackResult> {
  const large = Buffer.alloc(1_048_576, 'a');
  const recorder = await startRecorder(({ message }, socket) => {
    const body = message.line.includes('/large') ? large : Buffer.from('ok');
    socket.write(Buffer.concat([Buffer.from(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`), body]));
    recorder.forget();
  });
  const settings = { ...SETTINGS, 'listen.http2': String(options.http2) };
  const { node = PLAIN_NODE, givesBackIn } = options;
  const collector = ['--expose-gc', `--import=data:text/javascript,${COLLECTOR}`];
  const how = { options: [...node.options, ...collector], env: node.env };
  const subject = await startSubject(pki, recorder.url, settings, how);
  const cold = await collected(subject);
  const memory: Held[] = [cold];
  const wrong: string[] = [];
  const again = async () => {
    const { failed, ...result } = await round(subject, options);
    const { open, kept } = result.idle;
    if (open < options.idle || kept < open) wrong.push(`${open} idle connections were open, and ${kept} at the end`);
    wrong.push(...failed, ...(await settle(subject)));
    memory.push(givesBackIn === undefined ? await collected(subject) : await rested(subject, cold.rss, givesBackIn));
    return result;
  };
  await again();
  let result = await again();
  if (givesBackIn === undefined) {
    // The first rounds fill what is filled once: caches, pools, the heap's own room. What leaks goes on growing.
    const growth = (): number => (memory.at(-1)?.rss ?? 0) - (memory.at(-2)?.rss ?? 0);
    while (growth() > PLATEAU && memory.length <= MOST_ROUNDS) result = await again();
    if (growth() > PLATEAU) wrong.push(tooMuch(memory));
  } else {
    result = await again();
    // After each of them: a process that comes near once would pass otherwise, though it grew in all others.
    if (memory.some(({ rss }) => rss > cold.rss + PLATEAU)) wrong.push(tooMuch(memory));
  }
  await subject.stop();
  await recorder.stop();
  return { ...result, memory, wrong };
}

function tooMuch(memory: readonly Held[]): string {
  return `memory grew: ${memory.map(({ rss }) => rss).join(', ')} MiB`;
}

async function round(subject: Subject, { seconds, idle, http2 }: AttackOptions) {
  const open = await occupy(subject, idle, http2);
  const status = JSON.parse((await subject.admin('/status')).body) as { readonly connections: number };
  const until = performance.now() + seconds * 1000;
  const counts: Record<string, number> = {};
  let served = 0;
  // On a machine without time the honest caller still has its say.
  const over = (): boolean => performance.now() >= until && served >= FEWEST;
  const arena: Arena = { subject, http2, open: new Set(), counts, over };
  const lanes = Object.entries({ ...ATTACKS, ...(http2 && HTTP2_ATTACKS) }).flatMap(([name, [count, run]]) =>
    Array.from({ length: count }, async () => {
      for (counts[name] ??= 0; !arena.over(); counts[name] += 1) await run(arena).catch(() => undefined);
    }),
  );
  const told = await beHonest(arena, () => (served += 1));
  const kept = open.filter(({ destroyed }) => !destroyed).length;
  for (const socket of [...open, ...arena.open]) socket.destroy();
  await Promise.all(lanes);
  return { ...told, idle: { open: status.connections, kept }, attacks: counts };
}

/** A request every 20 ms, every fifth over a new connection. */
async function beHonest({ subject, http2, over }: Arena, done: () => void) {
  const failed: string[] = [];
  let [honest, slowest] = [0, 0];
  let kept = null as Caller | null;
  const visit = async (): Promise<number> => {
    if (kept?.socket.destroyed !== false) kept = await openCaller(subject, http2);
    return kept.ask(`/honest/${honest}`);
  };
  for (; !over(); honest += 1) {
    if (honest % 5 === 0) kept?.socket.destroy();
    const started = performance.now();
    const outcome: number | string = await visit().catch(String);
    const took = Math.round(performance.now() - started);
    slowest = Math.max(slowest, took);
    if (outcome !== 200) failed.push(`honest request ${honest}: ${outcome} after ${took} ms`);
    done();
    await sleep(20);
  }
  kept?.socket.destroy();
  return { honest, failed, slowest };
}

interface Caller {
  readonly socket: TLSSocket;
  /** @returns the status, or 0 when there was none */
  ask(path: string): Promise<number>;
}

async function openCaller(subject: Subject, http2: boolean): Promise<Caller> {
  const socket = await subject.open(http2 ? 'h2' : undefined);
  if (!http2) return { socket, ask: (path) => ask(socket, `GET ${path} HTTP/1.1\r\nHost: a\r\n\r\n`) };
  const session = http2Over(socket);
  const askStream = (path: string): Promise<number> => {
    const stream = begin2(session, { ':path': path }).resume();
    return new Promise((resolve) => {
      let status = 0;
      stream.once('response', (headers) => (status = Number(headers[':status'])));
      stream.once('close', () => resolve(stream.rstCode === 0 ? status : 0));
    });
  };
  return { socket, ask: askStream };
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

/** Each has asked once: the deadline of a first head is for connections that never say anything. */
async function occupy(subject: Subject, idle: number, http2: boolean): Promise<Socket[]> {
  const open: Socket[] = [];
  let begun = 0;
  const lane = async (): Promise<void> => {
    while (begun < idle) {
      begun += 1;
      const caller = await openCaller(subject, http2);
      open.push(caller.socket);
      await caller.ask('/idle');
    }
  };
  await Promise.all(Array.from({ length: DOORS }, lane));
  return open;
}

async function tcp({ subject, open }: Arena): Promise<Socket> {
  const socket = connectTcp(subject.port, '127.0.0.1');
  open.add(socket);
  socket.on('error', () => undefined);
  socket.once('close', () => open.delete(socket));
  await once(socket, 'connect');
  return socket;
}

async function tls({ subject, open }: Arena, protocol?: 'h2'): Promise<TLSSocket> {
  const socket = await subject.open(protocol);
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

const LAST_HEAD = FLAGS.endStream | FLAGS.endHeaders;
const POST: readonly (readonly [string, string])[] = [[':method', 'POST'], ...request('/slow').slice(1)];

async function headByByte2(arena: Arena): Promise<void> {
  const { socket, send } = framesOver(await tls(arena, 'h2'));
  send(frame('headers', FLAGS.endStream, 1, block(request('/slow'))));
  for (; !socket.destroyed && !arena.over(); await sleep(100)) send(frame('continuation', 0, 1));
  socket.destroy();
}

async function bodyByByte2(arena: Arena): Promise<void> {
  const { socket, send } = framesOver(await tls(arena, 'h2'));
  send(frame('headers', FLAGS.endHeaders, 1, block(POST)));
  for (; !socket.destroyed && !arena.over(); await sleep(100)) send(frame('data', 0, 1, Buffer.from('a')));
  socket.destroy();
}

/** The window stays as it was at the start, 64 KiB. */
async function unread2(arena: Arena): Promise<void> {
  const { socket, send } = framesOver(await tls(arena, 'h2'));
  for (let index = 0; index < 8; index += 1) send(frame('headers', LAST_HEAD, 2 * index + 1, block(request('/large'))));
  await Promise.race([wait(socket), sleep(3_000)]);
  socket.destroy();
}

async function pipeline2(arena: Arena): Promise<void> {
  const socket = await tls(arena, 'h2');
  const session = http2Over(socket);
  const streams = Array.from({ length: 1_000 }, () => begin2(session, { ':path': '/many' }).resume());
  await Promise.race([wait(socket), ...streams.slice(-1).map((last) => once(last, 'close'))]);
  socket.destroy();
}

/** Too large for a frame, and for `limits.head` with all that is read above it. */
async function bomb2(arena: Arena): Promise<void> {
  const { socket, send } = framesOver(await tls(arena, 'h2'));
  const head = block(request('/', [['x-a', 'a'.repeat(60_000)]]));
  send(frame('headers', FLAGS.endStream, 1, head.subarray(0, 16_384)));
  for (let at = 16_384; at < head.length; at += 16_384) {
    send(frame('continuation', at + 16_384 < head.length ? 0 : FLAGS.endHeaders, 1, head.subarray(at, at + 16_384)));
  }
  await Promise.race([once(socket, 'data'), wait(socket), sleep(3_000)]);
  socket.destroy();
}

/** CVE-2023-44487 */
async function reset2(arena: Arena): Promise<void> {
  const { socket, send } = framesOver(await tls(arena, 'h2'));
  const head = block(request('/many'));
  for (let stream = 1; stream < 2_000; stream += 2) {
    send(frame('headers', LAST_HEAD, stream, head), frame('reset', 0, stream, uint32(8)));
  }
  await Promise.race([wait(socket), sleep(3_000)]);
  socket.destroy();
}

/** @returns that the sidecar still holds connections when it has had time to let go of them, and what is known of them */
async function settle(subject: Subject): Promise<string[]> {
  let open = 0;
  for (let turn = 0; turn < 100; turn += 1) {
    const { body } = await subject.admin('/metrics');
    open = Number(/^mtls_sidecar_connections_open (\d+)$/m.exec(body)?.[1]);
    if (open === 0) return [];
    await sleep(100);
  }
  const { body } = await subject.admin('/status');
  return [`${open} connections were still open when all callers had gone: ${body}\n${sockets(subject.port)}`];
}

/** The connections of a port, where `ss` is installed. Of one that it does not show, the sidecar has not noticed the end. */
function sockets(port: number): string {
  const { stdout } = spawnSync('ss', ['-tan', `( sport = :${port} or dport = :${port} )`], { encoding: 'utf8' });
  return stdout ?? 'there is no ss';
}

/** The least that is held within a few seconds: rubbish takes more than one round to go. */
async function collected(subject: Subject): Promise<Held> {
  let least: Held | null = null;
  for (let turn = 0; turn < 8; turn += 1) {
    subject.child.kill('SIGUSR2');
    await sleep(250);
    const now = await subject.held();
    if (least === null || now.rss < least.rss) least = now;
  }
  return least as Held;
}

/** Until the allocator has given back, too. Milliseconds. */
const SETTLES_IN = 2_000;

/**
 * What is held when the process has had its time to come to rest: V8 looks every eight seconds whether it is, and keeps its pages until then.
 * Nothing is asked of it meanwhile: each scrape is work, by which an allocator may give back what it would keep in a process that does nothing.
 * @param cold MiB; soon after it is near that, it is looked at no more
 */
async function rested(subject: Subject, cold: number, seconds: number): Promise<Held> {
  for (let second = 0; second < seconds && subject.rss() > cold + PLATEAU; second += 1) await sleep(1_000);
  await sleep(SETTLES_IN);
  const rss = subject.rss();
  return { rss, heapUsed: (await subject.held()).heapUsed };
}
