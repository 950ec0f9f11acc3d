import { randomBytes } from 'node:crypto';
import { createRequire } from 'node:module';
import type { AddressInfo } from 'node:net';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { describeStatus, describeTrust, type TrustDescription } from './admin/status.js';
import { compileAllowList } from './admit/authorize.js';
import { isOneOf } from './admit/host-names.js';
import { compileRoutes, compileRouting } from './admit/routes.js';
import type { ScreenRules } from './admit/screen.js';
import { asksNobody, modesOf, type Terms } from './admit/standing.js';
import type { Config, Route } from './config/config.js';
import { configFor } from './config/routes.js';
import { isSameProgram } from './forward/address.js';
import { Applications, type Application } from './forward/applications.js';
import type { SessionMemory, Trust } from './listen/admission.js';
import { lastingFirst } from './listen/chain.js';
import { Entrance } from './listen/entrance.js';
import { KnownCallers } from './listen/known-callers.js';
import { Listener } from './listen/listener.js';
import { newRequestId } from './listen/request-ids.js';
import { Resumption, SessionCache, SESSIONS_KEPT, type ShareSession } from './listen/resumption.js';
import { offeredProtocols } from './listen/tls-socket.js';
import type { Policy } from './listen/verdict.js';
import { Management, type Managed, type ManagementStatus } from './management.js';
import { accessForm, createAccessLog } from './observe/access-log.js';
import { Activity } from './observe/activity.js';
import type { AnchorUse } from './observe/anchors.js';
import type { SeenCaller } from './observe/callers.js';
import { createObserver } from './observe/create-observer.js';
import { createLog, type Log } from './observe/log.js';
import { createMetrics, type Metrics, type PoolNumbers } from './observe/metrics.js';
import type { Observer } from './observe/observer.js';
import type { StepCounts } from './observe/recent.js';
import { createRefusals, type Refusals } from './observe/refusals.js';
import { createProxy, type Way } from './proxy.js';
import { HTTP2_GREETING } from './respond/http2-frames.js';
import { connectionRefusal, http2ConnectionRefusal, redirectToHttps, unparsedRefusal } from './respond/refuse.js';
import { compileNetworks } from './rewrite/forwarded-headers.js';
import { compileFacts } from './rewrite/request-facts.js';
import { createIdentityHeaders, reservedNames } from './rewrite/identity-headers.js';
import { createRequestRewriter, rewriteTrailers, type RewriteRules } from './rewrite/request-headers.js';
import { createTargetRewriter } from './rewrite/request-target.js';
import { loadCredentials, type Credentials } from './trust/credentials.js';
import { expiring, expiringCallers, type Expiring } from './trust/expiry.js';
import { digestOf, type Loaded, type Reading, type ReloadOutcome } from './trust/reloader.js';
import { createRevocationCheck } from './trust/revocation.js';
import { createServerContexts, handshakeTerms } from './trust/secure-context.js';

export const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

/** Where a drain stands: serving; telling callers to close; taking nothing new. */
export type Phase = 'ready' | 'draining' | 'closing';

/** A sidecar, in one process or several, as its lifecycle sees it. */
export interface Stoppable {
  readonly log: Log;
  /** Fails readiness and tells callers to close with their next answer; everything is still served. */
  drain(): void;
  /** Reads settings and files anew, and takes them into use if they are good. */
  reload(): Promise<ReloadOutcome>;
  /** Accepts nothing more, ends idle connections, refuses what is not under way. */
  stopAccepting(): void;
  /** Connections inside. */
  connections(): number | Promise<number>;
  /** Ends everything that is left, and the parts themselves. */
  close(): Promise<void>;
}

/** The running sidecar. */
export interface App extends Stoppable {
  readonly address: AddressInfo;
  /** Null when the admin listener is off. */
  readonly adminAddress: AddressInfo | null;
  readonly phase: Phase;
  connections(): number;
}

export interface AppOptions {
  /** Instead of stdout; for tests. */
  readonly logTo?: { write(text: string): void };
  /** Reads the settings anew, for a reload. Without it the settings stay as they are, and only files are read anew. */
  readonly readConfig?: () => Config;
}

