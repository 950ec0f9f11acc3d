import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import type { IncomingMessage } from 'node:http';
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

async function ask({ method, path }: Question, host: string, port: number): Promise<Answer> {
  const signal = AbortSignal.timeout(PATIENCE_MS);
  const outgoing = httpRequest({ host, port, method, path, agent: false, signal });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const { statusCode = 0 } = response;
  const text = await firstLineOf(response);
  const ok = statusCode >= 200 && statusCode < 300;
  return { ok, text: ok ? text : `${path} answered ${statusCode}: ${text}` };
}

async function firstLineOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk as string;
    if (text.length > LONGEST_ANSWER) break;
  }
  return text.slice(0, LONGEST_ANSWER).split('\n')[0] ?? '';
}
