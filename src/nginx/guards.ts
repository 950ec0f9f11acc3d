import { modeOf } from './client-cert.js';
import { conditionOf, holds, literalsOf, type Condition } from './conditions.js';
import { admitted, both, mapFor, type Rule } from './identity-conditions.js';
import type { Reach } from './location.js';
import type { Directive } from './syntax.js';
import { hostsOf } from './server.js';
import { named, type Work } from './work.js';

/** What a directive asks of a request before it may go on. */
type Demand =
  | { readonly kind: 'rules'; readonly rules: readonly Rule[]; readonly text: string }
  | { readonly kind: 'certificate' }
  | { readonly kind: 'names'; readonly names: readonly string[] }
  | { readonly kind: 'nothing'; readonly text: string };

/** What an `if` may do without keeping a request from the application. */
const HARMLESS = new Set(['set', 'add_header', 'access_log', 'expires', 'gzip', 'limit_rate', 'proxy_hide_header']);

const NOT_EXACT = 'no rule of clientCert.allow says the same: write one, such as {commonName: im.qq.com}';

/** Turns what refuses requests into allow rules, and says what could not be turned. */
export function carryGuards(work: Work, reach: Pick<Reach, 'location' | 'paths'>): void {
  const guards = new Guards(work);
  guards.reach(reach);
  for (const level of [work.server.block ?? [], work.location?.block ?? []]) {
    for (const directive of named(level, 'if')) guards.condition(directive);
  }
  for (const directive of named(work.location?.block ?? [], 'limit_except')) guards.methods(directive);
  guards.finish();
  carryAddressRules(work);
}

class Guards {
  private rules: readonly Rule[] = [{}];
  private origin: Directive | null = null;

  constructor(private readonly work: Work) {}

