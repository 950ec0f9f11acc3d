import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo, type Server, type Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { BodySender } from '../src/forward/body-sender.js';
import type { ForwardRequest } from '../src/forward/exchange.js';
import { giveBack } from '../src/forward/returned-memory.js';

const PIECE = 16_384;

function pieces(count: number): Buffer[] {
  return Array.from({ length: count }, (_, index) => Buffer.alloc(PIECE, index + 1));
}

const sha256 = (buffers: Buffer[]): string => createHash('sha256').update(Buffer.concat(buffers)).digest('hex');

describe('a piece of a body', () => {
  let application: Server;
  let toApplication: Socket;
  let atApplication: Socket;

  beforeEach(async () => {
    application = createServer({ pauseOnConnect: true }).listen(0, '127.0.0.1');
    await once(application, 'listening');
    toApplication = connect((application.address() as AddressInfo).port, '127.0.0.1');
    [[atApplication]] = (await Promise.all([once(application, 'connection'), once(toApplication, 'connect')])) as [
      [Socket],
      unknown,
    ];
  });

  afterEach(() => {
    toApplication.destroy();
    atApplication.destroy();
    application.close();
  });

  function send(body: Buffer[], contentLength: number | null): void {
    const request = { contentLength, trailers: null } as ForwardRequest;
    const source = Readable.from(body);
    const events = {
      bodyMoved: () => undefined,
      bodyFailed: (error: Error) => void toApplication.destroy(error),
    };
    const sender = new BodySender(toApplication, request, source, events);
    toApplication.on('drain', () => sender.goOn());
    sender.start();
    source.on('end', () => toApplication.end());
  }

  async function received(): Promise<Buffer> {
    const chunks: Buffer[] = [];
    atApplication.on('data', (chunk: Buffer) => chunks.push(chunk));
    atApplication.resume();
    await once(atApplication, 'end');
    return Buffer.concat(chunks);
  }

  it.each(['by its length', 'in chunks'])('goes out whole and is empty afterwards: %s', async (way) => {
    const body = pieces(8);
    const hash = sha256(body);
    send(body, way === 'in chunks' ? null : 8 * PIECE);
    const bytes = await received();
    const sent = way === 'in chunks' ? unchunked(bytes) : [bytes];
    expect(sha256(sent)).toBe(hash);
    expect(body.map(({ length }) => length)).toEqual(body.map(() => 0));
  });

  it('keeps its bytes while the application does not read', async () => {
    // Far more than the kernel takes.
    const body = pieces(1024);
    const hash = sha256(body);
    send(body, 1024 * PIECE);
    await untilFull(toApplication);
    expect(body.at(-1)?.length).toBe(PIECE);
    expect(sha256([await received()])).toBe(hash);
    expect(body.every(({ length }) => length === 0)).toBe(true);
  });

  it('is left alone where it shares its memory, or is small', () => {
    const whole = Buffer.alloc(2 * PIECE, 1);
    const [slice, small] = [whole.subarray(0, PIECE), Buffer.alloc(100, 1)];
    for (const piece of [slice, small]) giveBack(piece);
    expect([slice.length, small.length, whole.length]).toEqual([PIECE, 100, 2 * PIECE]);
    giveBack(whole);
    expect([whole.length, whole.buffer.byteLength]).toEqual([0, 0]);
    // Given back twice is given back once.
    expect(() => giveBack(whole)).not.toThrow();
  });
});

/** Until the kernel takes no more. */
async function untilFull(socket: Socket): Promise<void> {
  for (let before = -1; before !== socket.bytesWritten || !socket.writableNeedDrain;) {
    before = socket.bytesWritten;
    await new Promise(setImmediate);
  }
}

/** Pieces of the known length; anything else is an error. */
function unchunked(bytes: Buffer): Buffer[] {
  const head = `${PIECE.toString(16)}\r\n`;
  const size = head.length + PIECE + 2;
  const count = (bytes.length - '0\r\n\r\n'.length) / size;
  return Array.from({ length: count }, (_, index) => {
    expect(bytes.toString('latin1', index * size, index * size + head.length)).toBe(head);
    return bytes.subarray(index * size + head.length, (index + 1) * size - 2);
  });
}
