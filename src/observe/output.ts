import { write, writeSync } from 'node:fs';

/** Where log text goes. Writing never throws and never blocks. */
export interface Output {
  /** Takes one or more complete lines; as bytes where another process made them, which nobody here has to read. */
  write(lines: string | Buffer): void;
  /** Resolves once everything written so far has left the process, or after two seconds without success. */
  flush(): Promise<void>;
  /** Writes what is left before returning; for the very end of the process. Gives up after a second of `EAGAIN`. */
  flushSync(): void;
  /** Lines thrown away because nobody read them fast enough, or because the reader is gone. */
  dropped(): number;
}

/** Each batch is a trip through the thread pool, 30 µs of CPU: this many characters, or bytes, are about a hundred access records. */
const BATCH_SIZE = 65_536;
const LONGEST_WAIT_MS = 50;
const RETRY_MS = 100;
const FLUSH_LIMIT_MS = 2_000;
const SYNC_ATTEMPTS = 100;
const SYNC_PAUSE_MS = 10;
/** A reader that stands still costs at most this much memory; then whole lines are dropped and counted. */
const LONGEST_BACKLOG = 8 * 1024 * 1024;
const NEWLINE = 10;
/** Most bytes that a character of UTF-16 takes in UTF-8. */
const WIDEST = 3;
/** What a buffer takes beside its bytes, about. */
const BUFFER_ITSELF = 128;

/**
 * Lines to a descriptor in batches, from the thread pool.
 *
 * sonic-boom (pino.destination) does the same, but measures its whole buffer on each write (3.5 µs a line here,
 * against 1 µs), and its flushSync loops for ever when the reader has gone (EPIPE), so that the process never exits.
 */
export class DescriptorOutput implements Output {
  readonly #descriptor: number;
  readonly #backlog = new Backlog();
  #timer: NodeJS.Timeout | undefined;
  #inFlight = false;
  /** What the descriptor was too busy for, and the timer that tries again. */
  #retry: { readonly batch: Buffer; readonly timer: NodeJS.Timeout } | null = null;
  #broken = false;
  #dropped = 0;
  #waiters: (() => void)[] = [];

  /** @param descriptor open for writing; stays open. 1 is stdout. */
  constructor(descriptor: number) {
    this.#descriptor = descriptor;
  }

  write(lines: string | Buffer): void {
    if (this.#broken || this.#backlog.size > LONGEST_BACKLOG) {
      this.#dropped += countLines(lines);
      return;
    }
    this.#backlog.add(lines);
    this.#sendWhenFull();
  }

  #sendWhenFull(): void {
    if (this.#backlog.size >= BATCH_SIZE) this.#send();
    else this.#timer ??= setTimeout(() => this.#send(), LONGEST_WAIT_MS).unref();
  }

