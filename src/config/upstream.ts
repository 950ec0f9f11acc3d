import ipaddr from 'ipaddr.js';
import type { UpstreamAddress } from './config.js';

/** Linux keeps a socket path in 108 bytes, the last of them NUL (unix(7)); a longer one fails only at the first request. */
const LONGEST_SOCKET_PATH = 107;

/** For people: what `upstream.url` may be. */
export const ALLOWED = 'http://HOST:PORT, unix:/PATH or file:/DIRECTORY';

/**
 * Reads `upstream.url`: `http://HOST[:PORT]`, `unix:/PATH` or `file:/DIRECTORY`.
 * @throws Error that says what is allowed
 */
export function parseUpstream(written: string): UpstreamAddress {
  // The URL parser drops tabs and line breaks in silence, and so would connect elsewhere than what was written.
  if (/[\s\0]/.test(written)) throw new Error('must not contain spaces or line breaks');
  if (written.startsWith('unix:')) return unixAddress(written.slice('unix:'.length));
  if (written.startsWith('file:')) return directory(written.slice('file:'.length));
  if (!written.startsWith('http://')) throw new Error(`must be ${ALLOWED}`);
  return tcpAddress(written);
}

/** Whether plain HTTP to this host stays on this machine. Names other than localhost are looked up elsewhere: remote. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  return ipaddr.isValid(host) && ipaddr.process(host).range() === 'loopback';
}

function unixAddress(path: string): UpstreamAddress {
  if (!path.startsWith('/')) throw new Error('must be unix: followed by an absolute path');
  if (Buffer.byteLength(path) > LONGEST_SOCKET_PATH) {
    throw new Error(`must name a socket path of at most ${LONGEST_SOCKET_PATH} bytes`);
  }
  return { kind: 'unix', path };
}

function directory(path: string): UpstreamAddress {
  // `file://host/path` would mean a file of another machine to a reader of URLs.
  if (!path.startsWith('/') || path.startsWith('//')) throw new Error('must be file: followed by an absolute path');
  return { kind: 'file', path };
}

function tcpAddress(written: string): UpstreamAddress {
  const url = URL.canParse(written) ? new URL(written) : null;
  if (url === null || url.port === '0') throw new Error(`must be ${ALLOWED}`);
  if (url.username !== '' || url.password !== '') throw new Error('must not contain a user name or password');
  // nginx replaces the path of a request by that of proxy_pass. This proxy never changes a path.
  if (url.pathname !== '/' || /[?#]/.test(written)) throw new Error('must be without path, query and fragment');
  const host = url.hostname.replace(/^\[|\]$/g, '');
  return { kind: 'tcp', host, port: url.port === '' ? 80 : Number(url.port) };
}