/** What makes a process one of several: it serves, and another one manages it. */
export interface Membership {
  /** From 1. */
  readonly number: number;
  readonly of: number;
  /** Of all of them: what one seals, another opens. */
  readonly ticketSecret: Buffer;
  /** Null when there is nobody to tell. */
  readonly shareSession: ShareSession | null;
}

/** What lets one process resume the sessions of another. */
type Sharing = Pick<Membership, 'ticketSecret' | 'shareSession'>;

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
  const app = new RunningApp(createService(config, credentials, options), options);
  try {
    await app.listen();
  } catch (error) {
    await app.close();
    throw error;
  }
  return app;
}

/** The part that serves callers, not listening yet. */
export function createService(
  config: Config,
  credentials: Credentials,
  { logTo, membership = null }: ServiceOptions = {},
): Service {
  const sharing: Sharing = membership ?? { ticketSecret: randomBytes(32), shareSession: null };
  const trust = createTrust({ config, credentials }, sharing);
  const state: State = { phase: 'ready', config, credentials, trust };
  const own = membership === null ? config : shareOf(config, membership);
  const applications = new Applications();
  const reporting = createReporting({ config, applications, state, logTo, membership });
  const serving = createServing({ config: own, state, applications, observer: reporting.observer });
  return new Service({ state, applications, ...serving, reporting, sharing });
}

interface ServiceOptions extends Pick<AppOptions, 'logTo'> {
  /** Null for a process that is the whole sidecar. */
  readonly membership?: Membership | null;
}

/** Limits that are meant for the whole sidecar, for one of several processes: callers come to them in turn. */
export function shareOf(config: Config, { number, of }: Pick<Membership, 'number' | 'of'>): Config {
  // Nobody gets nothing: a worker that may not reach the application would refuse everybody.
  const part = (total: number): number => Math.max(1, Math.floor(total / of) + (number <= total % of ? 1 : 0));
  const { limits, routes } = config;
  const shared = <T extends Pick<Config, 'upstream'>>(of: T): T => {
    return { ...of, upstream: { ...of.upstream, maxConnections: part(of.upstream.maxConnections) } };
  };
  return {
    ...shared(config),
    limits: { ...limits, connections: part(limits.connections) },
    routes: routes.map(shared),
  };
}

function createReporting(parts: {
  readonly config: Config;
  readonly applications: Applications;
  readonly state: State;
  readonly logTo: AppOptions['logTo'];
  readonly membership: Membership | null;
}): Reporting {
  const { config, applications, state, logTo, membership } = parts;
  const worker = membership?.number ?? null;
  const log = createLog({ ...config.log, worker, ...(logTo === undefined ? {} : { destination: logTo }) });
  const activity = new Activity();
  const metrics = createMetrics({
    version,
    share: membership === null ? 'all' : 'serving',
    pool: () => applications.total(),
    applications: () => applications.numbers(),
    routes: config.routes.map(({ name }) => name),
    credentials: () => state.credentials,
    anchors: () => activity.anchors(state.credentials.cas),
    draining: () => state.phase !== 'ready',
    droppedLines: () => log.dropped(),
  });
  const refusals = createRefusals();
  const form = accessForm(config.log);
  const accessLog = form === null ? null : createAccessLog(form, log, worker);
  const observer = createObserver({ log, metrics, refusals, access: accessLog, activity });
  return { log, metrics, refusals, activity, observer };
}

/**
 * What connections are judged by, made from one set of credentials.
 * @param sharing its secret seals session tickets where no keys are configured; processes that share it resume each other's
 * @param before what was in force until now. Sessions outlive a reload that leaves trust as it is, and with them the chains
 *   that they do not carry.
 */
