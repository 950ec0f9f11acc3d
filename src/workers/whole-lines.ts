/** Twice the largest request head that settings permit. A line without an end must not fill the memory of whoever waits for it. Bytes. */
const LONGEST_LINE = 33_554_432;
const NEWLINE = 10;
/** What a piece takes beside its bytes, about: a worker that has turned may write them one by one. */
const PIECE = 128;

/**
 * Makes whole lines of what a pipe brings in pieces, so that lines of several processes never stand in one another. What is
 * between the newlines is nobody's business here: no byte of UTF-8 but a newline's is a newline.
 */
export class WholeLines {
  /** Pieces of a line whose end has not come. */
  private rest: Buffer[] = [];
  private restSize = 0;

  constructor(private readonly output: (lines: Buffer) => void) {}

  take(bytes: Buffer): void {
    const end = bytes.lastIndexOf(NEWLINE) + 1;
    if (end > 0) this.passOn(bytes.subarray(0, end));
    if (end < bytes.length) this.keep(bytes.subarray(end));
    if (this.restSize > LONGEST_LINE) this.passOn(Buffer.of(NEWLINE));
  }

  private keep(bytes: Buffer): void {
    this.rest.push(bytes);
    this.restSize += bytes.length + PIECE;
  }

  private passOn(end: Buffer): void {
    const { rest } = this;
    this.rest = [];
    this.restSize = 0;
    this.output(rest.length === 0 ? end : Buffer.concat([...rest, end]));
  }
}
