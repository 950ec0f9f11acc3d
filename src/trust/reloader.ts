import { createHash } from 'node:crypto';
import type { Config } from '../config/config.js';
import { ConfigError, NO_INCLUDES, type Includes } from '../errors.js';
import type { Credentials } from './credentials.js';
import { fingerprint } from './fingerprint.js';

/** Settings and files that were read together and fit together. */
export interface Loaded {
  readonly config: Config;
  readonly credentials: Credentials;
}

/** Settings and files that were read and found good, and are not yet in use. */
export interface Reading {
  readonly config: Config;
  /** Equal for readings that mean the same. */
  readonly digest: string;
  /** Takes it into use. */
  readonly apply: () => void | Promise<void>;
}

/** What a look at the files led to. */
export interface ReloadOutcome {
  /** Milliseconds since the epoch. */
  readonly at: number;
  readonly result: 'applied' | 'unchanged' | 'refused';
  /** One line; for `refused` the problems. */
  readonly message: string;
}

export interface ReloaderParts {
  /** Reads everything anew. @throws ConfigError */
  readonly read: () => Promise<Reading>;
  /** Settings in force. */
  readonly initial: Config;
  /** Told of everything but `unchanged`, once. */
  readonly report: (outcome: ReloadOutcome) => void;
  /** Milliseconds between two looks. */
  readonly interval: number;
}

/** How long files must have stood still before they are read: half a settings file is a valid one, without the rest. */
const SETTLE = 500;

/** Outcomes kept for the status. */
const HISTORY = 20;

/**
 * Keeps the process up to date with its files: replaced whole, or not at all, and only when they have stood still for a
 * moment. A bad set keeps the old one, and is reported once, when it has stood still for another: between two renames
 * certificate and key never fit.
 */
export class Reloader {
  readonly history: ReloadOutcome[] = [];
  private current: { readonly config: Config; readonly digest: string | null };
  private seen: string;
  /** What the last reading consisted of, if it was turned down: to be looked at until it is put right. */
  private refusedIncludes = NO_INCLUDES;
  /** Fingerprint at the last look. */
  private candidate = '';
  /** Fingerprint of the last set that was turned down. */
  private refusedBefore = '';
  private timer: NodeJS.Timeout | null = null;
  private stopped = false;
  /** Ends when the last attempt that was asked for has ended: one at a time, in order. */
  private turn: Promise<unknown> = Promise.resolve();

  constructor(private readonly parts: ReloaderParts) {
    this.current = { config: parts.initial, digest: null };
    // Never equal: the first look reads everything once more, since a file may have changed while the process started.
    this.seen = '';
  }

  /** Of what is in force; null until it is known. */
  get digest(): string | null {
    return this.current.digest;
  }

  /** Says what is in force at the start. */
  establish(digest: string): void {
    this.current = { config: this.current.config, digest };
  }

  /** Begins to look. */
  start(): void {
    this.schedule(this.parts.interval);
  }

  stop(): void {
    this.stopped = true;
    if (this.timer !== null) clearTimeout(this.timer);
    this.timer = null;
  }

  /** Reads everything now, whether it seems to have changed or not (SIGHUP, `POST /reload`). */
  reload(): Promise<ReloadOutcome> {
    return this.inTurn(async () => {
      const outcome = await this.attempt();
      this.settle(outcome);
      return outcome;
    });
  }

  /** Resolves when what was asked for before has ended. */
  async settled(): Promise<void> {
    await this.turn;
  }

  private inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.turn.then(work);
    this.turn = result.catch(() => undefined);
    return result;
  }

  private schedule(delay: number): void {
    if (this.stopped) return;
    // Whatever becomes of a look, there is a next one.
    const look = async (): Promise<void> => {
      let next = this.parts.interval;
      try {
        next = await this.glance();
      } finally {
        this.schedule(next);
      }
    };
    this.timer = setTimeout(() => void this.inTurn(look), delay);
    this.timer.unref();
  }

  /** @returns milliseconds to the next look */
  private async glance(): Promise<number> {
    const { interval } = this.parts;
    const found = this.look();
    const settle = Math.min(interval, SETTLE);
    if (found === this.seen) return interval;
    const moving = found !== this.candidate;
    this.candidate = found;
    if (moving) return settle;
    const outcome = await this.attempt();
    const settled = outcome.result !== 'refused' || found === this.refusedBefore;
    this.refusedBefore = found;
    if (!settled) return settle;
    if (outcome.result === 'refused') this.seen = found;
    this.settle(outcome);
    return interval;
  }

  private async attempt(): Promise<ReloadOutcome> {
    const at = Date.now();
    const before = this.look();
    const reading = await this.tryRead();
    if (reading instanceof ConfigError) {
      this.refusedIncludes = reading.includes;
      return { at, result: 'refused', message: reading.problems.join('; ') };
    }
    if (this.look() !== before) {
      return { at, result: 'refused', message: 'the files changed while they were read' };
    }
    const { config, digest } = reading;
    this.refusedIncludes = NO_INCLUDES;
    this.seen = look(config);
    if (digest === this.current.digest) return { at, result: 'unchanged', message: 'nothing has changed' };
    await reading.apply();
    this.current = { config, digest };
    return { at, result: 'applied', message: 'settings and files were read anew' };
  }

  private look(): string {
    return look(this.current.config, this.refusedIncludes);
  }

  private async tryRead(): Promise<Reading | ConfigError> {
    try {
      return await this.parts.read();
    } catch (error) {
      return error instanceof ConfigError ? error : new ConfigError([(error as Error).message]);
    }
  }

  private settle(outcome: ReloadOutcome): void {
    if (outcome.result === 'unchanged') return;
    this.history.unshift(outcome);
    this.history.length = Math.min(this.history.length, HISTORY);
    this.parts.report(outcome);
  }
}

/** A text that changes whenever something does that settings and credentials are read from. */
function look(config: Config, also = NO_INCLUDES): string {
  const { files, directories } = filesOf(config);
  return fingerprint([...files, ...also.files], [...directories, ...also.directories]);
}

/** Every file that the settings name, and the settings file itself with all that it includes. */
export function filesOf(config: Config): Includes {
  const { tls, clientCert, includes } = config;
  const pairs = [tls, ...tls.certificates].flatMap(({ cert, key, keyPassphraseFile }) => [
    cert,
    key,
    keyPassphraseFile,
  ]);
  const single = [config.file, ...includes.files, ...pairs].filter((path) => path !== null);
  const files = [...single, ...tls.sessions.ticketKeys, ...clientCert.ca, ...clientCert.crl];
  return { files, directories: includes.directories };
}

/** Whether two readings mean the same. Keys are hashed, not kept. */
export function digestOf({ config, credentials }: Loaded): string {
  const { servers, cas, crls, ticketKeys } = credentials;
  const shown = servers.map(({ cert, key, passphrase }) => [cert, key, passphrase]);
  const trusted = [cas.map(({ pem }) => pem), crls.map(({ pem }) => pem)];
  const facts = [config, shown, trusted, ticketKeys.map(({ secret }) => secret.toString('hex'))];
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex');
}
