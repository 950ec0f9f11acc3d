import { resolve } from 'node:path';
import convict from 'convict';
import { ConfigError, NO_INCLUDES } from '../errors.js';
import { FORMATS } from './formats.js';
import type { CaSource, Format } from './formats.js';
import { nginxLayer } from './nginx-conf.js';
import type { NginxInput } from './nginx-conf.js';
import { routeOf, configFor, type WrittenRoute } from './routes.js';
import { ROUTE_RULES, RULES, type Rule } from './rules.js';
import { SCHEMA, SETTINGS } from './schema.js';
import { environmentLayer, fileLayer, flagLayer } from './sources.js';
import type { Environment, Given, Layer } from './sources.js';
import { parseUpstream } from './upstream.js';
import type { CertificateEntry } from './certificates.js';
import type { Config } from './config.js';

/** Where settings come from. */
export interface ConfigInput {
  /** Text by full setting name, as `parseArguments` gives it. */
  readonly flags?: Readonly<Record<string, string>>;
  /** Default: the environment of the process. */
  readonly env?: Environment;
  /** YAML file, or null for none. */
  readonly file?: string | null;
  /** In place of a YAML file. */
  readonly nginx?: NginxInput;
}

/** A configuration together with where each setting that is not at its default came from. */
export interface LoadedConfig {
  readonly config: Config;
  readonly sources: ReadonlyMap<string, string>;
}

for (const [name, format] of Object.entries<Format>(FORMATS)) {
  // Only a validator, no coercion: convict would hand "8443abc" on as 8443 and any word as true.
  convict.addFormat({ name, validate: (value, options) => void format.parse(value, options) });
}

/**
 * Reads and judges every setting. Precedence: flag, environment variable, file, default.
 * @throws ConfigError with all problems at once
 */
export function loadConfig(input: ConfigInput): Config {
  return loadConfigWithSources(input).config;
}

/** As `loadConfig`, for those who want to show where a value came from. @throws ConfigError */
export function loadConfigWithSources(input: ConfigInput): LoadedConfig {
  const layers = readLayers(input);
  const given = new Map(layers.flatMap((layer) => [...layer.given]));
  const malformed = findMalformed(given);
  const includes = layers.find((layer) => layer.includes !== undefined)?.includes ?? NO_INCLUDES;
  const config = { ...assemble(given, malformed, input.file ?? input.nginx?.file ?? null), includes };
  const problems = [
    ...layers.flatMap((layer) => layer.problems),
    ...[...malformed].map(([name, message]) => `${describe(name, given)}: ${message}`),
    // What seems to be missing, or to be at its default, may stand in the part that could not be read.
    ...(layers.every(({ isWhole }) => isWhole) ? brokenRules(config, given, malformed) : []),
  ];
  if (problems.length > 0) throw new ConfigError(problems, includes);
  const inForce = { ...config, tls: effectiveTls(config.tls) };
  return { config: deepFreeze(inForce), sources: new Map([...given].map(([name, { source }]) => [name, source])) };
}

/** Lowest precedence first, so that a later layer replaces an earlier one. */
function readLayers({ flags = {}, env = process.env, file = null, nginx }: ConfigInput): Layer[] {
  const fromFile = file === null ? [] : [fileLayer(file)];
  const fromNginx = nginx === undefined ? [] : [nginxLayer(nginx)];
  return [...fromFile, ...fromNginx, environmentLayer(env), flagLayer(flags)];
}

/** Message by setting, in convict's order. */
function findMalformed(given: ReadonlyMap<string, Given>): Map<string, string> {
  const settings = convict<Record<string, unknown>>(SCHEMA, { env: {}, args: [] });
  for (const [name, { raw }] of given) settings.set(name, raw);
  try {
    settings.validate({ allowed: 'strict' });
    return new Map();
  } catch (error) {
    return new Map((error as Error).message.split('\n').map(splitMessage));
  }
}

/** Convict writes one line for each setting, `name: message`, and quotes values as JSON: no line breaks inside. */
function splitMessage(line: string): [string, string] {
  const colon = line.indexOf(': ');
  return [line.slice(0, colon), line.slice(colon + 2)];
}

/** The settings as written. A malformed one takes its default here, so that the rules can judge the rest. */
function assemble(
  given: ReadonlyMap<string, Given>,
  malformed: ReadonlyMap<string, string>,
  file: string | null,
): Config {
  const values: Record<string, unknown> = {};
  for (const name of SETTINGS.keys()) {
    put(values, name.split('.'), valueOf(name, malformed.has(name) ? undefined : given.get(name)));
  }
  // Their names are fixed, but nothing of this version reads them.
  delete values['callback'];
  const settings = values as unknown as Config;
  const whole: Config = {
    ...settings,
    includes: NO_INCLUDES,
    file: file === null ? null : resolve(file),
    clientCert: { ...settings.clientCert, ...effectiveCas(settings.clientCert.ca as unknown as CaSource[]) },
    upstream: { ...settings.upstream, address: parseUpstream(settings.upstream.url) },
    routes: [],
  };
  const written = settings.routes as unknown as WrittenRoute[];
  return { ...whole, routes: written.map((route) => routeOf(route, whole)) };
}

