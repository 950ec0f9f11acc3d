import { parseArgs } from 'node:util';

/** What is run when nothing else is said: every demand on a request once. */
const SHORT = ['callbacks', 'rate', 'handshake-rsa', 'handshake-resumed', 'bodies-64k-down'];

/** Settings by preset; `connections` are the quiet ones. */
export const PRESETS = {
  default: { scenarios: SHORT, rounds: 5, seconds: 3, connections: 10_000 },
  quick: { scenarios: SHORT, rounds: 2, seconds: 1, connections: 1_000 },
  record: { scenarios: 'all', rounds: 4, seconds: 1.5, connections: 10_000, record: true },
  guard: {
    scenarios: ['callbacks', 'handshake-rsa', 'handshake-resumed', 'bodies-64k-down', 'bodies-16m-down'],
    rounds: 5,
    seconds: 2,
    connections: 1_000,
    guard: true,
  },
  soak: { scenarios: ['memory'], rounds: 1, seconds: 600, connections: 1_000 },
};

export const USAGE = `npm run bench -- [--preset ${Object.keys(PRESETS).join('|')}] [--scenario a,b|all] [--only sidecar,nginx]
                 [--rounds N] [--seconds S] [--idle-connections N] [--guard] [--list] [--help]`;

function list(text, known, what) {
  const names = text.split(',');
  const unknown = names.filter((name) => !known.includes(name));
  if (unknown.length > 0)
    throw new Error(`unknown ${what} ${unknown.join(', ')}; known: ${known.join(', ')}\n${USAGE}`);
  return names;
}

function positive(name, text) {
  if (!(Number(text) > 0)) throw new Error(`--${name} must be a positive number\n${USAGE}`);
  return Number(text);
}

function parse(args) {
  const text = { type: 'string' };
  const flag = { type: 'boolean', default: false };
  const named = { preset: text, scenario: text, only: text, rounds: text, seconds: text, 'idle-connections': text };
  try {
    return parseArgs({ args, options: { ...named, guard: flag, list: flag, help: flag } }).values;
  } catch (error) {
    throw new Error(`${error.message}\n${USAGE}`, { cause: error });
  }
}

/**
 * @param argv words after the name of the script
 * @param known { scenarios, peers }: names
 * @returns { preset, scenarios, peers, rounds, seconds, connections, record, guard, list, help }; `seconds` is null for
 *   "as the scenario says" and `peers` null for "all that the scenario compares"
 * @throws Error with the usage
 */
export function readOptions(argv, known) {
  const values = parse(argv);
  const name = values.preset ?? (values.guard ? 'guard' : 'default');
  const [preset] = list(name, Object.keys(PRESETS), 'preset').map((key) => PRESETS[key]);
  const scenarios = values.scenario ?? preset.scenarios;
  return {
    preset: name,
    scenarios: scenarios === 'all' ? known.scenarios : list(String(scenarios), known.scenarios, 'scenario'),
    peers: values.only === undefined ? null : list(values.only, known.peers, 'proxy'),
    rounds: values.rounds === undefined ? preset.rounds : positive('rounds', values.rounds),
    seconds: values.seconds === undefined ? preset.seconds : positive('seconds', values.seconds),
    connections: positive('idle-connections', values['idle-connections'] ?? preset.connections),
    record: preset.record === true,
    guard: values.guard || preset.guard === true,
    list: values.list,
    help: values.help,
  };
}
