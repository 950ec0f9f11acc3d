import { randomBytes } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import { describeStatus } from '../admin/status.js';
import { DRAINING, unreachable, version, type Phase, type Stoppable } from '../app.js';
import type { Config } from '../config/config.js';
import { ConfigError } from '../errors.js';
import { Management, type Managed, type ManagementStatus } from '../management.js';
import { mergeAnchors } from '../observe/anchors.js';
import { mergeCallers } from '../observe/callers.js';
import { createLog, type Log } from '../observe/log.js';
import { countersOf, createMetrics, renderTogether, type Metrics, type Snapshot } from '../observe/metrics.js';
import { Recent } from '../observe/recent.js';
import { mergeRefusals } from '../observe/refusals.js';
import type { Expiring } from '../trust/expiry.js';
import type { Reading, ReloadOutcome } from '../trust/reloader.js';
import { Crew } from './crew.js';
import { WorkerGone, type Member } from './member.js';
import type { Answers } from './orders.js';

export interface PrimaryOptions {
  /** Processes that serve, two or more. */
  readonly size: number;
  /** Reads the settings anew, for a reload. */
  readonly readConfig: () => Config;
}

/**
 * Starts workers that share the port. This process answers for all of them: signals, admin listener, reloads, log. It reads
 * no key, and no connection of a caller comes near it.
 * @throws ConfigError; Node's error when a port cannot be bound
 */
export async function startPrimary(config: Config, options: PrimaryOptions): Promise<Stoppable> {
  const primary = new Primary(config, options);
  try {
    await primary.start();
  } catch (error) {
    await primary.close();
    throw error;
  }
  return primary;
}

/** Longest time for a worker to say how many connections it has, while a drain waits for it. Milliseconds. */
const COUNT_PATIENCE = 1_000;

class Primary implements Stoppable, Managed {
  readonly log: Log;
  private readonly crew: Crew;
  private readonly own: Metrics;
  private readonly management: Management;
  private phase: Phase = 'ready';
  private readonly startedAt = Date.now();
  private address: AddressInfo | null = null;
  /** As a worker described them last: there may be none that could do so now. */
  private latest: Answers['facts'] | null = null;
  /** Metrics of each worker when it was asked last. */
  private readonly snapshots = new Map<number, Snapshot>();
  /** The counters of those that have ended. */
  private departed: Promise<Snapshot> = Promise.resolve([]);

  constructor(
    private readonly config: Config,
    private readonly options: PrimaryOptions,
  ) {
    const { size, readConfig } = options;
    this.log = createLog(config.log);
    this.management = new Management({ config, log: this.log, readConfig, managed: this });
    this.own = createMetrics({
      version,
      share: 'managing',
      draining: () => this.phase !== 'ready',
      droppedLines: () => this.log.dropped(),
      workers: () => ({ wanted: size, serving: this.crew.serving.length, failures: this.crew.failures }),
    });
    const ticketSecret = randomBytes(32).toString('base64');
    this.crew = new Crew({
      size,
      log: this.log,
      enlistment: () => ({
        config: forWorkers(this.management.config),
        ticketSecret,
        draining: this.phase !== 'ready',
      }),
      inForce: this.management,
      buried: (member) => this.bury(member),
    });
  }

  async start(): Promise<void> {
    await this.management.listen();
    const { address, cas, facts } = await this.crew.start();
    this.address = address;
    this.latest = facts;
    await this.management.begin({ version, address, cas, workers: this.options.size });
  }

  reload(): Promise<ReloadOutcome> {
    return this.management.reload();
  }

