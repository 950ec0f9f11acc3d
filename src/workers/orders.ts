import type { Facts } from '../app.js';
import type { Config } from '../config/config.js';
import type { Snapshot } from '../observe/metrics.js';
import type { Expiring } from '../trust/expiry.js';
import {
  base64,
  flag,
  having,
  list,
  matching,
  moment,
  nothing,
  number,
  oneOf,
  orNull,
  pair,
  record,
  text,
  type Shape,
} from './shape.js';

/** More than any honest worker has to say, little enough to be added up. */
const MANY = 100_000;

const use = { openConnections: number, connections: number, requests: number };

/** Ours, and those that prom-client adds; another could be a line of its own, or a property that every object has. */
const metricName = matching(/^(?:mtls_sidecar|process|nodejs)_[a-z0-9_]{1,100}$/);
const labelName = matching(/^[a-z][a-z0-9_]{0,99}$/);

/** What prom-client does not know makes it throw, for this worker and all others. */
const described = record({
  name: metricName,
  help: text,
  type: oneOf('counter', 'gauge', 'histogram', 'summary'),
  aggregator: oneOf('sum', 'first', 'omit', 'average', 'min', 'max'),
  values: list(sample, MANY),
});

const snapshot: Shape<Snapshot> = list((metric) => {
  const value = described(metric);
  // A mean of nothing is NaN, which JSON has no word for.
  return { ...value, values: value.values.flatMap((one) => one ?? []) };
}, MANY);

function sample(value: unknown): Snapshot[number]['values'][number] | null {
  const base = having({ value: orNull(number) })(value);
  if (base.value === null) return null;
  const { labels, metricName: name } = base as { labels?: unknown; metricName?: unknown };
  const checked = { value: base.value, labels: labelsOf(labels) };
  return name === undefined ? checked : { ...checked, metricName: metricName(name) };
}

function labelsOf(value: unknown): Record<string, string | number> {
  const entries = Object.entries(having({})(value));
  return Object.fromEntries(
    entries.map(([name, label]) => [labelName(name), typeof label === 'number' ? number(label) : text(label)]),
  );
}

const facts: Shape<Facts> = record({
  trust: record({
    clientCert: record({ verify: text, allowRules: number }),
    routes: list(having({}), MANY),
    serverCertificate: having({}),
    serverCertificates: list(having({}), MANY),
    cas: list(having({ sha256: text }), MANY),
    crls: list(having({}), MANY),
  }),
  connections: number,
  tunnels: number,
  upstream: record({ url: text, reached: flag, open: number, busy: number, waiting: number }),
  callers: list(
    record({
      subject: text,
      issuer: text,
      serial: text,
      sha256: text,
      verified: flag,
      notBefore: text,
      notAfter: text,
      firstSeen: text,
      lastSeen: text,
      address: text,
      anchorSha256: orNull(text),
      ...use,
    }),
    MANY,
  ),
  anchors: list(record({ ca: text, serial: text, sha256: orNull(text), lastUsed: moment, ...use }), MANY),
  recent: list(
    record({
      number,
      requests: number,
      refusedRequests: number,
      serverErrors: number,
      refusedConnections: number,
      durations: list(pair(number, number), MANY),
    }),
    MANY,
  ),
});

const expiring: Shape<Expiring> = record({
  what: oneOf('server certificate', 'CA', 'CRL', 'client certificate'),
  name: text,
  file: orNull(text),
  at: moment,
  lifetime: number,
});

/** Sessions that go from worker to worker in one answer. */
export const SESSIONS_AT_ONCE = 8;

/** An id has 32 bytes at most (RFC 5246 §7.4.1.3), and Node hands out no session of more than 10 KiB. Bytes. */
export const LONGEST = { id: 32, session: 10_240 } as const;
const session = record({ id: base64(LONGEST.id), session: base64(LONGEST.session) });
export type SharedSession = ReturnType<typeof session>;

/**
 * What the primary asks its workers, in the order of a worker's life, and the shape of the answer. A worker speaks with
 * strangers, so whatever it says is looked at before it is believed to be of this shape.
 */
export const ANSWERS = {
  /** With {@link Enlistment}: reads the files. Digest of what it would serve with. */
  start: text,
  /** Binds the port, and serves. */
  listen: record({
    address: record({ address: text, family: text, port: number }),
    cas: list(text, MANY),
    facts,
  }),
  /** With settings: reads the files anew, and keeps them ready. Digest of what was read. */
  prepare: text,
  /** With that digest: takes into use what was prepared. */
  commit: nothing,
  ping: nothing,
  /** Sessions of callers without tickets that began there since it was asked last; the answer waits until there are some. */
  sessions: list(session, SESSIONS_AT_ONCE),
  /** With such sessions of another worker. */
  learn: nothing,
  probe: flag,
  metrics: snapshot,
  refusals: list(having({ kind: oneOf('connection', 'request'), time: text }), MANY),
  facts,
  expiring: list(expiring, MANY),
  drain: nothing,
  stopAccepting: nothing,
  /** Connections inside. */
  connections: number,
  /** Ends every connection, and the process. */
  end: nothing,
} satisfies Record<string, Shape<unknown>>;
export type Order = keyof typeof ANSWERS;
export type Answers = { readonly [K in Order]: ReturnType<(typeof ANSWERS)[K]> };

/** What a worker begins with. It comes over the channel, not in the environment, which other processes of the user can read. */
export interface Enlistment {
  readonly number: number;
  readonly of: number;
  /** Settings as the primary read them, but for `log.pretty`. JSON, as all of Config is. */
  readonly config: Config;
  /** Base64. */
  readonly ticketSecret: string;
  readonly draining: boolean;
}

/** What a worker says on its own: that it listens to orders. */
export const HELLO = 'hello';

/** An order and its answer have the same number. */
export interface Message {
  readonly id: number;
  readonly order: Order;
  readonly argument: unknown;
}

/** Properties of Node's errors that say what could not be bound. */
export const ERROR_FIELDS = ['code', 'syscall', 'address', 'port', 'hostname'] as const;

/** An answer, before it is known which shape `value` must have. */
export const reply = record({
  id: number,
  /** Sentences of a ConfigError. */
  problems: orNull(list(text, MANY)),
  /** Any other error. */
  failure: orNull(having({ message: text })),
  value: (value) => value,
});
