import type { Ledger } from './ledger.js';
import { modeOf } from './client-cert.js';
import { subjectOf } from './identity-conditions.js';
import { isRealIpByHeader } from './real-ip.js';
import type { Directive } from './syntax.js';
import { named, nameIn, passOf, withConstants, type Work } from './work.js';

/** Variables that carry something of the verified identity, and our attributes. */
const ATTRIBUTES: Readonly<Record<string, string>> = {
  ssl_client_verify: 'verify',
  ssl_client_s_dn: 'subject',
  ssl_client_s_dn_legacy: 'subjectLegacy',
  ssl_client_i_dn: 'issuer',
  ssl_client_serial: 'serial',
  ssl_client_fingerprint: 'sha1',
  ssl_client_escaped_cert: 'certPem',
  ssl_client_v_start: 'notBefore',
  ssl_client_v_end: 'notAfter',
  ssl_client_v_remain: 'daysRemaining',
  ssl_protocol: 'tlsVersion',
  ssl_cipher: 'cipher',
  ssl_server_name: 'serverName',
  ssl_session_reused: 'sessionReused',
};

/** Variables that carry something of the request, and our words for them. */
const FACTS: Readonly<Record<string, string>> = {
  remote_addr: 'remoteAddress',
  scheme: 'scheme',
  host: 'host',
  http_host: 'host',
  server_port: 'serverPort',
  request_id: 'requestId',
  proxy_add_x_forwarded_for: 'forwardedFor',
};

/** Headers that are always set here, whatever the configuration says. */
const ALWAYS: Readonly<Record<string, readonly [variables: readonly string[], note: string]>> = {
  host: [['$host', '$http_host'], "the caller's Host goes on"],
  'x-forwarded-for': [
    ['$remote_addr', '$proxy_protocol_addr'],
    "the caller's own list goes on from forwarded.trustedProxies alone",
  ],
  'x-forwarded-proto': [['$scheme', 'https'], 'it is always https'],
  'x-forwarded-host': [['$host', '$http_host'], "it is the caller's Host"],
  'x-forwarded-port': [['$server_port', '443'], 'it is the port of this listener'],
  'x-request-id': [[], 'a fit one of the caller is kept, otherwise a UUID is made'],
};

/** Headers of the connection itself; the sidecar writes them anew. */
const CONNECTION = new Set(['connection', 'upgrade', 'te', 'keep-alive', 'proxy-connection', 'transfer-encoding']);
const OWN_FRAMING = new Set([...CONNECTION, 'content-length', 'expect', 'forwarded']);

/** What callers say in these never reaches an application. */
const NEVER_THEIRS = /^x-(?:forwarded-.*|real-ip|request-id)$/;

/** Headers whose meaning is not for a configuration to change; `forwarded.headers` refuses them, too. */
const UNSETTABLE = /^(?:content-.*|date|range|max-forwards|trailer|http2-settings|proxy-auth.*)$/;

/** Whether callers cannot make use of a `proxy_set_header` that is lost: the header is always ours, or was theirs before. */
export function isNoGuard({ args: [name = '', value = ''] }: Directive): boolean {
  const lower = name.toLowerCase();
  if (lower === 'host') return ['$host', '$http_host'].includes(value);
  return OWN_FRAMING.has(lower) || NEVER_THEIRS.test(lower) || value === `$http_${lower.replaceAll('-', '_')}`;
}

/** Carries `proxy_set_header`. Each also hides what the caller sent under its name, so that losing one opens it. */
export function carryHeaders(work: Work): void {
  const { ledger, scope } = work;
  const identity = new Map<string, string>();
  const facts = new Map<string, string>();
  const headers = scope.all(nameIn(work.location, 'proxy_set_header'));
  for (const directive of headers) carryHeader(directive, { work, identity, facts });
  const [first] = headers;
  if (first !== undefined && facts.size > 0) ledger.set('forwarded.headers', facts, first);
  if (first === undefined || identity.size === 0) return;
  ledger.set('identity.headers', identity, first);
  // Where unverified callers get in, the application must be able to tell: the preset has a header for that.
  const tells = [...identity.values()].includes('verify') || modeOf(work) !== 'optional-no-ca';
  ledger.set('identity.presets', tells ? [] : ['nginx'], first);
}

