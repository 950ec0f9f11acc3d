import type { Worker } from 'node:cluster';
import { ConfigError } from '../errors.js';
import { ANSWERS, ERROR_FIELDS, HELLO, reply, type Answers, type Order } from './orders.js';
import { WholeLines } from './whole-lines.js';

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: string | null;
}

/** Told instead of an answer when the worker has ended. */
export class WorkerGone extends Error {
  override readonly name = 'WorkerGone';
}

interface Waiting {
  readonly order: Order;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
  readonly timer: NodeJS.Timeout;
}

/** Longest time for an answer, in milliseconds: more than a pause of garbage collection or a busy CPU makes of it. */
const PATIENCE = 8_000;
/** To start a process and load the program, on a machine that starts many at once. */
const HELLO_PATIENCE = 60_000;

/** One worker as the primary sees it: a process that is asked, and not believed. */
export class Member {
  readonly ended: Promise<Ending>;
  /** Whether it has read its files, and whether it serves. */
  state: 'starting' | 'loaded' | 'serving' = 'starting';
  /** Of the settings and files in force there, and of those that it has prepared. */
  digest = '';
  prepared = '';
  readonly since = Date.now();
  private hasEnded = false;
  private nextId = 1;
  private readonly waiting = new Map<number, Waiting>();
  private readonly hello: Promise<void>;
  private greet: () => void = () => undefined;

  /** @param output takes whole lines that it wrote to its stdout */
  constructor(
    readonly number: number,
    private readonly worker: Worker,
    output: (lines: Buffer) => void,
  ) {
    const lines = new WholeLines(output);
    worker.process.stdout?.on('data', (bytes: Buffer) => lines.take(bytes));
    worker.on('message', (message: unknown) => this.hear(message));
    this.hello = new Promise((resolve) => (this.greet = resolve));
    this.ended = new Promise((resolve) => {
      worker.process.once('close', (code, signal) => resolve({ code, signal }));
      // Without a process there is nothing to close. Sending to one that has gone is an error, too; its close follows.
      worker.on('error', () => (worker.process.pid === undefined ? resolve({ code: null, signal: null }) : undefined));
    });
    void this.ended.then(() => this.bury());
  }

  get pid(): number | null {
    return this.worker.process.pid ?? null;
  }

  get gone(): boolean {
    return this.hasEnded;
  }

  /** Orders that it has not answered yet. */
  get unanswered(): number {
    return this.waiting.size;
  }

  /** Resolves once it listens to orders. @throws WorkerGone */
  async greeted(): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => reject(new Error(`worker ${this.number} did not start in time`)), HELLO_PATIENCE);
    });
    const gone = this.ended.then((ending) => {
      throw this.obituary(ending);
    });
    await Promise.race([this.hello, gone, limit]).finally(() => clearTimeout(timer));
  }

  /**
   * Gives an order.
   * @throws ConfigError with what the worker finds wrong with settings and files; WorkerGone; Error for anything else, with
   *   the properties of Node's error about a port that cannot be bound
   */
  ask<K extends Order>(order: K, argument: unknown = null, patience: number = PATIENCE): Promise<Answers[K]> {
    if (this.hasEnded) return Promise.reject(new WorkerGone(`worker ${this.number} has ended`));
    const id = this.nextId++;
    return new Promise((resolve, reject) => {
      const giveUp = (): void => this.settle(id)?.reject(new Error(`worker ${this.number} did not answer in time`));
      const timer = setTimeout(giveUp, patience);
      this.waiting.set(id, { order, resolve: resolve as (value: unknown) => void, reject, timer });
      // What cannot be sent is never answered: the end of the process, or the timer, says so.
      this.worker.send({ id, order, argument }, () => undefined);
    });
  }

  /** Ends it without asking. */
  kill(): void {
    this.worker.process.kill('SIGKILL');
  }

  private hear(message: unknown): void {
    if (message === HELLO) return this.greet();
    try {
      const { id, problems, failure, value } = reply(message);
      const asked = this.settle(id);
      // Too late, or never asked for.
      if (asked === undefined) return;
      if (problems !== null) return asked.reject(new ConfigError(problems));
      if (failure !== null) return asked.reject(errorOf(failure));
      this.answer(asked, value);
    } catch {
      // Whoever does not speak the language of its own program is not that program any more.
      this.kill();
    }
  }

  private answer({ order, resolve, reject }: Waiting, value: unknown): void {
    try {
      resolve(ANSWERS[order](value));
    } catch (error) {
      reject(new Error(`worker ${this.number} gave a strange answer to ${order}`, { cause: error }));
      this.kill();
    }
  }

  private settle(id: number): Waiting | undefined {
    const asked = this.waiting.get(id);
    clearTimeout(asked?.timer);
    this.waiting.delete(id);
    return asked;
  }

  private bury(): void {
    this.hasEnded = true;
    for (const id of [...this.waiting.keys()]) {
      this.settle(id)?.reject(new WorkerGone(`worker ${this.number} has ended`));
    }
  }

  private obituary({ code, signal }: Ending): WorkerGone {
    return new WorkerGone(`worker ${this.number} ended (${signal ?? `exit code ${code}`}) before it served`);
  }
}

function errorOf(failure: Readonly<Record<string, unknown>> & { readonly message: string }): Error {
  const error = new Error(failure.message);
  for (const field of ERROR_FIELDS) {
    const value = failure[field];
    if (typeof value === 'string' || typeof value === 'number') Object.assign(error, { [field]: value });
  }
  return error;
}
