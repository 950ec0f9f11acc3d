import { connect, isIPv6 } from 'node:net';
import { parseArguments } from '../config/arguments.js';
import type { Config } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import { EXIT } from './command.js';
import type { Invocation } from './command.js';
import { printable } from './printable.js';

/** Readiness may wait `upstream.connectTimeout` (2 s by default); engines give a health check some seconds. */
const PATIENCE_MS = 4_000;

/** More than any answer of these endpoints; whatever listens there instead of a sidecar may say more. */
const LONGEST_ANSWER = 1_000;
const LONGEST_HEAD = 8_192;
const STATUS_LINE = /^HTTP\/1\.[01] (\d{3})[ \r]/;

/** One request to the admin listener of the configuration that `argv` and the environment give. */
export interface Question {
  readonly method: 'GET' | 'POST';
  readonly path: string;
}

type Answer = { readonly ok: boolean; readonly text: string };

/**
 * Asks a running sidecar and says in one line what it answered.
 * @returns 0 for an answer of the 200s, else 1
 * @throws UsageError, ConfigError
 */
export async function askAdmin({ argv, terminal, env }: Invocation, question: Question): Promise<number> {
  const { admin } = loadConfig({ ...parseArguments(argv), ...(env === undefined ? {} : { env }) });
  const { ok, text } = await answerTo(question, admin);
  if (ok) terminal.out(printable(text));
  else terminal.err(`mtls-sidecar: ${printable(text)}`);
  return ok ? EXIT.ok : EXIT.failed;
}

async function answerTo(question: Question, { host, port }: Config['admin']): Promise<Answer> {
  if (port === null) return { ok: false, text: 'admin.port is off: there is nobody to ask' };
  if (port === 0) return { ok: false, text: 'admin.port is 0: only the running sidecar knows which one it got' };
  try {
    return await ask(question, reachable(host), port);
  } catch (error) {
    return { ok: false, text: `no answer from the admin listener (${host} port ${port}): ${(error as Error).message}` };
  }
}

/** Something that listens on every address is asked on loopback. */
function reachable(host: string): string {
  if (host === '0.0.0.0') return '127.0.0.1';
  return host === '::' ? '::1' : host;
}

/**
 * Over a bare socket, for Node takes 40 ms of CPU to load `node:http`, more than all the rest of a probe takes, and probes
 * come every few seconds. HTTP/1.0, so that the answer comes in one piece and ends with the connection.
 */
async function ask({ method, path }: Question, host: string, port: number): Promise<Answer> {
  const name = isIPv6(host) ? `[${host}]` : host;
  const socket = connect({ host, port, signal: AbortSignal.timeout(PATIENCE_MS) });
  socket.write(`${method} ${path} HTTP/1.0\r\nHost: ${name}:${port}\r\nContent-Length: 0\r\n\r\n`);
  let answer = '';
  for await (const chunk of socket.setEncoding('utf8')) {
    answer += chunk as string;
    if (answer.length > LONGEST_HEAD + LONGEST_ANSWER) break;
  }
  return understood(answer, path);
}

function understood(answer: string, path: string): Answer {
  const status = STATUS_LINE.exec(answer)?.[1];
  const body = answer.indexOf('\r\n\r\n') + 4;
  if (status === undefined || body < 4) throw new Error(answer === '' ? 'it closed the connection' : 'it is no HTTP');
  const text = answer.slice(body, body + LONGEST_ANSWER).split('\n')[0] ?? '';
  const ok = status.startsWith('2');
  return { ok, text: ok ? text : `${path} answered ${status}: ${text}` };
}
