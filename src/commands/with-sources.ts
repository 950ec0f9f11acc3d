import { ConfigError } from '../errors.js';

/**
 * The error itself, or a ConfigError that also says where the settings in it were given: what is wrong with a file
 * begins with the name of the setting that names it.
 */
export function withSources(error: unknown, sources: ReadonlyMap<string, string>): unknown {
  if (!(error instanceof ConfigError)) return error;
  return new ConfigError(
    error.problems.map((problem) => {
      const name = problem.slice(0, problem.indexOf(': '));
      const source = sources.get(name);
      return source === undefined ? problem : `${name} (${source})${problem.slice(name.length)}`;
    }),
  );
}
