import { holds, literalOf, literalsOf, type Condition } from './conditions.js';
import type { Directive } from './syntax.js';
import { named } from './work.js';

/** One allow rule: conditions by their names in `clientCert.allow`. */
export type Rule = Readonly<Record<string, string | readonly string[]>>;

/** Variables of nginx that name something of the certificate, and our conditions for them. */
const CONDITIONS: Readonly<Record<string, string>> = {
  ssl_client_s_dn: 'subject',
  ssl_client_i_dn: 'issuer',
  ssl_client_serial: 'serial',
};

/**
 * `map $ssl_client_s_dn $cn { ~(^|,)CN=(?<CN>[^,]+) $CN; }` in the forms that are copied around. What follows the name
 * must not add a condition of its own.
 */
const TAKES_COMMON_NAME = new RegExp(
  String.raw`^~\*?(?:\(\^\|,\)|\(,\|\^\)|\(\?:\^\|,\)|\.\*|,|/|\(\^\|/\))?` +
    String.raw`CN=\((?:\?P?<(\w+)>)?\[\^[,/]+\]\+\)` +
    String.raw`(?:\((?:\?:)?,\|\$\)|\((?:\?:)?\$\|,\))?(?:\.\*)?\$?$`,
);

/** The condition that a variable stands for: directly, or through a map that takes the common name out of the subject. */
export function subjectOf(variable: string, http: readonly Directive[]): string | null {
  const direct = CONDITIONS[variable];
  if (direct !== undefined) return direct;
  return mapFor(variable, http).some(takesCommonName) ? 'commonName' : null;
}

/** The maps that make a variable. */
export function mapFor(variable: string, http: readonly Directive[]): Directive[] {
  return named(http, 'map').filter(({ args }) => args[1] === `$${variable}`);
}

function takesCommonName({ args, block }: Directive): boolean {
  if (args[0] !== '$ssl_client_s_dn' && args[0] !== '$ssl_client_s_dn_legacy') return false;
  const entries = (block ?? []).filter(({ name, args: [value] }) => !(name === 'default' && value === ''));
  const [only] = entries;
  const match = TAKES_COMMON_NAME.exec(only?.name ?? '');
  const taken = only?.args[0];
  return entries.length === 1 && match !== null && (taken === `$${match[1]}` || /^\$\d$/.test(taken ?? ''));
}

/**
 * The callers that a refusal `if (condition) { return 4xx; }` lets through, as alternatives; null when rules cannot say
 * it exactly (or more strictly).
 */
export function admitted(condition: Condition, http: readonly Directive[]): Rule[] | null {
  const subject = subjectOf(condition.variable, http);
  if (subject !== null) return admittedDirectly(condition, subject);
  const [map, ...more] = mapFor(condition.variable, http);
  const source = subjectOf((map?.args[0] ?? '').replace(/^\$/, ''), http);
  return map === undefined || more.length > 0 || source === null ? null : admittedByMap(condition, map, source);
}

function admittedDirectly({ operator, value }: Condition, subject: string): Rule[] | null {
  if (operator === '!=') return rulesFor(exactly(subject, value));
  return operator === '!~' ? rulesFor(matching(subject, value)) : null;
}

function admittedByMap(condition: Condition, map: Directive, subject: string): Rule[] | null {
  const entries = (map.block ?? [])
    .filter(({ name }) => name !== 'include' && name !== 'volatile')
    .map(({ name, args: [value = ''] }) => ({
      key: name,
      // A variable has another value for each request.
      refused: value.includes('$') ? null : holds(condition, value),
    }));
  const byDefault = entries.find(({ key }) => key === 'default')?.refused ?? holds(condition, '');
  // A list of those who are refused cannot be said by rules that admit.
  if (byDefault !== true || entries.some(({ key, refused }) => refused === null || key === 'hostnames')) return null;
  const others = entries.filter(({ key }) => key !== 'default');
  const letIn = others.filter(({ refused }) => refused === false).map(({ key }) => key);
  const hasPattern = letIn.some((key) => key.startsWith('~'));
  if (letIn.length === 0 || (hasPattern && letIn.length < others.length)) return null;
  const rules = letIn.map((key) => rulesFor(keyed(subject, key)));
  return rules.every((rule) => rule !== null) ? rules.flat() : null;
}

type Wanted = { readonly subject: string; readonly texts: readonly string[] } | null;

function keyed(subject: string, key: string): Wanted {
  if (key.startsWith('~*')) return null;
  if (key.startsWith('~')) return matching(subject, key.slice(1));
  return exactly(subject, key.replace(/^\\/, ''));
}

function exactly(subject: string, text: string): Wanted {
  // A star would become a pattern, and the empty text stands for callers without a certificate.
  return text === '' || text.includes('*') ? null : { subject, texts: [text] };
}

/** `^CN=im\.qq\.com,` is every name that begins so; RFC 2253 escapes commas, so the part ends there. */
function matching(subject: string, pattern: string): Wanted {
  const literals = literalsOf(pattern);
  if (literals !== null)
    return literals.some((text) => exactly(subject, text) === null) ? null : { subject, texts: literals };
  if (subject !== 'subject' && subject !== 'issuer') return null;
  const start = literalOf(/^\^(.*),$/s.exec(pattern)?.[1] ?? '');
  if (start !== null && exactly(subject, start) !== null) return { subject, texts: [`${start},**`] };
  const end = literalOf(/^,(.*)\$$/s.exec(pattern)?.[1] ?? '');
  // An escaped comma is part of a value: `O=a\,O=Tencent` ends so, too. A pattern cannot tell, and neither can nginx.
  return end !== null && exactly(subject, end) !== null ? { subject, texts: [`**,${end}`] } : null;
}

function rulesFor(wanted: Wanted): Rule[] | null {
  return wanted === null ? null : wanted.texts.map((text) => ({ [wanted.subject]: text }));
}

/** Those who satisfy one of each: every pair of rules joined. Null when two say different things about one condition. */
export function both(one: readonly Rule[], other: readonly Rule[]): Rule[] | null {
  const pairs = one.flatMap((left) => other.map((right) => ({ left, right })));
  const clashes = pairs.some(({ left, right }) =>
    Object.keys(left).some((key) => key in right && JSON.stringify(left[key]) !== JSON.stringify(right[key])),
  );
  return clashes ? null : pairs.map(({ left, right }) => ({ ...left, ...right }));
}