export function createTrust(loaded: Loaded, sharing: Sharing, before: Trust | null = null): Trust {
  const { config, credentials } = loaded;
  const { resuming, starting, tickets, forName, digest } = createServerContexts(
    config,
    credentials,
    sharing.ticketSecret,
  );
  const memory = before?.memory.digest === digest ? before.memory : newMemory(config, digest, sharing);
  const policy = createPolicy(loaded, memory.knownCallers);
  const terms = [config, ...config.routes].map(termsOf);
  return {
    tls: {
      secureContext: resuming,
      startingContext: starting,
      contextForName: forName,
      certificates: credentials.servers.map(({ serverCertificate }) => serverCertificate),
      requestCert: !asksNobody(modesOf(config)),
      // As nginx offers. A caller that only speaks others is told so in the handshake.
      alpn: offeredProtocols([...(config.listen.http2 ? ['h2'] : []), 'http/1.1', 'http/1.0']),
    },
    resumption: tickets === null ? null : new Resumption(tickets, policy, terms, memory.sessions),
    memory,
    policy,
    handshakeTerms: handshakeTerms(config),
    terms,
    routing: compileRouting(config.routes),
  };
}

function termsOf({ clientCert, upstream: { address } }: Pick<Config, 'clientCert' | 'upstream'>): Terms {
  const isClosed = address.kind === 'answer' && address.answer.status >= 400;
  return { verify: clientCert.verify, allow: compileAllowList(clientCert.allow), isClosed };
}

function createPolicy({ config, credentials }: Loaded, knownCallers: KnownCallers): Policy {
  const { depth, purpose, crlExpired } = config.clientCert;
  const { cas, crls } = credentials;
  return {
    modes: modesOf(config),
    depth,
    purpose,
    anchors: lastingFirst(cas.map(({ certificate }) => certificate)),
    revocation: crls.length > 0 ? createRevocationCheck(crls, crlExpired) : () => null,
    readsCrls: crlExpired === 'warn',
    knownCallers,
  };
}

function newMemory({ tls }: Config, digest: string, { shareSession }: Sharing): SessionMemory {
  const sessions = new SessionCache(tls.sessions.lifetime, SESSIONS_KEPT, shareSession);
  return { digest, knownCallers: new KnownCallers(), sessions };
}

function createServing(parts: {
  readonly config: Config;
  readonly state: State;
  readonly applications: Applications;
  readonly observer: Observer;
}): { readonly entrance: Entrance; readonly listener: Listener; readonly main: Application } {
  const { config, state, applications, observer } = parts;
  const { limits, identity } = config;
  const main = applications.at(config.upstream, limits);
  const entrance = new Entrance({
    limits,
    proxy: createProxy({
      screenRules: createScreenRules(config),
      choose: compileRoutes(config.routes),
      ways: [wayTo(main, config, null), ...config.routes.map((route) => wayOf(route, config, applications))],
      observer,
      newRequestId,
    }),
    observer,
    trust: () => state.trust,
    unreadableAnswer: (code, requestId) => unparsedRefusal(code, { requestId }),
    newRequestId,
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
    refusal: (reason, { location, http2 }) => {
      if (http2) return { greeting: HTTP2_GREETING, answer: http2ConnectionRefusal(reason) };
      const answer = location === null ? connectionRefusal(reason) : redirectToHttps(location);
      return { greeting: null, answer };
    },
  });
  return { entrance, listener, main };
}

/** How a request may look, whichever way it goes. */
export function createScreenRules({ listen, limits, headers }: Config): ScreenRules {
  const isServed = listen.serverNames.length > 0 ? isOneOf(listen.serverNames) : null;
  return { isServed, underscores: headers.underscores, maxHead: limits.head };
}

function wayOf(route: Route, config: Config, applications: Applications): Way {
  return wayTo(applications.at(route.upstream, route.limits), configFor(config, route), route);
}

function wayTo({ upstream, tunnel }: Application, config: Config, route: Route | null): Way {
  return {
    name: route?.name ?? null,
    rewriteTarget: createTargetRewriter(route),
    ...createRewriters(config),
    bodyLimits: { maxBody: config.limits.body, idleTimeout: config.limits.bodyIdleTimeout },
    ownHeaders: reservedNames(config.forwarded.headers),
    upstream,
    tunnel,
  };
}

