import type { Connection } from '../identify/peer-identity.js';
import type { LoadedCa } from '../trust/credentials.js';
import { Anchors, type AnchorUse, type Use } from './anchors.js';
import { Callers, type Caller, type SeenCaller } from './callers.js';
import type { RequestRecord } from './observer.js';
import { Recent, type Interval, type StepCounts } from './recent.js';

/** What an admitted connection adds to. */
interface Account {
  readonly caller: Caller | null;
  readonly anchor: Use;
}

/**
 * Who calls, under which CA, how often and how fast: what an operator looks at, and what no counter with a closed set of labels
 * can say. All of it is bounded.
 */
export class Activity {
  readonly #now: () => number;
  readonly #callers = new Callers();
  readonly #anchors = new Anchors();
  readonly #recent: Recent;
  /** By the connection itself: a request may end after its connection has. */
  readonly #accounts = new WeakMap<Connection, Account>();

  /** @param now milliseconds since the epoch; for tests */
  constructor(now: () => number = Date.now) {
    this.#now = now;
    this.#recent = new Recent(now());
  }

  connectionAdmitted(connection: Connection): void {
    const anchor = this.#anchors.of(connection.identity.anchorSha256);
    anchor.connections += 1;
    anchor.openConnections += 1;
    anchor.lastUsed = connection.openedAt;
    this.#accounts.set(connection, { caller: this.#callers.connected(connection), anchor });
  }

  connectionClosed(connection: Connection): void {
    const account = this.#accounts.get(connection);
    if (account === undefined) return;
    account.anchor.openConnections -= 1;
    if (account.caller !== null) account.caller.openConnections -= 1;
  }

  connectionRefused(): void {
    this.#recent.connectionRefused(this.#now());
  }

  requestFinished({ connection, startedAt, durationMs, upgraded, status, code }: RequestRecord): void {
    const at = startedAt + durationMs;
    this.#recent.requestFinished({ at, durationMs: upgraded ? null : durationMs, status, refused: code !== null });
    const account = this.#accounts.get(connection);
    if (account === undefined) return;
    account.anchor.requests += 1;
    account.anchor.lastUsed = at;
    if (account.caller !== null) this.#callers.requested(account.caller, at);
  }

  /** Newest first. */
  callers(): SeenCaller[] {
    return this.#callers.list();
  }

  anchors(cas: readonly LoadedCa[]): AnchorUse[] {
    return this.#anchors.list(cas);
  }

  /** Of the last ten minutes, for another process to add up. */
  counts(): StepCounts[] {
    return this.#recent.counts(this.#now());
  }

  /** The last ten minutes, oldest first. */
  recent(): Interval[] {
    return this.#recent.intervals(this.#now());
  }
}
