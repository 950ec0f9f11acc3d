import { once } from 'node:events';
import type { X509Certificate } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { connect as connectTcp, isIP } from 'node:net';
import type { Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';
import type { TLSSocket } from 'node:tls';
import { CONNECTION_REASONS } from '../errors.js';
import { weaknesses } from '../trust/strength.js';
import { tlsFailure } from './explain-failures.js';

/** Where to call, as whom, and what to ask for. */
export interface Question {
  readonly host: string;
  readonly port: number;
  readonly request: { readonly method: string; readonly target: string };
  /** Leaf first; empty to call without a certificate. */
  readonly chain: readonly X509Certificate[];
  /** PEM. */
  readonly key: string | null;
  /** Whom to trust with the server certificate; null means the public roots. */
  readonly ca: readonly X509Certificate[] | null;
  /** Whether to begin as a load balancer does that speaks the PROXY protocol. */
  readonly proxyHeader: boolean;
}

/** The steps of a call in order. */
export type CallStep = 'dns' | 'tcp' | 'tls' | 'server_certificate' | 'answer';

/** How far the call came. */
export interface CallOutcome {
  readonly admitted: boolean;
  /** The step that failed, or `answer`. */
  readonly step: CallStep;
  /** A code: ours, or that of the step. Null for an answer of the application. */
  readonly reason: string | null;
  readonly detail: string;
  /** Of the answer. */
  readonly status: number | null;
  readonly tls: { readonly version: string; readonly cipher: string } | null;
}

const PATIENCE_MS = 10_000;

/** Ends a call at a step. */
class StepFailed extends Error {
  constructor(
    readonly step: CallStep,
    readonly reason: string,
    detail: string,
  ) {
    super(detail);
  }
}

/** Calls, step by step. Sends one real request when it gets that far. */
export async function callAsCaller(question: Question): Promise<CallOutcome> {
  let socket: TLSSocket | null = null;
  try {
    await resolveName(question.host);
    const raw = await reach(question);
    socket = await shakeHands(raw, question);
    trustServer(socket);
    return { ...judgeAnswer(await askOver(socket, question)), tls: tlsFacts(socket) };
  } catch (error) {
    if (!(error instanceof StepFailed)) throw error;
    const { step, reason, message: detail } = error;
    return { admitted: false, step, reason, detail, status: null, tls: socket === null ? null : tlsFacts(socket) };
  } finally {
    socket?.destroy();
  }
}

async function resolveName(host: string): Promise<void> {
  try {
    await lookup(host);
  } catch (error) {
    throw new StepFailed('dns', 'unknown_host', `${host} has no address: ${(error as Error).message}`);
  }
}

/**
 * The PROXY protocol, version 2, command LOCAL (proxy-protocol.txt §2.2): the sender calls for itself, so that no address has
 * to be made up.
 */
const CALLING_FOR_MYSELF = Buffer.from('\r\n\r\n\0\r\nQUIT\n\x20\0\0\0', 'latin1');

async function reach({ host, port, proxyHeader }: Question): Promise<Socket> {
  const socket = connectTcp({ host, port });
  try {
    await once(socket, 'connect', { signal: AbortSignal.timeout(PATIENCE_MS) });
    if (proxyHeader) socket.write(CALLING_FOR_MYSELF);
    return socket;
  } catch (error) {
    socket.destroy();
    throw new StepFailed('tcp', 'unreachable', `no connection to ${host} port ${port}: ${inShort(error)}`);
  }
}

async function shakeHands(raw: Socket, { host, chain, key, ca, proxyHeader }: Question): Promise<TLSSocket> {
  const pem = chain.map((certificate) => certificate.toString()).join('');
  try {
    const socket = connectTls({
      socket: raw,
      ...(isIP(host) === 0 ? { servername: host } : { host }),
      ...(ca === null ? {} : { ca: ca.map((certificate) => certificate.toString()) }),
      ...(key === null ? {} : { cert: pem, key }),
      // Decided by us in the next step, so that the two can be told apart.
      rejectUnauthorized: false,
      ciphers: `DEFAULT:@SECLEVEL=${ownLevel(chain)}`,
    });
    await once(socket, 'secureConnect', { signal: AbortSignal.timeout(PATIENCE_MS) });
    return socket;
  } catch (error) {
    raw.destroy();
    const { reason, detail } = tlsFailure(error as Error);
    throw new StepFailed('tls', reason, reason === 'connection_closed' ? `${detail}; ${hintFor(proxyHeader)}` : detail);
  }
}

/** A sidecar that expects a balancer says nothing to anybody else. */
function hintFor(proxyHeader: boolean): string {
  return proxyHeader
    ? 'does it take the PROXY protocol, and from this address (listen.proxyProtocolFrom)?'
    : 'behind a balancer that speaks the PROXY protocol, --proxy-header is needed';
}

/** At level 2 OpenSSL would not even present a weak certificate, and the sidecar is to say what it thinks of it. */
function ownLevel(chain: readonly X509Certificate[]): number {
  return chain.some((certificate) => weaknesses(certificate, 2).length > 0) ? 0 : 2;
}

function trustServer(socket: TLSSocket): void {
  if (socket.authorized) return;
  const code = String((socket.authorizationError as Error & { code?: string }).code ?? socket.authorizationError);
  const what = code === 'ERR_TLS_CERT_ALTNAME_INVALID' ? 'it is for other names' : code;
  throw new StepFailed('server_certificate', 'server_untrusted', `${what}; --ca FILE names whom to trust with it`);
}

interface Answer {
  readonly status: number;
  readonly body: string;
}

async function askOver(socket: TLSSocket, { host, port, request }: Question): Promise<Answer> {
  const outgoing = httpsRequest({
    createConnection: () => socket,
    host,
    port,
    method: request.method,
    path: request.target,
    headers: { connection: 'close' },
    signal: AbortSignal.timeout(PATIENCE_MS),
  });
  outgoing.end();
  try {
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    return { status: response.statusCode ?? 0, body: await beginningOf(response) };
  } catch (error) {
    throw new StepFailed('answer', tlsFailure(error as Error).reason, `no answer came: ${inShort(error)}`);
  }
}

/** More than any page of ours. */
const LONGEST_PAGE = 4_096;

async function beginningOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('latin1')) {
    text += chunk as string;
    if (text.length > LONGEST_PAGE) break;
  }
  return text;
}

/** The last line of the pages of respond/refuse. */
const OUR_PAGE = /<hr><p><code>([a-z_]+)<\/code> &middot; mtls-sidecar<\/p><\/body><\/html>\s*$/;
const NGINX_PAGE = /<title>400 (No required SSL certificate was sent|The SSL certificate error)<\/title>/;

function judgeAnswer({ status, body }: Answer): Omit<CallOutcome, 'tls'> {
  const code = OUR_PAGE.exec(body)?.[1] ?? null;
  const nginx = NGINX_PAGE.exec(body)?.[1] ?? null;
  const refused = code === null ? nginx !== null : (CONNECTION_REASONS as readonly string[]).includes(code);
  const detail = refused ? (nginx ?? `status ${status}`) : `answered with status ${status}`;
  return { admitted: !refused, step: 'answer', reason: code, detail, status };
}

function tlsFacts(socket: TLSSocket): CallOutcome['tls'] {
  const version = socket.getProtocol();
  return version === null ? null : { version, cipher: socket.getCipher().name };
}

function inShort(error: unknown): string {
  const { code, message, name } = error as NodeJS.ErrnoException;
  if (name === 'AbortError' || name === 'TimeoutError') return `nothing within ${PATIENCE_MS / 1000} s`;
  return code ?? message;
}
