import cluster from 'node:cluster';
import { ConfigError } from '../errors.js';
import type { Log } from '../observe/log.js';
import { Member, WorkerGone } from './member.js';
import type { Answers, Enlistment, Order } from './orders.js';
import { spreadSessions } from './session-news.js';

export interface CrewParts {
  readonly size: number;
  readonly log: Log;
  /** What a worker begins with now. */
  readonly enlistment: () => Pick<Enlistment, 'config' | 'ticketSecret' | 'draining'>;
  readonly inForce: InForce;
  /** Told when a worker has ended, whyever. */
  readonly buried: (member: Member) => void;
}

/** The settings and files in force. */
export interface InForce {
  /** Null until the first worker has read them. */
  readonly digest: string | null;
  /** Called with what the first worker has read. */
  establish(digest: string): void;
  /** Resolves when no reload is under way that had begun before. */
  settled(): Promise<void>;
  /** Makes all workers read anew, and take into use what has changed. */
  reload(): Promise<unknown>;
}

/** Milliseconds. A worker that served this long was not at fault at its start: its successor comes at once. */
const STEADY = 60_000;
const SHORTEST_DELAY = 1_000;
const LONGEST_DELAY = 30_000;

/** How often every worker is asked whether it is still there, and after how many silences it is ended. Milliseconds. */
const PING_INTERVAL = 5_000;
const SILENCES = 3;

/** Longest time for an answer when all are asked: what the others say must arrive before whoever asks gives up. Milliseconds. */
const ALL_PATIENCE = 3_000;

/** How long a worker may take to end what is left, once it is told to. Milliseconds. */
const END_PATIENCE = 5_000;

/** The workers: starts them, replaces those that end, and asks all of them. */
export class Crew {
  readonly members = new Map<number, Member>();
  /** Ends that nobody asked for. */
  failures = 0;
  private readonly silences = new WeakMap<Member, number>();
  private readonly pinging: NodeJS.Timeout;
  private readonly napping = new Set<() => void>();
  private closing = false;

  constructor(private readonly parts: CrewParts) {
    // Each accepts from the one socket, as nginx's workers do. Handing connections out in turn (SCHED_RR) is more even, and
    // costs 0.3 ms a connection in a process of which there is one; what waits there for a busy worker is bounded by
    // nothing, and grows older than any deadline. Before setupPrimary, which reads it.
    cluster.schedulingPolicy = cluster.SCHED_NONE;
    // 'pipe': what they write comes through here, line by line. Their last words on stderr go where ours go.
    cluster.setupPrimary({ stdio: ['ignore', 'pipe', 'inherit', 'ipc'], serialization: 'json' });
    this.pinging = setInterval(() => this.ping(), PING_INTERVAL);
    this.pinging.unref();
  }

  get serving(): Member[] {
    return [...this.members.values()].filter(({ state, gone }) => state === 'serving' && !gone);
  }

  /** Those that have read their files, whether they serve yet or not. */
  get enlisted(): Member[] {
    return [...this.members.values()].filter(({ state, gone }) => state !== 'starting' && !gone);
  }

  /** For the status. */
  describe(): object[] {
    return [...this.members.values()].map(({ number, pid, state, gone, since }) => {
      return { worker: number, pid, state: gone ? 'ended' : state, since: new Date(since).toISOString() };
    });
  }

  /**
   * Starts the first, and the others when it serves: what is wrong with settings, files or port is then told once.
   * @returns what the first said when it began to listen
   * @throws as `Member.ask`
   */
  async start(): Promise<Answers['listen']> {
    const first = await this.launch(1);
    const others = Array.from({ length: this.parts.size - 1 }, (_, index) => this.launch(index + 2));
    await Promise.all(others);
    for (const member of this.members.values()) void this.keep(member);
    return first;
  }

  /** Asks everybody who serves; leaves out who cannot answer. */
  async askAll<K extends Order>(
    order: K,
    argument: unknown = null,
    patience: number = ALL_PATIENCE,
  ): Promise<(readonly [Member, Answers[K]])[]> {
    const answers = this.serving.map(async (member) => [member, await member.ask(order, argument, patience)] as const);
    const settled = await Promise.allSettled(answers);
    return settled.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  }

  /**
   * Tells everybody, and waits for nobody. Those that are only starting, too: they may have been told before that all is as
   * usual, and orders are obeyed in the order in which they come.
   */
  tellAll(order: 'drain' | 'stopAccepting'): void {
    for (const member of this.members.values()) void member.ask(order).catch(() => undefined);
  }

  /** Nobody who ends from now on is replaced. */
  disband(): void {
    this.closing = true;
    clearInterval(this.pinging);
    for (const wake of this.napping) wake();
  }

