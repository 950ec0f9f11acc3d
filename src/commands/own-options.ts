import { UsageError } from '../errors.js';

/** The options of one command, and what is left of its arguments: the settings. */
export interface OwnOptions<Name extends string, Switch extends string> {
  readonly values: Readonly<Partial<Record<Name, string>>>;
  readonly switches: ReadonlySet<Switch>;
  readonly rest: readonly string[];
}

/**
 * Takes the options of a command out of its arguments: `--client FILE`, `--client=FILE`, `--json`.
 * @throws UsageError for an option that is given twice, or without its value
 */
export function takeOptions<Name extends string, Switch extends string>(
  argv: readonly string[],
  names: readonly Name[],
  switches: readonly Switch[],
): OwnOptions<Name, Switch> {
  const values: Partial<Record<Name, string>> = {};
  const given = new Set<Switch>();
  const rest: string[] = [];
  const words = [...argv];
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const [flag = '', ...more] = word.split('=');
    const name = names.find((one) => flag === `--${one}`);
    const found = switches.find((one) => word === `--${one}`);
    if (found !== undefined) given.add(found);
    else if (name === undefined) rest.push(word);
    else if (name in values) throw new UsageError(`${flag} is given twice`);
    else values[name] = valueOf(flag, more.length > 0 ? more.join('=') : words.shift());
  }
  return { values, switches: given, rest };
}

function valueOf(flag: string, text: string | undefined): string {
  if (text === undefined || text === '' || text.startsWith('--')) throw new UsageError(`${flag} needs a value`);
  return text;
}
