import type { NetConnectOpts } from 'node:net';
import type { UpstreamAddress } from '../config/config.js';

/** Where the application listens, for `net.connect` and `http.request` alike. */
export function connectOptions(address: UpstreamAddress): NetConnectOpts {
  return address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port };
}

/** undici wants an origin even for a Unix socket; every request brings its own Host. */
export function originOf(address: UpstreamAddress): string {
  if (address.kind === 'unix') return 'http://localhost';
  return `http://${address.host.includes(':') ? `[${address.host}]` : address.host}:${address.port}`;
}
