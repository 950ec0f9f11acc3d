import { AggregatorRegistry, collectDefaultMetrics, Counter, Gauge, Registry, type Metric } from 'prom-client';
import { CONNECTION_REASONS, REQUEST_CODES, type ConnectionReason, type RequestCode } from '../errors.js';
import type { Connection } from '../identify/peer-identity.js';
import type { Credentials } from '../trust/credentials.js';
import { sum, type AnchorUse, type Use } from './anchors.js';
import type { RequestRecord } from './observer.js';

/** Upstream connections at this moment. */
export interface PoolNumbers {
  readonly open: number;
  readonly busy: number;
  /** Requests that wait for a connection. */
  readonly waiting: number;
}

/** Processes that serve under one that looks after them. */
export interface WorkerNumbers {
  readonly wanted: number;
  /** That listen. */
  readonly serving: number;
  /** Ends that nobody asked for, ever. */
  readonly failures: number;
}

/** What is looked up only when somebody scrapes. */
export interface MetricsSources {
  readonly version: string;
  /**
   * What of a sidecar this process is: all of it; `serving` under another process; or `managing` others that serve. A metric is
   * made by one of these two, except for those of every process.
   */
  readonly share?: 'all' | 'serving' | 'managing';
  readonly pool?: () => PoolNumbers;
  /** The same by application; none without it. */
  readonly applications?: () => readonly (PoolNumbers & { readonly url: string })[];
  /** Names of the routes; none without it. */
  readonly routes?: readonly string[];
  /** The credentials in force; null before the first were loaded. */
  readonly credentials?: () => Credentials | null;
  /** Trust anchors in force and how they are used; none without it. */
  readonly anchors?: () => readonly AnchorUse[];
  readonly draining?: () => boolean;
  readonly workers?: () => WorkerNumbers;
  /** Log lines that nobody read. */
  readonly droppedLines: () => number;
  /** Milliseconds since the epoch; for tests. */
  readonly now?: () => number;
  /** prom-client's `process_*` and `nodejs_*`, on unless false; tests that make many registries do without. */
  readonly processMetrics?: boolean;
}

export interface Metrics {
  connectionAdmitted(connection: Connection): void;
  connectionClosed(): void;
  connectionRefused(reason: ConnectionReason): void;
  requestFinished(record: RequestRecord): void;
  requestRefused(code: RequestCode): void;
  /** A reload that found something changed: taken into use, or turned down and the old kept. */
  reloaded(succeeded: boolean): void;
  /** Prometheus text format 0.0.4. */
  render(): Promise<string>;
  /** The same as values, for the process that looks after this one. */
  snapshot(): Promise<Snapshot>;
}

/** One line of a metric. */
export interface SnapshotValue {
  readonly value: number;
  readonly labels: Readonly<Record<string, string | number>>;
  /** Of a histogram, which has lines of several names. */
  readonly metricName?: string;
}

/** Metrics of one process, as prom-client hands them on. */
export type Snapshot = readonly {
  readonly name: string;
  readonly help: string;
  readonly type: string;
  /** How the values of several processes become one: `sum`, `min`, … */
  readonly aggregator: string;
  readonly values: readonly SnapshotValue[];
}[];

/** The metrics of several processes as those of one, in Prometheus text format 0.0.4. The first is who looks after the others. */
export function renderTogether(own: Snapshot, others: readonly Snapshot[]): Promise<string> {
  // prom-client leaves the start of several processes out; that of the first is that of the sidecar.
  const first = own.map((metric) => (metric.aggregator === 'omit' ? { ...metric, aggregator: 'first' } : metric));
  return AggregatorRegistry.aggregate([first, ...others]).metrics();
}

/** What has to outlive a process: counters that fall back would look to Prometheus as if all of it had begun anew. */
export async function countersOf(snapshots: readonly Snapshot[]): Promise<Snapshot> {
  const counters = snapshots.map((metrics) => metrics.filter(({ type }) => type === 'counter' || type === 'histogram'));
  return (await AggregatorRegistry.aggregate(counters).getMetricsAsJSON()) as unknown as Snapshot;
}

/**
 * Counts everything, in a registry of its own. Requests are counted in plain arrays, which are copied into
 * prom-client only when somebody scrapes: prom-client hashes labels on each increment, 1 µs a request and metric.
 */
