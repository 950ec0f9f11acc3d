import { isatty } from 'node:tty';
import { pino, stdTimeFunctions } from 'pino';
import { prettyFactory } from 'pino-pretty';
import { DescriptorOutput, type Output } from './output.js';
import { armour } from './text.js';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
export type LogFields = Readonly<Record<string, unknown>>;

/** The process's own voice: one JSON object a line (`level`, `time`, fields…, `msg`), or a person's view of it. */
export interface Log {
  /** Lines below it are not made. May be set while running. */
  level: LogLevel;
  enabled(level: LogLevel): boolean;
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  /** @param error described by name, message, code, stack and cause only, never by its other properties */
  error(message: string, error?: unknown, fields?: LogFields): void;
  fatal(message: string, error?: unknown): void;
  /** Writes a line made elsewhere, without its newline. Its maker has looked at the level and escaped hostile text. */
  line(text: string): void;
  /** Writes whole lines of another process, each with its newline. They stay bytes unless people are to read them. */
  lines(bytes: Buffer): void;
  flush(): Promise<void>;
  flushSync(): void;
  /** Lines lost because nobody read them. */
  dropped(): number;
}

export interface LogOptions {
  readonly level: LogLevel;
  readonly pretty: boolean;
  /** Number of the process among several, part of each line; null for the only one. */
  readonly worker?: number | null;
  /** For tests; stdout otherwise. */
  readonly destination?: { write(text: string): void };
}

/**
 * Makes the log. Lines wait up to 50 ms to be written together; the rest is written when the process exits, on a crash too.
 * A reader of stdout that is slow or gone costs lines, never the process.
 */
export function createLog(options: LogOptions): Log {
  const output = options.destination ? outputTo(options.destination) : stdout();
  const write = options.pretty ? prettyWriter(output) : (text: string) => output.write(text);
  const logger = pino(
    {
      level: options.level,
      // No pid and hostname: the platform adds the pod, and each costs bytes on each line.
      base: options.worker === undefined || options.worker === null ? null : { worker: options.worker },
      // ISO 8601 costs 0.1 µs more a line than epoch milliseconds, and a person can read it at night.
      timestamp: stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
      serializers: { err: describeError },
    },
    { write: (text: string) => write(armour(text)) },
  );
  const passOn = options.pretty ? (bytes: Buffer) => write(bytes.toString()) : (bytes: Buffer) => output.write(bytes);
  return new PinoLog(logger, output, { write, passOn });
}

interface Writers {
  readonly write: (text: string) => void;
  readonly passOn: (bytes: Buffer) => void;
}

class PinoLog implements Log {
  readonly #logger: pino.Logger;
  readonly #output: Output;
  readonly #write: Writers['write'];
  readonly #passOn: Writers['passOn'];

  constructor(logger: pino.Logger, output: Output, { write, passOn }: Writers) {
    this.#logger = logger;
    this.#output = output;
    this.#write = write;
    this.#passOn = passOn;
  }

  get level(): LogLevel {
    return this.#logger.level as LogLevel;
  }

  set level(level: LogLevel) {
    this.#logger.level = level;
  }

  enabled(level: LogLevel): boolean {
    return level !== 'silent' && this.#logger.isLevelEnabled(level);
  }

  debug(message: string, fields: LogFields = {}): void {
    this.#logger.debug(fields, message);
  }

  info(message: string, fields: LogFields = {}): void {
    this.#logger.info(fields, message);
  }

  warn(message: string, fields: LogFields = {}): void {
    this.#logger.warn(fields, message);
  }

  error(message: string, error?: unknown, fields: LogFields = {}): void {
    this.#logger.error(error === undefined ? fields : { ...fields, err: error }, message);
  }

  fatal(message: string, error?: unknown): void {
    this.#logger.fatal(error === undefined ? {} : { err: error }, message);
  }

  line(text: string): void {
    this.#write(`${text}\n`);
  }

  lines(bytes: Buffer): void {
    this.#passOn(bytes);
  }

  flush(): Promise<void> {
    return this.#output.flush();
  }

  flushSync(): void {
    this.#output.flushSync();
  }

  dropped(): number {
    return this.#output.dropped();
  }
}

function stdout(): Output {
  const output = new DescriptorOutput(1);
  process.on('exit', () => output.flushSync());
  return output;
}

function outputTo(destination: { write(text: string): void }): Output {
  return {
    write: (lines) => destination.write(lines.toString()),
    flush: () => Promise.resolve(),
    flushSync: () => {},
    dropped: () => 0,
  };
}

/**
 * pino-pretty's formatter, not its stream: the stream is a Transform that loses its last lines when the process exits.
 */
function prettyWriter(output: Output): (text: string) => void {
  const format = prettyFactory({ colorize: isatty(1), singleLine: true, translateTime: 'SYS:HH:MM:ss.l' });
  const pretty = (line: string): string => {
    if (!line.startsWith('{')) return line;
    try {
      return format(JSON.parse(line, visible));
    } catch {
      // Of a worker that was cut off, or is not what it was.
      return armour(line);
    }
  };
  return (text) =>
    output.write(
      text
        .split(/(?<=\n)/)
        .map(pretty)
        .join(''),
    );
}

/** pino-pretty prints messages as they are: an ESC from a caller would let it paint the operator's terminal. */
function visible(key: string, value: unknown): unknown {
  if (typeof value !== 'string') return value;
  const controls = key === 'stack' ? /[^\P{Cc}\n]/gu : /\p{Cc}/gu;
  return value.replace(controls, (char) => `\\x${char.charCodeAt(0).toString(16).padStart(2, '0')}`);
}

const LONGEST_CAUSE_CHAIN = 4;

/**
 * A closed list of properties. Node's HTTP parse errors carry the raw request (`rawPacket`): the usual serialiser would
 * copy a caller's secrets into the log.
 */
function describeError(error: unknown, depth = 0): unknown {
  if (!(error instanceof Error)) return String(error);
  const { code } = error as NodeJS.ErrnoException;
  return {
    type: error.name,
    message: error.message,
    ...(code === undefined ? {} : { code: String(code) }),
    stack: error.stack,
    ...(error.cause === undefined || depth === LONGEST_CAUSE_CHAIN
      ? {}
      : { cause: describeError(error.cause, depth + 1) }),
  };
}
