import { Writable } from 'node:stream';
import { ProxyError } from '../errors.js';
import type { AnswerSink } from './exchange.js';

const REASONS: Readonly<Record<number, string>> = {
  200: 'OK',
  206: 'Partial Content',
  301: 'Moved Permanently',
  304: 'Not Modified',
  400: 'Bad Request',
  403: 'Forbidden',
  404: 'Not Found',
  405: 'Method Not Allowed',
  412: 'Precondition Failed',
  416: 'Range Not Satisfiable',
  500: 'Internal Server Error',
};

/**
 * What `send` takes for a ServerResponse: an answer that goes to a sink instead of a socket. An answer that turns out
 * shorter than it said (the file was cut meanwhile) fails, so that the caller does not take it for whole.
 */
export class FileAnswer extends Writable {
  statusCode = 200;
  headersSent = false;
  private readonly fields = new Map<string, readonly [name: string, value: string]>();
  private readonly isHead: boolean;
  /** Set when there is no file to send. */
  private refusal: number | null = null;
  private sent = 0;
  private goOn: (() => void) | null = null;

  constructor(
    private readonly sink: AnswerSink,
    { method }: { readonly method: string },
  ) {
    super();
    this.isHead = method === 'HEAD';
    // Destroying it is how it is given up; nobody needs to hear why.
    this.on('error', () => undefined);
  }

  setHeader(name: string, value: string | number): void {
    this.fields.set(name.toLowerCase(), [name, String(value)]);
  }

  getHeader(name: string): string | undefined {
    return this.fields.get(name.toLowerCase())?.[1];
  }

  removeHeader(name: string): void {
    this.fields.delete(name.toLowerCase());
  }

  getHeaderNames(): string[] {
    return [...this.fields.keys()];
  }

  /** A short text in place of a file. Headers that were set for the file are dropped, but those named. */
  refuse(status: number, headers: Readonly<Record<string, string>> = {}): void {
    if (this.headersSent || this.destroyed) return this.breakOff();
    const body = `${status} ${REASONS[status] ?? 'Error'}\n`;
    this.fields.clear();
    this.refusal = status;
    this.setHeader('Content-Type', 'text/plain; charset=utf-8');
    this.setHeader('Content-Length', body.length);
    for (const [name, value] of Object.entries(headers)) this.setHeader(name, value);
    this.end(this.isHead ? undefined : body);
  }

  /** The sink has room again. */
  resume(): void {
    const { goOn } = this;
    this.goOn = null;
    goOn?.();
  }

  override _write(chunk: Buffer, _encoding: BufferEncoding, done: () => void): void {
    this.sendHead();
    this.sent += chunk.length;
    if (this.sink.data(chunk)) done();
    else this.goOn = done;
  }

  override _final(done: () => void): void {
    this.sendHead();
    const announced = Number(this.getHeader('Content-Length') ?? this.sent);
    if (!this.isHead && announced !== this.sent) this.breakOff();
    else this.sink.end([]);
    done();
  }

  private sendHead(): void {
    if (this.headersSent) return;
    this.headersSent = true;
    const status = this.refusal ?? this.statusCode;
    this.sink.head(status, REASONS[status] ?? '', [...this.fields.values()].flat());
  }

  private breakOff(): void {
    if (this.destroyed) return;
    this.sink.fail(new ProxyError('upstream_closed', 'upstream', 'forward', 'the file changed while it was sent'));
    this.destroy();
  }
}
