import type { NetConnectOpts } from 'node:net';
import ipaddr from 'ipaddr.js';
import type { NetworkAddress, UpstreamAddress } from '../config/config.js';

/** Where the application listens, for `net.connect`. */
export function connectOptions(upstream: UpstreamAddress): NetConnectOpts {
  const address = networkAddress(upstream);
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
}

/** Whether somebody listens there. */
export function isProgram({ kind }: UpstreamAddress): boolean {
  return kind === 'tcp' || kind === 'unix';
}

/** Whether both lead to one program on this machine, or to the same place elsewhere. Names of this machine count as one. */
export function isSameProgram(one: UpstreamAddress, other: UpstreamAddress): boolean {
  if (one.kind === 'unix') return other.kind === 'unix' && one.path === other.path;
  if (one.kind !== 'tcp' || other.kind !== 'tcp' || one.port !== other.port) return false;
  return one.host.toLowerCase() === other.host.toLowerCase() || (isHere(one.host) && isHere(other.host));
}

function isHere(host: string): boolean {
  return host === 'localhost' || (ipaddr.isValid(host) && ipaddr.process(host).range() === 'loopback');
}

/** Of what is no program nobody asks for a connection: `Upstream` and `Tunnel` have turned aside before. */
export function networkAddress(upstream: UpstreamAddress): NetworkAddress {
  if (upstream.kind === 'tcp' || upstream.kind === 'unix') return upstream;
  throw new Error(`${upstream.kind} takes no connections`);
}
