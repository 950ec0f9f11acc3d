import { askAdmin } from './ask-admin.js';
import type { Invocation } from './command.js';

/**
 * Makes a running sidecar fail its readiness and tell callers to close; it goes on serving. For preStop hooks, which come
 * before SIGTERM.
 * @returns 0 when it does, else 1
 * @throws UsageError, ConfigError
 */
export async function drain(invocation: Invocation): Promise<number> {
  return askAdmin(invocation, { method: 'POST', path: '/drain' });
}
