import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { createServer, connect, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { DescriptorOutput } from '../src/observe/output.js';

const cleanUps: (() => void)[] = [];
afterEach(() => {
  for (const cleanUp of cleanUps.splice(0)) cleanUp();
});

function file() {
  const directory = mkdtempSync(join(tmpdir(), 'log-'));
  const path = join(directory, 'log');
  const descriptor = openSync(path, 'a');
  cleanUps.push(() => {
    closeSync(descriptor);
    rmSync(directory, { recursive: true });
  });
  return { output: new DescriptorOutput(descriptor), read: () => readFileSync(path, 'utf8') };
}

/** Two ends of a stream; ours as the non-blocking descriptor that a container runtime may hand us as stdout. */
async function stream() {
  const server = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  // Paused: a socket that reads would notice the other side going, and close the descriptor under us.
  const ours = connect((server.address() as { port: number }).port, '127.0.0.1').pause();
  const [theirs] = (await once(server, 'connection')) as [Socket];
  ours.on('error', () => {});
  theirs.on('error', () => {});
  cleanUps.push(() => {
    ours.destroy();
    theirs.destroy();
    server.close();
  });
  const { fd } = (ours as unknown as { _handle: { fd: number } })._handle;
  return { output: new DescriptorOutput(fd), theirs, descriptor: fd };
}

function numbered(count: number): string[] {
  return Array.from({ length: count }, (_, index) => `line ${index}\n`);
}

describe('a log', () => {
  it('arrives whole and in order', async () => {
    const { output, read } = file();
    for (const line of numbered(20_000)) output.write(line);
    await output.flush();
    expect(read()).toBe(numbered(20_000).join(''));
  });

  it('keeps its order when lines of another process come as bytes between its own', async () => {
    const { output, read } = file();
    const lines = numbered(20_000);
    for (const [index, line] of lines.entries()) output.write(index % 3 === 0 ? Buffer.from(line) : line);
    await output.flush();
    for (const line of lines.slice(0, 10)) output.write(Buffer.from(line));
    output.flushSync();
    expect(read()).toBe([...lines, ...lines.slice(0, 10)].join(''));
  });

  it.each([
    ['one byte', 'x'],
    ['two', 'é'],
    ['three', '中'],
    ['four', '😀'],
  ])('arrives whole in lines of any length, of characters of %s', async (_bytes, character) => {
    const { output, read } = file();
    const lengths = [1, 20_000, 22_000, 44_000, 70_000, 300_000, ...Array.from({ length: 300 }, () => 600)];
    const lines = lengths.map((length) => `${character.repeat(length)}\n`);
    const all = Array.from({ length: 3 }, () => lines.flatMap((line) => [line, 'short\n'])).flat();
    for (const line of all) output.write(line);
    await output.flush();
    // Less than a batch: what is in flight `flushSync` leaves to the thread pool, which may end later.
    const last = lines.slice(-10);
    for (const line of last) output.write(line);
    output.flushSync();
    expect(read() === [...all, ...last].join('')).toBe(true);
    expect(output.dropped()).toBe(0);
  });

  it('arrives without anybody asking', async () => {
    const { output, theirs } = await stream();
    output.write('hello\n');
    theirs.setEncoding('utf8').resume();
    expect(await once(theirs, 'data')).toEqual(['hello\n']);
  });

  it('is written out at the end of the process', () => {
    const { output, read } = file();
    output.write('last words\n');
    output.flushSync();
    expect(read()).toBe('last words\n');
  });

  it('waits for a reader that is slow, without losing or reordering anything', async () => {
    const { output, theirs } = await stream();
    const text = numbered(400_000).join('');
    output.write(text);
    const flushed = output.flush();
    let received = '';
    theirs.setEncoding('utf8').on('data', (chunk: string) => (received += chunk));
    setImmediate(() => theirs.resume());
    await flushed;
    while (received.length < text.length) await once(theirs, 'data');
    expect(received).toBe(text);
    expect(output.dropped()).toBe(0);
  });

  it.each([
    ['its own', `${'x'.repeat(1023)}\n`],
    ["another process's", Buffer.from(`${'x'.repeat(1023)}\n`)],
  ])('drops and counts lines, %s, and takes no more memory, when nobody reads', async (_, line) => {
    const { output } = await stream();
    for (let i = 0; i < 40_000; i += 1) output.write(line);
    expect(output.dropped()).toBeGreaterThan(20_000);
    expect(output.dropped()).toBeLessThan(40_000);
  });

  it('ends, late, when asked to finish while nobody reads', { timeout: 10_000 }, async () => {
    const { output } = await stream();
    output.write('x\n'.repeat(4_000_000));
    await output.flush();
    output.flushSync();
  });

  it('does not kill the process when its reader is gone', async () => {
    const { output, theirs } = await stream();
    theirs.destroy();
    await untilBroken(output);
    const before = output.dropped();
    output.write('one\ntwo\n');
    output.write(Buffer.from('three\nfour\nfive\n'));
    await output.flush();
    output.flushSync();
    expect(output.dropped()).toBe(before + 5);
  });

  it('does not hang the end of the process when its reader is gone', async () => {
    const { output, theirs, descriptor } = await stream();
    theirs.destroy();
    await untilBroken(output);
    const unaware = new DescriptorOutput(descriptor);
    unaware.write('last words\n');
    unaware.flushSync();
  });
});

/** The first writes may still seem to succeed, until the other side has said that nobody is there. */
async function untilBroken(output: DescriptorOutput): Promise<void> {
  while (output.dropped() === 0) {
    output.write('line\n');
    await output.flush();
  }
}
