import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { begin, call, openRaw, readAnswer } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf, refusalsOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const LENGTH = 'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n';
const CHUNKED = 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n';

describe('an application that breaks after the head breaks the connection to the caller', () => {
  let application: RawApplication;
  let sidecar: Sidecar;
  let misbehave: (socket: Socket) => void;
  let count = 0;

  beforeAll(async () => {
    application = await startRawApplication((socket) => socket.once('data', () => misbehave(socket)));
    sidecar = await startSidecar({ pki: makePki(), upstream: application.url });
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  /** Sends a head and a part of the body, waits until it has arrived at the caller, then ends like this. */
  async function cut(begun: string, end: (socket: Socket) => void, headers: Record<string, string> = {}) {
    let socket: Socket | null = null;
    misbehave = (upstream) => {
      socket = upstream;
      upstream.write(begun);
    };
    const path = `/cut/${(count += 1)}`;
    const outgoing = begin(sidecar, { path, headers });
    outgoing.end();
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    const answer = readAnswer(response);
    end(socket as unknown as Socket);
    await expect(answer).rejects.toThrow(/aborted/);
    return recordOf(sidecar, path);
  }

  const ENDS: readonly (readonly [string, string, (socket: Socket) => void])[] = [
    ['with a length, closed', `${LENGTH}abc`, (socket) => socket.end()],
    ['with a length, reset', `${LENGTH}abc`, (socket) => socket.resetAndDestroy()],
    ['with a length, before its body', LENGTH, (socket) => socket.end()],
    ['in chunks, closed between two', `${CHUNKED}3\r\nabc\r\n`, (socket) => socket.end()],
    ['in chunks, closed within one', `${CHUNKED}5\r\nabc`, (socket) => socket.end()],
    ['in chunks, reset', `${CHUNKED}3\r\nabc\r\n`, (socket) => socket.resetAndDestroy()],
    ['in chunks, closed before the last line', `${CHUNKED}3\r\nabc\r\n0\r\n`, (socket) => socket.end()],
    ['in chunks, garbage behind one', `${CHUNKED}3\r\nabc\r\n`, (socket) => socket.write('nonsense\r\n')],
    ['in chunks, a bare LF behind a size', `${CHUNKED}3\r\nabc\r\n`, (socket) => socket.write('3\nabc\r\n0\r\n\r\n')],
    ['until its end, reset', 'HTTP/1.1 200 OK\r\n\r\nabc', (socket) => socket.resetAndDestroy()],
  ];

  it.each(ENDS)('%s', async (_what, begun, end) => {
    const record = await cut(begun, end);
    expect(record).toMatchObject({ level: 'warn', status: 200, outcome: 'upstream_aborted' });
    expect(record['code']).toMatch(/^upstream_(closed|protocol)$/);
    expect(record['bytesOut']).toBe(begun.includes('abc') ? 3 : 0);
  });

  it.each(ENDS)('%s, over a connection of its own', async (_what, begun, end) => {
    const record = await cut(begun, end, { expect: '100-continue' });
    expect(record).toMatchObject({ status: 200, outcome: 'upstream_aborted' });
  });

  it('and is counted', async () => {
    const before = await refusalsOf(sidecar, 'upstream_closed');
    await cut(`${LENGTH}abc`, (socket) => socket.end());
    expect(await refusalsOf(sidecar, 'upstream_closed')).toBe(before + 1);
  });

  it('even when all of it comes at once', async () => {
    misbehave = (socket) => socket.end(`${LENGTH}abc`);
    await expect(call(sidecar, { path: '/at-once' })).rejects.toThrow(/aborted|hang up/);
    expect(await recordOf(sidecar, '/at-once')).toMatchObject({ code: 'upstream_closed' });
  });

  it('and no part of it is taken for the answer to the next request', async () => {
    misbehave = (socket) => socket.end(`${LENGTH}abc`);
    const caller = await openRaw(sidecar);
    const get = 'GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n';
    caller.socket.write(get + get);
    const everything = await caller.closed();
    expect(everything.match(/HTTP\/1\.1/g) ?? []).toHaveLength(everything === '' ? 0 : 1);
  });
});