  /**
   * All read, and when all have read the same, all take it into use: one that refuses speaks for everybody. Who ends meanwhile has
   * no say; its successor reads for itself.
   */
  async read(config: Config): Promise<Reading> {
    const members = this.crew.enlisted;
    if (this.address === null || members.length === 0) throw new ConfigError(['no worker serves yet']);
    const results = await Promise.allSettled(members.map((member) => prepare(member, forWorkers(config))));
    const failures = results.flatMap((result) => (result.status === 'rejected' ? [result.reason as Error] : []));
    const problems = failures.filter((error) => !(error instanceof WorkerGone)).flatMap(problemsOf);
    if (problems.length > 0) throw new ConfigError([...new Set(problems)]);
    const digests = new Set(results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : [])));
    const [digest, ...others] = digests;
    if (digest === undefined || others.length > 0) throw new ConfigError(['the files changed while they were read']);
    return { config, digest, apply: () => this.crew.commitAll(members, digest) };
  }

  async expiring(): Promise<Expiring[]> {
    return (await this.crew.askAll('expiring')).flatMap(([, items]) => items);
  }

  reloaded(succeeded: boolean): void {
    this.own.reloaded(succeeded);
  }

  /** One that serves is enough: it takes what the others would have taken. */
  async ready(): Promise<{ ready: boolean; reason: string }> {
    if (this.phase !== 'ready') return { ready: false, reason: 'draining' };
    const { serving } = this.crew;
    if (serving.length === 0) return { ready: false, reason: 'no worker serves' };
    // The first that can say so is heard: a probe must not wait for one that hangs.
    const ready = await Promise.any(serving.map(reaches)).catch(() => false);
    return ready ? { ready, reason: 'ready' } : { ready, reason: unreachable(this.config) };
  }

  async metrics(): Promise<string> {
    for (const [member, snapshot] of await this.crew.askAll('metrics')) {
      if (!member.gone) this.snapshots.set(member.number, snapshot);
    }
    const departed = await this.departed;
    return renderTogether(await this.own.snapshot(), [departed, ...this.snapshots.values()]);
  }

  async refusals(): Promise<readonly unknown[]> {
    return mergeRefusals((await this.crew.askAll('refusals')).map(([, refusals]) => refusals));
  }

  async status(management: ManagementStatus): Promise<object> {
    const all = (await this.crew.askAll('facts')).map(([, facts]) => facts);
    this.latest = all[0] ?? this.latest;
    if (this.address === null || this.latest === null) throw new Error('no worker serves yet');
    const { phase, startedAt, address } = this;
    const now = Date.now();
    const own = { version, phase, startedAt, now, address, workers: this.crew.describe(), ...management };
    return describeStatus({ ...own, trust: this.latest.trust, ...together(all, this.latest.upstream, startedAt) });
  }

  drain(): void {
    if (this.phase !== 'ready') return;
    this.phase = 'draining';
    this.log.info(DRAINING);
    this.crew.tellAll('drain');
  }

  stopAccepting(): void {
    this.drain();
    this.phase = 'closing';
    this.crew.disband();
    this.crew.tellAll('stopAccepting');
  }

  async connections(): Promise<number> {
    const answers = await this.crew.askAll('connections', null, COUNT_PATIENCE);
    const silent = this.crew.serving.length - answers.length;
    // One that does not answer has something to do, until it has ended.
    return answers.reduce((sum, [, count]) => sum + count, Math.max(0, silent));
  }

  async close(): Promise<void> {
    await Promise.all([this.crew.end(), this.management.close()]);
    await this.log.flush();
  }

  /** What it counted since it was asked last is lost; what was told once is not taken back. */
  private bury({ number }: Member): void {
    const last = this.snapshots.get(number);
    this.snapshots.delete(number);
    if (last === undefined) return;
    const before = this.departed;
    // What cannot be added up is left out: nobody waits here for the error, and unheard it would end this process.
    this.departed = before.then((departed) => countersOf([departed, last])).catch(() => before);
  }
}

/** Lines for people are made here, where stdout is what they look at. */
function forWorkers(config: Config): Config {
  return { ...config, log: { ...config.log, pretty: false } };
}

/** @throws when it does not, or does not answer */
async function reaches(member: Member): Promise<true> {
  if (await member.ask('probe')) return true;
  throw new Error('the application cannot be reached');
}

async function prepare(member: Member, config: Config): Promise<string> {
  member.prepared = await member.ask('prepare', config);
  return member.prepared;
}

function problemsOf(error: Error): readonly string[] {
  return error instanceof ConfigError ? error.problems : [error.message];
}

type FactsTogether = Omit<Answers['facts'], 'trust' | 'recent'> & { readonly recent: ReturnType<Recent['intervals']> };

/** @param upstream of a worker: the address is the same for all */
function together(
  all: readonly Answers['facts'][],
  upstream: Answers['facts']['upstream'],
  startedAt: number,
): FactsTogether {
  const total = (count: (facts: Answers['facts']) => number) => all.reduce((sum, facts) => sum + count(facts), 0);
  const recent = new Recent(startedAt);
  for (const facts of all) recent.add(facts.recent);
  return {
    connections: total(({ connections }) => connections),
    tunnels: total(({ tunnels }) => tunnels),
    upstream: {
      url: upstream.url,
      reached: all.some(({ upstream: { reached } }) => reached),
      open: total(({ upstream: { open } }) => open),
      busy: total(({ upstream: { busy } }) => busy),
      waiting: total(({ upstream: { waiting } }) => waiting),
    },
    callers: mergeCallers(all.map(({ callers }) => callers)),
    anchors: mergeAnchors(all.map(({ anchors }) => anchors)),
    recent: recent.intervals(Date.now()),
  };
}
