import { randomBytes, randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { createAdminServer, type AdminServer } from './admin/admin-server.js';
import { describeStatus } from './admin/status.js';
import { compileAllowList } from './admit/authorize.js';
import type { Config } from './config/config.js';
import { Tunnel } from './forward/tunnel.js';
import { Upstream } from './forward/upstream.js';
import type { Trust } from './listen/admission.js';
import { Entrance } from './listen/entrance.js';
import { KnownPaths } from './listen/known-paths.js';
import { Listener } from './listen/listener.js';
import { accessForm, createAccessLog } from './observe/access-log.js';
import { Activity } from './observe/activity.js';
import { createObserver } from './observe/create-observer.js';
import { createLog, type Log } from './observe/log.js';
import { createMetrics, type Metrics } from './observe/metrics.js';
import type { Observer } from './observe/observer.js';
import { createRefusals, type Refusals } from './observe/refusals.js';
import { createProxy, type ProxyStages } from './proxy.js';
import { connectionRefusal, redirectToHttps, unparsedRefusal } from './respond/refuse.js';
import { compileNetworks } from './rewrite/forwarded-headers.js';
import { compileFacts } from './rewrite/request-facts.js';
import { createIdentityHeaders, reservedNames } from './rewrite/identity-headers.js';
import { createRequestRewriter, rewriteTrailers, type RewriteRules } from './rewrite/request-headers.js';
import { loadCredentials, type Credentials } from './trust/credentials.js';
import { expiring, expiringCallers, ExpiryWatch } from './trust/expiry.js';
import { Reloader, type Loaded, type ReloadOutcome } from './trust/reloader.js';
import { createRevocationCheck } from './trust/revocation.js';
import { createServerContext, trustDigest } from './trust/secure-context.js';

const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

/** Where a drain stands: serving; telling callers to close; taking nothing new. */
export type Phase = 'ready' | 'draining' | 'closing';

/** The running sidecar. */
export interface App {
  readonly address: AddressInfo;
  /** Null when the admin listener is off. */
  readonly adminAddress: AddressInfo | null;
  readonly log: Log;
  readonly phase: Phase;
  /** Fails readiness and tells callers to close with their next answer; everything is still served. */
  drain(): void;
  /** Reads settings and files anew, and takes them into use if they are good. */
  reload(): ReloadOutcome;
  /** Accepts nothing more, ends idle connections, refuses what is not under way. */
  stopAccepting(): void;
  /** Connections inside. */
  connections(): number;
  /** Ends everything that is left, and the parts themselves. */
  close(): Promise<void>;
}

export interface AppOptions {
  /** Instead of stdout; for tests. */
  readonly logTo?: { write(text: string): void };
  /** Reads the settings anew, for a reload. Without it the settings stay as they are, and only files are read anew. */
  readonly readConfig?: () => Config;
}

/** What changes while the process runs. */
interface State {
  phase: Phase;
  /** Settings in force. */
  config: Config;
  credentials: Credentials;
  trust: Trust;
}

/** The parts that the others report to. */
interface Reporting {
  readonly log: Log;
  readonly metrics: Metrics;
  readonly refusals: Refusals;
  readonly activity: Activity;
  readonly observer: Observer;
}

/**
 * Builds every part in order and binds both listeners. Nothing is bound when it throws.
 * @throws Node's error when a port cannot be bound
 */
export async function startApp(config: Config, credentials: Credentials, options: AppOptions = {}): Promise<App> {
  const ticketSecret = randomBytes(32);
  const trust = createTrust({ config, credentials }, ticketSecret);
  const state: State = { phase: 'ready', config, credentials, trust };
  const upstream = new Upstream(config.upstream);
  const reporting = createReporting({ config, upstream, state, options });
  const serving = createServing({ config, state, upstream, observer: reporting.observer });
  const app = new RunningApp({ config, state, upstream, ...serving, reporting, ticketSecret, options });
  try {
    await app.listen();
  } catch (error) {
    await app.close();
    throw error;
  }
  return app;
}

function createReporting(parts: {
  readonly config: Config;
  readonly upstream: Upstream;
  readonly state: State;
  readonly options: AppOptions;
}): Reporting {
  const { config, upstream, state, options } = parts;
  const { level, pretty } = config.log;
  const log = createLog({ level, pretty, ...(options.logTo === undefined ? {} : { destination: options.logTo }) });
  const activity = new Activity();
  const metrics = createMetrics({
    version,
    pool: () => upstream.numbers(),
    credentials: () => state.credentials,
    anchors: () => activity.anchors(state.credentials.cas),
    draining: () => state.phase !== 'ready',
    droppedLines: () => log.dropped(),
  });
  const refusals = createRefusals();
  const form = accessForm(config.log);
  const accessLog = form === null ? null : createAccessLog(form, log);
  const observer = createObserver({ log, metrics, refusals, access: accessLog, activity });
  return { log, metrics, refusals, activity, observer };
}

/** What connections are judged by, made from one set of credentials. */
export function createTrust(
  { config, credentials }: Loaded,
  ticketSecret: Buffer,
  knownPaths: KnownPaths = new KnownPaths(),
): Trust {
  const { verify, depth, purpose, crlExpired, allow } = config.clientCert;
  const { crls } = credentials;
  return {
    tls: {
      secureContext: createServerContext(config, credentials, ticketSecret),
      requestCert: verify !== 'off',
      // As nginx offers. A caller that only speaks others is told so in the handshake.
      alpn: ['http/1.1', 'http/1.0'],
    },
    policy: {
      verify,
      depth,
      purpose,
      anchors: credentials.cas.map(({ certificate }) => certificate),
      revocation: crls.length > 0 ? createRevocationCheck(crls) : () => null,
      readsCrls: crlExpired === 'warn',
      knownPaths,
    },
    allow: compileAllowList(allow),
  };
}

function createServing(parts: {
  readonly config: Config;
  readonly state: State;
  readonly upstream: Upstream;
  readonly observer: Observer;
}): { readonly entrance: Entrance; readonly listener: Listener; readonly tunnel: Tunnel } {
  const { config, state, upstream, observer } = parts;
  const { limits, identity } = config;
  const tunnel = new Tunnel(config.upstream, limits.tunnelIdleTimeout);
  const entrance = new Entrance({
    limits,
    proxy: createProxy({ ...createRules(config), upstream, tunnel, observer }),
    observer,
    trust: () => state.trust,
    unreadableAnswer: (code, requestId) => unparsedRefusal(code, { requestId }),
    newRequestId: randomUUID,
  });
  const listener = new Listener({
    listen: config.listen,
    handshakeTimeout: config.tls.handshakeTimeout,
    maxConnections: limits.connections,
    trust: () => state.trust,
    entrance,
    observer,
    identityHeaders: createIdentityHeaders({
      ...identity,
      onOmitted: (header, attribute, why) =>
        observer.warn('an identity header was left out', { header, attribute, why }),
    }),
    isTrustedProxy: compileNetworks(config.forwarded.trustedProxies),
    isProxySender: config.listen.proxyProtocol ? compileNetworks(config.listen.proxyProtocolFrom) : null,
    refusalBytes: (reason, location) => (location === null ? connectionRefusal(reason) : redirectToHttps(location)),
  });
  return { entrance, listener, tunnel };
}

/** How requests are judged and rewritten. */
export function createRules(
  config: Config,
): Pick<ProxyStages, 'screenRules' | 'rewriteHeaders' | 'rewriteTrailers' | 'bodyLimits'> {
  const { listen, limits, headers, forwarded, identity } = config;
  const rewriteRules: RewriteRules = {
    customNames: reservedNames({ ...identity.headers, ...forwarded.headers }),
    pushFacts: compileFacts(forwarded.headers),
    underscores: headers.underscores,
    rfc7239: forwarded.rfc7239,
  };
  return {
    screenRules: {
      serverNames: listen.serverNames,
      underscores: headers.underscores,
      maxHead: limits.head,
      maxBody: limits.body,
    },
    rewriteHeaders: createRequestRewriter(rewriteRules),
    rewriteTrailers: (rawTrailers: readonly string[]) => rewriteTrailers(rawTrailers, rewriteRules),
    bodyLimits: { maxBody: limits.body, idleTimeout: limits.bodyIdleTimeout },
  };
}

interface AppParts {
  /** As at the start; what a reload may change is in `state`. */
  readonly config: Config;
  readonly state: State;
  readonly upstream: Upstream;
  readonly tunnel: Tunnel;
  readonly entrance: Entrance;
  readonly listener: Listener;
  readonly reporting: Reporting;
  readonly ticketSecret: Buffer;
  readonly options: AppOptions;
}

/** How often the ends of certificates and CRLs are looked at. Milliseconds. */
const EXPIRY_INTERVAL = 3_600_000;

/** Sections that a reload takes over; of `log` the level alone. */
const RELOADED: ReadonlySet<keyof Config> = new Set<keyof Config>(['tls', 'clientCert', 'log']);

class RunningApp implements App {
  private readonly admin: AdminServer | null;
  private readonly startedAt = Date.now();
  private readonly reloader: Reloader;
  private readonly expiryWatch = new ExpiryWatch();
  private readonly expiryTimer: NodeJS.Timeout;
  /** Changed settings that wait for a restart. */
  private waiting = '';
  private bound: AddressInfo | null = null;

  constructor(private readonly parts: AppParts) {
    const { config, state } = parts;
    const { host, port } = config.admin;
    this.admin = port === null ? null : this.createAdmin(host, port);
    this.reloader = new Reloader({
      initial: { config, credentials: state.credentials },
      load: () => this.load(),
      apply: (loaded) => this.apply(loaded),
      report: (outcome) => this.reportReload(outcome),
      interval: config.reload.interval,
    });
    this.expiryTimer = setInterval(() => this.warnOfExpiry(), EXPIRY_INTERVAL);
    this.expiryTimer.unref();
  }

  get address(): AddressInfo {
    if (this.bound === null) throw new Error('not listening');
    return this.bound;
  }

  get adminAddress(): AddressInfo | null {
    return this.admin?.address() ?? null;
  }

  get log(): Log {
    return this.parts.reporting.log;
  }

  get phase(): Phase {
    return this.parts.state.phase;
  }

  async listen(): Promise<void> {
    await this.admin?.listen();
    this.bound = await this.parts.listener.listen();
    this.announce();
    this.warnOfExpiry();
    this.reloader.start();
  }

  reload(): ReloadOutcome {
    return this.reloader.reload();
  }

  /** Settings and files as they are now; what cannot change without a restart stays as it was. */
  private load(): Loaded {
    const { config: initial, options } = this.parts;
    const fresh = options.readConfig?.() ?? initial;
    this.noteRestart(fresh);
    const config = {
      ...initial,
      tls: fresh.tls,
      clientCert: fresh.clientCert,
      log: { ...initial.log, level: fresh.log.level },
    };
    return { config, credentials: loadCredentials(config) };
  }

  /** Says, once for each new state, which changed settings wait for a restart. */
  private noteRestart(fresh: Config): void {
    const { config: initial } = this.parts;
    const settings = (Object.keys(initial) as (keyof Config)[])
      .filter(
        (section) => !RELOADED.has(section) && JSON.stringify(fresh[section]) !== JSON.stringify(initial[section]),
      )
      .join(', ');
    if (settings !== '' && settings !== this.waiting)
      this.log.warn('changed settings take effect after a restart', { settings });
    this.waiting = settings;
  }

  private apply(loaded: Loaded): void {
    const { state, entrance, ticketSecret } = this.parts;
    const before = trustDigest(state.config, state.credentials);
    const changed = trustDigest(loaded.config, loaded.credentials) !== before;
    const allowed = state.config.clientCert;
    // Sessions outlive a reload that leaves trust as it is, and with them the chains that they do not carry.
    state.trust = createTrust(loaded, ticketSecret, changed ? new KnownPaths() : state.trust.policy.knownPaths);
    state.config = loaded.config;
    state.credentials = loaded.credentials;
    this.log.level = loaded.config.log.level;
    if (changed) entrance.reconsider();
    this.warnOfLoosening(allowed);
  }

  /** A file cut short is valid, too: what opens the door is said aloud. */
  private warnOfLoosening(before: Config['clientCert']): void {
    const { verify, allow } = this.parts.state.config.clientCert;
    if (before.allow.length > 0 && allow.length === 0) {
      this.log.warn('since this reload clientCert.allow is empty: every certificate under the CA is let in');
    }
    if (before.verify === 'required' && verify !== 'required') {
      this.log.warn('since this reload callers may come in without a verified certificate', { verify });
    }
  }

  private reportReload({ result, message }: ReloadOutcome): void {
    this.parts.reporting.metrics.reloaded(result === 'applied');
    if (result === 'applied') this.log.info('reloaded', { detail: message });
    else this.log.error('reload refused, the old settings and files stay in force', undefined, { detail: message });
    this.warnOfExpiry();
  }

  private warnOfExpiry(): void {
    const { config, credentials } = this.parts.state;
    const { activity } = this.parts.reporting;
    const now = Date.now();
    const items = [...expiring(credentials, config.tls.cert), ...expiringCallers(activity.callers(), now)];
    for (const { item, days } of this.expiryWatch.news(items, now)) {
      const { what, name, file, at } = item;
      const message =
        days === 0 ? `${what} has expired` : `${what} expires within ${days === 1 ? 'a day' : `${days} days`}`;
      this.log.warn(message, { subject: name, file, notAfter: isoDate(at) });
    }
  }

  private announce(): void {
    const { config, state } = this.parts;
    const { clientCert, listen, tls, upstream } = config;
    this.log.info('listening', {
      version,
      host: this.address.address,
      port: this.address.port,
      adminPort: this.adminAddress?.port ?? null,
      upstream: upstream.url,
      verify: clientCert.verify,
      cas: state.credentials.cas.map(({ subject }) => subject),
    });
    if (clientCert.verify === 'off') this.log.warn('clientCert.verify is off: every caller is let in');
    else if (clientCert.allow.length === 0) {
      this.log.info('clientCert.allow is empty: every certificate under the CA is let in');
    }
    if (listen.proxyProtocolFrom.some((network) => network.endsWith('/0'))) {
      this.log.warn(
        'listen.proxyProtocolFrom has every address: whoever can connect chooses what address it is known by',
      );
    }
    if (tls.legacy) {
      this.log.warn('tls.legacy is on: TLS 1.0, SHA-1 and short keys are accepted, which attackers can break');
    }
  }

  drain(): void {
    if (this.phase !== 'ready') return;
    this.parts.state.phase = 'draining';
    this.parts.entrance.draining = true;
    this.log.info('draining: readiness fails, callers are told to close');
  }

  stopAccepting(): void {
    this.drain();
    this.parts.state.phase = 'closing';
    this.parts.entrance.closing = true;
    this.parts.listener.stopAccepting();
    this.parts.entrance.closeIdle();
  }

  connections(): number {
    return this.parts.entrance.size;
  }

  async close(): Promise<void> {
    const { listener, entrance, tunnel, upstream } = this.parts;
    clearInterval(this.expiryTimer);
    this.reloader.stop();
    listener.stopAccepting();
    tunnel.closeAll();
    entrance.closeAll();
    listener.destroyAll();
    entrance.close();
    await Promise.all([this.admin?.close(), upstream.close()]);
    await this.log.flush();
  }

  private createAdmin(host: string, port: number): AdminServer {
    const { metrics, refusals, observer } = this.parts.reporting;
    return createAdminServer({
      host,
      port,
      source: {
        ready: () => this.ready(),
        metrics: () => metrics.render(),
        refusals: () => refusals.list(),
        status: () => this.status(),
        drain: () => this.drain(),
        reload: () => this.answerReload(),
      },
      report: (message, error) => observer.error(message, error),
    });
  }

  private answerReload(): Promise<{ ok: boolean; message: string }> {
    const { result, message } = this.reload();
    return Promise.resolve({ ok: result !== 'refused', message });
  }

  private async ready(): Promise<{ ready: boolean; reason: string }> {
    if (this.phase !== 'ready') return { ready: false, reason: 'draining' };
    const answers = await this.parts.upstream.probe();
    if (answers) return { ready: true, reason: 'ready' };
    return { ready: false, reason: `the application at ${this.parts.config.upstream.url} does not accept connections` };
  }

  private status(): object {
    const { state, upstream, entrance, tunnel, reporting } = this.parts;
    const { config, credentials, phase } = state;
    return describeStatus({
      version,
      phase,
      startedAt: this.startedAt,
      now: Date.now(),
      address: this.address,
      adminAddress: this.adminAddress,
      connections: entrance.size,
      tunnels: tunnel.count,
      upstream: { url: config.upstream.url, reached: upstream.reached, ...upstream.numbers() },
      config,
      credentials,
      reloads: this.reloader.history,
      callers: reporting.activity.callers(),
      anchors: reporting.activity.anchors(credentials.cas),
      recent: reporting.activity.recent(),
    });
  }
}

function isoDate(milliseconds: number): string {
  return new Date(milliseconds).toISOString();
}
