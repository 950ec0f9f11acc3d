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
 * @param view at most 64 KiB
 */
export function pieceOf(view: Buffer): Piece {
  if (view.length < SMALL || view.length > SIZE) return { chunk: Buffer.from(view), done: undefined };
  return (spare.pop() ?? new LentBuffer()).lend(view);
}

class LentBuffer implements Piece {
  chunk: Buffer;
  private readonly bytes = Buffer.allocUnsafeSlow(SIZE);
  private lent = false;

  constructor() {
    this.chunk = this.bytes;
  }

  lend(view: Buffer): this {
    view.copy(this.bytes);
    this.chunk = this.bytes.subarray(0, view.length);
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