/** How headers are rewritten. @param config as it is for the requests of one route */
export function createRewriters(config: Config): Pick<Way, 'rewriteHeaders' | 'rewriteTrailers'> {
  const { headers, forwarded, identity, routes, upstream } = config;
  // An application may look for a header that one route adds under the paths of another as well.
  const added = routes
    .filter((route) => isSameProgram(route.upstream.address, upstream.address))
    .flatMap((route) => Object.entries(route.forwarded.headers).filter(([, fact]) => fact !== 'none'));
  const rewriteRules: RewriteRules = {
    customNames: reservedNames({ ...identity.headers, ...forwarded.headers, ...Object.fromEntries(added) }),
    pushFacts: compileFacts(forwarded.headers),
    underscores: headers.underscores,
    rfc7239: forwarded.rfc7239,
  };
  return {
    rewriteHeaders: createRequestRewriter(rewriteRules),
    rewriteTrailers: (rawTrailers: readonly string[]) => rewriteTrailers(rawTrailers, rewriteRules),
  };
}

interface ServiceParts {
  readonly state: State;
  /** The one that requests go to which no route is for. */
  readonly main: Application;
  readonly applications: Applications;
  readonly entrance: Entrance;
  readonly listener: Listener;
  readonly reporting: Reporting;
  readonly sharing: Sharing;
}

/** What a process that serves knows, besides its metrics. JSON. */
export interface Facts {
  readonly trust: TrustDescription;
  readonly connections: number;
  readonly tunnels: number;
  readonly upstream: PoolNumbers & { readonly url: string; readonly reached: boolean };
  /** Newest first. */
  readonly callers: readonly SeenCaller[];
  readonly anchors: readonly AnchorUse[];
  readonly recent: readonly StepCounts[];
}

/** How often it is asked whether a CRL has run out. Milliseconds. */
const LIST_INTERVAL = 1_000;

/** Serves callers: everything but the management. */
export class Service {
  private bound: AddressInfo | null = null;
  private listWatch: NodeJS.Timeout | undefined;
  /** When the ends of CRLs were looked at. Milliseconds since the epoch. */
  private looked = Date.now();

  constructor(readonly parts: ServiceParts) {}

  get address(): AddressInfo {
    if (this.bound === null) throw new Error('not listening');
    return this.bound;
  }

  get log(): Log {
    return this.parts.reporting.log;
  }

  get phase(): Phase {
    return this.parts.state.phase;
  }

  /** Subjects of the CAs in force. */
  get cas(): readonly string[] {
    return this.parts.state.credentials.cas.map(({ subject }) => subject);
  }

  /** Of the settings and files in force. */
  get digest(): string {
    return digestOf(this.parts.state);
  }

  async listen(): Promise<AddressInfo> {
    this.bound = await this.parts.listener.listen();
    this.listWatch = setInterval(() => this.noticeEndedLists(), LIST_INTERVAL);
    this.listWatch.unref();
    return this.bound;
  }

  /** No file changes when a CRL runs out, and OpenSSL is asked by new handshakes alone. */
  private noticeEndedLists(): void {
    const { state, entrance } = this.parts;
    const now = Date.now();
    const before = this.looked;
    this.looked = now;
    if (state.config.clientCert.crlExpired !== 'refuse') return;
    const { crls } = state.credentials;
    const ended = crls.some(({ nextUpdate }) => nextUpdate !== null && before <= nextUpdate && nextUpdate < now);
    if (!ended) return;
    // Another value, so that handshakes under way are looked at again as well: OpenSSL may have verified them before the end.
    state.trust = { ...state.trust };
    entrance.reconsider();
    entrance.judgeTunnels();
  }

  /** The files as they are now, with these settings; not yet in use. @throws ConfigError */
  read(config: Config): Reading & { apply(): void } {
    const loaded = { config, credentials: loadCredentials(config) };
    return { config, digest: digestOf(loaded), apply: () => this.apply(loaded) };
  }

  private apply(loaded: Loaded): void {
    const { state, entrance, sharing } = this.parts;
    const { trust: before } = state;
    state.trust = createTrust(loaded, sharing, before);
    state.config = loaded.config;
    state.credentials = loaded.credentials;
    this.log.level = loaded.config.log.level;
    if (state.trust.memory !== before.memory) entrance.reconsider();
    entrance.judgeTunnels();
  }

  /** Takes in a session of another worker. Under another trust OpenSSL knows it by its context, and does not resume it. */
  learn(id: Buffer, session: Buffer): void {
    this.parts.state.trust.resumption?.learn(id, session);
  }