export function createMetrics(sources: MetricsSources): Metrics {
  const registry = new Registry();
  const counts = new Counts(sources.now ?? Date.now, sources.routes);
  const { share = 'all' } = sources;
  if (share !== 'managing') registerServing(registry, counts, sources);
  if (share !== 'serving') registerManaging(registry, counts, sources);
  registerProcess(registry, sources);
  return {
    connectionAdmitted: (connection) => counts.admitted(connection),
    connectionClosed: () => (counts.openConnections -= 1),
    connectionRefused: (reason) => increment(counts.connectionRefusals, reason),
    requestFinished: (record) => counts.finished(record),
    requestRefused: (code) => increment(counts.requestRefusals, code),
    reloaded: (succeeded) => counts.reloaded(succeeded),
    render: () => registry.metrics(),
    snapshot: async () => (await registry.getMetricsAsJSON()) as unknown as Snapshot,
  };
}

function registerServing(registry: Registry, counts: Counts, sources: MetricsSources): void {
  registerHandshakes(registry, counts);
  registerRequests(registry, counts);
  registerRoutes(registry, counts);
  registerAnchors(registry, sources);
  registerUpstreamPool(registry, sources);
  registerApplications(registry, sources);
  registerExpiry(registry, counts, sources);
}

function registerManaging(registry: Registry, counts: Counts, sources: MetricsSources): void {
  registerReloads(registry, counts);
  registerWorkers(registry, sources);
  registerVersion(registry, sources);
}

const STATUS_CLASSES = ['none', '1xx', '2xx', '3xx', '4xx', '5xx'] as const;
/** Methods are the caller's to invent; a label must be a closed set, so all but these are `other`. */
const METHODS = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'other'] as const;
const METHOD_INDEX = new Map<string, number>(METHODS.map((method, index) => [method, index]));
const OTHER_METHOD = METHODS.length - 1;
const TLS_VERSIONS = ['TLSv1.3', 'TLSv1.2', 'TLSv1.1', 'TLSv1', 'other'];
const RESUMED = ['false', 'true'];

/** Seconds. The bound at 2 is IM's: a callback answered later counts as failed. */
const DURATION_BOUNDS = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60];

/** Whether we turned a peer away, the handshake failed, or the peer left. */
type HandshakeResult = 'refused' | 'failed' | 'aborted';
const NOT_REFUSED: Partial<Record<ConnectionReason, HandshakeResult>> = {
  handshake_timeout: 'failed',
  tls_version: 'failed',
  no_shared_cipher: 'failed',
  handshake_failed: 'failed',
  handshake_aborted: 'aborted',
};

class Counts {
  readonly #now: () => number;
  openConnections = 0;
  admittedConnections = 0;
  readonly connectionRefusals = zeroes(CONNECTION_REASONS);
  readonly requestRefusals = zeroes(REQUEST_CODES);
  /** [version × resumed] */
  readonly tls = new Float64Array(TLS_VERSIONS.length * RESUMED.length);
  /** [status class × method] */
  readonly requests = new Float64Array(STATUS_CLASSES.length * METHODS.length);
  /** The first is no route: what the settings say themselves. */
  readonly routes: readonly string[];
  /** [route × status class] */
  readonly byRoute: Float64Array;
  readonly total = new Durations();
  readonly upstream = new Durations();
  bytesIn = 0;
  bytesOut = 0;
  reloadsSucceeded = 0;
  reloadsFailed = 0;
  lastReloadSucceeded = true;
  /** Milliseconds since the epoch; the start counts as the first success. */
  lastReloadSuccess: number;
  /** notAfter in milliseconds since the epoch, or null. */
  lastClientExpiry: number | null = null;

  constructor(now: () => number, routes: readonly string[] = []) {
    this.#now = now;
    this.routes = ['default', ...routes];
    this.byRoute = new Float64Array(this.routes.length * STATUS_CLASSES.length);
    this.lastReloadSuccess = now();
  }

  admitted({ identity }: Connection): void {
    this.openConnections += 1;
    this.admittedConnections += 1;
    const version = TLS_VERSIONS.indexOf(identity.tls.version);
    const row = version < 0 ? TLS_VERSIONS.length - 1 : version;
    add(this.tls, row * RESUMED.length + Number(identity.tls.sessionReused), 1);
    // Only a verified one: anybody can present an expired certificate, and with it ring the operator's alarm.
    if (identity.verify === 'SUCCESS' && identity.certificate) this.lastClientExpiry = identity.certificate.notAfter;
  }

  finished(record: RequestRecord): void {
    const method = METHOD_INDEX.get(record.method) ?? OTHER_METHOD;
    const status = statusClass(record.status);
    add(this.requests, status * METHODS.length + method, 1);
    const route = record.route === null ? 0 : Math.max(0, this.routes.indexOf(record.route, 1));
    add(this.byRoute, route * STATUS_CLASSES.length + status, 1);
    this.bytesIn += record.bytesIn;
    this.bytesOut += record.bytesOut;
    // A tunnel lasts as long as its user likes; among durations of requests it would only hide slow ones.
    if (record.upgraded) return;
    this.total.observe(record.durationMs);
    if (record.upstreamMs !== null) this.upstream.observe(record.upstreamMs);
  }

