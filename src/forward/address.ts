import type { NetConnectOpts } from 'node:net';
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

/** Of what is no program nobody asks for a connection: `Upstream` and `Tunnel` have turned aside before. */
export function networkAddress(upstream: UpstreamAddress): NetworkAddress {
  if (upstream.kind === 'tcp' || upstream.kind === 'unix') return upstream;
  throw new Error(`${upstream.kind} takes no connections`);
}
