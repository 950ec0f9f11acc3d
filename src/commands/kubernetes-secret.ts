import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { DISK, inWords } from '../trust/files.js';

/** One Secret, and as whom to ask for it. */
export interface SecretPlace {
  readonly name: string;
  /** `https://kubernetes.default.svc` in a cluster. */
  readonly apiServer: URL;
  /** Folder of a service account: `token`, `ca.crt`, `namespace`. The kubelet renews the token, so it is read each time. */
  readonly account: string;
}

/** What a Secret holds, and which version of it that is. */
export interface HeldSecret {
  readonly version: string;
  readonly data: ReadonlyMap<string, Buffer>;
}

/** Why a Secret could not be read or changed, in a sentence that names it. */
export class SecretError extends Error {
  override readonly name = 'SecretError';
}

const PATIENCE_MS = 10_000;
/** A Secret holds at most 1 MiB, and comes with who changed what. */
const LONGEST_ANSWER = 4 * 1024 * 1024;
const LONGEST_REASON = 300;

/** @throws SecretError */
export async function readSecret(place: SecretPlace): Promise<HeldSecret> {
  const answer = await ask(place, 'GET');
  if (answer.status !== 200) throw refused(place, 'get', answer);
  const { metadata, data } = asRecord(parsed(answer));
  const version = asRecord(metadata)['resourceVersion'];
  const entries = Object.entries(data === undefined ? {} : asRecord(data));
  if (typeof version !== 'string' || version === '' || !entries.every((entry) => typeof entry[1] === 'string')) {
    throw failed(place, 'the API server answered with something that is no Secret');
  }
  return { version, data: new Map(entries.map(([key, text]) => [key, Buffer.from(text as string, 'base64')])) };
}

/**
 * Sets entries of a Secret and leaves the rest of it alone (RFC 7396), unless somebody has changed it since it was read.
 * @returns whether it is done; false when it was changed meanwhile
 * @throws SecretError
 */
export async function changeSecret(place: SecretPlace, { version, data }: HeldSecret): Promise<boolean> {
  const texts = [...data].map(([key, bytes]) => [key, bytes.toString('base64')]);
  const patch = { metadata: { resourceVersion: version }, data: Object.fromEntries(texts) as unknown };
  const answer = await ask(place, 'PATCH', JSON.stringify(patch));
  if (answer.status === 409) return false;
  if (answer.status !== 200) throw refused(place, 'patch', answer);
  return true;
}

/** @throws SecretError */
export function failed(place: SecretPlace, why: string): SecretError {
  return new SecretError(`Secret ${place.name}: ${why}`);
}

interface Answer {
  readonly status: number;
  readonly text: string;
}

async function ask(place: SecretPlace, method: 'GET' | 'PATCH', body?: string): Promise<Answer> {
  const { name, apiServer, account } = place;
  const [token, ca, namespace] = ['token', 'ca.crt', 'namespace'].map((file) => read(place, join(account, file)));
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace ?? '')}/secrets/${encodeURIComponent(name)}`;
  try {
    const outgoing = httpsRequest(new URL(path, apiServer), {
      method,
      // The CA of the cluster and no other: this request carries a token that reads keys.
      ca,
      // Said because the environment (NODE_TLS_REJECT_UNAUTHORIZED) can change what goes without saying.
      rejectUnauthorized: true,
      agent: false,
      headers: {
        authorization: `Bearer ${token}`,
        accept: 'application/json',
        ...(body === undefined ? {} : { 'content-type': 'application/merge-patch+json' }),
      },
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    outgoing.end(body);
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    return { status: response.statusCode ?? 0, text: await textOf(response) };
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw failed(place, `no answer from the API server ${apiServer.origin}: ${code ?? ''} ${message}`);
  }
}

function read(place: SecretPlace, path: string): string {
  const text = textOfFile(place, path);
  // An empty CA would mean all public ones to Node, and an empty namespace another resource to the API server.
  if (text === '') throw failed(place, `${path} is empty`);
  return text;
}

function textOfFile(place: SecretPlace, path: string): string {
  try {
    return DISK.read(path).toString().trim();
  } catch (error) {
    const why = `${path} cannot be read: ${inWords(error)}`;
    throw failed(place, `${why}; only a pod with a service account that is mounted has it`);
  }
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) {
    text += chunk as string;
    if (text.length > LONGEST_ANSWER) throw new Error('its answer is too long');
  }
  return text;
}

function refused(place: SecretPlace, verb: 'get' | 'patch', answer: Answer): SecretError {
  const { message } = asRecord(parsed(answer));
  const said = typeof message === 'string' ? ` (${message.slice(0, LONGEST_REASON)})` : '';
  return failed(place, `${meaningOf(place, verb, answer.status)}${said}`);
}

function meaningOf({ name }: SecretPlace, verb: string, status: number): string {
  if (status === 401) return 'the API server does not accept the token of the service account';
  if (status === 403) {
    return `the service account may not ${verb} it: its Role needs the verbs get and patch with resourceNames [${name}]`;
  }
  if (status === 404) return 'there is none of this name: it has to be made first';
  return `the API server answered ${verb} with status ${status}`;
}

/** Null for what is no JSON. */
function parsed({ text }: Answer): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function asRecord(value: unknown): Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {};
}