  reloaded(succeeded: boolean): void {
    this.lastReloadSucceeded = succeeded;
    if (!succeeded) {
      this.reloadsFailed += 1;
      return;
    }
    this.reloadsSucceeded += 1;
    this.lastReloadSuccess = this.#now();
  }
}

/** One line of prom-client's output. */
interface Sample {
  readonly metricName: string;
  readonly labels: Readonly<Record<string, string | number>>;
  readonly value: number;
}

/** A histogram of {@link DURATION_BOUNDS}. */
class Durations {
  /** Not cumulative; the last is everything above the highest bound. */
  readonly #buckets = new Float64Array(DURATION_BOUNDS.length + 1);
  #seconds = 0;

  observe(milliseconds: number): void {
    const seconds = milliseconds / 1000;
    let index = 0;
    while (index < DURATION_BOUNDS.length && seconds > (DURATION_BOUNDS[index] ?? Infinity)) index += 1;
    add(this.#buckets, index, 1);
    this.#seconds += seconds;
  }

  samples(name: string): Sample[] {
    let count = 0;
    const buckets = [...DURATION_BOUNDS, '+Inf'].map((le, index) => {
      count += this.#buckets[index] ?? 0;
      return { metricName: `${name}_bucket`, labels: { le }, value: count };
    });
    return [
      ...buckets,
      { metricName: `${name}_sum`, labels: {}, value: this.#seconds },
      { metricName: `${name}_count`, labels: {}, value: count },
    ];
  }
}

type Set = (value: number, labels?: Record<string, string>) => void;

interface Definition {
  readonly name: string;
  readonly help: string;
  readonly labels?: readonly string[];
  /** How the values of several processes become one. Default: they are added up. */
  readonly together?: 'sum' | 'min';
  /** Called at each scrape; sets every value anew. */
  readonly read: (set: Set) => void;
}

function counter(registry: Registry, { name, help, labels = [], read }: Definition): void {
  new Counter({
    name: `mtls_sidecar_${name}`,
    help,
    labelNames: labels,
    registers: [registry],
    collect() {
      this.reset();
      read((value, values = {}) => this.inc(values, value));
    },
  });
}

function gauge(registry: Registry, { name, help, labels = [], together = 'sum', read }: Definition): void {
  new Gauge({
    name: `mtls_sidecar_${name}`,
    help,
    labelNames: labels,
    aggregator: together,
    registers: [registry],
    collect() {
      this.reset();
      // A reset leaves 0 behind where there are no labels, and 0 seconds to expiry is an alarm, not an absence.
      if (labels.length === 0) this.remove();
      read((value, values = {}) => this.set(values, value));
    },
  });
}

/** prom-client's Histogram cannot be set, only observed one by one; a registry needs no more of a metric than this. */
function histogram(registry: Registry, shortName: string, help: string, durations: Durations): void {
  const name = `mtls_sidecar_${shortName}`;
  const described = { name, help, type: 'histogram', aggregator: 'sum' };
  const get = () => Promise.resolve({ ...described, values: durations.samples(name) });
  registry.registerMetric({ ...described, get } as unknown as Metric);
}

function registerHandshakes(registry: Registry, counts: Counts): void {
  counter(registry, {
    name: 'handshakes_total',
    help: 'Connections by verdict: admitted, refused, failed (TLS) or aborted (peer left), and why.',
    labels: ['result', 'reason'],
    read: (set) => {
      set(counts.admittedConnections, { result: 'admitted', reason: 'none' });
      for (const [reason, count] of counts.connectionRefusals) {
        set(count, { result: NOT_REFUSED[reason] ?? 'refused', reason });
      }
    },
  });
  counter(registry, {
    name: 'admitted_connections_total',
    help: 'Admitted connections by TLS version and by whether the session was resumed.',
    labels: ['version', 'resumed'],
    read: (set) =>
      forEachCell(counts.tls, TLS_VERSIONS, RESUMED, (n, version, resumed) => set(n, { version, resumed })),
  });
  gauge(registry, {
    name: 'connections_open',
    help: 'Admitted connections open now.',
    read: (set) => set(counts.openConnections),
  });
}

function registerRequests(registry: Registry, counts: Counts): void {
  counter(registry, {
    name: 'requests_total',
    help: 'Requests by class of the status sent (none: the caller left before) and method.',
    labels: ['status', 'method'],
    read: (set) => {
      forEachCell(counts.requests, STATUS_CLASSES, METHODS, (n, status, method) => set(n, { status, method }));
    },
  });
  counter(registry, {
    name: 'request_refusals_total',
    help: "Requests whose status was ours and not the application's, by code.",
    labels: ['code'],
    read: (set) => counts.requestRefusals.forEach((count, code) => set(count, { code })),
  });
  counter(registry, {
    name: 'request_body_bytes_total',
    help: 'Body bytes received from callers.',
    read: (set) => set(counts.bytesIn),
  });
  counter(registry, {
    name: 'response_body_bytes_total',
    help: 'Body bytes sent to callers.',
    read: (set) => set(counts.bytesOut),
  });
  histogram(registry, 'request_duration_seconds', 'Time from the request to the end of the answer.', counts.total);
  const help = "Time from forwarding a request to the head of the application's answer.";
  histogram(registry, 'upstream_duration_seconds', help, counts.upstream);
}

/** Names of routes are the operator's, and as many as the settings hold. */
function registerRoutes(registry: Registry, counts: Counts): void {
  if (counts.routes.length === 1) return;
  counter(registry, {
    name: 'requests_by_route_total',
    help: 'Requests by route (default: none of them) and class of the status sent.',
    labels: ['route', 'status'],
    read: (set) => {
      forEachCell(counts.byRoute, counts.routes, STATUS_CLASSES, (n, route, status) => set(n, { route, status }));
    },
  });
}

/** One series for each anchor in force: a closed set, which only the bundle can change. */
function registerAnchors(registry: Registry, { anchors = () => [] }: MetricsSources): void {
  const labels = ['ca', 'serial'];
  const readBy = (count: keyof Use) => (set: Set) => {
    for (const use of merged(anchors())) set(use[count], { ca: use.ca, serial: use.serial });
  };
  const where = 'by the CA at the end of their chain (other: none of the bundle in force)';
  gauge(registry, {
    name: 'connections_by_ca',
    help: `Admitted connections open now, ${where}.`,
    labels,
    read: readBy('openConnections'),
  });
  counter(registry, {
    name: 'admitted_connections_by_ca_total',
    help: `Admitted connections, ${where}.`,
    labels,
    read: readBy('connections'),
  });
  counter(registry, { name: 'requests_by_ca_total', help: `Requests, ${where}.`, labels, read: readBy('requests') });
}

/** Two anchors of one name and serial number (test CAs love 01) share a series. */
function merged(uses: readonly AnchorUse[]): AnchorUse[] {
  const series = new Map<string, AnchorUse>();
  for (const use of uses) {
    const key = `${use.serial} ${use.ca}`;
    const twin = series.get(key);
    series.set(key, twin === undefined ? use : { ...use, ...sum([use, twin]) });
  }
  return [...series.values()];
}

function registerUpstreamPool(registry: Registry, { pool = () => NO_POOL }: MetricsSources): void {
  gauge(registry, {
    name: 'upstream_connections',
    help: 'Connections to the application, by state.',
    labels: ['state'],
    read: (set) => {
      const { open, busy } = pool();
      set(busy, { state: 'busy' });
      set(Math.max(0, open - busy), { state: 'idle' });
    },
  });
  gauge(registry, {
    name: 'upstream_requests_waiting',
    help: 'Requests waiting for a connection to the application.',
    read: (set) => set(pool().waiting),
  });
}

const NO_POOL: PoolNumbers = { open: 0, busy: 0, waiting: 0 };

function registerWorkers(registry: Registry, { workers }: MetricsSources): void {
  if (workers === undefined) return;
  gauge(registry, {
    name: 'workers',
    help: 'Processes that share the port: as many as are wanted, and those that serve.',
    labels: ['state'],
    read: (set) => {
      const { wanted, serving } = workers();
      set(wanted, { state: 'wanted' });
      set(serving, { state: 'serving' });
    },
  });
  counter(registry, {
    name: 'worker_failures_total',
    help: 'Workers that ended without being told to.',
    read: (set) => set(workers().failures),
  });
}

/** Where there are several. */
function registerApplications(registry: Registry, { applications, routes = [] }: MetricsSources): void {
  if (applications === undefined || routes.length === 0) return;
  gauge(registry, {
    name: 'upstream_connections_by_url',
    help: 'Connections to each application, by state.',
    labels: ['url', 'state'],
    read: (set) => {
      for (const { url, open, busy } of applications()) {
        set(busy, { url, state: 'busy' });
        set(Math.max(0, open - busy), { url, state: 'idle' });
      }
    },
  });
  gauge(registry, {
    name: 'upstream_requests_waiting_by_url',
    help: 'Requests waiting for a connection, by application.',
    labels: ['url'],
    read: (set) => applications().forEach(({ url, waiting }) => set(waiting, { url })),
  });
}

function registerReloads(registry: Registry, counts: Counts): void {
  counter(registry, {
    name: 'reloads_total',
    help: 'Reloads of certificates, trust and rules; failure: the old were kept.',
    labels: ['result'],
    read: (set) => {
      set(counts.reloadsSucceeded, { result: 'success' });
      set(counts.reloadsFailed, { result: 'failure' });
    },
  });
  gauge(registry, {
    name: 'reload_last_successful',
    help: '1 when the last reload succeeded, 0 when it was turned down and the old are still in use.',
    read: (set) => set(Number(counts.lastReloadSucceeded)),
  });
  gauge(registry, {
    name: 'reload_last_success_timestamp_seconds',
    help: 'When what is in use was loaded, seconds since the epoch.',
    read: (set) => set(counts.lastReloadSuccess / 1000),
  });
}

function registerExpiry(registry: Registry, counts: Counts, sources: MetricsSources): void {
  const { credentials = () => null, now = Date.now } = sources;
  const left = (notAfter: number) => (notAfter - now()) / 1000;
  gauge(registry, {
    name: 'server_certificate_expiry_seconds',
    help: 'Seconds until a server certificate expires; negative when it has.',
    labels: ['file', 'subject'],
    together: 'min',
    read: (set) => {
      for (const { file, serverSubject, serverCertificate } of credentials()?.servers ?? []) {
        set(left(Date.parse(serverCertificate.validTo)), { file, subject: serverSubject });
      }
    },
  });
  gauge(registry, {
    name: 'ca_expiry_seconds',
    help: 'Seconds until a CA certificate of the trust bundle expires.',
    labels: ['file', 'subject', 'serial'],
    together: 'min',
    read: (set) => {
      for (const { file, subject, notAfter, certificate } of credentials()?.cas ?? []) {
        set(left(notAfter), { file, subject, serial: certificate.serialNumber });
      }
    },
  });
  gauge(registry, {
    name: 'crl_expiry_seconds',
    help: 'Seconds until the next update of a CRL is due.',
    labels: ['file', 'issuer'],
    together: 'min',
    read: (set) => {
      for (const { file, issuer, nextUpdate } of credentials()?.crls ?? []) {
        if (nextUpdate !== null) set(left(nextUpdate), { file, issuer });
      }
    },
  });
  gauge(registry, {
    name: 'last_client_certificate_expiry_seconds',
    help: 'Seconds until the client certificate admitted last expires; absent until one was admitted.',
    together: 'min',
    read: (set) => {
      if (counts.lastClientExpiry !== null) set(left(counts.lastClientExpiry));
    },
  });
}

function registerVersion(registry: Registry, { version, draining = () => false }: MetricsSources): void {
  gauge(registry, {
    name: 'draining',
    help: '1 while the process is told to stop and finishes what it has begun.',
    read: (set) => set(Number(draining())),
  });
  gauge(registry, {
    name: 'build_info',
    help: 'Always 1; the versions are in the labels.',
    labels: ['version', 'node', 'openssl'],
    read: (set) => {
      set(1, { version, node: process.version, openssl: process.versions.openssl ?? '' });
    },
  });
}

function registerProcess(registry: Registry, sources: MetricsSources): void {
  counter(registry, {
    name: 'log_lines_dropped_total',
    help: 'Log lines thrown away because stdout was not read.',
    read: (set) => set(sources.droppedLines()),
  });
  // The event loop is sampled every 50 ms, not every 10 as by default: a sidecar should sleep when nobody calls.
  if (sources.processMetrics !== false) collectDefaultMetrics({ register: registry, eventLoopMonitoringPrecision: 50 });
}

function statusClass(status: number): number {
  const first = Math.floor(status / 100);
  return first >= 1 && first <= 5 ? first : 0;
}

function add(cells: Float64Array, index: number, amount: number): void {
  cells[index] = (cells[index] ?? 0) + amount;
}

function zeroes<K>(keys: readonly K[]): Map<K, number> {
  return new Map(keys.map((key) => [key, 0]));
}

function increment<K>(counts: Map<K, number>, key: K): void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
}

function forEachCell(
  cells: Float64Array,
  rows: readonly string[],
  columns: readonly string[],
  visit: (count: number, row: string, column: string) => void,
): void {
  rows.forEach((row, r) => columns.forEach((column, c) => visit(cells[r * columns.length + c] ?? 0, row, column)));
}