interface Collection {
  readonly work: Work;
  readonly identity: Map<string, string>;
  readonly facts: Map<string, string>;
}

function carryHeader(directive: Directive, collection: Collection): void {
  const { work } = collection;
  const { ledger, location } = work;
  const [name = '', written = ''] = directive.args;
  const lower = name.toLowerCase();
  const value = withConstants(written, work).replace(/\$\{(\w+)\}/g, '$$$1');
  if (location === null || passOf(location) === undefined) {
    return ledger.notNeeded(directive, 'there is no application that would read it');
  }
  if (CONNECTION.has(lower)) return ledger.notNeeded(directive, 'Upgrade and keep-alive work by themselves');
  const always = ALWAYS[lower];
  if (always !== undefined) return carryAlways(directive, value, always, ledger);
  if (OWN_FRAMING.has(lower)) return carryFraming(directive, lower, ledger);
  if (value === `$http_${lower.replaceAll('-', '_')}`) return ledger.notNeeded(directive, 'it goes on unchanged');
  if (UNSETTABLE.test(lower)) return ledger.guardLost(directive, `${name} goes on as the caller sent it`);
  carryValue(directive, { name, value }, collection);
}

function carryAlways(
  directive: Directive,
  value: string,
  [same, note]: readonly [readonly string[], string],
  ledger: Ledger,
): void {
  if (same.includes(value)) return ledger.carried(directive);
  const isHost = directive.args[0]?.toLowerCase() === 'host';
  // An application with several names could be asked under one that nginx kept from callers.
  if (isHost) return ledger.guardLost(directive, `${note}: restrict it by listen.serverNames`);
  ledger.changed(directive, note);
}

function carryFraming(directive: Directive, lower: string, ledger: Ledger): void {
  if (lower !== 'forwarded') return ledger.notNeeded(directive, 'requests are framed anew');
  ledger.set('forwarded.rfc7239', true, directive);
  ledger.changed(directive, 'became forwarded.rfc7239');
}

function carryValue(
  directive: Directive,
  { name, value }: { readonly name: string; readonly value: string },
  { work, identity, facts }: Collection,
): void {
  const { ledger } = work;
  const variable = /^\$(\w+)$/.exec(value)?.[1] ?? '';
  const attribute =
    ATTRIBUTES[variable] ?? (subjectOf(variable, work.http) === 'commonName' ? 'commonName' : undefined);
  const fact = FACTS[variable] ?? addressFact(variable, ledger) ?? plainText(value, work);
  if (attribute !== undefined) identity.set(name, attribute);
  else if (fact !== null) facts.set(name, fact);
  else {
    const hint = /^\$ssl_client_(?:raw_)?cert$/.test(value)
      ? ' (the attribute certPem is the escaped certificate)'
      : '';
    return ledger.guardLost(directive, `its value cannot be made, and callers could send ${name} themselves${hint}`);
  }
  if (variable === 'remote_addr' && isRealIpByHeader(work))
    ledger.changed(directive, 'the address of the peer: what set_real_ip_from believes is in X-Forwarded-For alone');
  else ledger.carried(directive);
}

/** Of caller and balancer one address is known here: the caller's. */
function addressFact(variable: string, { settings }: Ledger): string | null {
  const isProxied = settings.has('listen.proxyProtocol');
  if (variable === 'proxy_protocol_addr') return isProxied ? 'remoteAddress' : 'none';
  return variable === 'realip_remote_addr' && !isProxied ? 'remoteAddress' : null;
}

/** A text without variables, or the name of the server; `none` for the empty one, which removes the header. */
function plainText(value: string, { server }: Work): string | null {
  const name = named(server.block, 'server_name')[0]?.args[0] ?? '';
  const text = value.replace(/\$server_name\b/g, name.replace(/^\./, ''));
  if (text === '') return 'none';
  return text.includes('$') || !/^[!-~](?:[ -~]*[!-~])?$/.test(text) ? null : `text:${text}`;
}
