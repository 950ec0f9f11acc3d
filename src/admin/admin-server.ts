import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { BlockList, isIP, type AddressInfo, type Socket } from 'node:net';
import { STATUS_PAGE, STATUS_PAGE_HEADERS } from './status-page.js';

/** What the rest of the process tells, and lets itself be told, through the admin listener. */
export interface AdminSource {
  /** @returns whether new requests should be sent here, and why not */
  ready(): Promise<{ readonly ready: boolean; readonly reason: string }>;
  /** Prometheus text format 0.0.4. */
  metrics(): Promise<string>;
  /** Newest first; JSON. */
  refusals(): Promise<readonly unknown[]> | readonly unknown[];
  /** JSON. */
  status(): unknown;
  /** Begins to drain; returns at once. */
  drain(): void;
  /** Null where there is nothing to reload. */
  reload(): Promise<{ readonly ok: boolean; readonly message: string }> | null;
}

export interface AdminOptions {
  readonly host: string;
  /** 0 picks a free one. */
  readonly port: number;
  readonly source: AdminSource;
  /** Told when a source fails; the asker only sees a 500. */
  readonly report: (message: string, error: unknown) => void;
}

export interface AdminServer {
  /** Binds. @throws Node's error (`EADDRINUSE`, `EACCES`, …) */
  listen(): Promise<AddressInfo>;
  /** The real address; null before `listen` and after `close`. */
  address(): AddressInfo | null;
  /** Finishes answers in progress, for a second at most. */
  close(): Promise<void>;
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly body: string;
  readonly headers?: Readonly<Record<string, string>>;
}

interface Endpoint {
  readonly method: 'GET' | 'POST';
  readonly answer: (source: AdminSource) => Promise<Answer> | Answer;
}

const TEXT = 'text/plain; charset=utf-8';
const JSON_TYPE = 'application/json; charset=utf-8';
const HTML = 'text/html; charset=utf-8';
const PROMETHEUS = 'text/plain; version=0.0.4; charset=utf-8';

const ENDPOINTS: ReadonlyMap<string, Endpoint> = new Map<string, Endpoint>([
  [
    '/',
    { method: 'GET', answer: () => ({ status: 200, type: HTML, body: STATUS_PAGE, headers: STATUS_PAGE_HEADERS }) },
  ],
  ['/livez', { method: 'GET', answer: () => text(200, 'alive') }],
  ['/readyz', { method: 'GET', answer: readiness }],
  [
    '/metrics',
    { method: 'GET', answer: async (source) => ({ status: 200, type: PROMETHEUS, body: await source.metrics() }) },
  ],
  ['/refusals', { method: 'GET', answer: async (source) => json(200, await source.refusals()) }],
  ['/status', { method: 'GET', answer: async (source) => json(200, await source.status()) }],
  ['/drain', { method: 'POST', answer: drain }],
  ['/reload', { method: 'POST', answer: reload }],
]);

const NOT_FOUND = text(404, ['not found; there are:', ...ENDPOINTS.keys()].join('\n'));
const FOREIGN = text(403, 'not from a web page: no Origin, and for POST a Host that is an address, localhost or ours');
const REMOTE = text(403, 'only from this host: run mtls-sidecar drain beside the sidecar, or send SIGHUP to reload');
const FAILED = text(500, 'internal error; see the log');

/** One slow asker must not keep the next probe waiting: few connections, short lives, small heads. */
const LIMITS = { connections: 64, requestsPerConnection: 100, idleMs: 10_000, answerMs: 10_000, closeMs: 1_000 };
const SERVER_OPTIONS = {
  headersTimeout: 5_000,
  requestTimeout: 5_000,
  keepAliveTimeout: 5_000,
  connectionsCheckingInterval: 1_000,
  maxHeaderSize: 8_192,
};

/**
 * Plain HTTP for probes, scrapers and operators: no TLS and no authentication, so it belongs on loopback, or on a pod
 * address with a network policy. Nothing here can read a key or change what is trusted.
 */
export function createAdminServer(options: AdminOptions): AdminServer {
  const server = createServer(SERVER_OPTIONS, (request, response) => void respond(request, response, options));
  keepRoom(server);
  server.maxRequestsPerSocket = LIMITS.requestsPerConnection;
  server.timeout = LIMITS.idleMs;
  return {
    listen: () => listen(server, options),
    address: () => server.address() as AddressInfo | null,
    close: () => close(server),
  };
}

