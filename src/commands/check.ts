import { parseArguments } from '../config/arguments.js';
import type { Config, Route } from '../config/config.js';
import { http2Caution } from '../config/http2-caution.js';
import { loadConfigWithSources } from '../config/load.js';
import { importNginx } from '../config/nginx-conf.js';
import type { LoadedConfig } from '../config/load.js';
import { isLoopback } from '../config/upstream.js';
import { ConfigError } from '../errors.js';
import { inspectCredentials } from '../trust/credentials.js';
import { isDirectory } from '../trust/files.js';
import { checkAuthorities, checkRevocation, checkServerChains } from './check-certificates.js';
import { checkFiles } from './check-files.js';
import { checkUpstream } from './check-upstream.js';
import { EXIT } from './command.js';
import type { Invocation, Terminal } from './command.js';
import { note, ok, problem, warning } from './findings.js';
import type { Finding, Grade } from './findings.js';
import { differences } from './nginx-report.js';
import { takeOptions } from './own-options.js';
import { printable, printableJson } from './printable.js';

/**
 * Says what is right and wrong with every setting and file, like `nginx -t`. Opens no port.
 * @returns 0, or 78 when `run` would refuse to start, or to let anybody in under a CA for a list that it cannot evaluate
 * @throws UsageError, ConfigError when an nginx configuration cannot be read
 */
export async function check({ argv, terminal, env }: Invocation): Promise<number> {
  const { switches, rest } = takeOptions(argv, [], ['json']);
  const given = parseArguments(rest);
  const findings = await examine({ ...given, ...(env === undefined ? {} : { env }) });
  const carried = given.nginx === undefined ? [] : differences(importNginx(given.nginx).report);
  const all = [...carried, ...findings];
  return switches.has('json') ? reportAsJson(all, terminal) : report(all, terminal);
}

async function examine(input: Parameters<typeof loadConfigWithSources>[0]): Promise<Finding[]> {
  try {
    const loaded = loadConfigWithSources(input);
    const { config } = loaded;
    return [
      ...checkSettings(loaded),
      ...checkCredentials(loaded),
      ...checkFiles(config),
      ...(await checkUpstream(config)),
      ...(await Promise.all(config.routes.map((route) => checkRoute(route, config)))).flat(),
    ];
  } catch (error) {
    if (!(error instanceof ConfigError)) throw error;
    const findings = error.problems.map((text) => problem('settings', text));
    return [...findings, note('settings', 'certificates and keys were not looked at: settings come first')];
  }
}

function checkSettings({ config, sources }: LoadedConfig): Finding[] {
  const given = [...sources].map(([name, source]) => ok(name, `${shown(config, name)} (${source})`));
  return [ok('settings', config.file ?? 'no file'), ...given, ...risks(config), ...http2Risk(config)];
}

