import { once } from 'node:events';
import { connect, type TLSSocket } from 'node:tls';
import { tlsOptions, type Reachable } from './caller.js';

export const TYPES = {
  data: 0,
  headers: 1,
  priority: 2,
  reset: 3,
  settings: 4,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;
export const FLAGS = { endStream: 1, ack: 1, endHeaders: 4 } as const;

/** One frame (RFC 9113 §4.1). */
export function frame(type: keyof typeof TYPES, flags: number, stream: number, payload: Buffer = EMPTY): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = TYPES[type];
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

const EMPTY = Buffer.alloc(0);

/** A number as payload. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

/** Fields without compression (RFC 7541 §6.2.2); `indexed` puts them into the table of the other side instead (§6.2.1). */
export function block(fields: readonly (readonly [name: string, value: string])[], indexed = false): Buffer {
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([indexed ? 0x40 : 0]), text(name), text(value)]));
}

function text(written: string): Buffer {
  const bytes = Buffer.from(written, 'latin1');
  return Buffer.concat([length(bytes.length), bytes]);
}

/** RFC 7541 §5.1, with a prefix of 7 bits. */
function length(value: number): Buffer {
  if (value < 127) return Buffer.from([value]);
  const bytes = [127];
  for (let rest = value - 127; ; rest >>= 7) {
    bytes.push(rest < 128 ? rest : (rest & 127) | 128);
    if (rest < 128) return Buffer.from(bytes);
  }
}

/** The fields of an honest request. */
export function request(path: string, more: readonly (readonly [string, string])[] = []): [string, string][] {
  return [
    [':method', 'GET'],
    [':scheme', 'https'],
    [':authority', 'localhost'],
    [':path', path],
    ...(more as [string, string][]),
  ];
}

/** A caller who writes its frames itself. */
export interface FrameCaller {
  readonly socket: TLSSocket;
  readonly send: (...frames: readonly Buffer[]) => void;
  /** Resolves when the connection has ended. */
  ended(): Promise<unknown>;
  /** Resolves with the first frame, past or future, that the test accepts. */
  frame(test: (type: number, stream: number, payload: Buffer) => boolean): Promise<Buffer>;
}

/** Opens an HTTP/2 connection and sends preface and settings; acknowledges nothing. */
export async function openFrames(sidecar: Reachable): Promise<FrameCaller> {
  const socket = connect({ ...tlsOptions(sidecar), ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  return framesOver(socket);
}

/** The same over a connection that is there already. */
export function framesOver(socket: TLSSocket): FrameCaller {
  let bytes: Buffer = EMPTY;
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => (bytes = Buffer.concat([bytes, chunk])));
  // `once` would reject when a write comes too late, whether anybody waits or not.
  const closed = new Promise<unknown>((resolve) => socket.once('close', resolve));
  socket.write(Buffer.concat([Buffer.from('PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'), frame('settings', 0, 0)]));
  return {
    socket,
    send: (...frames) => void socket.write(Buffer.concat(frames)),
    ended: () => closed,
    frame: (test) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = framesOf(bytes).find(({ type, stream, payload }) => test(type, stream, payload));
          if (found !== undefined) resolve(found.payload);
        };
        socket.on('data', look);
        void closed.then(() => reject(new Error('closed')));
        look();
      }),
  };
}

/** The whole frames of what a peer has sent, without the preface. */
export function framesOf(bytes: Buffer): { type: number; stream: number; payload: Buffer }[] {
  const found = [];
  for (let at = 0; at + 9 <= bytes.length;) {
    const size = bytes.readUIntBE(at, 3);
    if (at + 9 + size > bytes.length) break;
    const payload = bytes.subarray(at + 9, at + 9 + size);
    found.push({ type: bytes[at + 3] as number, stream: bytes.readUInt32BE(at + 5), payload });
    at += 9 + size;
  }
  return found;
}
