import { once } from 'node:events';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { connect, type Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, startRawApplication, type Application, type RawApplication } from './support/application.js';
import { begin, openRaw, type RawCaller } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();

function post(path: string, more = ''): string {
  return `POST ${path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n${more}\r\n`;
}

/** With the TCP connection below, which alone can be reset. */
interface Caller extends RawCaller {
  readonly tcp: Socket;
}

describe.each([
  ['pooled', ''],
  ['separate', 'Expect: 100-continue\r\n'],
])('at once, over a connection that is %s,', (kind, more) => {
  let application: RawApplication;
  let sidecar: Sidecar;
  let arrived: Promise<Socket>;
  let onData: (socket: Socket) => void = () => undefined;

  beforeAll(async () => {
    application = await startRawApplication((socket) => socket.once('data', () => onData(socket)));
    sidecar = await startSidecar({ pki, upstream: application.url });
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  /** Sends these bytes, and waits until the application has got something and said `reply`. */
  async function send(bytes: string, reply = ''): Promise<{ caller: Caller; upstream: Socket }> {
    arrived = new Promise((resolve) => (onData = resolve));
    const tcp = connect(sidecar.port, '127.0.0.1');
    const caller = { ...(await openRaw(sidecar, { socket: tcp })), tcp };
    caller.socket.write(bytes);
    const upstream = await arrived;
    upstream.resume();
    if (reply !== '') {
      upstream.write(reply);
      await caller.receive(/\r\n\r\n/);
    }
    return { caller, upstream };
  }

  const LEAVES: readonly (readonly [string, (caller: Caller) => void])[] = [
    ['closing', ({ socket }) => socket.destroy()],
    ['ending', ({ socket }) => socket.end()],
    ['resetting', ({ tcp }) => tcp.resetAndDestroy()],
  ];

  it.each(LEAVES)('while it waits for an answer (%s)', async (how, leave) => {
    const path = `/waiting-${how}-${kind}`;
    const { caller, upstream } = await send(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`);
    leave(caller);
    await once(upstream, 'close');
    expect(await recordOf(sidecar, path)).toMatchObject({
      level: 'info',
      status: 0,
      code: null,
      outcome: 'caller_aborted',
      upstreamMs: null,
    });
  });

  it.each(LEAVES)('in the middle of its body (%s)', async (how, leave) => {
    const path = `/body-${how}-${kind}`;
    const { caller, upstream } = await send(`${post(path, more)}part of it`);
    leave(caller);
    await once(upstream, 'close');
    expect(await recordOf(sidecar, path)).toMatchObject({ status: 0, outcome: 'caller_aborted', bytesIn: 10 });
  });

  it.each(LEAVES)('in the middle of the answer (%s)', async (how, leave) => {
    const path = `/answer-${how}-${kind}`;
    const get = `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
    const { caller, upstream } = await send(get, 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc');
    leave(caller);
    await once(upstream, 'close');
    expect(await recordOf(sidecar, path)).toMatchObject({ status: 200, outcome: 'caller_aborted', bytesOut: 3 });
  });

  it('and counts it as a request without a status', async () => {
    const line = 'mtls_sidecar_requests_total{status="none",method="GET"}';
    const before = await sidecar.metric(line);
    const { caller } = await send(`GET /counted-${kind} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`);
    caller.socket.destroy();
    await recordOf(sidecar, `/counted-${kind}`);
    expect(await sidecar.metric(line)).toBe(before + 1);
    await expect.poll(() => sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}')).toBe(0);
  });
});

/** Numbers that look random and are the same in every run (mulberry32). */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

describe('2,000 callers that leave at random moments', () => {
  let application: Application;
  let sidecar: Sidecar;
  const random = seeded(20_260_131);
  const rejections: unknown[] = [];
  const onRejection = (reason: unknown): void => void rejections.push(reason);

  beforeAll(async () => {
    process.on('unhandledRejection', onRejection);
    application = await startApplication();
    application.server.removeAllListeners('request');
    application.server.on(
      'request',
      (request: IncomingMessage, response: ServerResponse) => void answer(request, response),
    );
    sidecar = await startSidecar({ pki, upstream: application.url });
  });

  afterAll(async () => {
    process.off('unhandledRejection', onRejection);
    await sidecar.stop();
    await application.stop();
  });

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const [pause, pieces, waits] = [random() * 6, Math.floor(random() * 4), random() < 0.7];
    if (waits) request.resume();
    await sleep(pause);
    for (let piece = 0; piece < pieces; piece += 1) {
      response.write(Buffer.alloc(20_000));
      await sleep(random() * 3);
    }
    response.end();
  }

  /** A full handshake for each would take most of the time of this test. */
  async function anySession(): Promise<Buffer> {
    const { socket } = await openRaw(sidecar);
    const [session] = (await once(socket, 'session')) as [Buffer];
    socket.destroy();
    return session;
  }

  async function leaveSometime(id: number, session: Buffer): Promise<void> {
    const body = random() < 0.4 ? Math.floor(random() * 100_000) : 0;
    const headers = random() < 0.1 ? { expect: '100-continue' } : {};
    const method = body === 0 ? 'GET' : 'POST';
    const outgoing = begin(sidecar, { method, path: `/${id}`, headers, session });
    outgoing.on('error', () => undefined);
    outgoing.on('response', (response) => response.on('error', () => undefined).resume());
    const closed = new Promise((resolve) => outgoing.once('close', resolve));
    if (body > 0) outgoing.write(Buffer.alloc(body));
    if (random() < 0.7) outgoing.end();
    else outgoing.flushHeaders();
    const [socket] = (await once(outgoing, 'socket')) as [TLSSocket];
    await once(socket, 'secureConnect');
    await sleep(random() * 30);
    if (random() < 0.5) outgoing.destroy();
    else socket.end();
    await closed;
  }

  it('leave nothing behind', { timeout: 120_000 }, async () => {
    const session = await anySession();
    const ids = Array.from({ length: 2_000 }, (_, index) => index);
    const lanes = Array.from({ length: 40 }, async () => {
      for (let id = ids.shift(); id !== undefined; id = ids.shift()) await leaveSometime(id, session);
    });
    await Promise.all(lanes);
    const idle = async () => ({
      connections: sidecar.app.connections(),
      busy: await sidecar.metric('mtls_sidecar_upstream_connections{state="busy"}'),
      waiting: await sidecar.metric('mtls_sidecar_upstream_requests_waiting'),
    });
    await expect.poll(idle, { timeout: 10_000 }).toEqual({ connections: 0, busy: 0, waiting: 0 });
    // As many connections to the application as the pool says, and no more.
    const open = await sidecar.metric('mtls_sidecar_upstream_connections{state="idle"}');
    const getConnections = (): Promise<number> =>
      new Promise((resolve) => application.server.getConnections((_error, count) => resolve(count)));
    await expect.poll(getConnections, { timeout: 10_000 }).toBe(open);
    expect(rejections).toEqual([]);
    const paths = sidecar.requests().map(({ path }) => path);
    expect(new Set(paths).size).toBe(paths.length);
    expect(paths.length).toBeGreaterThan(1_500);
    const outcomes = new Set(sidecar.requests().map(({ outcome }) => outcome));
    expect(outcomes).toContain('caller_aborted');
    expect(outcomes).toContain('ok');
    expect(sidecar.log.filter(({ level }) => level === 'error')).toEqual([]);
    // Every request that was counted was logged, and the other way round.
    const { body: metrics } = await sidecar.admin('/metrics');
    const counted = [...metrics.matchAll(/^mtls_sidecar_requests_total\{.*\} (\d+)$/gm)];
    expect(counted.reduce((sum, [, value]) => sum + Number(value), 0)).toBe(paths.length);
  });
});
