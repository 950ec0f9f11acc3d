import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';
import { isRealIpByProxyProtocol } from './real-ip.js';
import { named, type Work } from './work.js';

/** Parameters that change nothing about who is served. */
const HARMLESS =
  /^(?:ssl|default_server|default|deferred|reuseport|bind|backlog=.*|rcvbuf=.*|sndbuf=.*|so_keepalive=.*|fastopen=.*|ipv6only=.*|setfib=.*)$/;

export interface Address {
  readonly host: string;
  readonly port: number;
}

/** The address of a `listen`; null for a Unix socket or what cannot be read. */
export function listenAddress({ args: [written = ''] }: Directive): Address | null {
  if (/^\d+$/.test(written)) return { host: '0.0.0.0', port: Number(written) };
  const [, host, port] = /^(\[[0-9A-Fa-f:.]+\]|[^:[\]]+)(?::(\d+))?$/.exec(written) ?? [];
  if (host === undefined || written.startsWith('unix:')) return null;
  const bare = host.replace(/^\[|\]$/g, '');
  return { host: bare === '*' ? '0.0.0.0' : bare, port: port === undefined ? 80 : Number(port) };
}

/** Whether a server terminates TLS on this listen. `ssl on` is the form of before nginx 1.25. */
export function isTlsListen(listen: Directive, server: Directive): boolean {
  return listen.args.includes('ssl') || named(server.block, 'ssl').some(({ args }) => args[0] === 'on');
}

/** Whether a server terminates TLS anywhere. */
export function isTlsServer(server: Directive): boolean {
  return named(server.block, 'listen').some((listen) => isTlsListen(listen, server));
}

/** Carries address and port. Both wildcards of one port become `::`, which serves both kinds of addresses. */
export function carryListen(work: Work): void {
  const { ledger, server } = work;
  const all = named(server.block, 'listen');
  const tls = all.filter((listen) => isTlsListen(listen, server));
  for (const listen of all.filter((each) => !tls.includes(each))) {
    ledger.lost(listen, 'nothing listens for plain HTTP here');
  }
  const [first] = tls.filter((listen) => listenAddress(listen) !== null);
  if (first === undefined) {
    for (const listen of tls) ledger.lost(listen, 'set listen.host and listen.port');
    return;
  }
  const { port } = listenAddress(first) as Address;
  const hosts = tls.flatMap((listen) => hostOn(listen, port));
  const host = commonHost(hosts);
  ledger.set('listen.port', port, first);
  ledger.set('listen.host', host, first);
  const isServed = (listen: Directive): boolean => hostOn(listen, port).some((each) => each === host || isAny(host));
  const isProxied = tls.some((listen) => isServed(listen) && expectsProxyProtocol(listen));
  for (const listen of tls) {
    if (isServed(listen)) carryParameters(listen, work, isProxied);
    else ledger.lost(listen, `one address and port only: ${host} port ${port}`);
  }
  carryProtocols(work, tls.filter(isServed));
}

/** The host of a listen if it is about this port. */
function hostOn(listen: Directive, port: number): string[] {
  const address = listenAddress(listen);
  return address?.port === port ? [address.host] : [];
}

function isAny(host: string): boolean {
  return host === '0.0.0.0' || host === '::';
}

/** Several addresses are never widened to all of them. */
function commonHost(hosts: readonly string[]): string {
  return ['::', '0.0.0.0'].find((any) => hosts.includes(any)) ?? hosts[0] ?? '0.0.0.0';
}

function expectsProxyProtocol({ args }: Directive): boolean {
  return args.includes('proxy_protocol');
}

function carryParameters(listen: Directive, work: Work, isProxied: boolean): void {
  const { ledger, options } = work;
  const unknown = listen.args.slice(1).filter((parameter) => !HARMLESS.test(parameter));
  const lacking = unknown.filter((parameter) => !isCarried(parameter, options.available));
  const notes = [
    ...lacking.map(withoutParameter),
    ...(isProxied ? [aboutProxyProtocol(listen, work)] : []),
    ...(listenAddress(listen)?.host === '::' ? ['IPv4 is served on the same port as well'] : []),
  ].filter((note) => note !== '');
  if (notes.length > 0) ledger.changed(listen, notes.join('; '));
  else ledger.carried(listen);
}

function aboutProxyProtocol(listen: Directive, work: Work): string {
  if (!expectsProxyProtocol(listen)) return 'the PROXY protocol is expected here as well';
  if (isRealIpByProxyProtocol(work)) return '';
  return 'name the balancers in listen.proxyProtocolFrom; addresses of callers are always those of the PROXY protocol';
}

function isCarried(parameter: string, available: (setting: string) => boolean): boolean {
  if (parameter === 'http2') return available('listen.http2');
  return parameter === 'proxy_protocol';
}

function withoutParameter(parameter: string): string {
  if (parameter === 'http2') return 'HTTP/2 is not offered in this version: callers speak HTTP/1.1';
  return `${parameter} has no counterpart`;
}

function carryProtocols(work: Work, listens: readonly Directive[]): void {
  const { ledger, options, scope } = work;
  const proxied = listens.find(expectsProxyProtocol);
  if (proxied !== undefined) ledger.set('listen.proxyProtocol', true, proxied);
  const asking = listens.find(({ args }) => args.includes('http2'));
  if (asking !== undefined && options.available('listen.http2')) ledger.set('listen.http2', true, asking);
  const http2 = scope.one('http2');
  if (http2 !== undefined) carryHttp2(http2, options.available('listen.http2'), ledger);
}

function carryHttp2(http2: Directive, available: boolean, ledger: Ledger): void {
  if (http2.args[0] !== 'on') return ledger.notNeeded(http2, 'it is off unless listen.http2 says otherwise');
  if (!available) return ledger.changed(http2, withoutParameter('http2'));
  ledger.set('listen.http2', true, http2);
  ledger.carried(http2);
}