  flush(): Promise<void> {
    this.#send();
    if (!this.#inFlight) return Promise.resolve();
    return new Promise((resolve) => {
      const limit = setTimeout(resolve, FLUSH_LIMIT_MS);
      this.#waiters.push(() => {
        clearTimeout(limit);
        resolve();
      });
    });
  }

  flushSync(): void {
    this.#stopTimer();
    // What is in flight is left to the thread pool: Node runs its queue to the end before the process exits.
    const rest = Buffer.concat([this.#takeRetry(), this.#backlog.take()]);
    if (!this.#broken) writeAll(this.#descriptor, rest);
  }

  dropped(): number {
    return this.#dropped;
  }

  #send(): void {
    this.#stopTimer();
    if (this.#inFlight) return;
    if (this.#backlog.size === 0) return this.#idle();
    this.#attempt(this.#backlog.take());
  }

  #attempt(batch: Buffer): void {
    this.#inFlight = true;
    write(this.#descriptor, batch, (error, written) => this.#finished(batch, error, written));
  }

  #finished(batch: Buffer, error: NodeJS.ErrnoException | null, written: number): void {
    if (isBusy(error)) {
      this.#retry = { batch, timer: setTimeout(() => this.#attempt(this.#takeRetry()), RETRY_MS).unref() };
    } else if (error === null && written < batch.length) {
      this.#attempt(batch.subarray(written));
    } else {
      this.#inFlight = false;
      if (error !== null) this.#failed(batch, error);
      // Not at once what came meanwhile: under load that would make a batch of every few lines.
      if (this.#waiters.length > 0 || this.#backlog.size === 0) this.#send();
      else this.#sendWhenFull();
    }
  }

  #takeRetry(): Buffer {
    if (this.#retry === null) return Buffer.alloc(0);
    const { batch, timer } = this.#retry;
    clearTimeout(timer);
    this.#retry = null;
    this.#inFlight = false;
    return batch;
  }

  /** Never throws on: a proxy whose log cannot be written still has requests to answer. */
  #failed(batch: Buffer, error: NodeJS.ErrnoException): void {
    this.#dropped += countLines(batch);
    // Only these are for good; a full disk, for one, may have room again later.
    this.#broken = error.code === 'EPIPE' || error.code === 'EBADF';
    if (this.#broken) this.#dropped += countLines(this.#backlog.take());
  }

  #idle(): void {
    const waiters = this.#waiters;
    this.#waiters = [];
    for (const resolve of waiters) resolve();
  }

  #stopTimer(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

/** What waits to be written, in the order in which it came. */
class Backlog {
  #bytes: Buffer[] = [];
  /**
   * What stands behind the bytes, for good: cheaper than a buffer for each line. Kept as text, a line is a tree of some fifty strings, which
   * each collection of young garbage would copy until the batch is full.
   */
  readonly #text = Buffer.allocUnsafeSlow(2 * BATCH_SIZE);
  #textLength = 0;
  #byteCount = 0;

  /** About the bytes of memory: known at no cost. */
  get size(): number {
    return this.#byteCount + this.#textLength;
  }

  add(lines: string | Buffer): void {
    if (typeof lines === 'string' && WIDEST * lines.length <= BATCH_SIZE) return this.#addText(lines);
    this.#endText();
    this.#push(typeof lines === 'string' ? Buffer.from(lines) : lines);
  }

  #addText(lines: string): void {
    if (this.#textLength + WIDEST * lines.length > this.#text.length) this.#endText();
    this.#textLength += this.#text.write(lines, this.#textLength);
  }

  take(): Buffer {
    this.#endText();
    const [first, ...others] = this.#bytes;
    const all = first !== undefined && others.length === 0 ? first : Buffer.concat(this.#bytes);
    this.#bytes = [];
    this.#byteCount = 0;
    return all;
  }

  #endText(): void {
    if (this.#textLength === 0) return;
    this.#push(Buffer.from(this.#text.subarray(0, this.#textLength)));
    this.#textLength = 0;
  }

  #push(bytes: Buffer): void {
    this.#bytes.push(bytes);
    this.#byteCount += bytes.length + BUFFER_ITSELF;
  }
}

function writeAll(descriptor: number, bytes: Buffer): void {
  let rest = bytes;
  for (let attempt = 0; rest.length > 0 && attempt < SYNC_ATTEMPTS;) {
    try {
      rest = rest.subarray(writeSync(descriptor, rest));
    } catch (error) {
      if (!isBusy(error)) return;
      attempt += 1;
      pause(SYNC_PAUSE_MS);
    }
  }
}

/** Blocks the thread. Only at the end of the process, when there is no event loop left to wait on. */
function pause(milliseconds: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, milliseconds);
}

function isBusy(error: unknown): boolean {
  const code = (error as NodeJS.ErrnoException | null)?.code;
  return code === 'EAGAIN' || code === 'EBUSY';
}

function countLines(lines: string | Buffer): number {
  const bytes = Buffer.from(lines);
  let count = 0;
  for (let at = bytes.indexOf(NEWLINE); at !== -1; at = bytes.indexOf(NEWLINE, at + 1)) count += 1;
  return count;
}
