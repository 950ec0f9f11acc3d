import type { ConnectionReason, RequestCode } from '../errors.js';
import type { Connection } from '../identify/peer-identity.js';
import type { AccessLog } from './access-log.js';
import type { Activity } from './activity.js';
import type { Log } from './log.js';
import type { ConnectionRefusal, Observer, RequestRecord } from './observer.js';
import { createPacing, type Pacing, type Withheld } from './pacing.js';
import { describeRefusedConnection, describeRefusedRequest, type Refusals } from './refusals.js';
import { clip, peerAddress } from './text.js';

/** What the observer needs of `metrics`, so that a test can do without prom-client. */
export interface Counters {
  connectionAdmitted(connection: Connection): void;
  connectionClosed(): void;
  connectionRefused(reason: ConnectionReason): void;
  requestFinished(record: RequestRecord): void;
  requestRefused(code: RequestCode): void;
}

export interface ObserverParts {
  readonly log: Log;
  readonly metrics: Counters;
  readonly refusals: Refusals;
  /** Null when `log.access` is false. */
  readonly access: AccessLog | null;
  /** Null where nobody looks at it. */
  readonly activity?: Activity | null;
  /** Milliseconds since the epoch; for tests. */
  readonly now?: () => number;
}

/** Turns what the stages report into log lines, counts and the list of refusals. */
export function createObserver(parts: ObserverParts): Observer {
  return new ReportingObserver(parts);
}

/** More than one address ever needs while somebody is reading, little enough for a disk. */
const PACE = { burst: 200, perSecond: 10, addresses: 1024 };

/** Milliseconds after which is told how many lines were withheld. */
const SUMMARY_INTERVAL = 60_000;

class ReportingObserver implements Observer {
  readonly #log: Log;
  readonly #metrics: Counters;
  readonly #refusals: Refusals;
  readonly #access: AccessLog | null;
  readonly #activity: Activity | null;
  readonly #now: () => number;
  readonly #pacing: Pacing;
  #summaryTimer: NodeJS.Timeout | null = null;

  constructor({ log, metrics, refusals, access, activity = null, now = Date.now }: ObserverParts) {
    this.#log = log;
    this.#metrics = metrics;
    this.#refusals = refusals;
    this.#access = access;
    this.#activity = activity;
    this.#now = now;
    this.#pacing = createPacing({ ...PACE, now, forgotten: (withheld) => this.#summarise([withheld]) });
  }

  connectionAdmitted(connection: Connection): void {
    this.#metrics.connectionAdmitted(connection);
    this.#activity?.connectionAdmitted(connection);
    if (this.#log.enabled('debug')) this.#log.debug('connection admitted', connectionFields(connection));
  }

  connectionClosed(connection: Connection): void {
    this.#metrics.connectionClosed();
    this.#activity?.connectionClosed(connection);
    if (this.#log.enabled('debug')) this.#log.debug('connection closed', { connection: connection.id });
  }

  connectionRefused(refusal: ConnectionRefusal): void {
    this.#metrics.connectionRefused(refusal.reason);
    const described = describeRefusedConnection(refusal, this.#now());
    const { kind: _kind, time: _time, ...fields } = described;
    // Peers that go away during the handshake are mostly TCP probes, every few seconds for ever. They are counted.
    if (refusal.reason === 'handshake_aborted') return this.#log.debug('handshake aborted', fields);
    this.#activity?.connectionRefused();
    this.#refusals.add(described);
    const withheld = this.#pacing.take(refusal.remoteAddress);
    if (withheld === null) return this.#awaitSummary();
    this.#log.warn('connection refused', withheld > 0 ? { ...fields, withheld } : fields);
  }

  requestFinished(record: RequestRecord): void {
    this.#metrics.requestFinished(record);
    this.#activity?.requestFinished(record);
    this.#access?.write(record);
    if (record.code !== null) this.#requestRefused(record, record.code);
  }

  warn(message: string, fields?: Readonly<Record<string, unknown>>): void {
    this.#log.warn(message, fields);
  }

  error(message: string, error: unknown): void {
    this.#log.error(message, error);
  }

  /** The flood may be over: its end is told although no further line of that address comes. */
  #awaitSummary(): void {
    if (this.#summaryTimer !== null) return;
    this.#summaryTimer = setTimeout(() => {
      this.#summaryTimer = null;
      this.#summarise(this.#pacing.summary());
    }, SUMMARY_INTERVAL).unref();
  }

  #summarise(all: readonly Withheld[]): void {
    for (const withheld of all) this.#log.warn('connection refusals not logged one by one', { ...withheld });
  }

  #requestRefused(record: RequestRecord, code: RequestCode): void {
    this.#metrics.requestRefused(code);
    const described = describeRefusedRequest(record);
    if (described === null) return;
    this.#refusals.add(described);
    // Where the access record already says it, once is enough.
    if (this.#access?.carriesCode === true) return;
    const { kind: _kind, time: _time, ...fields } = described;
    this.#log.warn('request refused', fields);
  }
}

function connectionFields({ id, remoteAddress, remotePort, identity }: Connection): Record<string, unknown> {
  return {
    connection: id,
    peer: peerAddress(remoteAddress, remotePort),
    subject: identity.certificate && clip(identity.certificate.subject),
    verify: clip(identity.verify),
    tlsVersion: identity.tls.version,
    cipher: identity.tls.cipher,
    sessionReused: identity.tls.sessionReused,
  };
}
