import { readFileSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import type { Includes } from '../errors.js';
import { FORMATS } from './formats.js';
import type { Format } from './formats.js';
import { SECTIONS, SETTINGS, environmentName } from './schema.js';
import { didYouMean } from './suggest.js';
import { visitYaml } from './yaml-source.js';

/** A value that somebody gave to a setting, not yet judged. */
export interface Given {
  readonly raw: unknown;
  /** For people: `sidecar.yaml line 3`, `environment variable MTLS_SIDECAR_…`, `flag --…`. */
  readonly source: string;
  /** The directory that a relative file name starts from. */
  readonly base: string;
}

/** One layer of settings by full name, and what is wrong with the layer itself. */
export interface Layer {
  readonly given: ReadonlyMap<string, Given>;
  readonly problems: readonly string[];
  /** False when a part of it could not be read: settings that seem to be missing may be there. */
  readonly isWhole: boolean;
  /** What the file includes. */
  readonly includes?: Includes;
}

export type Environment = Readonly<Record<string, string | undefined>>;

const PREFIX = 'MTLS_SIDECAR_';

/**
 * Kubernetes gives each container variables about every Service of its namespace. One for a Service that is called
 * `mtls-sidecar` or `mtls-sidecar-admin` looks like ours, and must not stop a start.
 */
const SERVICE_LINK =
  /_(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_(?:ADDR|PORT|PROTO))?)$/;
const SERVICE_LINK_PORT = /^(?:tcp|udp|sctp):\/\//;

/** Settings of a YAML file. A file that cannot be read is a problem of the layer. */
export function fileLayer(file: string): Layer {
  const given = new Map<string, Given>();
  const problems: string[] = [];
  const base = dirname(resolve(file));
  let isWhole = true;
  const fail = (message: string): void => {
    problems.push(message);
    isWhole = false;
  };
  const text = readText(file, fail);
  visitYaml(text, {
    isSection: (path) => known(path, SECTIONS),
    value(path, raw, line) {
      const source = `${file} line ${line}`;
      if (known(path, SETTINGS)) given.set(path.join('.'), { raw, source, base });
      else problems.push(unknownInFile(path, source));
    },
    problem: (message, line) => fail(`${file} line ${line}: ${message}`),
  });
  return { given, problems, isWhole };
}

/** Settings from variables that begin with MTLS_SIDECAR_. */
export function environmentLayer(env: Environment): Layer {
  const names = new Map([...SETTINGS.keys()].map((name) => [environmentName(name), name]));
  const given = new Map<string, Given>();
  const problems: string[] = [];
  for (const [variable, text] of Object.entries(env)) {
    if (!variable.startsWith(PREFIX) || text === undefined || isServiceLink(variable, text)) continue;
    const name = names.get(variable);
    const source = `environment variable ${variable}`;
    if (name === undefined) problems.push(`${source}: there is no such setting${didYouMean(variable, names.keys())}`);
    // An empty list of rules admits everybody. Nobody who passes ${UNSET} on means that.
    else if (text.trim() === '') problems.push(`${name} (${source}): is empty; unset the variable or give a value`);
    else given.set(name, { raw: fromText(name, text), source, base: process.cwd() });
  }
  return { given, problems, isWhole: true };
}

/** Settings from flags. @param flags text by full setting name; the command line was already checked for unknown ones */
export function flagLayer(flags: Readonly<Record<string, string>>): Layer {
  const given = new Map<string, Given>();
  for (const [name, text] of Object.entries(flags)) {
    given.set(name, { raw: fromText(name, text), source: `flag --${name}`, base: process.cwd() });
  }
  return { given, problems: [], isWhole: true };
}

function readText(file: string, fail: (message: string) => void): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (error) {
    fail(`--config ${file}: cannot be read: ${(error as Error).message}`);
    return '';
  }
}

function known(path: readonly string[], names: { has(name: string): boolean }): boolean {
  // A key `listen.port` is no second way to write `listen: {port: …}`: two ways can disagree.
  return names.has(path.join('.')) && path.every((key) => !key.includes('.'));
}

function unknownInFile(path: readonly string[], source: string): string {
  const name = path.join('.');
  if (SETTINGS.has(name)) return `${name} (${source}): must be nested, not one key with dots`;
  return `${name} (${source}): there is no such setting${didYouMean(name, [...SETTINGS.keys(), ...SECTIONS])}`;
}

function isServiceLink(variable: string, text: string): boolean {
  return SERVICE_LINK.test(variable) || (variable.endsWith('_PORT') && SERVICE_LINK_PORT.test(text));
}

function fromText(name: string, text: string): unknown {
  const setting = SETTINGS.get(name);
  if (setting === undefined) return text;
  if (setting.nullable && text === 'null') return null;
  const format: Format = FORMATS[setting.format];
  return format.fromText?.(text) ?? text;
}
