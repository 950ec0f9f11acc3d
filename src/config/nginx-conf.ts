import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { ConfigError, type Includes } from '../errors.js';
import type { ReportEntry } from '../nginx/ledger.js';
import { parseConf } from '../nginx/syntax.js';
import { NginxSyntaxError } from '../nginx/tokens.js';
import { translate, type Translation } from '../nginx/translate.js';
import { glob } from './glob.js';
import { SETTINGS } from './schema.js';
import type { Given, Layer } from './sources.js';

export type { ReportEntry } from '../nginx/ledger.js';

/** An nginx configuration in place of a settings file. */
export interface NginxInput {
  readonly file: string;
  /** What `root` is relative to; null for the usual place. */
  readonly prefix: string | null;
  /** Serve although something that decides about access is not carried. */
  readonly force: boolean;
}

/** A translation, and what it was read from. */
export interface Imported extends Translation {
  readonly includes: Includes;
}

/** @throws ConfigError when it cannot be read, or nginx would not take it */
export function importNginx({ file, prefix }: Pick<NginxInput, 'file' | 'prefix'>): Imported {
  const path = resolve(file);
  const files = new Set<string>();
  const directories = new Set<string>();
  const includes = (): Includes => ({
    files: [...files].filter((name) => name !== path),
    directories: [...directories],
  });
  try {
    const tree = parseConf(path, {
      read: (name) => {
        files.add(name);
        return readFileSync(name, 'utf8');
      },
      list: (pattern) => glob(pattern, (directory) => directories.add(directory)),
    });
    const translation = translate(tree, {
      file: path,
      prefix: prefix === null ? usualPrefix(path) : resolve(prefix),
      available: (setting) => SETTINGS.get(setting)?.format !== 'unavailable',
    });
    return { ...translation, includes: includes() };
  } catch (error) {
    if (error instanceof NginxSyntaxError) throw new ConfigError([error.message], includes());
    if ((error as NodeJS.ErrnoException).code === undefined) throw error;
    throw new ConfigError([`${path}: cannot be read: ${(error as Error).message}`]);
  }
}

/** The settings of an nginx configuration as a layer; what guards access and is not carried is a problem of it. */
export function nginxLayer(input: NginxInput): Layer {
  const { settings, report, missing, includes } = importNginx(input);
  const given = new Map<string, Given>();
  for (const [name, { value, file, line }] of settings) {
    given.set(name, { raw: value, source: `${file} line ${line}`, base: dirname(file) });
  }
  const guards = input.force ? [] : report.filter(({ isGuard }) => isGuard).map(guardProblem);
  return { given, problems: [...guards, ...missing.map((what) => `${input.file}: ${what}`)], isWhole: true, includes };
}

function guardProblem({ file, line, directive, text }: ReportEntry): string {
  return `${file} line ${line}: ${directive}: not carried: ${text} (--force serves without it)`;
}

/** `/opt/nginx/conf/nginx.conf` belongs to `/opt/nginx`; elsewhere file and prefix share a directory. */
function usualPrefix(file: string): string {
  const directory = dirname(file);
  return basename(directory) === 'conf' ? dirname(directory) : directory;
}
