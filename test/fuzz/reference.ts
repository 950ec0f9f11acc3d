/**
 * What RFC 9112 makes of a caller's bytes, for comparison: a reader of whole streams that shares no line with the sidecar
 * or its parser. It is as lenient as the sidecar is meant to be and nowhere more: an empty line or several spaces around
 * the target are taken, white space around values, chunk extensions.
 */

export interface ReadRequest {
  readonly method: string;
  /** As written; an absolute form is left as it is. */
  readonly target: string;
  readonly body: string;
  /** Whether the connection ends with its answer. */
  readonly last: boolean;
}

export interface Reading {
  readonly requests: readonly ReadRequest[];
  /** `end`: all was read; `partial`: the last request is not whole; otherwise why nothing more may be read. */
  readonly stop: string;
  /** Whether what could not be read begins as a HEAD does: its refusal has a body or none, as the sidecar read it. */
  readonly stoppedAtHead: boolean;
}

const LINE = /^([A-Z-]+) +(\S+) +(HTTP\/1\.[01]|RTSP\/1\.[01])$/;
const FIELD = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[\t ]*([\t\x20-\x7e\x80-\xff]*?)[\t ]*$/;
const SIZE = /^([0-9A-Fa-f]+)(?:;[\t\x20-\x7e\x80-\xff]*)?$/;

/** A refusal to read on. */
class Unreadable extends Error {}
/** The bytes end here. */
class Partial extends Error {}

export function readStream(bytes: string): Reading {
  const requests: ReadRequest[] = [];
  const cursor = new Cursor(bytes);
  const stopped = (stop: string): Reading => ({ requests, stop, stoppedAtHead: cursor.rest.startsWith('HEAD') });
  try {
    for (cursor.skipEmptyLines(); !cursor.isAtEnd; cursor.skipEmptyLines()) {
      cursor.mark();
      const request = readRequest(cursor);
      requests.push(request);
      if (request.last) return stopped('closed');
    }
    return stopped('end');
  } catch (error) {
    if (error instanceof Partial) return stopped('partial');
    if (error instanceof Unreadable) return stopped(error.message);
    throw error;
  }
}

class Cursor {
  private at = 0;
  private from = 0;

  constructor(private readonly bytes: string) {}

  get isAtEnd(): boolean {
    return this.at === this.bytes.length;
  }

  /** Remembers where a request begins. */
  mark(): void {
    this.from = this.at;
  }

  /** From the last mark on. */
  get rest(): string {
    return this.bytes.slice(this.from);
  }

  skipEmptyLines(): void {
    while (this.bytes[this.at] === '\r' || this.bytes[this.at] === '\n') this.at += 1;
  }

  line(): string {
    const end = this.bytes.indexOf('\r\n', this.at);
    const text = this.bytes.slice(this.at, end === -1 ? undefined : end);
    if (/[\r\n]/.test(end === -1 ? text.replace(/\r$/, '') : text)) throw new Unreadable('a bare CR or LF');
    if (end === -1) throw new Partial();
    this.at = end + 2;
    return text;
  }

  take(length: number): string {
    if (this.bytes.length - this.at < length) throw new Partial();
    this.at += length;
    return this.bytes.slice(this.at - length, this.at);
  }
}

function readRequest(cursor: Cursor): ReadRequest {
  const [, method, target, version] = LINE.exec(cursor.line()) ?? [];
  if (method === undefined || target === undefined || version === undefined) throw new Unreadable('request line');
  const fields = readFields(cursor);
  const valuesOf = (name: string) => fields.filter(([candidate]) => candidate === name).map(([, value]) => value);
  if (valuesOf('host').length !== 1) throw new Unreadable('Host');
  const body = readBody(cursor, valuesOf('content-length'), valuesOf('transfer-encoding'));
  const connection = valuesOf('connection')
    .join()
    .toLowerCase()
    .split(',')
    .map((token) => token.trim());
  const stays = version === 'HTTP/1.1' || connection.includes('keep-alive');
  return { method, target, body, last: connection.includes('close') || !stays };
}

function readFields(cursor: Cursor): [name: string, value: string][] {
  const fields: [string, string][] = [];
  for (let line = cursor.line(); line !== ''; line = cursor.line()) {
    const [, name, value] = FIELD.exec(line) ?? [];
    if (name === undefined || value === undefined) throw new Unreadable(`field ${JSON.stringify(line)}`);
    fields.push([name.toLowerCase(), value]);
  }
  return fields;
}

function readBody(cursor: Cursor, lengths: readonly string[], codings: readonly string[]): string {
  if (lengths.length + codings.length > 1) throw new Unreadable('framed twice');
  const [length] = lengths;
  const [coding] = codings;
  if (coding !== undefined) {
    if (coding.toLowerCase() !== 'chunked') throw new Unreadable(`coding ${coding}`);
    return readChunks(cursor);
  }
  if (length === undefined) return '';
  if (!/^\d{1,15}$/.test(length)) throw new Unreadable(`length ${length}`);
  return cursor.take(Number(length));
}

function readChunks(cursor: Cursor): string {
  let body = '';
  for (;;) {
    const [, size] = SIZE.exec(cursor.line()) ?? [];
    if (size === undefined || size.replace(/^0+/, '').length > 12) throw new Unreadable('chunk size');
    const length = parseInt(size, 16);
    if (length === 0) break;
    body += cursor.take(length);
    if (cursor.take(2) !== '\r\n') throw new Unreadable('bytes behind a chunk');
  }
  readFields(cursor);
  return body;
}
