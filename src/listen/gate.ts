import type { TLSSocket } from 'node:tls';

/** Bytes that one caller may send ahead of its turn, and all callers together. */
const MAX_AHEAD = 262_144;
const MAX_AHEAD_TOGETHER = 33_554_432;

/** What a chunk costs besides its bytes: a caller may send one byte at a time. */
const CHUNK_COST = 512;

/** How long a caller with more than that may keep us from seeing whether it is still there. Milliseconds. */
const PATIENCE = 1_000;

type Reader = (chunk: Buffer) => void;

let together = 0;

/**
 * Between a connection and Node's parser. Closed, it keeps what the caller sends ahead of its turn, and goes on reading:
 * a socket that is not read does not tell when its caller leaves. It keeps bytes, since a parsed request takes up to a
 * hundred times the memory of its bytes.
 */
export class Gate {
  /** Node's own listeners, while they hear nothing. */
  private readers: Reader[] | null = null;
  private ahead: Buffer[] = [];
  private cost = 0;
  /** Since when more than may be kept waits to be read; 0 while nothing does. */
  private fullSince = 0;
  private discarding = false;

  constructor(private readonly socket: TLSSocket) {
    socket.once('close', () => this.forget());
  }

  get isClosed(): boolean {
    return this.readers !== null;
  }

  /** From the next chunk on nothing reaches the parser. */
  close(): void {
    if (this.readers !== null) return;
    const { socket } = this;
    this.readers = socket.listeners('data') as Reader[];
    // Ours first: a stream without a listener stops. To Node it says that the parser can no longer read by itself.
    socket.on('data', this.keep);
    for (const reader of this.readers) socket.off('data', reader);
    // Later, because Node pauses the socket over a body that nobody reads yet.
    setImmediate(() => {
      if (this.readers !== null && this.fullSince === 0) socket.resume();
    });
  }

  /** Lets the parser have what was kept, and what follows. */
  open(): void {
    if (this.readers === null || this.discarding) return;
    const { socket, readers, ahead } = this;
    this.readers = null;
    this.forget();
    socket.pause();
    for (const reader of readers) socket.on('data', reader);
    socket.off('data', this.keep);
    // Chunk by chunk, so that the first may close the gate again before the second is parsed.
    for (const chunk of ahead.reverse()) socket.unshift(chunk);
    socket.resume();
  }

  /** Nothing will be parsed any more; reads on to see the end. */
  discard(): void {
    this.close();
    this.discarding = true;
    this.forget();
    this.socket.resume();
  }

  /** Whether a caller has sent too much ahead, for too long. */
  isStuck(now: number): boolean {
    return this.fullSince !== 0 && now - this.fullSince >= PATIENCE;
  }

  private readonly keep = (chunk: Buffer): void => {
    if (this.discarding) return;
    this.ahead.push(chunk);
    this.account(chunk.length + CHUNK_COST);
    if (this.cost < MAX_AHEAD && together < MAX_AHEAD_TOGETHER) return;
    this.fullSince ||= Date.now();
    this.socket.pause();
  };

  private forget(): void {
    this.ahead = [];
    this.account(-this.cost);
    this.fullSince = 0;
  }

  private account(cost: number): void {
    this.cost += cost;
    together += cost;
  }
}