/** The value in effect, short. Secrets are in the files that settings name; one is put into the setting all too easily. */
function shown(config: Config, name: string): string {
  if (name === 'tls.keyPassphraseFile') return 'given';
  if (name === 'routes') return config.routes.map((route) => route.name).join(', ');
  if (name === 'tls.certificates') return config.tls.certificates.map(({ cert }) => cert).join(', ');
  // Their texts may be passwords for the application.
  if (name === 'forwarded.headers') return Object.keys(config.forwarded.headers).join(', ');
  const value = name
    .split('.')
    .reduce<unknown>((at, key) => (at as Record<string, unknown> | undefined)?.[key], config);
  const text = value === undefined ? 'as the default' : JSON.stringify(value);
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function checkCredentials({ config, sources }: LoadedConfig): Finding[] {
  const inspection = inspectCredentials(config);
  const circumstances = { config, now: Date.now() };
  return [
    ...checkServerChains(inspection, circumstances),
    ...(inspection.credentials === null ? [] : [ok('tls.key', 'belongs to the certificate')]),
    ...checkAuthorities(inspection, circumstances),
    ...checkRevocation(inspection, circumstances),
    ...inspection.problems.map((text) => splitProblem(text, sources)),
  ];
}

function splitProblem(text: string, sources: LoadedConfig['sources']): Finding {
  const colon = text.indexOf(': ');
  const about = text.slice(0, colon);
  const source = sources.get(about);
  return problem(about, text.slice(colon + 2) + (source === undefined ? '' : ` (${source})`));
}

/** Allowed, and worth a second look. */
function risks({ tls, clientCert, upstream, admin }: Config): Finding[] {
  const { verify, allow } = clientCert;
  const all: readonly (readonly [boolean, Finding])[] = [
    [tls.legacy, warning('tls.legacy', 'LEGACY: accepts TLS versions, signatures and keys that are considered broken')],
    [!tls.legacy && tls.securityLevel < 2, warning('tls.securityLevel', 'is below 2, the level of nginx on Debian')],
    [verify === 'off', warning('clientCert.verify', 'OFF: every caller gets in, and nobody is identified')],
    [verify === 'optional', note('clientCert.verify', 'callers without a certificate get in, unidentified')],
    [verify === 'optional-no-ca', warning('clientCert.verify', 'callers with a certificate of any issuer get in')],
    [verify !== 'off' && allow.length === 0, note('clientCert.allow', 'every certificate under the CA gets in')],
    [isMissing(upstream.address), warning('upstream.url', 'is no directory: every file would be missing')],
    [isRemote(upstream.address), warning('upstream.url', 'identity headers travel in the clear to another machine')],
    [admin.port !== null && !isLoopback(admin.host), note('admin.host', 'others can reach the admin listener')],
  ];
  return all.filter(([applies]) => applies).map(([, finding]) => finding);
}

function http2Risk(config: Config): Finding[] {
  const caution = http2Caution(config);
  return caution === null ? [] : [warning(caution.setting, caution.text)];
}

/** What of a route is worth a second look, unless the settings have it, too. */
async function checkRoute(route: Route, config: Config): Promise<Finding[]> {
  const { name, clientCert, upstream } = route;
  const { verify } = clientCert;
  const about = `route ${name}`;
  const first = [config, ...config.routes].find((other) => other.upstream.url === upstream.url);
  const asked = first === route ? await checkUpstream(route) : [];
  const all: readonly (readonly [boolean, Finding])[] = [
    [verify === 'off', note(about, 'verify: off: every caller gets this, and nobody is identified')],
    [verify === 'optional', note(about, 'callers without a certificate get this, unidentified')],
    [verify === 'optional-no-ca', warning(about, 'callers with a certificate of any issuer get this')],
    [isMissing(upstream.address), warning(about, 'upstream is no directory: every file would be missing')],
    [isRemote(upstream.address), warning(about, 'identity headers travel in the clear to another machine')],
  ];
  return [
    ...all.filter(([applies]) => applies).map(([, finding]) => finding),
    ...asked.map((finding) => ({ ...finding, about })),
  ];
}

function isRemote(address: Config['upstream']['address']): boolean {
  return address.kind === 'tcp' && !isLoopback(address.host);
}

function isMissing(address: Config['upstream']['address']): boolean {
  return address.kind === 'file' && !isDirectory(address.path);
}

const COLOURS: Readonly<Record<Grade, string>> = { ok: '32', note: '36', warning: '33', error: '31' };

function report(findings: readonly Finding[], { out, colour }: Terminal): number {
  const width = Math.max(...findings.map(({ about }) => about.length));
  for (const { grade, about, text } of findings) {
    const word = colour ? `\u001b[${COLOURS[grade]}m${grade.padEnd(7)}\u001b[0m` : grade.padEnd(7);
    out(`${word}  ${about.padEnd(width)}  ${printable(text)}`);
  }
  const { errors, warnings } = count(findings);
  out(
    `${errors === 0 ? 'good to run' : 'would refuse to run'}: ${counted(errors, 'error')}, ${counted(warnings, 'warning')}`,
  );
  return errors === 0 ? EXIT.ok : EXIT.config;
}

/** Names stay; new ones may come. `text` is for people, and changes. */
function reportAsJson(findings: readonly Finding[], { out }: Terminal): number {
  const { errors, warnings } = count(findings);
  printableJson({ good: errors === 0, errors, warnings, findings }).forEach((line) => out(line));
  return errors === 0 ? EXIT.ok : EXIT.config;
}

function count(findings: readonly Finding[]): { readonly errors: number; readonly warnings: number } {
  const of = (wanted: Grade): number => findings.filter(({ grade }) => grade === wanted).length;
  return { errors: of('error'), warnings: of('warning') };
}

function counted(count: number, noun: string): string {
  return `${count} ${noun}${count === 1 ? '' : 's'}`;
}