function effectiveTls(tls: Config['tls']): Config['tls'] {
  return { ...tls, securityLevel: tls.legacy ? 0 : tls.securityLevel };
}

function effectiveCas(sources: readonly CaSource[]): Pick<Config['clientCert'], 'ca' | 'caLabels'> {
  const labels = sources.flatMap(({ file, label }) => (label === null ? [] : [[file, label] as const]));
  return { ca: sources.map(({ file }) => file), caLabels: Object.fromEntries(labels) };
}

function valueOf(name: string, given: Given | undefined): unknown {
  const setting = SETTINGS.get(name);
  if (setting === undefined) return undefined;
  const raw = given === undefined ? setting.default : given.raw;
  const format: Format = FORMATS[setting.format];
  const value = raw === null ? null : format.parse(raw, setting);
  if (setting.format === 'files' || setting.format === 'file-list') return absolute((value ?? []) as string[], given);
  if (setting.format === 'ca-files') return absoluteSources((value ?? []) as CaSource[], given);
  if (setting.format === 'certificates') return absolutePairs(value as CertificateEntry[], given);
  if (setting.format !== 'file') return value;
  // The type of Config promises a certificate and a key; a rule refuses the empty name.
  if (value === null) return name === 'tls.keyPassphraseFile' ? null : '';
  return absolute([value as string], given)[0];
}

function absoluteSources(sources: readonly CaSource[], given: Given | undefined): CaSource[] {
  return sources.map(({ file, label }) => ({ file: resolve(given?.base ?? '.', file), label }));
}

function absolutePairs(pairs: readonly CertificateEntry[], given: Given | undefined): CertificateEntry[] {
  const whole = (file: string): string => resolve(given?.base ?? '.', file);
  return pairs.map((pair) => ({
    ...pair,
    cert: whole(pair.cert),
    key: whole(pair.key),
    keyPassphraseFile: pair.keyPassphraseFile === null ? null : whole(pair.keyPassphraseFile),
  }));
}

function absolute(files: readonly string[], given: Given | undefined): string[] {
  return files.map((file) => resolve(given?.base ?? '.', file));
}

function put(into: Record<string, unknown>, [key = '', ...rest]: readonly string[], value: unknown): void {
  // Keys come from the schema alone, never from input.
  if (rest.length === 0) into[key] = value;
  else put((into[key] ??= {}) as Record<string, unknown>, rest, value);
}

function brokenRules(
  config: Config,
  given: ReadonlyMap<string, Given>,
  malformed: ReadonlyMap<string, string>,
): string[] {
  const applicable = RULES.filter(({ about }) => !about.some((name) => malformed.has(name)));
  const problems = applicable.flatMap((rule) => {
    const message = rule.problem(config);
    if (message === null) return [];
    const others = rule.about.slice(1).filter((name) => given.has(name));
    const because = others.length > 0 ? ` [${others.map((name) => describe(name, given)).join(', ')}]` : '';
    return [`${describe(rule.about[0] ?? '', given)}: ${message}${because}`];
  });
  return malformed.has('routes') ? problems : [...problems, ...brokenInRoutes(config, given, applicable)];
}

/** What holds for the settings holds for those of a route; what is wrong with both is said once. */
function brokenInRoutes(config: Config, given: ReadonlyMap<string, Given>, applicable: readonly Rule[]): string[] {
  return config.routes.flatMap((route, index) => {
    const where = `${describe('routes', given)}: route ${index + 1} (${JSON.stringify(route.name)})`;
    const own = configFor(config, route);
    const inherited = applicable.flatMap((rule) => {
      const message = rule.problem(own);
      return message === null || rule.problem(config) === message ? [] : [`${where}: ${rule.about[0]} ${message}`];
    });
    const others = ROUTE_RULES.flatMap((rule) => rule.problem(route, config) ?? []);
    return [...inherited, ...others.map((message) => `${where}: ${message}`)];
  });
}

function describe(name: string, given: ReadonlyMap<string, Given>): string {
  return `${name} (${given.get(name)?.source ?? 'default'})`;
}

function deepFreeze<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value;
  Object.values(value).forEach(deepFreeze);
  return Object.freeze(value);
}
