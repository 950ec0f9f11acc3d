/** An allowance that honest callers never use up: so many at once, and so many a second from then on. */
export class Budget {
  private left: number;
  private at = 0;

  constructor(
    private readonly most: number,
    private readonly perSecond: number,
  ) {
    this.left = most;
  }

  /** @param now milliseconds since the epoch @returns whether there was one left */
  spend(now: number): boolean {
    if (this.at !== 0) this.left = Math.min(this.most, this.left + ((now - this.at) / 1_000) * this.perSecond);
    this.at = now;
    this.left -= 1;
    return this.left >= 0;
  }

  /** Something honest was done. */
  refill(): void {
    this.left = this.most;
  }
}
