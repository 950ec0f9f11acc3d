import { once } from 'node:events';
import { createServer as createHttpServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { createServer as createTcpServer, type AddressInfo, type Server as TcpServer, type Socket } from 'node:net';

/** What an application saw of one request. */
export interface Seen {
  readonly method: string;
  readonly url: string;
  readonly rawHeaders: readonly string[];
  readonly rawTrailers: readonly string[];
  readonly body: Buffer;
}

export interface Application {
  readonly url: string;
  readonly port: number;
  readonly server: Server;
  /** Requests in the order of their ends. */
  readonly seen: Seen[];
  stop(): Promise<void>;
}

/** An HTTP application on a loopback port (or Unix socket) that records what it gets and answers 200 `ok`, or as told. */
export async function startApplication(
  answer: (seen: Seen, response: ServerResponse, request: IncomingMessage) => void = (_seen, response) => {
    response.end('ok');
  },
  listen: { readonly path: string } | { readonly port: number; readonly host: string } = { port: 0, host: '127.0.0.1' },
): Promise<Application> {
  const seen: Seen[] = [];
  const server = createHttpServer({ maxHeaderSize: 1_048_576 }, (request, response) => {
    void record(request).then((entry) => {
      seen.push(entry);
      answer(entry, response, request);
    }, noop);
  });
  server.maxHeadersCount = 0;
  server.listen(listen);
  await once(server, 'listening');
  const port = 'path' in listen ? 0 : (server.address() as AddressInfo).port;
  const url = 'path' in listen ? `unix:${listen.path}` : `http://127.0.0.1:${port}`;
  return { url, port, server, seen, stop: () => stopServer(server) };
}

async function record(request: IncomingMessage): Promise<Seen> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  const { method = '', url = '', rawHeaders, rawTrailers } = request;
  return { method, url, rawHeaders, rawTrailers, body: Buffer.concat(chunks) };
}

/** Values of a header by its exact or folded name, in order. */
export function valuesOf(rawHeaders: readonly string[], name: string): string[] {
  const wanted = name.toLowerCase();
  return rawHeaders.filter((_, index) => index % 2 === 1 && rawHeaders[index - 1]?.toLowerCase() === wanted);
}

export interface RawApplication {
  readonly url: string;
  readonly port: number;
  readonly server: TcpServer;
  /** Sockets ever accepted. */
  readonly sockets: Socket[];
  stop(): Promise<void>;
}

/** A TCP server that does with each connection whatever the test says: for applications that misbehave. */
export async function startRawApplication(onConnection: (socket: Socket) => void): Promise<RawApplication> {
  const sockets: Socket[] = [];
  const server = createTcpServer((socket) => {
    sockets.push(socket);
    socket.on('error', noop);
    onConnection(socket);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const stop = async (): Promise<void> => {
    for (const socket of sockets) socket.destroy();
    server.close();
    await once(server, 'close');
  };
  return { url: `http://127.0.0.1:${port}`, port, server, sockets, stop };
}

async function stopServer(server: Server): Promise<void> {
  server.closeAllConnections();
  server.close();
  if (server.listening) await once(server, 'close');
}

function noop(): void {}
