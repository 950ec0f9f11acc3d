import type { Ledger } from './ledger.js';
import { withKnownVariables } from './log-template.js';
import type { Directive } from './syntax.js';
import { named, type Work } from './work.js';

const TO_STDOUT = 'lines go to standard output';

/** Carries what is written about requests. */
export function carryLogs(work: Work): void {
  const { ledger, scope } = work;
  const [first, ...more] = scope.all('access_log');
  if (first !== undefined) carryAccessLog(first, work);
  for (const directive of more) ledger.lost(directive, 'one access log only');
  const errors = scope.all('error_log');
  for (const directive of errors) carryErrorLog(directive, ledger);
}

function carryAccessLog(directive: Directive, { ledger, http }: Work): void {
  const [path = '', ...rest] = directive.args;
  if (path === 'off') {
    ledger.set('log.access', false, directive);
    return ledger.carried(directive);
  }
  const format = rest.find((word) => !word.includes('=') && !['gzip'].includes(word)) ?? 'combined';
  const condition = rest.some((word) => word.startsWith('if=')) ? '; every request is logged, whatever if= says' : '';
  const definition = named(http, 'log_format').find(({ args }) => args[0] === format);
  if (definition === undefined) ledger.set('log.access', 'combined', directive);
  else carryFormat(definition, ledger);
  ledger.changed(directive, TO_STDOUT + condition);
}

function carryFormat(definition: Directive, ledger: Ledger): void {
  const [, ...words] = definition.args;
  const escape = /^escape=(default|json|none)$/.exec(words[0] ?? '')?.[1];
  const written = (escape === undefined ? words : words.slice(1)).join('');
  const { template, unknown } = withKnownVariables(written);
  ledger.set('log.format', template, definition);
  if (escape !== undefined && escape !== 'default') ledger.set('log.escape', escape, definition);
  if (unknown.length === 0) ledger.carried(definition);
  else ledger.changed(definition, `- stands for ${unknown.join(' ')}, which are not known here`);
}

/** Its level cannot be taken over: access lines are of the level info, and share the output. */
export function carryErrorLog(directive: Directive, ledger: Ledger): void {
  if (directive.args[1] === 'debug') {
    ledger.set('log.level', 'debug', directive);
    return ledger.changed(directive, TO_STDOUT);
  }
  ledger.notNeeded(directive, `${TO_STDOUT}; log.level is info, since access lines are`);
}
