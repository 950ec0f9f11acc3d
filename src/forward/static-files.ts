import { constants, type ReadStream } from 'node:fs';
import { access, realpath, stat } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import type send from 'send';
import type { Permit } from '../admit/authorize.js';
import type { AnswerSink, Exchange, ForwardRequest } from './exchange.js';
import { FileAnswer } from './file-answer.js';

/** What a target leads to. */
type Found =
  /** A regular file, by a path below the real root without symbolic links. */
  | { readonly kind: 'file'; readonly root: string; readonly path: string }
  | { readonly kind: 'redirect'; readonly location: string }
  | { readonly kind: 'refusal'; readonly status: number };

/**
 * A directory in place of an application (`upstream.url: file:/directory`), for GET and HEAD. Nothing outside of it is
 * ever sent: not by `..`, encoded separators or NUL, and not by a symbolic link that leads out. Nothing whose name begins
 * with a dot is sent, and no directory is listed.
 */
export class StaticFiles {
  /**
   * Loaded where files are sent alone: its table of types takes 10 ms of the start and 2 MB of each process. Begun at the start,
   * so that what cannot be loaded ends the start and no request.
   */
  private readonly sender = import('send');

  constructor(
    private readonly directory: string,
    private readonly index: readonly string[],
  ) {}

  /** Answers one admitted request. `sink` hears of it later, never before this returns. */
  send(_permit: Permit, request: ForwardRequest, sink: AnswerSink): Exchange {
    const exchange = new FileExchange(request, sink);
    setImmediate(() => void this.answer(request, exchange));
    return exchange;
  }

  /** Whether the directory is there and may be read. */
  async probe(): Promise<boolean> {
    try {
      await access(this.directory, constants.R_OK | constants.X_OK);
      return (await stat(this.directory)).isDirectory();
    } catch {
      return false;
    }
  }

  private async answer(request: ForwardRequest, exchange: FileExchange): Promise<void> {
    if (request.method !== 'GET' && request.method !== 'HEAD') return exchange.refuse(405, { Allow: 'GET, HEAD' });
    const found = await this.find(request).catch(refusalFor);
    if (found.kind === 'file') exchange.sendFile((await this.sender).default, found);
    else if (found.kind === 'redirect') exchange.refuse(301, { Location: found.location });
    else exchange.refuse(found.status);
  }

  /** @throws Node's error when something on the way cannot be read */
  private async find({ target, askedFor }: ForwardRequest): Promise<Found> {
    const { path } = split(target);
    const names = namesIn(path);
    if (names === null) return { kind: 'refusal', status: 400 };
    if (names.some((name) => name.startsWith('.'))) return NOT_FOUND;
    const root = await realpath(this.directory);
    const real = await realpath(join(root, ...names));
    if (!isWithin(real, root)) return NOT_FOUND;
    const stats = await stat(real);
    if (stats.isDirectory()) {
      if (path.endsWith('/')) return this.findIndex(root, real);
      return { kind: 'redirect', location: withSlash(askedFor ?? target) };
    }
    // Reading a FIFO or a device could wait for ever.
    if (!stats.isFile() || path.endsWith('/')) return NOT_FOUND;
    return { kind: 'file', root, path: real };
  }

  private async findIndex(root: string, directory: string): Promise<Found> {
    for (const name of this.index) {
      const real = await realpath(join(directory, name)).catch(() => null);
      if (real !== null && isWithin(real, root) && (await stat(real)).isFile())
        return { kind: 'file', root, path: real };
    }
    return { kind: 'refusal', status: 403 };
  }
}

const NOT_FOUND: Found = { kind: 'refusal', status: 404 };

function refusalFor({ code }: NodeJS.ErrnoException): Found {
  const status = code === 'EACCES' || code === 'EPERM' ? 403 : MISSING.has(code ?? '') ? 404 : 500;
  return { kind: 'refusal', status };
}

