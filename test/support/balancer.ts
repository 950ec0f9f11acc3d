import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Duplex } from 'node:stream';
import type { Reachable } from './caller.js';

const SIGNATURE = Buffer.from('0d0a0d0a000d0a515549540a', 'hex');

export interface BinaryParts {
  readonly command?: number;
  readonly family?: number;
  /** Addresses, and what is attached to them. */
  readonly rest?: Buffer;
  /** What is announced as their length. */
  readonly length?: number;
}

/** A header of the PROXY protocol, version 2, of any content. */
export function binaryHeader(parts: BinaryParts): Buffer {
  const { command = 0x21, family = 0x11, rest = Buffer.alloc(0), length = rest.length } = parts;
  const head = Buffer.alloc(4);
  head.writeUInt8(command, 0);
  head.writeUInt8(family, 1);
  head.writeUInt16BE(length, 2);
  return Buffer.concat([SIGNATURE, head, rest]);
}

/** A text as bytes of latin1. */
export function bytesOf(text: Buffer | string): Buffer {
  return typeof text === 'string' ? Buffer.from(text, 'latin1') : text;
}

/** Source address and port, destination address and port, as version 2 orders them. */
export function addresses(source: readonly number[], sourcePort: number): Buffer {
  const ports = Buffer.alloc(4);
  ports.writeUInt16BE(sourcePort, 0);
  ports.writeUInt16BE(443, 2);
  return Buffer.concat([Buffer.from(source), Buffer.alloc(source.length, 9), ports]);
}

/**
 * A connection as a balancer of TCP makes one: the first bytes of the caller go out behind these, in one segment.
 * @returns for `socket` of a caller's options
 */
export async function throughBalancer(sidecar: Pick<Reachable, 'port'>, header: Buffer | string): Promise<Socket> {
  const raw = connect(sidecar.port, '127.0.0.1');
  raw.setNoDelay(true);
  await once(raw, 'connect');
  let ahead: Buffer | null = bytesOf(header);
  const through = new Duplex({
    read: () => raw.resume(),
    write(chunk: Buffer, _encoding, done) {
      const bytes = ahead === null ? chunk : Buffer.concat([ahead, chunk]);
      ahead = null;
      raw.write(bytes, done);
    },
    final: (done) => raw.end(done),
    destroy(error, done) {
      raw.destroy();
      done(error);
    },
  });
  raw.on('data', (chunk) => through.push(chunk) || raw.pause());
  raw.once('end', () => through.push(null));
  raw.once('close', () => through.destroy());
  raw.on('error', (error) => through.destroy(error));
  return through as Socket;
}
