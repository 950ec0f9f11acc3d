import type { Directive } from './syntax.js';
import type { Work } from './work.js';

/** Whether the callers' addresses come by the PROXY protocol, and not by a header of HTTP. */
export function isRealIpByProxyProtocol({ scope }: Work): boolean {
  return scope.value('real_ip_header') === 'proxy_protocol';
}

/** Whether nginx takes the address of a caller from a header of HTTP; here it stays that of the peer. */
export function isRealIpByHeader(work: Work): boolean {
  return !isRealIpByProxyProtocol(work) && work.scope.all('set_real_ip_from').length > 0;
}

/** Carries whom nginx believes about the address of a caller. */
export function carryRealIp(work: Work): void {
  const { scope, ledger } = work;
  const sources = scope.all('set_real_ip_from');
  if (isRealIpByProxyProtocol(work)) carrySenders(sources, work);
  else carryProxies(sources, work);
  for (const directive of scope.all('real_ip_header')) {
    const [name = ''] = directive.args;
    if (isRealIpByProxyProtocol(work)) ledger.notNeeded(directive, 'the PROXY protocol is what is looked at');
    else if (name.toLowerCase() === 'x-forwarded-for') ledger.notNeeded(directive, 'it is what is looked at');
    else
      ledger.changed(directive, `X-Forwarded-For is what is looked at; ${name} goes on as it came, whoever sends it`);
  }
  for (const directive of scope.all('real_ip_recursive')) {
    ledger.notNeeded(directive, 'the application gets the whole list');
  }
}

/** nginx takes a PROXY header from anybody, and believes these alone; here nobody else may send one. */
function carrySenders(sources: readonly Directive[], { ledger }: Work): void {
  if (!ledger.settings.has('listen.proxyProtocol')) {
    for (const directive of sources) ledger.notNeeded(directive, 'no listen here expects the PROXY protocol');
    return;
  }
  const [first] = sources;
  const networks = networksOf(sources);
  if (first !== undefined && networks.length > 0) ledger.set('listen.proxyProtocolFrom', networks, first);
  for (const directive of sources) {
    if (networksOf([directive]).length > 0) ledger.changed(directive, 'listen.proxyProtocolFrom: others are refused');
    else ledger.lost(directive, 'list addresses in listen.proxyProtocolFrom');
  }
}

/** nginx takes the address from a header; here the address stays that of the peer, and its list is continued. */
function carryProxies(sources: readonly Directive[], { ledger }: Work): void {
  const [first] = sources;
  const networks = networksOf(sources);
  if (first !== undefined && networks.length > 0) ledger.set('forwarded.trustedProxies', networks, first);
  for (const directive of sources) ledger.changed(directive, 'its X-Forwarded-For is continued; records show the peer');
}

/** Neither host names nor Unix sockets. */
function networksOf(sources: readonly Directive[]): string[] {
  return sources.map(({ args }) => args[0] ?? '').filter((network) => /^[0-9A-Fa-f:.]+(?:\/\d+)?$/.test(network));
}
