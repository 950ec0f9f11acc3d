/**
 * A reader of HTTP/1.1 that shares nothing with the sidecar, its parser or its client: what it cannot read in exactly
 * one way is a problem. It stands behind a lenient application, and in front of a caller, to say what really went over
 * the wire.
 */

export interface WireMessage {
  /** Request line or status line. */
  readonly line: string;
  /** In order, as written. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body: Buffer;
  /** Lines with their ends. */
  readonly trailers: string;
  readonly framing: 'none' | 'length' | 'chunked' | 'end';
}

export interface WireOptions {
  /** For answers: takes the method of the next request; undefined when none was sent. */
  readonly nextMethod?: () => string | undefined;
  readonly onMessage?: (message: WireMessage) => void;
}

interface Head {
  readonly line: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly framing: WireMessage['framing'];
  readonly length: number;
}

const REQUEST_LINE = /^[A-Z-]+ (?:\/[!-~]*|\*) HTTP\/1\.1$/;
const STATUS_LINE = /^HTTP\/1\.1 [1-9]\d\d [\t\x20-\x7e\x80-\xff]*$/;
const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+): ((?:[!-~\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*[!-~\x80-\xff])?)?)$/;

/** Reads the messages of one direction of one connection. */
export class WireReader {
  readonly messages: WireMessage[] = [];
  /** Why the bytes have no single reading; null as long as they have. */
  problem: string | null = null;
  private bytes: Buffer = Buffer.alloc(0);
  private head: Head | null = null;
  private readonly body: Buffer[] = [];

  constructor(private readonly options: WireOptions = {}) {}

  /** Whether part of a message is there. */
  get isPartial(): boolean {
    return this.head !== null || this.bytes.length > 0;
  }

  /** What was not read: behind a problem, or part of a message. */
  get rest(): string {
    return this.bytes.toString('latin1');
  }

  push(chunk: Buffer): void {
    this.bytes = this.bytes.length === 0 ? chunk : Buffer.concat([this.bytes, chunk]);
    while (this.problem === null && this.step());
  }

  /** The connection has ended: whatever is no whole message now never will be. */
  end(): void {
    if (this.problem !== null || !this.isPartial) return;
    if (this.head?.framing !== 'end') {
      this.fail('the connection ended within a message');
      return;
    }
    this.body.push(this.take(this.bytes.length));
    this.complete('');
  }

  /** @returns whether there may be more to read */
  private step(): boolean {
    if (this.head === null) return this.readHead();
    if (this.head.framing === 'chunked') return this.readChunk();
    if (this.head.framing === 'end' || this.bytes.length < this.head.length) return false;
    this.body.push(this.take(this.head.length));
    return this.complete('');
  }

  private readHead(): boolean {
    const end = this.bytes.indexOf('\r\n\r\n');
    if (end === -1) return false;
    const [line = '', ...lines] = this.take(end + 4)
      .toString('latin1', 0, end)
      .split('\r\n');
    const pattern = this.options.nextMethod === undefined ? REQUEST_LINE : STATUS_LINE;
    if (!pattern.test(line)) return this.fail(`first line ${JSON.stringify(line)}`) ?? false;
    const headers: [string, string][] = [];
    for (const text of lines) {
      const [, name, value] = HEADER.exec(text) ?? [];
      if (name === undefined || value === undefined) return this.fail(`header ${JSON.stringify(text)}`) ?? false;
      headers.push([name, value]);
    }
    this.head = this.frame(line, headers);
    return this.head !== null;
  }

  /** RFC 9112 §6.3, without its second chances. */
  private frame(line: string, headers: readonly (readonly [string, string])[]): Head | null {
    const valuesOf = (wanted: string) => headers.filter(([name]) => name.toLowerCase() === wanted).map(([, v]) => v);
    const lengths = valuesOf('content-length');
    const codings = valuesOf('transfer-encoding');
    const isRequest = this.options.nextMethod === undefined;
    if (isRequest && valuesOf('host').length !== 1) return this.fail(`${valuesOf('host').length} Hosts`);
    if (lengths.length + codings.length > 1) return this.fail(`framed twice: ${[...lengths, ...codings].join()}`);
    const [length = null] = lengths;
    const [coding = null] = codings;
    if (length !== null && !/^(?:0|[1-9]\d{0,14})$/.test(length)) return this.fail(`length ${length}`);
    if (coding !== null && coding !== 'chunked') return this.fail(`coding ${coding}`);
    if (!isRequest && this.isBodiless(Number(line.slice(9, 12)))) return { line, headers, framing: 'none', length: 0 };
    if (coding !== null) return { line, headers, framing: 'chunked', length: 0 };
    if (length !== null) return { line, headers, framing: 'length', length: Number(length) };
    return { line, headers, framing: isRequest ? 'none' : 'end', length: 0 };
  }

