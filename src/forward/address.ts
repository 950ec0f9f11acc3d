import type { NetConnectOpts } from 'node:net';
import type { NetworkAddress, UpstreamAddress } from '../config/config.js';

/** Where the application listens, for `net.connect` and `http.request` alike. */
export function connectOptions(upstream: UpstreamAddress): NetConnectOpts {
  const address = networkAddress(upstream);
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
}

/** Of a directory nobody asks for a connection: `Upstream` and `Tunnel` have turned aside before. */
export function networkAddress(upstream: UpstreamAddress): NetworkAddress {
  if (upstream.kind === 'file') throw new Error('a directory takes no connections');
  return upstream;
}

/** undici wants an origin even for a Unix socket; every request brings its own Host. */
export function originOf(upstream: UpstreamAddress): string {
  const address = networkAddress(upstream);
  if (address.kind === 'unix') return 'http://localhost';
  return `http://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}
