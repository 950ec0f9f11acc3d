import { once } from 'node:events';
import type { Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { openRaw, type RawCaller } from './support/caller.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** As `src/forward/early-bytes.ts` has it. */
const MAX_EARLY = 65_536;
/** Longer than a caller with more than that is waited for. */
const LATE = 1_500;

const SWITCHED = 'HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n';

let application: RawApplication;
let sidecar: Sidecar;
let onUpgrade: (upstream: Upstream) => void;

/** The application's end, and all that came behind the head. */
interface Upstream {
  readonly socket: Socket;
  received(): Buffer;
}

beforeAll(async () => {
  application = await startRawApplication((socket) => {
    const chunks: Buffer[] = [];
    const whole = (): Buffer => Buffer.concat(chunks);
    const received = (): Buffer => whole().subarray(whole().indexOf('\r\n\r\n') + 4);
    socket.once('data', () => onUpgrade({ socket, received }));
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
  });
  sidecar = await startSidecar({ upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

/** Sends an Upgrade with these bytes behind it, and waits until the application has the head. */
async function send(path: string, behind: Buffer | string) {
  const arrived = new Promise<Upstream>((resolve) => (onUpgrade = resolve));
  const caller = await openRaw(sidecar);
  const head = `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`;
  caller.socket.write(Buffer.concat([Buffer.from(head), Buffer.from(behind)]));
  return { caller, upstream: await arrived };
}

/** Bytes that show when one is lost, doubled or in the wrong place. */
function counted(length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, index) => (index * 31 + (index >> 8) * 17) & 0xff));
}

async function expectAll(path: string, { caller, upstream }: { caller: RawCaller; upstream: Upstream }, all: Buffer) {
  await expect.poll(() => upstream.received().length, { timeout: 4_000 }).toBeGreaterThanOrEqual(all.length);
  expect(upstream.received().equals(all)).toBe(true);
  caller.socket.destroy();
  const record = { status: 101, outcome: 'ok', upgraded: true, bytesIn: all.length };
  expect(await recordOf(sidecar, path)).toMatchObject(record);
}

describe('when it comes late,', () => {
  it.each([
    ['in one piece', 5_000, 5_000],
    ['as many as are kept', MAX_EARLY, MAX_EARLY],
    ['as many as are kept, in pieces', MAX_EARLY, 5_000],
  ])('whole and in order, %s', async (how, length, piece) => {
    const path = `/${how.replaceAll(/\W+/g, '-')}`;
    const all = counted(length);
    const ends = await send(path, all.subarray(0, piece));
    for (let at = piece; at < length; at += piece) {
      ends.caller.socket.write(all.subarray(at, at + piece));
      await sleep(5);
    }
    await sleep(LATE);
    expect(ends.upstream.received()).toHaveLength(0);
    ends.upstream.socket.write(SWITCHED);
    await ends.caller.receive(/\r\n\r\n/);
    const more = counted(100_000);
    ends.caller.socket.write(more);
    await expectAll(path, ends, Buffer.concat([all, more]));
  });

  it('each byte of those that come one by one', async () => {
    const all = counted(3_000);
    const ends = await send('/one-by-one', '');
    for (const byte of all) ends.caller.socket.write(Buffer.of(byte));
    await sleep(100);
    ends.upstream.socket.write(SWITCHED);
    await expectAll('/one-by-one', ends, all);
  });

  it('those that come while the tunnel opens', async () => {
    const all = counted(500_000);
    const ends = await send('/meanwhile', all.subarray(0, 1_000));
    ends.upstream.socket.write(SWITCHED);
    for (let at = 1_000; at < all.length; at += 1_000) {
      ends.caller.socket.write(all.subarray(at, at + 1_000));
      if (at % 50_000 === 0) await sleep(1);
    }
    await expectAll('/meanwhile', ends, all);
  });

  it('more than are kept as well, if not too late', async () => {
    const all = counted(2_000_000);
    const ends = await send('/more', all);
    await sleep(50);
    ends.upstream.socket.write(SWITCHED);
    await expectAll('/more', ends, all);
  });

  it('whole, from a caller that has ended behind more than are kept', async () => {
    const all = counted(200_000);
    const ends = await send('/ended', all);
    ends.caller.socket.end();
    await sleep(50);
    ends.upstream.socket.write(SWITCHED);
    await once(ends.upstream.socket, 'end');
    await expectAll('/ended', ends, all);
  });
});

describe('when another answer comes, they are no request:', () => {
  const AHEAD = 'GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n';

  it.each([
    ['with a length', 'HTTP/1.1 426 Upgrade Required\r\nContent-Length: 4\r\n\r\nnope', 426],
    ['in chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nnope\r\n0\r\n\r\n', 200],
    ['without a body', 'HTTP/1.1 204 No Content\r\n\r\n', 204],
    ['of no HTTP', 'SMTP\r\n\r\n', 502],
  ])('one %s', async (how, answer, status) => {
    const path = `/${how.replaceAll(' ', '-')}`;
    const before = application.sockets.length;
    const { caller, upstream } = await send(path, AHEAD);
    caller.socket.write(AHEAD.repeat(20));
    await sleep(50);
    upstream.socket.write(answer);
    caller.socket.write(AHEAD.repeat(20));
    const received = await caller.closed();
    expect(received).toMatch(new RegExp(`^HTTP/1\\.1 ${status} `));
    expect(received.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(await recordOf(sidecar, path)).toMatchObject({ status, upgraded: false, bytesIn: 0 });
    expect(upstream.received()).toHaveLength(0);
    expect(application.sockets).toHaveLength(before + 1);
    expect(sidecar.requests().filter((record) => record['path'] === '/smuggled')).toEqual([]);
  });
});
