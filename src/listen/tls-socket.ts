import type { X509Certificate } from 'node:crypto';
import { isIP, type Server, type Socket } from 'node:net';
import { type SecureContext, TLSSocket } from 'node:tls';
import { readSession } from '../identify/session.js';
import type { KnownCaller } from './known-callers.js';
import type { Beginning } from './resumption.js';

/**
 * The server side of one TLS connection over an accepted TCP socket.
 *
 * The road not taken is `tls.Server`: it reads the peer certificate itself before it tells anybody, and on Node 24.21 and
 * 26.8 that reading loses the presented intermediates (nodejs/node#65579), without which neither depth nor chain can be
 * known. Owning the TLSSocket also keeps the raw socket at hand, which the answer to plain HTTP needs.
 */
export interface TlsParameters {
  readonly secureContext: SecureContext;
  /** As `secureContext`, but for a full handshake whatever the caller offers to resume. */
  readonly startingContext: SecureContext;
  /** Another certificate for a server name, or null; null itself when there is but one. */
  readonly contextForName: ((serverName: string) => SecureContext | null) | null;
  /** All that may be shown. */
  readonly certificates: readonly X509Certificate[];
  readonly requestCert: boolean;
  /** By `offeredProtocols`. */
  readonly alpn: DataView;
}

/**
 * What may wait to be written before the application is not read any more: two reads of it. At Node's 16 KiB, each piece of
 * an answer would stop and start the reading of the next. Bytes.
 */
const WRITE_AHEAD = 131_072;

const FULL: Beginning = { resumes: false, sessionsById: null };

/** What OpenSSL said about the peer certificate. */
export interface PeerVerification {
  readonly leaf: X509Certificate | null;
  /** The other certificates that the caller presented, in the order in which they issue one another. */
  readonly presented: readonly X509Certificate[];
  /** Null when OpenSSL has no complaint, or no leaf to complain about; that alone proves nothing, see `judge`. */
  readonly error: { readonly code: string; readonly text: string } | null;
  /** What is known of the leaf already; then nothing else that was presented was looked at. */
  readonly known?: KnownCaller;
}

/** As Node makes it of the oldest entry in OpenSSL's queue of errors. */
export type HandshakeError = Error & { readonly code?: string; readonly library?: string };

/** The parts of TLSSocket that `tls.Server` uses and the type declarations leave out. */
interface TlsSocketInternals {
  readonly ssl: {
    verifyError(): (Error & { code?: string }) | null | undefined;
    onerror: (this: unknown, error: HandshakeError) => void;
  };
  _releaseControl(): boolean;
  secureConnecting: boolean;
}

/**
 * Node's answers end with an empty chunk behind the last text. To gather the two for one `writev` costs more than all else
 * that is done to write them, so the text goes alone.
 */
class CallerSocket extends TLSSocket {
  override _writev(chunks: { chunk: Buffer | string; encoding: BufferEncoding }[], callback: () => void): void {
    const [first, second] = chunks;
    if (first === undefined || second?.chunk.length !== 0 || chunks.length > 2) super._writev?.(chunks, callback);
    else this._write(first.chunk, first.encoding, callback);
  }
}

/**
 * Starts the server side of a handshake. `secure` is emitted at its end, `error` at its failure, after which the raw
 * socket is still writable.
 * @param beginning without it the handshake is a full one
 */
export function startHandshake(raw: Socket, parameters: TlsParameters, beginning: Beginning = FULL): TLSSocket {
  const { resumes, sessionsById } = beginning;
  const { contextForName } = parameters;
  return new CallerSocket(raw, {
    isServer: true,
    secureContext: resumes ? parameters.secureContext : parameters.startingContext,
    // Node asks whatever stands here for sessions by their ids. It has to be nothing when nobody answers.
    ...(sessionsById === null ? {} : { server: sessionsById as Server }),
    // An option of streams, which the declared type leaves out.
    ...{ highWaterMark: WRITE_AHEAD },
    ...(contextForName === null ? {} : { SNICallback: (name, done) => done(null, contextForName(name) ?? undefined) }),
    requestCert: parameters.requestCert,
    // Requested in the handshake, decided by us: with `true` the reason of a refusal is lost in an ECONNRESET.
    rejectUnauthorized: false,
    ALPNProtocols: parameters.alpn,
  });
}