  reach({ location, paths }: Pick<Reach, 'location' | 'paths'>): void {
    const { ledger } = this.work;
    if (location === null) return;
    if (paths === null) ledger.carried(location);
    else if (paths.every((path) => /^\/[!-~]*$/.test(path) && !/[?#]|[^/]\*|\*[^/*]/.test(path.replace(/\*\*$/, '')))) {
      this.demand(location, {
        kind: 'rules',
        rules: [{ paths }],
        text: `only ${paths.join(' ')}: other paths get 403`,
      });
    } else ledger.guardLost(location, 'rules cannot say this path, and all paths would be open');
  }

  condition(directive: Directive): void {
    const { ledger, http } = this.work;
    const status = refusalOf(directive);
    const condition = conditionOf(directive);
    if (condition !== null && neverHolds(condition)) {
      this.explain(directive, { kind: 'nothing', text: 'every request comes by https' });
    } else if (status === null) {
      const isHarmless = (directive.block ?? []).every(({ name }) => HARMLESS.has(name));
      if (isHarmless) ledger.lost(directive, 'nothing depends on conditions: let the application do it');
      else ledger.guardLost(directive, 'only refusals can be turned into rules: these requests would go on');
    } else {
      const demand = condition === null ? null : this.demandOf(condition, status);
      if (demand === null) ledger.guardLost(directive, NOT_EXACT);
      else this.demand(directive, demand);
      for (const map of mapFor(condition?.variable ?? '', http)) {
        if (demand !== null) ledger.carried(map, 'see the if that asks for it');
      }
    }
    ledger.follow(directive, directive);
  }

  methods(directive: Directive): void {
    const { ledger } = this.work;
    const [only, ...more] = directive.block ?? [];
    const isPlain = only?.name === 'deny' && only.args[0] === 'all' && more.length === 0;
    const methods = directive.args.includes('GET') ? [...directive.args, 'HEAD'] : directive.args;
    if (!isPlain) ledger.guardLost(directive, 'methods and addresses or passwords cannot be combined');
    else this.demand(directive, { kind: 'rules', rules: [{ methods: [...new Set(methods)] }], text: '' });
    ledger.follow(directive, directive);
  }

  finish(): void {
    const isAll = this.rules.every((rule) => Object.keys(rule).length === 0);
    if (this.origin === null || isAll) return;
    const list = this.rules.map((rule) => new Map(Object.entries(rule)));
    this.work.ledger.set('clientCert.allow', list, this.origin);
  }

  private demandOf(condition: Condition, status: string): Demand | null {
    const { variable, value, operator } = condition;
    if (variable === 'ssl_client_verify') return certificateDemand(condition, modeOf(this.work));
    if (variable === 'request_method' && operator.startsWith('!')) return methodDemand(operator, value, status);
    if ((variable === 'host' || variable === 'http_host') && operator === '!=')
      return hostsOf(value)[0] === value && !value.startsWith('*') ? { kind: 'names', names: [value] } : null;
    if (operator === '=' && value === '' && variable.startsWith('ssl_client_')) return { kind: 'certificate' };
    const rules = admitted(condition, this.work.http);
    if (rules === null) return null;
    const notes = [
      ...(rules.some((rule) => 'commonName' in rule)
        ? ['the common name is read from the certificate, not its text']
        : []),
      ...(status === '403' ? [] : [`403 instead of ${status}`]),
    ];
    return { kind: 'rules', rules, text: notes.join('; ') };
  }

  private demand(directive: Directive, demand: Demand): void {
    const { ledger } = this.work;
    if (demand.kind !== 'rules') return this.explain(directive, demand);
    const rules = both(this.rules, demand.rules);
    if (modeOf(this.work) === 'off') {
      ledger.guardLost(directive, 'allow rules need callers with certificates (ssl_verify_client)');
    } else if (rules === null) ledger.guardLost(directive, NOT_EXACT);
    else {
      this.rules = rules;
      this.origin ??= directive;
      const text = ['became clientCert.allow', demand.text].filter((part) => part !== '').join('; ');
      if (demand.text === '') ledger.carried(directive, text);
      else ledger.changed(directive, text);
    }
  }

  private explain(directive: Directive, demand: Exclude<Demand, { kind: 'rules' }>): void {
    const { ledger } = this.work;
    if (demand.kind === 'nothing') ledger.notNeeded(directive, demand.text);
    else if (demand.kind === 'names' && this.work.isRoute === true) {
      // What the main server asks of all its requests holds for its routes as well.
      if (!ledger.has(directive)) ledger.guardLost(directive, NOT_EXACT);
    } else if (demand.kind === 'names') {
      ledger.settings.delete('listen.serverNames');
      ledger.set('listen.serverNames', demand.names, directive);
      ledger.changed(directive, 'requests for other names get 421');
    } else this.needCertificate(directive);
  }

  private needCertificate(directive: Directive): void {
    const { ledger } = this.work;
    const mode = modeOf(this.work);
    if (mode === 'off') return ledger.guardLost(directive, 'no certificate is asked for: set ssl_verify_client');
    if (mode === 'required')
      return ledger.notNeeded(directive, 'callers without a valid certificate never get this far');
    ledger.settings.delete('clientCert.verify');
    ledger.set('clientCert.verify', 'required', directive);
    ledger.changed(directive, 'became clientCert.verify: required, and the answer 400');
  }
}

/** Variables that are the same for every request that comes here. */
const OVER_TLS: ReadonlyMap<string, string> = new Map([
  ['scheme', 'https'],
  ['https', 'on'],
]);

function neverHolds(condition: Condition): boolean {
  const actual = OVER_TLS.get(condition.variable);
  return actual !== undefined && holds(condition, actual) === false;
}

/** The status with which a block refuses and does nothing else. */
function refusalOf({ block }: Directive): string | null {
  const [only, ...more] = block ?? [];
  const status = only?.args[0] ?? '';
  return only?.name === 'return' && more.length === 0 && /^4\d\d$/.test(status) ? status : null;
}

function certificateDemand({ operator, value }: Condition, mode: string): Demand | null {
  const wantsSuccess =
    (operator === '!=' && value === 'SUCCESS') || (operator === '!~' && /^\^?SUCCESS\$?$/.test(value));
  // With optional_no_ca a certificate that failed would pass this one.
  const wantsAny = operator === '=' && value === 'NONE' && mode !== 'optional-no-ca';
  return wantsSuccess || wantsAny ? { kind: 'certificate' } : null;
}

function methodDemand(operator: string, value: string, status: string): Demand | null {
  const methods = operator === '!=' ? [value] : operator === '!~' ? literalsOf(value) : null;
  if (methods === null || !methods.every((method) => /^[A-Z]+$/.test(method))) return null;
  return { kind: 'rules', rules: [{ methods }], text: status === '403' ? '' : `403 instead of ${status}` };
}

/** Addresses of callers are not looked at: `allow all` alone changes nothing. */
function carryAddressRules({ scope, ledger, location }: Work): void {
  // A location that closes itself has said so.
  const answers = named(location?.block ?? [], 'deny').filter((deny) => ledger.has(deny));
  const rules = [...scope.all('allow'), ...scope.all('deny')].filter((each) => !answers.includes(each));
  const isOpen = rules.every(({ name, args }) => name === 'allow' && args[0] === 'all');
  for (const directive of rules) {
    if (isOpen) ledger.notNeeded(directive, 'every address may call');
    else
      ledger.guardLost(
        directive,
        'addresses are not looked at: use the firewall, a NetworkPolicy, or the load balancer',
      );
  }
}
