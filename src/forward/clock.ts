/** A deadline that never comes. Ticks. */
export const NEVER = Number.POSITIVE_INFINITY;

/**
 * Deadlines for all connections of a pool by one coarse timer: to set one is to write a number. A timer each would be
 * started and stopped three times a request. It may ring late by two ticks, never early.
 */
export class Clock {
  private now = 0;
  private timer: NodeJS.Timeout | null = null;

  /**
   * @param tick milliseconds
   * @param onTick looks for deadlines that have passed; returns whether there are any to come
   */
  constructor(
    private readonly tick: number,
    private readonly onTick: () => boolean,
  ) {}

  /** The deadline that is so many milliseconds away. Ticks. */
  after(milliseconds: number): number {
    return this.now + Math.ceil(milliseconds / this.tick) + 1;
  }

  hasPassed(deadline: number): boolean {
    return this.now >= deadline;
  }

  /** Ticks as long as there are deadlines. Does not keep the process alive. */
  start(): void {
    this.timer ??= setInterval(() => {
      this.now += 1;
      if (!this.onTick()) this.stop();
    }, this.tick).unref();
  }

  stop(): void {
    if (this.timer !== null) clearInterval(this.timer);
    this.timer = null;
  }
}
