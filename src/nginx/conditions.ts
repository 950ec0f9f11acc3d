import type { Directive } from './syntax.js';

/** The condition of an `if`. */
export interface Condition {
  /** Without its `$`. */
  readonly variable: string;
  readonly operator: '=' | '!=' | '~' | '~*' | '!~' | '!~*' | 'is-set';
  readonly value: string;
}

const FORM = /^\$\{?(\w+)\}?$/;

/** Null for what is no comparison of a variable with a text (`-f`, a computed value). */
export function conditionOf({ args }: Directive): Condition | null {
  const words = [...args];
  words[0] = (words[0] ?? '').replace(/^\(/, '');
  words[words.length - 1] = (words.at(-1) ?? '').replace(/\)$/, '');
  // Quoted values leave the closing parenthesis alone, and a space the opening one.
  if (words[0] === '') words.shift();
  if (words.length === 2 || words.length === 4) words.pop();
  const [name = '', operator, value] = words;
  const variable = FORM.exec(name)?.[1];
  if (variable === undefined) return null;
  if (operator === undefined) return { variable, operator: 'is-set', value: '' };
  if (!/^(?:!?=|!?~\*?)$/.test(operator) || value === undefined) return null;
  // nginx compares with the value of a variable.
  if (operator.endsWith('=') && value.includes('$')) return null;
  return { variable, operator: operator as Condition['operator'], value };
}

/** Whether the condition holds for a value that is known; null for a regular expression that JavaScript reads differently. */
export function holds({ operator, value }: Condition, actual: string): boolean | null {
  if (operator === 'is-set') return actual !== '' && actual !== '0';
  if (operator === '=' || operator === '!=') return (actual === value) === (operator === '=');
  const literals = literalsOf(value);
  if (literals === null || operator.endsWith('*')) return null;
  return literals.includes(actual) !== operator.startsWith('!');
}

/** What a fully anchored regular expression matches, if that is a short list of texts: `^(GET|POST)$`. Null otherwise. */
export function literalsOf(pattern: string): string[] | null {
  const inner = /^\^(.*)\$$/s.exec(pattern)?.[1];
  if (inner === undefined) return null;
  const group = /^\((?:\?:)?([^()]*)\)$/s.exec(inner)?.[1];
  const literals = (group === undefined ? [inner] : group.split('|')).map(literalOf);
  return literals.every((literal) => literal !== null) ? literals : null;
}

/**
 * The text that a piece of a regular expression stands for, or null when it stands for several. A bare dot is read as a
 * dot: less than nginx admits, and what was meant.
 */
export function literalOf(pattern: string): string | null {
  const text = pattern.replace(/\\([^A-Za-z0-9])/g, '\u0000$1');
  if (/[\\*+?^$()[\]{}|]/.test(text.replace(/\u0000./gs, ''))) return null;
  return text.replaceAll('\u0000', '');
}
