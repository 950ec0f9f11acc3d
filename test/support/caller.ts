import { once } from 'node:events';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import type { ClientRequest, IncomingMessage } from 'node:http';
import type { Socket } from 'node:net';
import { connect, type ConnectionOptions, type TLSSocket } from 'node:tls';
import type { Pki } from './pki.js';
import type { Sidecar } from './sidecar.js';

/** Key and certificate of a caller. */
export interface Identity {
  readonly certPem: string;
  readonly keyPem: string;
}

export interface Answer {
  readonly status: number;
  readonly headers: IncomingMessage['headers'];
  readonly rawHeaders: readonly string[];
  readonly rawTrailers: readonly string[];
  readonly body: string;
}

export interface CallOptions extends Omit<RequestOptions, 'cert' | 'key'> {
  /** Default: the honest client of the sidecar's PKI; null for a caller without a certificate. */
  readonly as?: Identity | null;
  readonly body?: string | Buffer;
  /** A TLS session to resume. */
  readonly session?: Buffer;
  /** A TCP connection that is there already. */
  readonly socket?: Socket;
}

/** A sidecar in this process, or one that is a process of its own. */
export type Reachable = Pick<Sidecar, 'port' | 'pki'>;

/** TLS options of a caller of this sidecar. */
export function tlsOptions(sidecar: Reachable, as: Identity | null = sidecar.pki.client): ConnectionOptions {
  return {
    host: '127.0.0.1',
    port: sidecar.port,
    servername: 'localhost',
    ca: sidecar.pki.ca.certPem,
    ...(as === null ? {} : { cert: as.certPem, key: as.keyPem }),
  };
}

/** Begins an HTTPS request over a connection of its own, unless an agent is given. */
export function begin(sidecar: Reachable, options: CallOptions = {}): ClientRequest {
  const { as, body, headers, ...rest } = options;
  return httpsRequest({
    ...tlsOptions(sidecar, as),
    agent: false,
    path: '/',
    method: body === undefined ? 'GET' : 'POST',
    ...rest,
    headers: Array.isArray(headers) ? headers : { host: 'localhost', ...headers },
  } as RequestOptions);
}

/** One HTTPS request and its whole answer. */
export async function call(sidecar: Reachable, options: CallOptions = {}): Promise<Answer> {
  const outgoing = begin(sidecar, options);
  outgoing.end(options.body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  return readAnswer(response);
}

export async function readAnswer(response: IncomingMessage): Promise<Answer> {
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const { statusCode = 0, headers, rawHeaders, rawTrailers } = response;
  return { status: statusCode, headers, rawHeaders, rawTrailers, body: Buffer.concat(chunks).toString() };
}

/** A TLS connection whose bytes the test writes and reads itself. */
export interface RawCaller {
  readonly socket: TLSSocket;
  /** Everything received so far, as latin1. */
  received(): string;
  /** Resolves once what was received matches; rejects when the connection ends before. */
  receive(pattern: RegExp): Promise<string>;
  /** Resolves with everything once the other side has ended. */
  closed(): Promise<string>;
}

/** Opens a TLS connection; resolves at the end of the handshake. */
export async function openRaw(
  sidecar: Reachable,
  options: ConnectionOptions & { readonly as?: Identity | null } = {},
): Promise<RawCaller> {
  const { as, ...rest } = options;
  const socket = connect({ ...tlsOptions(sidecar, as), ...rest });
  const caller = watch(socket);
  await once(socket, 'secureConnect');
  return caller;
}

function watch(socket: TLSSocket): RawCaller {
  let text = '';
  socket.on('data', (chunk: Buffer) => (text += chunk.toString('latin1')));
  socket.on('error', () => undefined);
  const closed = new Promise<string>((resolve) => socket.once('close', () => resolve(text)));
  return {
    socket,
    received: () => text,
    closed: () => closed,
    receive: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          if (pattern.test(text)) finish(() => resolve(text));
        };
        const onClose = (): void => finish(() => reject(new Error(`closed with: ${text}`)));
        const finish = (settle: () => void): void => {
          socket.off('data', look);
          socket.off('close', onClose);
          settle();
        };
        socket.on('data', look);
        socket.on('close', onClose);
        look();
      }),
  };
}

/** Sends raw bytes over a new connection and gives everything that came back until the sidecar ended it. */
export async function sendRaw(sidecar: Reachable, bytes: string, as?: Identity | null): Promise<string> {
  const caller = await openRaw(sidecar, as === undefined ? {} : { as });
  caller.socket.write(Buffer.from(bytes, 'latin1'));
  return caller.closed();
}

/** A caller as the sidecar's PKI issues them. */
export type { Pki };
