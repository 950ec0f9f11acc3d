import type { Socket } from 'node:net';
import { parseProxyHeader, type ProxyHeader } from '../identify/proxy-header.js';

/**
 * Waits for the PROXY protocol header of a connection and takes it off. The connection is left paused, with what came
 * behind the header put back. The deadline is the caller's business.
 * @param use gets what was read, once; never called when the connection ends before
 */
export function readProxyHeader(raw: Socket, use: (header: Exclude<ProxyHeader, Incomplete>) => void): void {
  let bytes = Buffer.alloc(0);
  const read = (chunk: Buffer): void => {
    bytes = Buffer.concat([bytes, chunk]);
    const header = parseProxyHeader(bytes);
    if (header.kind === 'incomplete') return;
    raw.off('data', read);
    raw.pause();
    if (header.kind === 'complete' && bytes.length > header.length) raw.unshift(bytes.subarray(header.length));
    use(header);
  };
  raw.on('data', read);
}

interface Incomplete {
  readonly kind: 'incomplete';
}
