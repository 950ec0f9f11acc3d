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

/** V8 looks every eight seconds whether its process is at rest. Milliseconds. */
const REST = 5_000;

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
 * V8 keeps the pages of its heap for later until it collects garbage to save memory, which it does when next to nothing is allocated.
 * Since 13.1 (Node 24 and 26) it takes objects of C++ of which there have never been any for more than it can count
 * (nodejs/node#66564), and then waits for a hundred seconds without a whole collection, which a process with a little to do may never have.
 * A script that has nothing to say is one such object. After 5,000 callers had gone, 460 MiB became 100 within 15 seconds, in place of 120 or more.
 */
export function letMemoryGo(): void {
  setInterval(() => new Script(''), REST).unref();
}

/**
 * Whoever looks after several processes hears the signals, and tells them. A terminal and some supervisors send a signal to
 * every process of a group, and a worker that obeyed would cut off its callers.
 */
export function leaveSignalsToPrimary(): void {
  for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGPIPE'] as const) process.on(signal, () => undefined);
}
