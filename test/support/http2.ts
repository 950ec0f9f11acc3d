import { once } from 'node:events';
import { connect, type ClientHttp2Session, type ClientHttp2Stream, type OutgoingHttpHeaders } from 'node:http2';
import { connect as connectTls } from 'node:tls';
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
  options: { readonly as?: Identity | null; readonly settings?: Parameters<ClientHttp2Session['settings']>[0] } = {},
): Promise<ClientHttp2Session> {
  const socket = connectTls({ ...tlsOptions(sidecar, options.as), ALPNProtocols: ['h2'] });
  await once(socket, 'secureConnect');
  const session = connect(`https://localhost:${sidecar.port}`, {
    createConnection: () => socket,
    ...(options.settings === undefined ? {} : { settings: options.settings }),
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
export async function answerOf(stream: ClientHttp2Stream): Promise<Http2Answer> {
  const informed: number[] = [];
  stream.on('headers', (headers) => informed.push(Number(headers[':status'])));
  let trailers: Http2Answer['trailers'] = {};
  stream.on('trailers', (received) => (trailers = received));
  const closed = new Promise<never>((_, reject) => {
    stream.once('close', () => reject(new Error(`the stream ended with code ${stream.rstCode}`)));
  });
  closed.catch(() => undefined);
  const [headers, , rawHeaders] = (await Promise.race([once(stream, 'response'), closed])) as unknown as [
    Record<string, string | string[] | undefined>,
    number,
    string[],
  ];
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  await Promise.race([once(stream, 'end'), closed]);
  if (stream.rstCode !== 0) throw new Error(`the answer was cut with code ${stream.rstCode}`);
  return {
    status: Number(headers[':status']),
    headers,
    rawHeaders: rawHeaders.filter((_, index) => !rawHeaders[index - (index % 2)]?.startsWith(':')),
    trailers,
    informed,
    body: Buffer.concat(chunks).toString(),
  };
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
