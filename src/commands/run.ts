import { startApp } from '../app.js';
import type { App, AppOptions } from '../app.js';
import { parseArguments } from '../config/arguments.js';
import type { Config } from '../config/config.js';
import { loadConfig, loadConfigWithSources } from '../config/load.js';
import { importNginx } from '../config/nginx-conf.js';
import { ConfigError } from '../errors.js';
import { runUntilStopped } from '../lifecycle.js';
import { loadCredentials } from '../trust/credentials.js';
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
  const given = parseArguments(argv);
  const input = { ...given, ...(env === undefined ? {} : { env }) };
  const { config, sources } = loadConfigWithSources(input);
  if (given.nginx !== undefined) tellDifferences(importNginx(given.nginx).report, terminal);
  const app = await start(config, { readConfig: () => loadConfig(input), sources });
  return runUntilStopped(app, config);
}

interface StartOptions extends AppOptions {
  /** Where settings were given, for messages. */
  readonly sources?: ReadonlyMap<string, string>;
}

/** Reads the files that the settings name, and listens. @throws ConfigError */
export async function start(config: Config, { sources = new Map(), ...options }: StartOptions = {}): Promise<App> {
  try {
    return await startApp(config, loadCredentials(config), options);
  } catch (error) {
    const problem = bindProblem(error as NodeJS.ErrnoException, config);
    throw withSources(problem === null ? error : new ConfigError([problem]), sources);
  }
}
