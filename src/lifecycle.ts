import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { Script } from 'node:vm';
import type { Stoppable } from './app.js';
import type { Config } from './config/config.js';

/** Exit codes of a drain: complete, or cut short (sysexits.h EX_TEMPFAIL). */
const COMPLETE = 0;
const CUT_SHORT = 75;

/** How often the end of the last connection is looked for. Milliseconds. */
const GLANCE = 25;

/** What V8 has seen of a script fades out within 110 seconds; each time it is new it looks like much for eight. Milliseconds. */
const REMINDER = 60_000;

/**
 * Serves until SIGTERM or SIGINT, then drains: readiness fails and callers are told to close at once; new connections
 * are still served for `shutdown.delay`, while load balancers learn of it; then what is in flight finishes.
 * `shutdown.grace` counts from the signal and bounds it all; a second signal ends it at once.
 * @returns the exit code
 */
export async function runUntilStopped(app: Stoppable, { shutdown }: Pick<Config, 'shutdown'>): Promise<number> {
  // A peer of stdout that goes away must not take the proxy along.
  process.on('SIGPIPE', () => undefined);
  process.on('SIGHUP', () => void app.reload());
  letMemoryGo();
  await Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]);
  const impatient = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]).then(() => undefined);
  const complete = await drain(app, shutdown, impatient);
  const connections = await app.connections();
  app.log.info(complete ? 'stopped' : 'stopped: connections were cut short', { connections });
  await app.close();
  return complete ? COMPLETE : CUT_SHORT;
}

async function drain(app: Stoppable, shutdown: Config['shutdown'], impatient: Promise<void>): Promise<boolean> {
  const deadline = Date.now() + shutdown.grace;
  app.drain();
  await Promise.race([sleep(Math.min(shutdown.delay, shutdown.grace)), impatient]);
  app.stopAccepting();
  let hurry = false;
  void impatient.then(() => (hurry = true));
  while ((await app.connections()) > 0 && Date.now() < deadline && !hurry) await sleep(GLANCE);
  return (await app.connections()) === 0;
}

/**
 * Lets V8 see when its process is at rest, so that it gives back what a busy time took.
 *
 * V8 keeps the pages of its heap for later until it collects garbage to save memory. Every eight seconds it looks whether next to nothing is
 * allocated, and then does. Since 13.1 (Node 24 and 26) it takes it for very much when no object of C++ was ever allocated (nodejs/node#66564),
 * and waits until a hundred seconds have passed without a whole collection, which a process with a little to do may never have. A script is such an
 * object; this one has nothing to say.
 */
export function letMemoryGo(): void {
  const remind = (): unknown => new Script('');
  remind();
  setInterval(remind, REMINDER).unref();
}

/**
 * Whoever looks after several processes hears the signals, and tells them. A terminal and some supervisors send a signal to
 * every process of a group, and a worker that obeyed would cut off its callers.
 */
export function leaveSignalsToPrimary(): void {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGPIPE'] as const) process.on(signal, () => undefined);
}
