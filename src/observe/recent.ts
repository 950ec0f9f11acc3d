import { isoTime } from './timestamps.js';

/** What happened in ten seconds. */
export interface Interval {
  /** ISO 8601 UTC, its beginning. */
  readonly at: string;
  /** How long it is: less than ten while it lasts. */
  readonly seconds: number;
  readonly requests: number;
  /** Requests whose status was ours, not the application's. */
  readonly refusedRequests: number;
  /** Requests that were answered with 500 or above. */
  readonly serverErrors: number;
  readonly refusedConnections: number;
  /** Milliseconds that half, or all but one in a hundred, of the requests took at most; null without requests. */
  readonly p50Ms: number | null;
  readonly p99Ms: number | null;
}

/** A request at its end, as far as it is counted here. */
export interface Finished {
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Null for what is not to be compared with others, a tunnel for one. */
  readonly durationMs: number | null;
  readonly status: number;
  readonly refused: boolean;
}

/** What one process counted in a step, for another to add to its own. */
export interface StepCounts {
  /** Steps of ten seconds since the epoch. */
  readonly number: number;
  readonly requests: number;
  readonly refusedRequests: number;
  readonly serverErrors: number;
  readonly refusedConnections: number;
  /** Requests by length, as pairs of a class and how many were in it. */
  readonly durations: readonly (readonly [number, number])[];
}

const SECONDS = 10;
const STEP = SECONDS * 1000;
const KEPT = 60;

/** Bounds of durations grow by a quarter of a power of two, so that a quantile is off by a fifth at most. */
const SHORTEST_MS = 0.0625;
const PER_DOUBLING = 4;
const BOUNDS = 84;

/** The last ten minutes in steps of ten seconds. Its size is fixed, and a request costs it some additions. */
export class Recent {
  readonly #steps = Array.from({ length: KEPT }, () => new Step());
  readonly #first: number;
  #current = new Step();

  /** @param now milliseconds since the epoch */
  constructor(now: number) {
    this.#first = numberOf(now);
  }

  requestFinished({ at, durationMs, status, refused }: Finished): void {
    const step = this.#stepAt(at);
    step.requests += 1;
    if (refused) step.refusedRequests += 1;
    if (status >= 500) step.serverErrors += 1;
    if (durationMs !== null) step.observe(durationMs);
  }

  connectionRefused(at: number): void {
    this.#stepAt(at).refusedConnections += 1;
  }

  /** What there is of the last ten minutes. */
  counts(now: number): StepCounts[] {
    const first = numberOf(now) - KEPT + 1;
    return this.#steps.filter(({ number }) => number >= first).map((step) => step.counts());
  }

  /** Adds what another process counted. */
  add(counts: readonly StepCounts[]): void {
    for (const step of counts) this.#stepAt(step.number * STEP).add(step);
  }

  /** Oldest first; the last one is not over yet. */
  intervals(now: number): Interval[] {
    const last = numberOf(now);
    const first = Math.max(Math.min(this.#first, last), last - KEPT + 1);
    return Array.from({ length: last - first + 1 }, (_, index) => {
      const number = first + index;
      const step = this.#steps[number % KEPT];
      const seconds = number === last ? Math.max(1, Math.round((now - number * STEP) / 1000)) : SECONDS;
      return (step?.number === number ? step : NOTHING).describe(number * STEP, seconds);
    });
  }

  #stepAt(at: number): Step {
    const number = numberOf(at);
    if (number === this.#current.number) return this.#current;
    const step = this.#steps[number % KEPT] ?? NOTHING;
    // A clock that was set back must not wipe out what is newer.
    if (step.number < number) step.begin(number);
    this.#current = step;
    return step;
  }
}

function numberOf(at: number): number {
  return Math.max(0, Math.floor(at / STEP));
}

class Step {
  number = -1;
  requests = 0;
  refusedRequests = 0;
  serverErrors = 0;
  refusedConnections = 0;
  readonly #durations = new Uint32Array(BOUNDS);

  begin(number: number): void {
    this.number = number;
    this.requests = 0;
    this.refusedRequests = 0;
    this.serverErrors = 0;
    this.refusedConnections = 0;
    this.#durations.fill(0);
  }

  observe(milliseconds: number): void {
    const index = milliseconds <= SHORTEST_MS ? 0 : Math.ceil(Math.log2(milliseconds / SHORTEST_MS) * PER_DOUBLING);
    const bound = Math.min(index, BOUNDS - 1);
    this.#durations[bound] = (this.#durations[bound] ?? 0) + 1;
  }

  counts(): StepCounts {
    const { number, requests, refusedRequests, serverErrors, refusedConnections } = this;
    const durations = [...this.#durations.entries()].filter(([, count]) => count > 0);
    return { number, requests, refusedRequests, serverErrors, refusedConnections, durations };
  }

  add({ requests, refusedRequests, serverErrors, refusedConnections, durations }: StepCounts): void {
    this.requests += requests;
    this.refusedRequests += refusedRequests;
    this.serverErrors += serverErrors;
    this.refusedConnections += refusedConnections;
    for (const [bound, count] of durations) this.#durations[bound] = (this.#durations[bound] ?? 0) + count;
  }

  describe(at: number, seconds: number): Interval {
    const { requests, refusedRequests, serverErrors, refusedConnections } = this;
    const numbers = { requests, refusedRequests, serverErrors, refusedConnections };
    return { at: isoTime(at), seconds, ...numbers, p50Ms: this.#quantile(0.5), p99Ms: this.#quantile(0.99) };
  }

  /** The bound below which the share of durations lies. */
  #quantile(share: number): number | null {
    const total = this.#durations.reduce((sum, count) => sum + count, 0);
    if (total === 0) return null;
    let seen = 0;
    const index = this.#durations.findIndex((count) => (seen += count) >= share * total);
    return Number((SHORTEST_MS * 2 ** (index / PER_DOUBLING)).toPrecision(3));
  }
}

const NOTHING = new Step();