/** When all connections are taken, the oldest that asks nothing has to go: silent ones must not keep a probe out. */
function keepRoom(server: Server): void {
  const silent = new Set<Socket>();
  const asking = new Set<Socket>();
  server.on('connection', (socket) => {
    socket.once('close', () => silent.delete(socket) || asking.delete(socket));
    silent.add(socket);
    if (silent.size + asking.size <= LIMITS.connections) return;
    const [oldest = socket] = silent;
    silent.delete(oldest);
    oldest.destroy();
  });
  server.prependListener('request', ({ socket }, response) => {
    silent.delete(socket);
    asking.add(socket);
    response.once('close', () => {
      if (asking.delete(socket) && !socket.destroyed) silent.add(socket);
    });
  });
}

async function respond(request: IncomingMessage, response: ServerResponse, options: AdminOptions): Promise<void> {
  try {
    send(request, response, await answer(request, response, options));
  } catch (error) {
    options.report('admin request failed', error);
    send(request, response, FAILED);
  }
}

async function answer(request: IncomingMessage, response: ServerResponse, options: AdminOptions): Promise<Answer> {
  const path = (request.url ?? '').replace(/\?.*$/s, '');
  const endpoint = ENDPOINTS.get(path);
  if (endpoint === undefined) return NOT_FOUND;
  const allowed = endpoint.method === 'GET' ? ['GET', 'HEAD'] : ['POST'];
  if (!allowed.includes(request.method ?? '')) {
    response.setHeader('Allow', allowed.join(', '));
    return text(405, `use ${allowed.join(' or ')}`);
  }
  if (isFromWebPage(request, options.host)) return FOREIGN;
  if (request.method === 'POST' && !isFromThisHost(request.socket.remoteAddress)) return REMOTE;
  return within(LIMITS.answerMs, endpoint.answer(options.source));
}

/**
 * A page in an operator's browser can POST here without asking (no preflight for a plain form), and after DNS rebinding
 * even as same-origin. Browsers say Origin with every POST; a rebound name shows in Host, and an address in Host cannot be
 * rebound. Reading needs a name for scrapers (`app.monitoring.svc:8081`), so the Host rule is for POST alone.
 */
function isFromWebPage(request: IncomingMessage, ownHost: string): boolean {
  if (request.headers.origin !== undefined) return true;
  return request.method === 'POST' && !isTrustedHost(request.headers.host, ownHost);
}

/**
 * Probes and scrapers need the listener open to the network, and then everybody in it could drain us. Who may run
 * `mtls-sidecar drain` is on this host, or in this pod.
 */
export function isFromThisHost(address: string | undefined): boolean {
  const family = isIP(address ?? '');
  return address !== undefined && family !== 0 && LOOPBACK.check(address, family === 6 ? 'ipv6' : 'ipv4');
}

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

function isTrustedHost(header: string | undefined, ownHost: string): boolean {
  const host = (header ?? '').replace(/:\d*$/, '').toLowerCase();
  const bare = host.replace(/^\[(.*)\]$/, '$1');
  return isIP(bare) !== 0 || host === 'localhost' || (host !== '' && host === ownHost.toLowerCase());
}

function send(request: IncomingMessage, response: ServerResponse, { status, type, body, headers }: Answer): void {
  const bytes = Buffer.from(body);
  // After a POST the connection ends: its body, if there is one, is not ours to read.
  if (request.method === 'POST') response.setHeader('Connection', 'close');
  response.writeHead(status, {
    'Content-Type': type,
    'Content-Length': bytes.length,
    'Cache-Control': 'no-store',
    'X-Content-Type-Options': 'nosniff',
    ...headers,
  });
  response.end(bytes);
}

async function readiness(source: AdminSource): Promise<Answer> {
  const { ready, reason } = await source.ready();
  return text(ready ? 200 : 503, reason === '' ? (ready ? 'ready' : 'not ready') : reason);
}

function drain(source: AdminSource): Answer {
  source.drain();
  return text(202, 'draining');
}

async function reload(source: AdminSource): Promise<Answer> {
  const reloading = source.reload();
  if (reloading === null) return text(501, 'reload is not available');
  const result = await reloading;
  return json(result.ok ? 200 : 500, { ok: result.ok, message: result.message });
}

/** A probe that hangs holds one of few connections; a source that does not answer counts as failed. */
async function within<T>(milliseconds: number, value: Promise<T> | T): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`no answer within ${milliseconds} ms`)), milliseconds);
  });
  return Promise.race([value, limit]).finally(() => clearTimeout(timer));
}

function listen(server: Server, { host, port }: AdminOptions): Promise<AddressInfo> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve(server.address() as AddressInfo);
    });
  });
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => {
    const limit = setTimeout(() => server.closeAllConnections(), LIMITS.closeMs);
    server.close(() => {
      clearTimeout(limit);
      resolve();
    });
    server.closeIdleConnections();
  });
}

function text(status: number, body: string): Answer {
  return { status, type: TEXT, body: `${body}\n` };
}

function json(status: number, value: unknown): Answer {
  return { status, type: JSON_TYPE, body: `${JSON.stringify(value, null, 2)}\n` };
}