/**
 * Reads the peer certificate and OpenSSL's verdict; to be called once, on `secure`. Errors of the connection reach its
 * `error` listeners from here on.
 * @param recall finds a caller whose chain need not be looked at again, by the DER of its leaf. Node makes objects of all that
 *   was presented before it shows any of it: 130 µs each with Node 20.
 */
export function readPeer(socket: TLSSocket, recall?: (leaf: Uint8Array) => KnownCaller | null): PeerVerification {
  const internals = socket as unknown as TlsSocketInternals;
  const known = recall === undefined ? null : recognize(socket, recall);
  const peer = known === null ? look(socket) : { leaf: known.leaf, presented: [], error: null, known };
  internals._releaseControl();
  // HTTP/2 would wait for an event that only `tls.Server` and `tls.connect` emit.
  internals.secureConnecting = false;
  return peer;
}

/** @returns null for whoever has to be looked at: after each complaint of OpenSSL, and when the session cannot be read */
function recognize(socket: TLSSocket, recall: (leaf: Uint8Array) => KnownCaller | null): KnownCaller | null {
  const session = socket.getSession();
  if (session === undefined) return null;
  try {
    const { leaf } = readSession(session);
    // Where nothing was shown there is nothing to ask OpenSSL about either.
    return leaf === null || verifyError(socket) ? null : recall(leaf);
  } catch {
    return null;
  } finally {
    // The secrets of the connection are in it.
    session.fill(0);
  }
}

function look(socket: TLSSocket): PeerVerification {
  // The chain first: Node removes it from the session on the first look at the certificate.
  const leaf = socket.getPeerX509Certificate() ?? null;
  const presented = leaf === null ? [] : issuersOf(leaf);
  // Node crashes when it is asked about no certificate before a handshake has ended.
  const error = leaf === null ? null : verifyError(socket);
  return { leaf, presented, error: error ? { code: error.code ?? 'UNSPECIFIED', text: error.message } : null };
}

function verifyError(socket: TLSSocket): ReturnType<TlsSocketInternals['ssl']['verifyError']> {
  return (socket as unknown as TlsSocketInternals).ssl.verifyError();
}

/**
 * Asks before a handshake is given up, while the socket can still be asked: on `error` it cannot.
 * @param isOver whether it has really failed; otherwise it goes on with what the caller sends next
 */
export function onGivingUp(socket: TLSSocket, isOver: (error: HandshakeError) => boolean): void {
  const { ssl } = socket as unknown as TlsSocketInternals;
  const giveUp = ssl.onerror;
  ssl.onerror = (error) => {
    if (isOver(error)) giveUp.call(ssl, error);
  };
  // There is nothing to ask any more, and who asks would stay as long as the connection.
  socket.once('secure', () => (ssl.onerror = giveUp));
}

/**
 * What may be spoken in a connection, as TLS has it on the wire (RFC 7301 §3.1), the dearest first. Node keeps a copy for each
 * connection, and of names, or of a Buffer, one in its pool: 20 bytes would keep 8 KiB of handshakes that are long over.
 */
export function offeredProtocols(names: readonly string[]): DataView {
  const bytes = names.flatMap((name) => [name.length, ...Buffer.from(name, 'latin1')]);
  return new DataView(Uint8Array.from(bytes).buffer);
}

/** Whether one of our certificates is good for a host name or address. */
export function isCertifiedName({ certificates }: TlsParameters, name: string): boolean {
  const address = name.replace(/^\[(.*)\]$/, '$1');
  return certificates.some((certificate) => {
    return (isIP(address) === 0 ? certificate.checkHost(name) : certificate.checkIP(address)) !== undefined;
  });
}

/** OpenSSL reads at most 100 KiB of certificates; the bound here is against a loop, not against a long chain. */
const MAX_PRESENTED = 64;

function issuersOf(leaf: X509Certificate): X509Certificate[] {
  const issuers: X509Certificate[] = [];
  let current = leaf.issuerCertificate;
  while (current !== undefined && issuers.length < MAX_PRESENTED) {
    issuers.push(current);
    current = current.issuerCertificate;
  }
  return issuers;
}