  private isBodiless(status: number): boolean {
    if (status < 200 && status !== 101) return true;
    const method = this.options.nextMethod?.();
    if (method === undefined) this.fail('an answer to no request');
    return method === 'HEAD' || status === 204 || status === 304;
  }

  private readChunk(): boolean {
    const end = this.bytes.indexOf('\r\n');
    if (end === -1) return false;
    const size = this.bytes.toString('latin1', 0, end);
    if (!/^(?:0|[1-9a-fA-F][0-9a-fA-F]{0,12})$/.test(size))
      return this.fail(`chunk size ${JSON.stringify(size)}`) ?? false;
    const length = parseInt(size, 16);
    if (length === 0) return this.readTrailers(end + 2);
    if (this.bytes.length < end + 2 + length + 2) return false;
    const chunk = this.take(end + 2 + length + 2).subarray(end + 2);
    if (chunk.toString('latin1', length) !== '\r\n') return this.fail('bytes behind a chunk') ?? false;
    this.body.push(chunk.subarray(0, length));
    return true;
  }

  private readTrailers(start: number): boolean {
    const none = this.bytes.indexOf('\r\n', start) === start;
    const end = none ? start : this.bytes.indexOf('\r\n\r\n', start);
    if (end === -1) return false;
    const text = this.take(none ? end + 2 : end + 4).toString('latin1', start, none ? start : end + 2);
    const lines = text.split('\r\n').slice(0, -1);
    const bad = lines.find((line) => !HEADER.test(line));
    return bad === undefined ? this.complete(text) : (this.fail(`trailer ${JSON.stringify(bad)}`) ?? false);
  }

  private complete(trailers: string): boolean {
    const { line, headers, framing } = this.head as Head;
    this.head = null;
    const message = { line, headers, framing, trailers, body: Buffer.concat(this.body.splice(0)) };
    this.messages.push(message);
    this.options.onMessage?.(message);
    return true;
  }

  private take(length: number): Buffer {
    const taken = this.bytes.subarray(0, length);
    this.bytes = this.bytes.subarray(length);
    return taken;
  }

  private fail(problem: string): null {
    this.problem ??= problem;
    return null;
  }
}

/** The values of a header, in order. */
export function headerValues({ headers }: Pick<WireMessage, 'headers'>, name: string): string[] {
  return headers.filter(([candidate]) => candidate.toLowerCase() === name).map(([, value]) => value);
}

export function statusOf({ line }: WireMessage): number {
  return Number(line.slice(9, 12));
}

export function methodOf({ line }: WireMessage): string {
  return line.slice(0, line.indexOf(' '));
}

/** Whose place, case or presence is the forwarder's choice, and changes no reader's mind. */
const CHOICE = /^(?:host|connection|expect|content-length|transfer-encoding)$/i;

/**
 * A message with the forwarder's free choices taken out, byte for byte otherwise: `host` first, then every other header
 * in order, then what frames the body, all chunks as one, and no chunks as a length of 0. `Connection` is left out; what it may say is checked.
 */
export function normalForm(message: WireMessage): string {
  const { line, headers, body, framing, trailers } = message;
  const lines = (name: string) => headerValues(message, name).map((value) => `${name}: ${value}\r\n`);
  const others = headers.filter(([name]) => !CHOICE.test(name)).map(([name, value]) => `${name}: ${value}\r\n`);
  const text = body.toString('latin1');
  const isEmpty = framing === 'chunked' && text === '' && trailers === '';
  const frame = [...lines('expect'), ...(isEmpty ? ['content-length: 0\r\n'] : frameLines(lines))];
  const chunk = text === '' ? '' : `${body.length.toString(16)}\r\n${text}\r\n`;
  const content = framing === 'chunked' && !isEmpty ? `${chunk}0\r\n${trailers}\r\n` : text;
  return [`${line}\r\n`, ...lines('host'), ...others, ...frame, '\r\n', content].join('');
}

function frameLines(lines: (name: string) => string[]): string[] {
  return [...lines('content-length'), ...lines('transfer-encoding')];
}

/** Why `Connection` says what it must not; null when it says nothing that matters. */
export function connectionProblem(message: WireMessage): string | null {
  const said = headerValues(message, 'connection').join().toLowerCase();
  return ['', 'close', 'keep-alive'].includes(said) ? null : `Connection: ${said}`;
}
