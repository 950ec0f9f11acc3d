import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';
import { timeOf, timeSetting } from './units.js';
import { confPath, type Work } from './work.js';

const VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];
/** Keys and certificates that are no files. */
const NO_FILE = /^(?:data:|engine:|store:)|\$/;

/** Carries everything about the handshake but the callers' certificates. */
export function carryTls(work: Work): void {
  carryPair(work, 'ssl_certificate', 'tls.cert');
  carryPair(work, 'ssl_certificate_key', 'tls.key');
  carryPassphrase(work);
  carryVersions(work);
  carryCiphers(work);
  carryCurves(work);
  carrySessions(work);
  const old = work.scope.one('ssl');
  if (old !== undefined) work.ledger.carried(old);
}

function carryPair(work: Work, name: string, setting: string): void {
  const { ledger, scope } = work;
  const [first, ...more] = scope.all(name);
  if (first === undefined) return;
  const [file = ''] = first.args;
  if (NO_FILE.test(file)) ledger.lost(first, `give the file in ${setting}`);
  else {
    ledger.set(setting, confPath(work, file), first);
    ledger.carried(first);
  }
  for (const directive of more) ledger.lost(directive, 'one certificate and key only');
}

function carryPassphrase(work: Work): void {
  const directive = work.scope.one('ssl_password_file');
  if (directive === undefined) return;
  work.ledger.set('tls.keyPassphraseFile', confPath(work, directive.args[0] ?? ''), directive);
  work.ledger.changed(directive, 'the file must hold one passphrase, not a list');
}

function carryVersions({ ledger, scope }: Work): void {
  const directive = scope.one('ssl_protocols');
  if (directive === undefined) return;
  const wanted = VERSIONS.filter((version) => directive.args.includes(version));
  const oldest = wanted[0];
  const newest = wanted.at(-1);
  if (oldest === undefined || newest === undefined) {
    return ledger.lost(directive, 'none of these versions exists any more: TLS 1.2 and 1.3 are served');
  }
  ledger.set('tls.minVersion', oldest, directive);
  ledger.set('tls.maxVersion', newest, directive);
  const isOld = oldest === 'TLSv1' || oldest === 'TLSv1.1';
  if (isOld) ledger.set('tls.legacy', true, directive);
  const notes = [
    ...(isOld ? [`UNSAFE: ${oldest} can be broken, and tls.legacy admits SHA-1 and RSA-1024 as well`] : []),
    ...(isOld && !wanted.includes('TLSv1.2') ? ['no caller can use TLS 1.2 or newer; add TLSv1.2 TLSv1.3'] : []),
    ...(hasGap(wanted) ? ['the versions between are served as well'] : []),
    ...(directive.args.some((version) => version.startsWith('SSL')) ? ['SSL 2 and 3 do not exist any more'] : []),
  ];
  if (notes.length === 0) ledger.carried(directive);
  else ledger.changed(directive, notes.join('; '));
}

function hasGap(wanted: readonly string[]): boolean {
  return VERSIONS.indexOf(wanted.at(-1) ?? '') - VERSIONS.indexOf(wanted[0] ?? '') + 1 > wanted.length;
}

/** OpenSSL takes the level inside the list; here it has a setting of its own. */
function carryCiphers({ ledger, scope }: Work): void {
  const directive = scope.one('ssl_ciphers');
  if (directive !== undefined) carryCipherList(directive, ledger);
  const preference = scope.one('ssl_prefer_server_ciphers');
  if (preference?.args[0] === 'on') ledger.notNeeded(preference, 'always so');
  else if (preference !== undefined) ledger.changed(preference, "this side's order decides always");
}

function carryCipherList(directive: Directive, ledger: Ledger): void {
  const written = (directive.args[0] ?? '').trim().replace(/[ ,:]+/g, ':');
  const level = /:?@SECLEVEL=([0-5])/i.exec(written)?.[1];
  const ciphers = written.replace(/:?@SECLEVEL=[0-5]/gi, '').replace(/^:/, '');
  if (/^PROFILE=|[^A-Za-z0-9_.:+!@=,?*/-]/.test(ciphers)) {
    return ledger.lost(directive, "Node's OpenSSL does not know it: OpenSSL's own choice is offered");
  }
  if (ciphers !== '' && ciphers !== 'DEFAULT') ledger.set('tls.ciphers', ciphers, directive);
  if (level === undefined) return ledger.carried(directive);
  ledger.set('tls.securityLevel', Number(level), directive);
  ledger.changed(directive, `the security level became tls.securityLevel: ${level}`);
}

function carryCurves({ ledger, scope }: Work): void {
  const directive = scope.one('ssl_ecdh_curve');
  if (directive === undefined) return;
  const [curves = ''] = directive.args;
  if (curves !== 'auto') ledger.set('tls.curves', curves, directive);
  ledger.carried(directive);
}

function carrySessions(work: Work): void {
  const { ledger, scope } = work;
  const tickets = scope.one('ssl_session_tickets');
  if (tickets?.args[0] === 'off') {
    ledger.set('tls.sessions.resumption', false, tickets);
    ledger.changed(tickets, 'here that ends resumption by session ids, too');
  } else if (tickets !== undefined) ledger.carried(tickets);
  const cache = scope.one('ssl_session_cache');
  if (cache !== undefined)
    ledger.notNeeded(cache, 'sessions live in tickets; those of callers without are kept in a bounded cache');
  const timeout = scope.one('ssl_session_timeout');
  const lifetime = timeOf(timeout?.args[0] ?? '');
  if (timeout !== undefined && lifetime !== null && lifetime >= 1_000) {
    ledger.set('tls.sessions.lifetime', timeSetting(lifetime), timeout);
    ledger.carried(timeout);
  }
  carryTicketKeys(work);
}

function carryTicketKeys(work: Work): void {
  const { ledger, scope } = work;
  const keys = scope.all('ssl_session_ticket_key');
  const [first] = keys;
  if (first === undefined) return;
  const files = keys.map(({ args }) => confPath(work, args[0] ?? ''));
  ledger.set('tls.sessions.ticketKeys', files, first);
  for (const key of keys) ledger.carried(key);
}
