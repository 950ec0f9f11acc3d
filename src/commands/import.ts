import { importNginx } from '../config/nginx-conf.js';
import { settingsYaml } from '../config/settings-yaml.js';
import { UsageError } from '../errors.js';
import { EXIT } from './command.js';
import type { Invocation } from './command.js';
import { reportLine, summary } from './nginx-report.js';
import { takeOptions } from './own-options.js';
import { printable } from './printable.js';

/**
 * Writes the settings that an nginx configuration amounts to, and what became of each of its directives.
 * @returns 0, or 1 when something that guards access (or all that could be served) is not carried
 * @throws UsageError, ConfigError
 */
// eslint-disable-next-line @typescript-eslint/require-await -- commands are asynchronous; this one has nothing to await
export async function importCommand({ argv, terminal }: Invocation): Promise<number> {
  const { values, switches, rest } = takeOptions(argv, ['prefix'], ['force']);
  const [file, ...more] = rest;
  if (file === undefined || more.length > 0 || file.startsWith('-')) {
    throw new UsageError('import needs one file: mtls-sidecar import nginx.conf');
  }
  const { settings, report, missing } = importNginx({ file, prefix: values.prefix ?? null });
  for (const entry of report) terminal.err(reportLine(entry));
  for (const what of missing) terminal.err(printable(`${file}: ${what}`));
  terminal.err(summary(report));
  terminal.out(
    `# From ${printable(file)}, by mtls-sidecar import. What is different stands in the report on standard error.`,
  );
  for (const what of missing) terminal.out(printable(`# INCOMPLETE: ${what}`));
  const plain = new Map([...settings].map(([name, { value }]) => [name, value]));
  terminal.out(settingsYaml(plain).trimEnd());
  const isSafe = missing.length === 0 && !report.some(({ isGuard }) => isGuard);
  return isSafe || switches.has('force') ? EXIT.ok : EXIT.failed;
}
