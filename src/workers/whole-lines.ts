/** Twice the largest request head that settings permit. A line without an end must not fill the memory of whoever waits for it. Characters. */
const LONGEST_LINE = 33_554_432;

/** Makes whole lines of what a pipe brings in pieces, so that lines of several processes never stand in one another. */
export class WholeLines {
  private rest = '';

  constructor(private readonly output: (lines: string) => void) {}

  take(text: string): void {
    const end = text.lastIndexOf('\n') + 1;
    if (end > 0) {
      this.output(this.rest + text.slice(0, end));
      this.rest = text.slice(end);
      return;
    }
    this.rest += text;
    if (this.rest.length <= LONGEST_LINE) return;
    this.output(`${this.rest}\n`);
    this.rest = '';
  }
}
