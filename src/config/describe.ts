import { FORMATS } from './formats.js';
import type { Format } from './formats.js';
import { SETTINGS, environmentName } from './schema.js';
import type { Setting } from './schema.js';

/** One row of the table of settings. */
export interface SettingRow {
  readonly name: string;
  readonly allowed: string;
  /** As it would be written in the file. */
  readonly default: string;
  readonly environment: string;
  readonly meaning: string;
}

/** Every setting, in the order of the schema. */
export function describeSettings(): SettingRow[] {
  return [...SETTINGS].map(([name, setting]) => ({
    name,
    allowed: allowed(setting),
    default: written(setting.default),
    environment: environmentName(name),
    meaning: setting.doc,
  }));
}

/** The table that the README holds between its `settings` markers. */
export function settingsTable(): string {
  const rows = describeSettings().map((row) =>
    [`\`${row.name}\``, row.allowed, `\`${row.default}\``, `\`${row.environment}\``, row.meaning].map(cell).join(' | '),
  );
  const head = ['Setting', 'Allowed', 'Default', 'Environment variable', 'Meaning'];
  return [head.join(' | '), head.map(() => '---').join(' | '), ...rows].map((line) => `| ${line} |`).join('\n');
}

/** The README with its table brought up to date. @throws Error when the markers are missing */
export function withSettingsTable(readme: string): string {
  const between = /(<!-- settings:start -->\n)[\s\S]*?(<!-- settings:end -->)/;
  if (!between.test(readme)) throw new Error('README.md has no <!-- settings:start --> and <!-- settings:end -->');
  return readme.replace(between, (_, start: string, end: string) => `${start}\n${settingsTable()}\n\n${end}`);
}

function allowed(setting: Setting): string {
  const format: Format = FORMATS[setting.format];
  return format.allowed(setting);
}

function written(value: unknown): string {
  if (value instanceof Map) return '{}';
  return typeof value === 'string' ? value : JSON.stringify(value);
}

/** A bar would end the cell. */
function cell(text: string): string {
  return text.replaceAll('|', '\\|');
}