  /** Ends every worker, those that do not listen by force. */
  async end(): Promise<void> {
    this.disband();
    await Promise.all(
      [...this.members.values()].map(async (member) => {
        // One that is starting may not listen yet, and has nobody to say goodbye to.
        const limit = setTimeout(() => member.kill(), member.state === 'starting' ? 0 : END_PATIENCE);
        void member.ask('end').catch(() => undefined);
        await member.ended;
        clearTimeout(limit);
      }),
    );
  }

  /** A worker that serves with what is in force. @throws as `Member.ask` */
  private async launch(number: number): Promise<Answers['listen']> {
    const { log, enlistment, size } = this.parts;
    const member = new Member(number, cluster.fork(), (lines) => log.lines(lines));
    this.members.set(number, member);
    void member.ended.then(() => this.parts.buried(member));
    try {
      await member.greeted();
      if (this.closing) throw new WorkerGone('it is too late for a new worker');
      member.digest = await member.ask('start', { number, of: size, ...enlistment() } satisfies Enlistment);
      member.state = 'loaded';
      await this.agree(member);
      if (this.closing) throw new WorkerGone('it is too late for a new worker');
      const listening = await member.ask('listen');
      // Said again: before the port was bound there was nothing to stop.
      if (this.closing) await member.ask('stopAccepting');
      member.state = 'serving';
      // What was told to those that served, while it did not.
      if (this.closing) throw new WorkerGone('it is too late for a new worker');
      if (enlistment().draining) await member.ask('drain');
      void spreadSessions(member, () => this.serving);
      return listening;
    } catch (error) {
      member.kill();
      throw error;
    }
  }

  /** One that starts later may read other files than those in force: then all of them take these over, or it does not serve. */
  private async agree(member: Member): Promise<void> {
    const { inForce } = this.parts;
    // One that is under way may have begun without it. Whatever comes later includes it.
    await inForce.settled();
    if (inForce.digest === null) inForce.establish(member.digest);
    if (member.digest === inForce.digest) return;
    await inForce.reload();
    if (member.digest !== inForce.digest && member.prepared === inForce.digest) await commit(member, member.prepared);
    if (member.digest === inForce.digest) return;
    throw new ConfigError(['the files differ from those in force, and do not replace them']);
  }

  /** Makes these take into use what they have prepared. One that does not would serve with something else: it is ended. */
  async commitAll(members: readonly Member[], digest: string): Promise<void> {
    await Promise.all(members.map((member) => commit(member, digest).catch(() => member.kill())));
  }

  /** Replaces a worker whenever it ends. */
  private async keep(first: Member): Promise<void> {
    const { number } = first;
    let delay = 0;
    for (let member: Member | null = first; ;) {
      if (member !== null) {
        const served = await this.mourn(member);
        if (this.closing) return;
        delay = served > STEADY ? 0 : delay;
      }
      await this.nap(delay);
      delay = Math.min(LONGEST_DELAY, Math.max(SHORTEST_DELAY, delay * 2));
      if (this.closing) return;
      member = await this.replace(number);
    }
  }

  /** @returns how long it served, in milliseconds */
  private async mourn(member: Member): Promise<number> {
    const { code, signal } = await member.ended;
    if (!this.closing) {
      this.failures += 1;
      const { number, pid } = member;
      this.parts.log.error('a worker ended, with its connections', undefined, { worker: number, pid, code, signal });
    }
    return Date.now() - member.since;
  }

  private async replace(number: number): Promise<Member | null> {
    const { log } = this.parts;
    try {
      await this.launch(number);
      const member = this.members.get(number) ?? null;
      log.info('a worker was replaced', { worker: number, pid: member?.pid ?? null });
      return member;
    } catch (error) {
      if (this.closing) return null;
      // Else one that always ends at its start would look like one that ended once.
      if (!(error instanceof ConfigError)) this.failures += 1;
      const detail = error instanceof ConfigError ? error.problems.join('; ') : (error as Error).message;
      log.error('a worker could not be replaced', undefined, { worker: number, detail });
      return null;
    }
  }

  private nap(milliseconds: number): Promise<void> {
    return new Promise((resolve) => {
      const wake = (): void => {
        clearTimeout(timer);
        this.napping.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, milliseconds);
      this.napping.add(wake);
    });
  }

  /**
   * A worker whose event loop stands still keeps its callers waiting for ever, and the probe of the admin listener, which
   * is another process, would not notice. Silences are counted, not time: when all of us were frozen, nobody is to blame.
   */
  private ping(): void {
    for (const member of this.serving) {
      const silences = this.silences.get(member) ?? 0;
      if (silences >= SILENCES) {
        this.parts.log.error('a worker does not answer, and is ended', undefined, { worker: member.number });
        member.kill();
        continue;
      }
      this.silences.set(member, silences + 1);
      void member.ask('ping', null, PING_INTERVAL * SILENCES * 2).then(
        () => this.silences.set(member, 0),
        () => undefined,
      );
    }
  }
}

async function commit(member: Member, digest: string): Promise<void> {
  await member.ask('commit', digest);
  member.digest = digest;
}
