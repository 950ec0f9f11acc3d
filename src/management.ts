import type { AddressInfo } from 'node:net';
import { createAdminServer, type AdminServer } from './admin/admin-server.js';
import type { Config, Route } from './config/config.js';
import { http2Caution } from './config/http2-caution.js';
import { ConfigError } from './errors.js';
import type { Log } from './observe/log.js';
import { ExpiryWatch, type Expiring } from './trust/expiry.js';
import { filesOf, Reloader, type Reading, type ReloadOutcome } from './trust/reloader.js';

/** What is managed: this process, or the workers that it looks after. */
export interface Managed {
  /** Settings and files as they are now, good and not yet in use. @throws ConfigError */
  read(config: Config): Promise<Reading>;
  /** What ends, of the credentials in force and of callers seen lately. */
  expiring(now: number): Promise<readonly Expiring[]>;
  /** Counts a reload that found something changed. */
  reloaded(succeeded: boolean): void;
  ready(): Promise<{ readonly ready: boolean; readonly reason: string }>;
  /** Prometheus text format 0.0.4. */
  metrics(): Promise<string>;
  /** Newest first; JSON. */
  refusals(): Promise<readonly unknown[]>;
  /** JSON. */
  status(management: ManagementStatus): Promise<object>;
  /** Begins to drain. */
  drain(): void;
}

/** What the management itself knows for the status. */
export interface ManagementStatus {
  readonly adminAddress: AddressInfo | null;
  readonly reloads: readonly ReloadOutcome[];
}

export interface ManagementParts {
  /** As at the start. */
  readonly config: Config;
  readonly log: Log;
  /** Reads the settings anew, for a reload. Without it the settings stay as they are, and only files are read anew. */
  readonly readConfig: (() => Config) | null;
  readonly managed: Managed;
}

/** What is said once, at the start. */
export interface Start {
  readonly version: string;
  readonly address: AddressInfo;
  /** Subjects of the CAs in force. */
  readonly cas: readonly string[];
  /** Null when this process serves. */
  readonly workers: number | null;
}

/** How often the ends of certificates and CRLs are looked at, at least. Milliseconds. */
const EXPIRY_INTERVAL = 3_600_000;

/** Sections that a reload takes over; of `log` the level alone, of `routes` what they ask of callers. */
const RELOADED: ReadonlySet<keyof Config> = new Set<keyof Config>(['includes', 'tls', 'clientCert', 'log', 'routes']);

/** The admin listener, reloads, and what operators are told: once for a sidecar, however many processes serve. */
export class Management {
  private readonly admin: AdminServer | null;
  private readonly reloader: Reloader;
  private readonly expiryWatch = new ExpiryWatch();
  private expiryTimer: NodeJS.Timeout | undefined;
  /** Settings in force. */
  private inForce: Config;
  private isClosed = false;
  /** Changed settings that wait for a restart. */
  private waiting = '';

  constructor(private readonly parts: ManagementParts) {
    const { config } = parts;
    const { host, port } = config.admin;
    this.inForce = config;
    this.admin = port === null ? null : this.createAdmin(host, port);
    this.reloader = new Reloader({
      initial: config,
      read: () => this.read(),
      report: (outcome) => this.reportReload(outcome),
      interval: config.reload.interval,
    });
  }

  get adminAddress(): AddressInfo | null {
    return this.admin?.address() ?? null;
  }

  /** Settings in force. */
  get config(): Config {
    return this.inForce;
  }

  /** Of the settings and files in force; null until they are known. */
  get digest(): string | null {
    return this.reloader.digest;
  }

  /** Says what is in force at the start. */
  establish(digest: string): void {
    this.reloader.establish(digest);
  }

  /** Resolves when no reload is under way that had begun before. */
  settled(): Promise<void> {
    return this.reloader.settled();
  }

  /** Binds the admin listener. @throws Node's error when the port cannot be bound */
  async listen(): Promise<void> {
    await this.admin?.listen();
  }

  /**
   * Says what is served, and begins to look at files and dates.
   *
   * Workers are asked before that, and nobody behind it: who is told that we listen may stop us at once, and signals are
   * listened for only when all has begun. Until then SIGTERM ends the process without a drain.
   */
  async begin(start: Start): Promise<void> {
    const now = Date.now();
    const items = await this.parts.managed.expiring(now);
    this.announce(start);
    this.reloader.start();
    this.warnOf(items, now);
  }

  /** Reads settings and files anew, and takes them into use if they are good. */
  reload(): Promise<ReloadOutcome> {
    return this.reloader.reload();
  }

  async close(): Promise<void> {
    clearTimeout(this.expiryTimer);
    this.isClosed = true;
    this.reloader.stop();
    await this.admin?.close();
  }

  private get log(): Log {
    return this.parts.log;
  }

  /** Settings and files as they are now; what cannot change without a restart stays as it was. */
  private async read(): Promise<Reading> {
    const { config: initial, readConfig, managed } = this.parts;
    const fresh = readConfig?.() ?? initial;
    this.noteRestart(fresh);
    const log = { ...initial.log, level: fresh.log.level };
    const { includes, tls, clientCert, routes } = fresh;
    const next: Config = { ...initial, includes, tls, clientCert, log, routes };
    try {
      const reading = await managed.read(next);
      return { ...reading, apply: () => this.apply(reading) };
    } catch (error) {
      // A file that settings name before it is there, or is good, is waited for.
      throw error instanceof ConfigError ? new ConfigError(error.problems, filesOf(next)) : error;
    }
  }

