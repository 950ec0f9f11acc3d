import { didYouMean } from '../config/suggest.js';
import { ConfigError, UsageError } from '../errors.js';
import { EXIT } from './command.js';
import type { Command, Invocation, Terminal } from './command.js';
import { printable } from './printable.js';

interface Entry {
  readonly summary: string;
  readonly usage: string;
}

const SETTINGS_HELP = [
  '  --config FILE, -c FILE   YAML file of settings',
  '  --nginx-conf FILE        nginx configuration in place of it; with --prefix DIR what root is relative to,',
  '                           with --force although something that guards access is not carried',
  '  --NAME VALUE             any setting, such as --listen.port 8443 or --clientCert.ca=ca.pem',
  '  --pretty                 short for --log.pretty: the log for people',
  '',
  'Every setting is also an environment variable: tls.minVersion is MTLS_SIDECAR_TLS_MIN_VERSION.',
  'A flag wins over a variable, a variable over the file, the file over the default.',
].join('\n');

const COMMANDS = {
  run: {
    summary: 'serve until SIGTERM',
    usage: `Usage: mtls-sidecar run [--config FILE] [--NAME VALUE]…\n\n${SETTINGS_HELP}`,
  },
  check: {
    summary: 'say what is right and wrong with settings, certificates and keys, like nginx -t',
    usage: `Usage: mtls-sidecar check [--json] [--config FILE] [--NAME VALUE]…

  --json                   findings as JSON
${SETTINGS_HELP}`,
  },
  explain: {
    summary: 'say whether a certificate gets in, why not, and what the application sees of it',
    usage: `Usage: mtls-sidecar explain --client FILE [--chain FILE] [--method POST] [--path /x] [--host NAME] [--json] [--config FILE]
       mtls-sidecar explain --url https://HOST[:PORT] [--client FILE --key FILE] [--ca FILE] [--chain FILE] …

The first asks OpenSSL with the settings and files here, and needs no key. The second calls a running sidecar, sends one
real request, and says which step failed. Exit code 0: admitted, 1: refused.

  --client FILE            certificate of the caller, with or without its intermediates
  --chain FILE             more intermediates
  --method, --path         also judge this request (with --url: send it; default GET /)
  --host NAME              its Host, where routes go by it; default: the first of listen.serverNames
  --key FILE               private key of the caller
  --ca FILE                whom to trust with the server certificate; default: the public roots
  --proxy-header           begin as a balancer that speaks the PROXY protocol; its address has to be in listen.proxyProtocolFrom
  --json                   the answer as JSON
${SETTINGS_HELP}`,
  },
  probe: {
    summary: 'ask a running sidecar whether it is ready or alive; exit code 0 or 1',
    usage: `Usage: mtls-sidecar probe [--ready | --live] [--config FILE] [--NAME VALUE]…

  --ready                  does the application accept connections, and no drain has begun (GET /readyz; the default)
  --live                   does the process run (GET /livez)
${SETTINGS_HELP}`,
  },
  drain: {
    summary: 'make a running sidecar fail its readiness and tell callers to close',
    usage: `Usage: mtls-sidecar drain [--config FILE] [--NAME VALUE]…\n\n${SETTINGS_HELP}`,
  },
  'rotate-ticket-keys': {
    summary: 'rotate session ticket keys, in files or in a Kubernetes Secret',
    usage: `Usage: mtls-sidecar rotate-ticket-keys CURRENT NEXT PREVIOUS… [--secret NAME]

The files of tls.sessions.ticketKeys in their order. NEXT becomes CURRENT, CURRENT becomes PREVIOUS, and the last one goes. NEXT
is a new key: all replicas know it before the next rotation, from which on they seal with it. Files that are missing are made.

  --secret NAME            these are entries of a Secret, for a pod whose service account may get and patch it
  --api-server URL         default: https://kubernetes.default.svc
  --account FOLDER         token, ca.crt and namespace; default: /var/run/secrets/kubernetes.io/serviceaccount`,
  },
  import: {
    summary: 'turn an nginx configuration into a settings file, and say what is different',
    usage: `Usage: mtls-sidecar import nginx.conf [--prefix DIR] [--force]

The settings go to standard output, the report on every directive to standard error.

  --prefix DIR             what root is relative to; default: the directory of the file, or above its directory conf
  --force                  exit code 0 although something that guards access is not carried`,
  },
  demo: {
    summary: 'show the main job on this machine, with certificates made for it',
    usage: 'Usage: mtls-sidecar demo [--once]\n\n  --once   end after the two requests',
  },
} as const satisfies Readonly<Record<string, Entry>>;
export type CommandName = keyof typeof COMMANDS;

/** How each command is loaded: when it is called, so that `--version` stays cheap. */
export type Loaders = Readonly<Record<CommandName, () => Promise<Command>>>;

/** A whole command line and what it is answered with. */
export interface CommandLine extends Invocation {
  readonly version: string;
  readonly loaders: Loaders;
}

/**
 * Runs the command that `argv` names and says on `err` what is wrong, one line a problem.
 * @returns the exit code; never throws
 */
export async function runCommandLine({ argv, version, loaders, ...rest }: CommandLine): Promise<number> {
  const [name, ...following] = argv;
  try {
    if (name === '--version' || name === '-v' || name === 'version') return say(rest.terminal, version);
    if (name === '--help' || name === '-h' || name === 'help') return say(rest.terminal, help(following[0]));
    if (name === undefined) throw new UsageError('which command?');
    if (following.includes('--help') || following.includes('-h')) return say(rest.terminal, help(name));
    const command = await loaders[find(name)]();
    return await command({ argv: following, ...rest });
  } catch (error) {
    return explain(error, rest.terminal);
  }
}

function say(terminal: Terminal, text: string): number {
  text.split('\n').forEach((line) => terminal.out(line));
  return EXIT.ok;
}

function help(topic: string | undefined): string {
  if (topic !== undefined) return COMMANDS[find(topic)].usage;
  const lines = Object.entries(COMMANDS).map(([name, { summary }]) => `  ${name.padEnd(18)} ${summary}`);
  return [
    'Usage: mtls-sidecar COMMAND [--config FILE] [--NAME VALUE]…',
    '',
    ...lines,
    '',
    'mtls-sidecar help COMMAND says more.',
  ].join('\n');
}

function find(name: string): CommandName {
  if (Object.hasOwn(COMMANDS, name)) return name as CommandName;
  throw new UsageError(`there is no command ${JSON.stringify(name)}${didYouMean(name, Object.keys(COMMANDS))}`);
}

function explain(error: unknown, terminal: Terminal): number {
  if (error instanceof ConfigError) {
    error.problems.forEach((problem) => terminal.err(`mtls-sidecar: ${printable(problem)}`));
    return EXIT.config;
  }
  if (error instanceof UsageError) {
    terminal.err(`mtls-sidecar: ${printable(error.message)}; mtls-sidecar --help says what there is`);
    return EXIT.usage;
  }
  terminal.err(
    `mtls-sidecar: internal error: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
  );
  return EXIT.internal;
}
