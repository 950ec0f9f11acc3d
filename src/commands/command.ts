import type { Environment } from '../config/sources.js';

/** Exit codes of every command (sysexits.h where it has one). */
export const EXIT = {
  ok: 0,
  internal: 1,
  /** Not so: a probe of something that is not ready. */
  failed: 1,
  /** EX_USAGE */
  usage: 64,
  /** EX_TEMPFAIL: a drain was cut short. */
  drainCutShort: 75,
  /** EX_CONFIG: configuration or credentials. */
  config: 78,
} as const;

/** Where a command writes. Lines come without their line end. */
export interface Terminal {
  readonly out: (line: string) => void;
  readonly err: (line: string) => void;
  /** Whether `out` shows colours. */
  readonly colour: boolean;
}

/** What a command is called with. */
export interface Invocation {
  /** What follows the name of the command. */
  readonly argv: readonly string[];
  readonly terminal: Terminal;
  /** Default: the environment of the process. */
  readonly env?: Environment;
}

/** A command. Resolves to its exit code. @throws UsageError, ConfigError */
export type Command = (invocation: Invocation) => Promise<number>;
