import { parseArguments } from '../config/arguments.js';
import { loadConfigWithSources } from '../config/load.js';
import type { LoadedConfig } from '../config/load.js';
import { UsageError } from '../errors.js';
import { rehearse, type AbsentCaller } from '../rehearsal.js';
import { loadCredentials } from '../trust/credentials.js';
import type { Credentials } from '../trust/credentials.js';
import { readCertificates, readPrivateKey } from '../trust/presented-files.js';
import { EXIT } from './command.js';
import type { Invocation } from './command.js';
import { callAsCaller } from './explain-call.js';
import type { Question } from './explain-call.js';
import { callAsJson, callAsText, rehearsalAsJson, rehearsalAsText } from './explain-report.js';
import { takeOptions } from './own-options.js';
import { printable, printableJson } from './printable.js';
import { withSources } from './with-sources.js';

const NAMES = ['client', 'chain', 'method', 'path', 'host', 'url', 'key', 'ca'] as const;
type Name = (typeof NAMES)[number];
type Values = Readonly<Partial<Record<Name, string>>>;

/**
 * Says whether a certificate gets in, and why not. Without `--url` by the settings and files here, and nothing is opened;
 * with it by asking a running sidecar in a real handshake.
 * @returns 0 for admitted, 1 for refused
 * @throws UsageError, ConfigError
 */
export async function explain({ argv, terminal, env }: Invocation): Promise<number> {
  const { values, switches, rest } = takeOptions(argv, NAMES, ['json', 'proxy-header']);
  const proxyHeader = switches.has('proxy-header');
  if (proxyHeader && values.url === undefined) throw new UsageError('--proxy-header is of use with --url alone');
  const { admitted, json, text } =
    values.url === undefined ? await offline(values, rest, env) : await online({ ...values, proxyHeader }, rest);
  const lines = switches.has('json') ? printableJson(json) : text.map(printable);
  lines.forEach((line) => terminal.out(line));
  return admitted ? EXIT.ok : EXIT.failed;
}

interface Explanation {
  readonly admitted: boolean;
  readonly json: unknown;
  readonly text: readonly string[];
}

async function offline(values: Values, rest: readonly string[], env: Invocation['env']): Promise<Explanation> {
  if (values.key !== undefined) throw new UsageError('--key is of use with --url alone: offline nobody asks for it');
  if (values.ca !== undefined) throw new UsageError('--ca is of use with --url alone: give --clientCert.ca');
  if (values.client === undefined) throw new UsageError('explain needs --client FILE, the certificate of the caller');
  const request = requestOf(values);
  const loaded = loadConfigWithSources({ ...parseArguments(rest), ...(env === undefined ? {} : { env }) });
  const { config } = loaded;
  const credentials = credentialsOf(loaded);
  const chain = certificatesOf(values);
  const rehearsal = await rehearse(config, credentials, { chain, request, now: Date.now() });
  return {
    admitted: rehearsal.objection === null,
    json: rehearsalAsJson(rehearsal, config),
    text: rehearsalAsText(rehearsal, config),
  };
}

function credentialsOf({ config, sources }: LoadedConfig): Credentials {
  try {
    return loadCredentials(config);
  } catch (error) {
    throw withSources(error, sources);
  }
}

async function online(values: Values & Pick<Question, 'proxyHeader'>, rest: readonly string[]): Promise<Explanation> {
  const [stray] = rest;
  if (stray !== undefined) {
    throw new UsageError(`${JSON.stringify(stray)}: with --url the settings are those of the running sidecar`);
  }
  if (values.host !== undefined) throw new UsageError('--host is of use without --url alone');
  if ((values.client === undefined) !== (values.key === undefined)) {
    throw new UsageError('--url needs --client and --key, or neither to call without a certificate');
  }
  const question = {
    ...originOf(values.url ?? ''),
    proxyHeader: values.proxyHeader,
    request: requestOf(values) ?? { method: 'GET', target: '/' },
    ...proofOf(values),
  };
  const outcome = await callAsCaller(question);
  return { admitted: outcome.admitted, json: callAsJson(outcome), text: callAsText(outcome, question) };
}

function certificatesOf({ client, chain }: Values) {
  return [
    ...(client === undefined ? [] : readCertificates('--client', client)),
    ...(chain === undefined ? [] : readCertificates('--chain', chain)),
  ];
}

function proofOf(values: Values): Pick<Question, 'chain' | 'key' | 'ca'> {
  const chain = certificatesOf(values);
  const [leaf] = chain;
  const key = values.key === undefined || leaf === undefined ? null : readPrivateKey('--key', values.key, leaf);
  return { chain, key, ca: values.ca === undefined ? null : readCertificates('--ca', values.ca) };
}

function originOf(text: string): Pick<Question, 'host' | 'port'> {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url?.protocol !== 'https:' || url.pathname !== '/' || /[?#@]/.test(text)) {
    throw new UsageError('--url must be https://HOST[:PORT]; --path says the rest');
  }
  return { host: url.hostname.replace(/^\[|\]$/g, ''), port: url.port === '' ? 443 : Number(url.port) };
}

function requestOf({ method, path, host }: Values): AbsentCaller['request'] {
  if (method === undefined && path === undefined && host === undefined) return null;
  if (path !== undefined && !/^\/[!-~]*$/.test(path))
    throw new UsageError('--path must begin with / and be plain ASCII');
  if (method !== undefined && !/^[A-Z][A-Z-]*$/.test(method)) {
    throw new UsageError('--method must be an upper-case word such as POST');
  }
  return { method: method ?? 'GET', target: path ?? '/', ...(host === undefined ? {} : { host }) };
}
