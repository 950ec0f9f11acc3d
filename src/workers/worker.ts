import cluster, { type Worker } from 'node:cluster';
import { createService, type Service } from '../app.js';
import type { Config } from '../config/config.js';
import { ConfigError } from '../errors.js';
import { leaveSignalsToPrimary, letMemoryGo } from '../lifecycle.js';
import { loadCredentials } from '../trust/credentials.js';
import type { Reading } from '../trust/reloader.js';
import { ERROR_FIELDS, HELLO, type Enlistment, type Message, type Order, type SharedSession } from './orders.js';
import { bytesOf, SessionNews } from './session-news.js';

/** Whether this process was started by a primary. */
export function isWorker(): boolean {
  return cluster.isWorker;
}

/** Serves as its primary orders, and ends when it is told to, or when the primary is gone. @returns the exit code, 0 */
export async function serveAsWorker(): Promise<number> {
  const { worker } = cluster;
  if (worker === undefined) throw new Error('not a worker');
  leaveSignalsToPrimary();
  letMemoryGo();
  await new Promise<void>((resolve) => {
    const duty = new Duty(resolve);
    worker.on('message', (message: Message) => void answer(worker, duty, message));
    tell(worker, HELLO);
  });
  return 0;
}

async function answer(worker: Worker, duty: Duty, { id, order, argument }: Message): Promise<void> {
  const nothing = { id, problems: null, failure: null, value: null };
  try {
    tell(worker, { ...nothing, value: (await duty.orders[order](argument)) ?? null });
  } catch (error) {
    if (error instanceof ConfigError) tell(worker, { ...nothing, problems: error.problems });
    else tell(worker, { ...nothing, failure: describe(error as Error) });
  }
}

/** A primary that has gone hears nothing, which is no error of ours: this process ends as soon as it notices. */
function tell(worker: Worker, message: object | string): void {
  worker.send(message, () => undefined);
}

function describe(error: Error): object {
  const fields = new Map<string, unknown>(
    ERROR_FIELDS.map((field) => [field, (error as unknown as Record<string, unknown>)[field]]),
  );
  return { ...Object.fromEntries(fields), message: error.message };
}

/** What a worker does for its primary, which is our own program and believed. */
class Duty {
  private service: Service | null = null;
  private prepared: Reading | null = null;
  private readonly news = new SessionNews();

  readonly orders: Readonly<Record<Order, (argument: unknown) => unknown>> = {
    start: (argument) => this.start(argument as Enlistment),
    listen: () => this.listen(),
    prepare: (argument) => this.prepare(argument as Config),
    commit: (argument) => this.commit(argument as string),
    ping: () => null,
    sessions: () => this.news.next(),
    learn: (argument) => this.learn(argument as readonly SharedSession[]),
    probe: () => this.serving.probe(),
    metrics: () => this.serving.parts.reporting.metrics.snapshot(),
    refusals: () => this.serving.parts.reporting.refusals.list(),
    facts: () => this.serving.facts(),
    expiring: () => this.serving.expiring(Date.now()),
    drain: () => this.serving.drain(),
    stopAccepting: () => this.serving.stopAccepting(),
    connections: () => this.serving.connections(),
    end: () => this.end(),
  };

  constructor(private readonly ended: () => void) {}

  private get serving(): Service {
    if (this.service === null) throw new Error('not started');
    return this.service;
  }

  private start({ number, of, config, ticketSecret, draining }: Enlistment): string {
    const shared = { ticketSecret: Buffer.from(ticketSecret, 'base64'), shareSession: this.news.add };
    const membership = { number, of, ...shared };
    this.service = createService(config, loadCredentials(config), { membership });
    if (draining) this.service.drain();
    return this.service.digest;
  }

  private async listen(): Promise<object> {
    const address = await this.serving.listen();
    return { address, cas: this.serving.cas, facts: this.serving.facts() };
  }

  private prepare(config: Config): string {
    this.prepared = this.serving.read(config);
    return this.prepared.digest;
  }

  private async commit(digest: string): Promise<void> {
    if (this.prepared?.digest !== digest) throw new Error('something else was prepared');
    await this.prepared.apply();
    this.prepared = null;
  }

  private learn(sessions: readonly SharedSession[]): void {
    for (const { id, session } of sessions) this.serving.learn(bytesOf(id), bytesOf(session));
  }

  private async end(): Promise<void> {
    await this.service?.close();
    this.ended();
  }
}
