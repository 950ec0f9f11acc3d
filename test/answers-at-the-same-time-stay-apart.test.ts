import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { pieceOf } from '../src/forward/spare-buffers.js';
import { startApplication, type Application } from './support/application.js';
import { begin } from './support/caller.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const SIZE = 1_000_000;

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication(({ url }, response) => {
    // Every byte says whose it is.
    const body = Buffer.alloc(SIZE, Number(url.slice(1)));
    if (Number(url.slice(1)) % 2 === 0) response.setHeader('content-length', SIZE);
    response.write(body.subarray(0, 300_000));
    response.end(body.subarray(300_000));
  });
  sidecar = await startSidecar({ upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

/** Reads the answer for one number with pauses, so that much of it has to wait in the sidecar, or leaves in the middle. */
async function read(number: number, leaves: boolean): Promise<{ bytes: number; foreign: number }> {
  const outgoing = begin(sidecar, { path: `/${number}` });
  outgoing.on('error', () => undefined);
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  response.on('error', () => undefined);
  const seen = { bytes: 0, foreign: 0 };
  try {
    for await (const chunk of response) {
      seen.bytes += (chunk as Buffer).length;
      seen.foreign += (chunk as Buffer).filter((byte) => byte !== number).length;
      if (leaves && seen.bytes > SIZE / 3) outgoing.destroy();
      for (let pause = 0; pause < number % 4; pause += 1) await turn();
    }
  } catch {
    // Cut by ourselves.
  }
  return seen;
}

it('though their bytes pass through the same buffers, also when some callers leave', async () => {
  for (let round = 0; round < 3; round += 1) {
    const numbers = Array.from({ length: 12 }, (_, index) => 1 + index + round * 12);
    const seen = await Promise.all(numbers.map((number) => read(number, number % 5 === 0)));
    expect(seen.map(({ foreign }) => foreign)).toEqual(numbers.map(() => 0));
    const whole = seen.filter((_, index) => (numbers[index] as number) % 5 !== 0);
    expect(whole.every(({ bytes }) => bytes === SIZE)).toBe(true);
  }
});

it('because a buffer is lent to one of them at a time, however often it is given back', () => {
  const first = pieceOf(Buffer.alloc(50_000, 1), 0, 50_000);
  first.done?.();
  first.done?.();
  const [second, third] = [pieceOf(Buffer.alloc(50_000, 2), 0, 50_000), pieceOf(Buffer.alloc(50_000, 3), 0, 50_000)];
  expect(second.chunk.every((byte) => byte === 2)).toBe(true);
  expect(third.chunk.every((byte) => byte === 3)).toBe(true);
  second.done?.();
  third.done?.();
});
