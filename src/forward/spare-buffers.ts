/** As much as is read at once. Bytes. */
const SIZE = 65_536;

/** Smaller pieces are cheaper to allocate than to keep account of. Bytes. */
const SMALL = 4_096;

/** As many are kept for the next pieces, by all connections together: 2 MiB. */
const KEPT = 32;

const spare: LentBuffer[] = [];

/** A piece of an answer on its way to a sink. */
export interface Piece {
  readonly chunk: Buffer;
  /** Called when nobody needs the bytes any more: they are overwritten then. Whoever never calls it keeps them. */
  readonly done: (() => void) | undefined;
}

/**
 * Copies what was read into a buffer that comes back. A fresh one for each piece is memory that V8 counts as its own: it
 * marks the whole heap every few megabytes, a quarter of all CPU time of a large answer.
 */
export function pieceOf(bytes: Buffer, from: number, to: number): Piece {
  const size = to - from;
  if (size >= SMALL && size <= SIZE) return (spare.pop() ?? new LentBuffer()).lend(bytes, from, to);
  const chunk = Buffer.allocUnsafe(size);
  bytes.copy(chunk, 0, from, to);
  return { chunk, done: undefined };
}

class LentBuffer implements Piece {
  chunk: Buffer;
  private readonly bytes = Buffer.allocUnsafeSlow(SIZE);
  private lent = false;

  constructor() {
    this.chunk = this.bytes;
  }

  lend(bytes: Buffer, from: number, to: number): this {
    bytes.copy(this.bytes, 0, from, to);
    this.chunk = this.bytes.subarray(0, to - from);
    this.lent = true;
    return this;
  }

  /** Once only: a buffer that stood here twice would hold two answers at once. */
  readonly done = (): void => {
    if (!this.lent) return;
    this.lent = false;
    if (spare.length < KEPT) spare.push(this);
  };
}
