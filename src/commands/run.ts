import { startApp } from '../app.js';
import type { App, AppOptions, Stoppable } from '../app.js';
import { parseArguments } from '../config/arguments.js';
import type { Config } from '../config/config.js';
import { loadConfig, loadConfigWithSources } from '../config/load.js';
import { importNginx } from '../config/nginx-conf.js';
import { workerCount } from '../config/processors.js';
import { ConfigError } from '../errors.js';
import { runUntilStopped } from '../lifecycle.js';
import { loadCredentials } from '../trust/credentials.js';
import { startPrimary, type PrimaryOptions } from '../workers/primary.js';
import { isWorker, serveAsWorker } from '../workers/worker.js';
import { bindProblem } from './bind-problem.js';
import type { Invocation } from './command.js';
import { tellDifferences } from './nginx-report.js';
import { withSources } from './with-sources.js';

/**
 * Serves until it is told to stop. Nothing listens before every setting and file is known to be good.
 * @returns 0, or 75 when requests in flight were cut short
 * @throws UsageError, ConfigError
 */
export async function run({ argv, env, terminal }: Invocation): Promise<number> {
  // Begun by another process of this program, which has read the settings and hands them over.
  if (isWorker()) return serveAsWorker();
  const given = parseArguments(argv);
  const input = { ...given, ...(env === undefined ? {} : { env }) };
  const { config, sources } = loadConfigWithSources(input);
  if (given.nginx !== undefined) tellDifferences(importNginx(given.nginx).report, terminal);
  const readConfig = (): Config => loadConfig(input);
  const size = workerCount(config);
  const app =
    size === 1
      ? await start(config, { readConfig, sources })
      : await startWorkers(config, { size, readConfig, sources });
  return runUntilStopped(app, config);
}

/** Where settings were given, by name, for messages. */
type Sources = ReadonlyMap<string, string>;

interface StartOptions extends AppOptions {
  readonly sources?: Sources;
}

/** Reads the files that the settings name, and listens. @throws ConfigError */
export function start(config: Config, { sources = new Map(), ...options }: StartOptions = {}): Promise<App> {
  return explained(config, sources, async () => startApp(config, loadCredentials(config), options));
}

interface WorkersOptions extends PrimaryOptions {
  readonly sources: Sources;
}

/** The same in several processes. @throws ConfigError */
function startWorkers(config: Config, { sources, ...options }: WorkersOptions): Promise<Stoppable> {
  return explained(config, sources, () => startPrimary(config, options));
}

async function explained<T>(config: Config, sources: Sources, begin: () => Promise<T>): Promise<T> {
  try {
    return await begin();
  } catch (error) {
    const problem = bindProblem(error as NodeJS.ErrnoException, config);
    throw withSources(problem === null ? error : new ConfigError([problem]), sources);
  }
}
