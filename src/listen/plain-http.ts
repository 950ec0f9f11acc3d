import type { Socket } from 'node:net';

/** The first byte of every TLS connection: a handshake record (RFC 8446 §5.1). */
const HANDSHAKE_RECORD = 0x16;

/**
 * Waits for the first bytes of a connection, to tell TLS from plain HTTP. Only for `listen.plainHttp: redirect`, which
 * has to know path and host; otherwise OpenSSL tells, and nothing unencrypted is ever looked at.
 * @param use gets null when it is TLS (the bytes are put back), else the bytes
 */
export function sniff(raw: Socket, use: (plain: Buffer | null) => void): void {
  raw.once('data', (first: Buffer) => {
    raw.pause();
    if (first[0] !== HANDSHAKE_RECORD) {
      use(first);
      return;
    }
    raw.unshift(first);
    use(null);
  });
  // Paused where a PROXY header was read before.
  raw.resume();
}

const REQUEST_LINE = /^[A-Z]{1,16} (\/[!-~]{0,2047}) HTTP\/1\.[01]\r\n/;
const HOST_LINE = /\r\nHost:[ \t]*([A-Za-z0-9.:[\]-]{1,255})[ \t]*\r\n/i;

/**
 * Where a plain HTTP request should have gone: the same host, port and target over https, or null when the bytes do not
 * say so plainly.
 * @param isOurs whether we answer to a name; nobody is sent anywhere else
 */
export function httpsLocation(bytes: Buffer, isOurs: (name: string) => boolean): string | null {
  const text = bytes.subarray(0, 8192).toString('latin1');
  const target = REQUEST_LINE.exec(text)?.[1];
  const host = HOST_LINE.exec(text)?.[1];
  if (target === undefined || host === undefined) return null;
  return isOurs(host.replace(/:\d*$/, '').toLowerCase()) ? `https://${host}${target}` : null;
}
