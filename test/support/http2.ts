import { once } from 'node:events';
import { connect, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTls, type ConnectionOptions, type TLSSocket } from 'node:tls';
import { tlsOptions, type Identity, type Reachable } from './caller.js';

export interface Http2Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** Flat list without pseudo-headers. */
  readonly rawHeaders: readonly string[];
  readonly trailers: Readonly<Record<string, string | string[] | undefined>>;
  /** 1xx, in order. */
  readonly informed: readonly number[];
  readonly body: string;
}

/** Opens an HTTP/2 connection to the sidecar; resolves at the end of the handshake. Errors are left to its streams. */
export async function openHttp2(
  sidecar: Reachable,
  options: {
    readonly as?: Identity | null;
    readonly settings?: Parameters<ClientHttp2Session['settings']>[0];
    readonly tls?: ConnectionOptions;
  } = {},
): Promise<ClientHttp2Session> {
  const socket = connectTls({ ...tlsOptions(sidecar, options.as), ALPNProtocols: ['h2'], ...options.tls });
  await once(socket, 'secureConnect');
  return http2Over(socket, options.settings);
}

/** HTTP/2 over a connection that is there already. */
export function http2Over(
  socket: TLSSocket,
  settings?: Parameters<ClientHttp2Session['settings']>[0],
): ClientHttp2Session {
  const session = connect('https://localhost', {
    createConnection: () => socket,
    ...(settings === undefined ? {} : { settings }),
  });
  session.on('error', () => undefined);
  return session;
}

/** One request; `body` undefined means that it ends with its head. */
export function begin2(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders = {},
  options: Parameters<ClientHttp2Session['request']>[1] = {},
): ClientHttp2Stream {
  const stream = session.request({ ':authority': 'localhost', ':path': '/', ...headers }, options);
  stream.on('error', () => undefined);
  return stream;
}

/** The whole answer. Rejects when the stream ends before it. */
export function answerOf(stream: ClientHttp2Stream): Promise<Http2Answer> {
  const informed: number[] = [];
  const chunks: Buffer[] = [];
  let head: Pick<Http2Answer, 'status' | 'headers' | 'rawHeaders'> | null = null;
  let trailers: Http2Answer['trailers'] = {};
  stream.on('headers', (headers) => informed.push(Number(headers[':status'])));
  stream.on('response', (headers, _flags, ...rest) => {
    const raw = (rest as unknown as [string[]])[0];
    const rawHeaders = raw.filter((_, index) => !raw[index - (index % 2)]?.startsWith(':'));
    head = { status: Number(headers[':status']), headers, rawHeaders };
  });
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('trailers', (received) => (trailers = received));
  return new Promise((resolve, reject) => {
    stream.once('end', () => {
      if (head === null || stream.rstCode !== 0) return;
      resolve({ ...head, trailers, informed, body: Buffer.concat(chunks).toString() });
    });
    stream.once('close', () => reject(new Error(`the stream ended with code ${stream.rstCode}`)));
  });
}

/** One request and its whole answer. */
export function call2(
  session: ClientHttp2Session,
  headers: OutgoingHttpHeaders = {},
  body?: string | Buffer,
): Promise<Http2Answer> {
  const method = body === undefined ? 'GET' : 'POST';
  const stream = begin2(session, { ':method': method, ...headers }, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  return answerOf(stream);
}