  expiring(now: number): Expiring[] {
    const { credentials } = this.parts.state;
    const callers = this.parts.reporting.activity.callers();
    return [...expiring(credentials), ...expiringCallers(callers, now)];
  }

  /** Whether the application accepts connections now. */
  probe(): Promise<boolean> {
    return this.parts.main.upstream.probe();
  }

  facts(): Facts {
    const { state, main, applications, reporting } = this.parts;
    const { upstream } = main;
    const { config, credentials } = state;
    return {
      trust: describeTrust(config, credentials),
      connections: this.connections(),
      tunnels: applications.tunnels,
      upstream: { url: config.upstream.url, reached: upstream.reached, ...upstream.numbers() },
      callers: reporting.activity.callers(),
      anchors: reporting.activity.anchors(credentials.cas),
      recent: reporting.activity.counts(),
    };
  }

  drain(): void {
    if (this.phase !== 'ready') return;
    this.parts.state.phase = 'draining';
    this.parts.entrance.drain();
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
    const { listener, entrance, applications } = this.parts;
    clearInterval(this.listWatch);
    listener.stopAccepting();
    applications.closeTunnels();
    entrance.closeAll();
    listener.destroyAll();
    entrance.close();
    applications.close();
    // What was cut off is told by the ends of its connections, which come a turn later.
    while (entrance.size > 0) await nextTurn();
    await this.log.flush();
  }
}

/** What the log says when a drain begins, in one process as in several. */
export const DRAINING = 'draining: readiness fails, callers are told to close';

/** A sidecar of one process: it serves and manages itself. */
class RunningApp implements App, Managed {
  private readonly management: Management;
  private readonly startedAt = Date.now();

  constructor(
    private readonly service: Service,
    { readConfig = null }: { readonly readConfig?: (() => Config) | null },
  ) {
    const { config } = service.parts.state;
    this.management = new Management({ config, log: service.log, readConfig, managed: this });
    this.management.establish(service.digest);
  }

  get address(): AddressInfo {
    return this.service.address;
  }

  get adminAddress(): AddressInfo | null {
    return this.management.adminAddress;
  }

  get log(): Log {
    return this.service.log;
  }

  get phase(): Phase {
    return this.service.phase;
  }

  async listen(): Promise<void> {
    await this.management.listen();
    const address = await this.service.listen();
    await this.management.begin({ version, address, cas: this.service.cas, workers: null });
  }

  reload(): Promise<ReloadOutcome> {
    return this.management.reload();
  }

  read(config: Config): Promise<Reading> {
    return Promise.resolve(this.service.read(config));
  }

  expiring(now: number): Promise<Expiring[]> {
    return Promise.resolve(this.service.expiring(now));
  }

  reloaded(succeeded: boolean): void {
    this.service.parts.reporting.metrics.reloaded(succeeded);
  }

  async ready(): Promise<{ ready: boolean; reason: string }> {
    if (this.phase !== 'ready') return { ready: false, reason: 'draining' };
    if (await this.service.probe()) return { ready: true, reason: 'ready' };
    return { ready: false, reason: unreachable(this.service.parts.state.config) };
  }

  metrics(): Promise<string> {
    return this.service.parts.reporting.metrics.render();
  }

  refusals(): Promise<readonly unknown[]> {
    return Promise.resolve(this.service.parts.reporting.refusals.list());
  }

  status(management: ManagementStatus): Promise<object> {
    const { phase, startedAt, address } = this;
    const recent = this.service.parts.reporting.activity.recent();
    const own = { version, phase, startedAt, now: Date.now(), address, workers: null };
    return Promise.resolve(describeStatus({ ...own, ...management, ...this.service.facts(), recent }));
  }

  drain(): void {
    if (this.phase === 'ready') this.log.info(DRAINING);
    this.service.drain();
  }

  stopAccepting(): void {
    this.drain();
    this.service.stopAccepting();
  }

  connections(): number {
    return this.service.connections();
  }

  async close(): Promise<void> {
    await Promise.all([this.management.close(), this.service.close()]);
  }
}

/** Why readiness fails while the application is away. */
export function unreachable({ upstream }: Config): string {
  return `the application at ${upstream.url} does not accept connections`;
}
