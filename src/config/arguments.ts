import { UsageError } from '../errors.js';
import type { NginxInput } from './nginx-conf.js';
import { SETTINGS } from './schema.js';
import { didYouMean } from './suggest.js';

/** A command line taken apart, settings not yet judged. */
export interface Arguments {
  /** `--config FILE`, or null. */
  readonly file: string | null;
  /** Text of every setting that was given, by full name. */
  readonly flags: Readonly<Record<string, string>>;
  /** `--nginx-conf FILE [--prefix DIR] [--force]`, if given. */
  readonly nginx?: NginxInput;
}

const SHORT: Readonly<Record<string, string>> = { '-c': '--config', '--pretty': '--log.pretty' };
/** Where settings come from, and what is asked of that. */
const SOURCES = ['config', 'nginx-conf', 'prefix', 'force'] as const;
const KNOWN = new Set([...SOURCES, ...SETTINGS.keys()]);

/**
 * Reads `--config FILE`, `--nginx-conf FILE`, `--listen.port 8443` and `--listen.port=8443`.
 * @param argv what follows the name of the command
 * @throws UsageError for an unknown or repeated flag, a flag without its value, and anything that is no flag
 */
export function parseArguments(argv: readonly string[]): Arguments {
  const found = new Map<string, string>();
  const rest = [...argv];
  for (let word = rest.shift(); word !== undefined; word = rest.shift()) {
    const { name, text } = parseFlag(word);
    // The last one would win in silence, and a reader of the command line sees the first.
    if (found.has(name)) throw new UsageError(`--${name} is given twice`);
    found.set(name, text ?? takeValue(name, rest));
  }
  const file = found.get('config') ?? null;
  const nginx = nginxInput(found);
  if (nginx !== null && file !== null) throw new UsageError('--config and --nginx-conf exclude each other');
  for (const source of SOURCES) found.delete(source);
  return { file, flags: Object.fromEntries(found), ...(nginx === null ? {} : { nginx }) };
}

function nginxInput(found: ReadonlyMap<string, string>): NginxInput | null {
  const file = found.get('nginx-conf');
  const alone = ['prefix', 'force'].find((name) => found.has(name));
  if (file === undefined && alone !== undefined) throw new UsageError(`--${alone} goes with --nginx-conf`);
  return file === undefined
    ? null
    : { file, prefix: found.get('prefix') ?? null, force: found.get('force') === 'true' };
}

function parseFlag(word: string): { name: string; text: string | null } {
  const equals = word.indexOf('=');
  const written = equals === -1 ? word : word.slice(0, equals);
  const flag = Object.hasOwn(SHORT, written) ? (SHORT[written] ?? written) : written;
  if (!flag.startsWith('-')) throw new UsageError(`unexpected argument ${JSON.stringify(word)}`);
  const name = flag.slice(2);
  if (!flag.startsWith('--') || !KNOWN.has(name)) {
    const hint = didYouMean(
      flag,
      [...KNOWN].map((known) => `--${known}`),
    );
    throw new UsageError(`unknown flag ${JSON.stringify(written)}${hint}`);
  }
  return { name, text: equals === -1 ? null : word.slice(equals + 1) };
}

function takeValue(name: string, rest: string[]): string {
  const next = rest[0];
  // `--tls.legacy` alone means true, so only a value that is one is taken from the next word.
  if (SETTINGS.get(name)?.format === 'on-off' || name === 'force')
    return next === 'true' || next === 'false' ? (rest.shift() ?? '') : 'true';
  if (next === undefined || next.startsWith('--')) throw new UsageError(`--${name} needs a value`);
  rest.shift();
  return next;
}
