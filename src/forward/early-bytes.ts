import type { Duplex } from 'node:stream';

/** What a caller may send behind an Upgrade before that is answered. Bytes. */
export const MAX_EARLY = 65_536;

/** How long a caller who sent more may keep us from seeing whether it is still there. Milliseconds. */
const PATIENCE_MS = 1_000;

/** Most callers send no more than a first frame. */
const FIRST_SIZE = 1_024;

const NOTHING = Buffer.alloc(0);

/**
 * Between an Upgrade and its answer: keeps what the caller sends ahead, for the tunnel, and reads on, since a socket that is
 * not read does not tell when its caller leaves. It is one buffer, for a caller may send one byte at a time, and a chunk costs
 * far more than that. All callers together have no bound of their own: unread, a socket keeps twice as much by itself.
 */
export class EarlyBytes {
  private kept = NOTHING;
  private length = 0;
  private timer: NodeJS.Timeout | null = null;

  /**
   * @param first what came with the head
   * @param onStuck called when more than may be kept has waited for too long
   */
  constructor(
    private readonly socket: Duplex,
    first: Buffer,
    private readonly onStuck: () => void,
  ) {
    socket.on('data', this.keep);
    socket.resume();
    this.keep(first);
  }

  /** Puts it back, for whoever reads the socket next. */
  giveBack(): void {
    this.socket.pause();
    const kept = this.kept.subarray(0, this.length);
    this.forget();
    if (kept.length > 0) this.socket.unshift(kept);
  }

  /** Nobody will have it; reads on to see the end. */
  discard(): void {
    this.forget();
    this.socket.resume();
  }

  /** Keeps the chunk that goes past the bound as well: there is no way to put it back alone. */
  private readonly keep = (chunk: Buffer): void => {
    const length = this.length + chunk.length;
    this.makeRoom(length);
    chunk.copy(this.kept, this.length);
    this.length = length;
    if (length <= MAX_EARLY) return;
    this.socket.pause();
    this.timer ??= setTimeout(this.onStuck, PATIENCE_MS);
  };

  private makeRoom(length: number): void {
    if (length <= this.kept.length) return;
    const larger = Buffer.allocUnsafeSlow(Math.max(length, 2 * this.kept.length, FIRST_SIZE));
    this.kept.copy(larger, 0, 0, this.length);
    this.kept = larger;
  }

  private forget(): void {
    this.socket.off('data', this.keep);
    this.kept = NOTHING;
    this.length = 0;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }
}
