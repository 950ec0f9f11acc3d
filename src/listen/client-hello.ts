import type { Socket } from 'node:net';

/** What is looked at in a ClientHello before OpenSSL reads it. */
export interface ClientHello {
  /** Tickets that the caller would resume a session with: one up to TLS 1.2 (RFC 5077), some in TLS 1.3 (RFC 8446 §4.2.11). */
  readonly tickets: readonly Buffer[];
  /** The name that the caller asks for, as it wrote it; null for none. */
  readonly serverName: string | null;
  /** Whether the caller knows no tickets, so that a session of it can be found by its id alone. */
  readonly withoutTickets: boolean;
}

const HANDSHAKE_RECORD = 22;
const TLS_MAJOR = 3;
const RECORD_HEADER = 5;
const MESSAGE_HEADER = 4;
/** RFC 8446 §5.1. */
const LONGEST_RECORD = 16_384;
const CLIENT_HELLO = 1;
const VERSION_AND_RANDOM = 34;

const SERVER_NAME = 0;
const SESSION_TICKET = 35;
const PRE_SHARED_KEY = 41;
const SUPPORTED_VERSIONS = 43;

/**
 * Reads the ClientHello at the start of a connection.
 *
 * What is found here admits nobody. It decides only whether a session may be resumed, and under which name, so whatever is
 * not plain (a hello in several records, a malformed one) gives null, and its caller a full handshake from OpenSSL, or
 * OpenSSL's refusal.
 * @returns null when there is nothing to learn, `incomplete` when more bytes may change that
 */
export function readClientHello(bytes: Buffer): ClientHello | 'incomplete' | null {
  if (bytes.length > 0 && bytes[0] !== HANDSHAKE_RECORD) return null;
  if (bytes.length < RECORD_HEADER) return 'incomplete';
  const length = bytes.readUInt16BE(3);
  if (bytes[1] !== TLS_MAJOR || length < MESSAGE_HEADER || length > LONGEST_RECORD) return null;
  if (bytes.length < RECORD_HEADER + length) return 'incomplete';
  try {
    return parse(new Reader(bytes, RECORD_HEADER, RECORD_HEADER + length));
  } catch (error) {
    if (error instanceof CutShort) return null;
    throw error;
  }
}

/**
 * Waits for the ClientHello, and puts back what it read.
 * @param use gets null when there is nothing to learn
 */
export function peekClientHello(raw: Socket, use: (hello: ClientHello | null) => void): void {
  let seen: Buffer = Buffer.alloc(0);
  const look = (chunk: Buffer): void => {
    seen = seen.length === 0 ? chunk : Buffer.concat([seen, chunk]);
    const hello = readClientHello(seen);
    // Ends by itself: a record has at most 16 KiB.
    if (hello === 'incomplete') return;
    raw.off('data', look);
    raw.pause();
    raw.unshift(seen);
    use(hello);
  };
  raw.on('data', look);
  raw.resume();
}

function parse(message: Reader): ClientHello | null {
  if (message.number(1) !== CLIENT_HELLO) return null;
  const body = message.vector(3);
  body.take(VERSION_AND_RANDOM);
  body.vector(1);
  body.vector(2);
  body.vector(1);
  const extensions = new Map<number, Reader>();
  if (!body.isAtEnd) {
    const list = body.vector(2);
    while (!list.isAtEnd) {
      const type = list.number(2);
      // OpenSSL refuses a hello that has an extension twice.
      if (extensions.has(type)) return null;
      extensions.set(type, list.vector(2));
    }
  }
  return describe(extensions);
}

function describe(extensions: ReadonlyMap<number, Reader>): ClientHello | null {
  const ticket = extensions.get(SESSION_TICKET);
  const identities = extensions.get(PRE_SHARED_KEY);
  const names = extensions.get(SERVER_NAME);
  const serverName = names === undefined ? null : readServerName(names);
  if (serverName === undefined) return null;
  return {
    serverName,
    tickets: [
      // Empty: no ticket yet, but one would be welcome.
      ...(ticket === undefined || ticket.isAtEnd ? [] : [ticket.rest]),
      ...(identities === undefined ? [] : readIdentities(identities)),
    ],
    withoutTickets: ticket === undefined && !extensions.has(SUPPORTED_VERSIONS),
  };
}

const HOST_NAME = 0;
const PLAIN_NAME = /^[!-~]{1,255}$/;

/** RFC 6066 §3. OpenSSL takes one name and no more. @returns undefined when that is not what is there */
function readServerName(whole: Reader): string | undefined {
  const list = whole.vector(2);
  const type = list.number(1);
  const name = list.vector(2).rest.toString('latin1');
  return type === HOST_NAME && list.isAtEnd && whole.isAtEnd && PLAIN_NAME.test(name) ? name : undefined;
}

/** RFC 8446 §4.2.11: each identity is followed by its obfuscated age; the binders after them are none of our business. */
function readIdentities(extension: Reader): Buffer[] {
  const list = extension.vector(2);
  const identities: Buffer[] = [];
  while (!list.isAtEnd) {
    identities.push(list.vector(2).rest);
    list.take(4);
  }
  return identities;
}

class CutShort extends Error {}

/** Reads a part of some bytes from its front. Every step is checked against the end of that part. */
class Reader {
  constructor(
    private readonly bytes: Buffer,
    private offset: number,
    private readonly end: number,
  ) {}

  get isAtEnd(): boolean {
    return this.offset === this.end;
  }

  /** What is left. */
  get rest(): Buffer {
    return this.bytes.subarray(this.offset, this.end);
  }

  /** @returns where it began */
  take(length: number): number {
    const start = this.offset;
    if (start + length > this.end) throw new CutShort();
    this.offset = start + length;
    return start;
  }

  number(size: number): number {
    return this.bytes.readUIntBE(this.take(size), size);
  }

  /** What a length of `size` bytes stands in front of. */
  vector(size: number): Reader {
    const start = this.take(this.number(size));
    return new Reader(this.bytes, start, this.offset);
  }
}