  private async apply({ config, apply }: Reading): Promise<void> {
    const before = this.inForce;
    await apply();
    this.inForce = config;
    this.log.level = config.log.level;
    this.warnOfLoosening(before, config);
    for (const route of config.routes) {
      const same = before.routes.find(({ name }) => name === route.name);
      this.warnOfLoosening(same ?? before, route, route.name);
    }
  }

  /** Says, once for each new state, which changed settings wait for a restart. */
  private noteRestart(fresh: Config): void {
    const { config: initial } = this.parts;
    const settings = (Object.keys(initial) as (keyof Config)[])
      .filter(
        (section) => !RELOADED.has(section) && JSON.stringify(fresh[section]) !== JSON.stringify(initial[section]),
      )
      .concat(shapeOf(fresh.routes) === shapeOf(initial.routes) ? [] : ['routes'])
      .join(', ');
    if (settings !== '' && settings !== this.waiting)
      this.log.warn('changed settings take effect after a restart', { settings });
    this.waiting = settings;
  }

  /** A file cut short is valid, too: what opens the door is said aloud. */
  private warnOfLoosening(before: Guarded, after: Guarded, route: string | null = null): void {
    const { verify, allow } = after.clientCert;
    const where = route === null ? {} : { route };
    if (before.clientCert.allow.length > 0 && allow.length === 0) {
      this.log.warn('since this reload clientCert.allow is empty: every certificate under the CA is let in', where);
    }
    if (before.clientCert.verify === 'required' && verify !== 'required') {
      this.log.warn('since this reload callers may come in without a verified certificate', { verify, ...where });
    }
  }

  private reportReload({ result, message }: ReloadOutcome): void {
    this.parts.managed.reloaded(result === 'applied');
    if (result === 'applied') this.log.info('reloaded', { detail: message });
    else this.log.error('reload refused, the old settings and files stay in force', undefined, { detail: message });
    void this.warnOfExpiry();
  }

  private async warnOfExpiry(): Promise<void> {
    const now = Date.now();
    this.warnOf(await this.parts.managed.expiring(now), now);
  }

  private warnOf(items: readonly Expiring[], now: number): void {
    this.lookAgain(items, now);
    for (const { item, days } of this.expiryWatch.news(items, now)) {
      const { what, name, file, at } = item;
      const message =
        days === 0 ? `${what} has expired` : `${what} expires within ${days === 1 ? 'a day' : `${days} days`}`;
      this.log.warn(message, { subject: name, file, notAfter: new Date(at).toISOString() });
    }
  }

  /** In an hour, or when the next of these things ends. */
  private lookAgain(items: readonly Expiring[], now: number): void {
    clearTimeout(this.expiryTimer);
    if (this.isClosed) return;
    const left = items.map(({ at }) => at - now).filter((time) => time > 0);
    this.expiryTimer = setTimeout(() => void this.warnOfExpiry(), Math.min(EXPIRY_INTERVAL, ...left) + 1);
    this.expiryTimer.unref();
  }

  private announce({ version, address, cas, workers }: Start): void {
    const { clientCert, listen, tls, upstream, routes } = this.parts.config;
    this.log.info('listening', {
      version,
      host: address.address,
      port: address.port,
      adminPort: this.adminAddress?.port ?? null,
      ...(workers === null ? {} : { workers }),
      upstream: upstream.url,
      ...(routes.length === 0 ? {} : { routes: routes.map(({ name }) => name) }),
      verify: clientCert.verify,
      cas,
    });
    if (clientCert.verify === 'off') this.log.warn('clientCert.verify is off: every caller is let in');
    else if (clientCert.allow.length === 0) {
      this.log.info('clientCert.allow is empty: every certificate under the CA is let in');
    }
    const open = routes.filter((route) => route.clientCert.verify === 'off').map(({ name }) => name);
    if (open.length > 0) this.log.info('routes that ask nobody for a certificate', { routes: open });
    if (listen.proxyProtocolFrom.some((network) => network.endsWith('/0'))) {
      this.log.warn(
        'listen.proxyProtocolFrom has every address: whoever can connect chooses what address it is known by',
      );
    }
    if (tls.legacy) {
      this.log.warn('tls.legacy is on: TLS 1.0, SHA-1 and short keys are accepted, which attackers can break');
    }
    const caution = http2Caution(this.parts.config);
    if (caution !== null) this.log.warn(`${caution.setting} is on: ${caution.text}`);
  }

  private createAdmin(host: string, port: number): AdminServer {
    const { managed, log } = this.parts;
    return createAdminServer({
      host,
      port,
      source: {
        ready: () => managed.ready(),
        metrics: () => managed.metrics(),
        refusals: () => managed.refusals(),
        status: () => managed.status({ adminAddress: this.adminAddress, reloads: this.reloader.history }),
        drain: () => managed.drain(),
        reload: async () => {
          const { result, message } = await this.reload();
          return { ok: result !== 'refused', message };
        },
      },
      report: (message, error) => log.error(message, error),
    });
  }
}

type Guarded = Pick<Config, 'clientCert'>;

/** Everything about routes but what they ask of callers. */
function shapeOf(routes: readonly Route[]): string {
  return JSON.stringify(routes.map(({ clientCert: _clientCert, ...route }) => route));
}