const MISSING: ReadonlySet<string> = new Set(['ENOENT', 'ENOTDIR', 'ENAMETOOLONG', 'ELOOP']);

function split(target: string): { readonly path: string; readonly query: string } {
  const question = target.indexOf('?');
  if (question === -1) return { path: target, query: '' };
  return { path: target.slice(0, question), query: target.slice(question) };
}

/**
 * The names that a path leads through, or null for one that no honest caller sends: bad escapes, dot segments, and
 * separators or NUL within a name. Doubled slashes count as one, as in nginx.
 */
function namesIn(path: string): string[] | null {
  try {
    const names = path
      .split('/')
      .filter((name) => name !== '')
      .map(decodeURIComponent);
    const isHonest =
      path.startsWith('/') && !names.some((name) => name === '.' || name === '..' || /[/\\\0]/.test(name));
    return isHonest ? names : null;
  } catch {
    return null;
  }
}

function withSlash(target: string): string {
  const { path, query } = split(target);
  return `/${(namesIn(path) ?? []).map(encodeURIComponent).join('/')}/${query}`;
}

function isWithin(path: string, root: string): boolean {
  return path === root || path.startsWith(root.endsWith('/') ? root : `${root}/`);
}

/** One answer from a file, through `send`: ranges, conditions, types. */
class FileExchange implements Exchange {
  private readonly answer: FileAnswer;
  private stream: ReadStream | null = null;
  private isOver = false;

  constructor(
    private readonly request: ForwardRequest,
    sink: AnswerSink,
  ) {
    this.answer = new FileAnswer(sink, request);
  }

  refuse(status: number, headers: Readonly<Record<string, string>> = {}): void {
    if (!this.isOver) this.answer.refuse(status, headers);
  }

  sendFile(sender: typeof send, { root, path }: Extract<Found, { readonly kind: 'file' }>): void {
    if (this.isOver) return;
    const below = path.slice(root.length).split('/').map(encodeURIComponent).join('/');
    // The real path was looked at, dots and all: a ConfigMap's files lie in a directory called ..data.
    const options = { root, dotfiles: 'allow', index: false, cacheControl: false, flags: READ_PLAINLY } as const;
    const { method } = this.request;
    const asked = { method, headers: conditionsOf(this.request.headers) } as unknown as IncomingMessage;
    const sending = sender(asked, below, options);
    sending.on('stream', (stream: ReadStream) => (this.stream = stream));
    sending.on('directory', () => this.refuse(404));
    sending.on('error', (error: SendError) => this.refuse(statusFor(error), error.headers));
    sending.pipe(this.answer);
  }

  resume(): void {
    this.answer.resume();
  }

  abort(): void {
    this.isOver = true;
    this.answer.destroy();
    this.stream?.destroy();
  }
}

type SendError = NodeJS.ErrnoException & { readonly status?: number; readonly headers?: Record<string, string> };

/** Neither through a symbolic link nor waiting for a writer, should the file have been replaced since it was looked at. */
const READ_PLAINLY = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;

function statusFor(error: SendError): number {
  if (error.code !== undefined) {
    const found = refusalFor(error);
    return found.kind === 'refusal' ? found.status : 500;
  }
  return error.status ?? 500;
}

/** The headers that `send` looks at. */
const LOOKED_AT: ReadonlySet<string> = new Set([
  ...['range', 'if-range', 'if-match', 'if-none-match', 'if-modified-since', 'if-unmodified-since', 'cache-control'],
]);

function conditionsOf(flat: readonly string[]): Record<string, string> {
  const headers: Record<string, string> = {};
  for (let index = 0; index + 1 < flat.length; index += 2) {
    const name = (flat[index] as string).toLowerCase();
    const value = flat[index + 1] as string;
    if (LOOKED_AT.has(name)) headers[name] = name in headers ? `${headers[name]}, ${value}` : value;
  }
  return headers;
}
