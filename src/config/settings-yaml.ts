import { stringify } from 'yaml';
import { SETTINGS } from './schema.js';

/** Settings by full name as the text of a settings file, in the order of the schema. */
export function settingsYaml(settings: ReadonlyMap<string, unknown>): string {
  const nested = new Map<string, unknown>();
  for (const name of SETTINGS.keys()) {
    if (settings.has(name)) put(nested, name.split('.'), settings.get(name));
  }
  // No anchors: people edit this.
  return stringify(nested, { version: '1.2', lineWidth: 0, aliasDuplicateObjects: false });
}

function put(into: Map<string, unknown>, [key = '', ...rest]: readonly string[], value: unknown): void {
  if (rest.length === 0) {
    into.set(key, value);
    return;
  }
  const section = (into.get(key) as Map<string, unknown> | undefined) ?? new Map<string, unknown>();
  into.set(key, section);
  put(section, rest, value);
}
