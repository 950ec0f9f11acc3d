import { UsageError } from '../errors.js';
import { rotate, rotateFiles } from '../trust/ticket-keys.js';
import { EXIT } from './command.js';
import type { Invocation } from './command.js';
import { changeSecret, failed, readSecret, SecretError, type SecretPlace } from './kubernetes-secret.js';
import { takeOptions } from './own-options.js';
import { printable } from './printable.js';

const API_SERVER = 'https://kubernetes.default.svc';
const ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';

/** What Kubernetes takes for the name of a Secret and of an entry in it: nothing that could be another path. */
const SECRET_NAME = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/;
const ENTRY_NAME = /^[-\w.]{1,253}$/;

/**
 * Rotates session ticket keys, in files or in a Secret of Kubernetes; `trust/ticket-keys.ts` says how.
 * @returns 0, or 1 when the Secret could not be read or changed
 * @throws UsageError, ConfigError for files
 */
export async function rotateTicketKeys({ argv, terminal }: Invocation): Promise<number> {
  const { values, rest: names } = takeOptions(argv, ['secret', 'api-server', 'account'], []);
  refuseOddNames(names);
  try {
    const place = placeOf(values);
    const made = place === null ? rotateFiles(names) : await rotateSecret(place, names);
    const what = made.length === 0 ? `rotated ${names.join(', ')}` : `made ${made.join(', ')}; rotated nothing yet`;
    terminal.out(printable(place === null ? what : `${what} in Secret ${place.name}`));
    return EXIT.ok;
  } catch (error) {
    if (!(error instanceof SecretError)) throw error;
    terminal.err(`mtls-sidecar: ${printable(error.message)}`);
    return EXIT.failed;
  }
}

function refuseOddNames(names: readonly string[]): void {
  const odd = names.find((name) => name.startsWith('-'));
  if (odd !== undefined) throw new UsageError(`rotate-ticket-keys has no option ${odd}`);
  if (names.length < 3) {
    throw new UsageError(
      'rotate-ticket-keys needs three names or more: the key that seals, the next, and what still opens',
    );
  }
  if (new Set(names).size < names.length) throw new UsageError('rotate-ticket-keys was given a name twice');
}

/** Null for files. */
function placeOf(values: Partial<Record<'secret' | 'api-server' | 'account', string>>): SecretPlace | null {
  const { secret: name, 'api-server': server = API_SERVER, account = ACCOUNT } = values;
  if (name === undefined) {
    if (Object.keys(values).length > 0) throw new UsageError('--api-server and --account go with --secret');
    return null;
  }
  if (!SECRET_NAME.test(name)) throw new UsageError(`--secret: ${name} is no name of a Secret`);
  return { name, account, apiServer: originOf(server) };
}

/** A path would be left out of what is asked for, and a password would never be sent: neither goes unsaid. */
function originOf(server: string): URL {
  const url = URL.canParse(server) ? new URL(server) : null;
  if (url?.protocol !== 'https:' || url.href !== `${url.origin}/`) {
    throw new UsageError('--api-server is no https:// URL of a host, with or without a port');
  }
  return url;
}

/** Once more when somebody changed it meanwhile: what they made of it is then rotated. */
async function rotateSecret(place: SecretPlace, names: readonly string[]): Promise<readonly string[]> {
  const odd = names.find((name) => !ENTRY_NAME.test(name));
  if (odd !== undefined) throw new UsageError(`${odd} is no name of an entry of a Secret`);
  for (let tries = 0; tries < 2; tries += 1) {
    const { version, data } = await readSecret(place);
    const { keys, made } = rotate(
      new Map(names.map((name) => [name, data.get(name) ?? null])),
      `Secret ${place.name}: `,
    );
    if (await changeSecret(place, { version, data: keys })) return made;
  }
  throw failed(place, 'somebody else changed it meanwhile, twice; nothing was rotated');
}
