import type { NetConnectOpts } from 'node:net';
import type { NetworkAddress, UpstreamAddress } from '../config/config.js';

/** Where the application listens, for `net.connect`. */
export function connectOptions(upstream: UpstreamAddress): NetConnectOpts {
  const address = networkAddress(upstream);
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
}

/** Of a directory nobody asks for a connection: `Upstream` and `Tunnel` have turned aside before. */
export function networkAddress(upstream: UpstreamAddress): NetworkAddress {
  if (upstream.kind === 'file') throw new Error('a directory takes no connections');
  return upstream;
}
