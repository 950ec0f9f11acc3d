import { UsageError } from '../errors.js';
import { askAdmin } from './ask-admin.js';
import type { Invocation } from './command.js';

const PATHS: ReadonlyMap<string, string> = new Map([
  ['--ready', '/readyz'],
  ['--live', '/livez'],
]);

/**
 * Asks a running sidecar whether it is ready, or with `--live` whether it is alive: for HEALTHCHECK and exec probes in an
 * image that has neither shell nor curl.
 * @returns 0 when it is, else 1
 * @throws UsageError, ConfigError
 */
export async function probe(invocation: Invocation): Promise<number> {
  const asked = invocation.argv.filter((word) => PATHS.has(word));
  if (asked.length > 1) throw new UsageError('probe takes one of --ready and --live');
  const argv = invocation.argv.filter((word) => !PATHS.has(word));
  return askAdmin({ ...invocation, argv }, { method: 'GET', path: PATHS.get(asked[0] ?? '--ready') ?? '' });
}
