import { broken, CHUNKED, readAnswerHead, readFields, UNTIL_CLOSE, type AnswerHead } from './answer-head.js';

/** Who hears of an answer as it is read. */
export interface AnswerReader {
  information(status: number, headers: readonly string[]): void;
  head(head: AnswerHead): void;
  /**
   * Bytes of the body, from one place in the chunk up to another: a view of them would be one object more a request.
   * @param chunk is overwritten afterwards
   * @returns false to be spared more for now
   */
  data(chunk: Buffer, from: number, to: number): boolean;
}

/** The head of an answer, or its trailers, may be this long: applications set large cookies, but none of this size. Bytes. */
const MAX_SECTION = 65_536;

/** Size and extensions of a chunk. Nobody needs the latter; unbounded, they would be work without an answer. Bytes. */
const MAX_CHUNK_LINE = 4_096;

/** Interim answers before one answer: hours of `102`, one every ten seconds. Each renews the time that a head may take. */
const MAX_INTERIM = 2_000;

/** Where in an answer the next byte stands. */
const OVER = 0;
const HEAD = 1;
const COUNTED = 2;
const TO_THE_END = 3;
const CHUNK_LINE = 4;
const CHUNK_DATA = 5;
const CHUNK_END = 6;
const TRAILERS = 7;

/**
 * Reads answers to one request after the other out of the bytes of a connection, split anywhere (RFC 9112). This is the one
 * place that parses HTTP by hand, so it is strict: whatever is not exactly as it should be throws, and the connection is
 * given up. A wrong answer to a caller is worse than none.
 */
export class AnswerParser {
  /** Of the answer that is over. */
  trailers: string[] = [];
  private state: number = OVER;
  private toHead = false;
  private reader: AnswerReader | null = null;
  /** Bytes of the body or the chunk still to come. */
  private left = 0;
  /** The beginning of a section or line whose end has not come yet. */
  private text = '';
  /** Where reading goes on after a section or line. */
  private next = 0;
  private full = false;
  private begun = false;
  private interim = 0;
  /** The last head as it was read: an application has few, and most answers begin like the one before. */
  private known: { readonly text: string; readonly toHead: boolean; readonly head: AnswerHead } | null = null;

  get isOver(): boolean {
    return this.state === OVER;
  }

  /** Whether any byte of the answer has come. */
  get hasBegun(): boolean {
    return this.begun;
  }

  /** Expects the answer to a request that is being sent. */
  expect(method: string, reader: AnswerReader): void {
    this.state = HEAD;
    this.toHead = method === 'HEAD';
    this.reader = reader;
    this.trailers = [];
    this.text = '';
    this.begun = false;
    this.interim = 0;
  }

  /** Forgets the answer; the reader hears no more, even if it said so from within. */
  drop(): void {
    this.state = OVER;
    this.reader = null;
  }

  /**
   * Reads on.
   * @returns how many bytes were read: fewer than there are when the answer is over or the reader wants no more
   * @throws ProxyError `upstream_protocol`, and whatever the reader throws
   */
  read(chunk: Buffer): number {
    let at = 0;
    this.full = false;
    while (at < chunk.length && this.state !== OVER && !this.full) at = this.step(chunk, at);
    return at;
  }

  /** Whether the last call of `read` ended because the reader wants no more. */
  get isFull(): boolean {
    return this.full;
  }

  /** The connection has ended in good order. @returns whether that ends the answer, too */
  finish(): boolean {
    if (this.state === TO_THE_END) this.state = OVER;
    return this.state === OVER;
  }

  private step(chunk: Buffer, at: number): number {
    this.begun = true;
    switch (this.state) {
      case HEAD:
        return this.readHead(chunk, at);
      case TO_THE_END:
        return this.pass(chunk, at, chunk.length);
      case CHUNK_LINE:
        return this.readChunkLine(chunk, at);
      case CHUNK_END:
        return this.readChunkEnd(chunk, at);
      case TRAILERS:
        return this.readTrailers(chunk, at);
      default:
        return this.readCounted(chunk, at);
    }
  }

  private pass(chunk: Buffer, from: number, to: number): number {
    if (this.reader?.data(chunk, from, to) === false) this.full = true;
    return to;
  }

  private readHead(chunk: Buffer, at: number): number {
    const text = this.takeSection(chunk, at);
    if (text === null) {
      // What will never be a head is not waited for.
      if (!BEGINNING.test(this.text) || ODD_LINE_END.test(this.text)) throw broken('an answer that is not HTTP');
      return chunk.length;
    }
    const head = this.headOf(text);
    if (head.status === 101) throw broken('a change of protocol that nobody asked for');
    if (head.status < 200) {
      this.interim += 1;
      if (this.interim > MAX_INTERIM) throw broken('interim answers without end');
      this.reader?.information(head.status, head.headers);
      return this.next;
    }
    this.left = head.length;
    this.state = bodyState(head.length);
    this.reader?.head(head);
    return this.next;
  }

  private headOf(text: string): AnswerHead {
    const { known, toHead } = this;
    if (known !== null && known.text === text && known.toHead === toHead) return known.head;
    const head = readAnswerHead(text, toHead);
    this.known = { text, toHead, head };
    return head;
  }

  /** @returns the text up to the empty line, or null when that has not come yet */
  private takeSection(chunk: Buffer, at: number): string | null {
    const end = this.text === '' ? chunk.indexOf(END_OF_SECTION, at) : -1;
    if (end !== -1) {
      if (end - at > MAX_SECTION) throw broken('an answer with a head without end');
      this.next = end + 4;
      return chunk.toString('latin1', at, end + 2);
    }
    return this.assembleSection(chunk, at);
  }

  private assembleSection(chunk: Buffer, at: number): string | null {
    const before = this.text.length;
    this.text += chunk.toString('latin1', at);
    const end = this.text.indexOf('\r\n\r\n', Math.max(0, before - 3));
    if (end > MAX_SECTION || (end === -1 && this.text.length > MAX_SECTION))
      throw broken('an answer with a head without end');
    if (end === -1) return null;
    const section = this.text.slice(0, end + 2);
    this.next = at + end + 4 - before;
    this.text = '';
    return section;
  }

  private readCounted(chunk: Buffer, at: number): number {
    const to = Math.min(chunk.length, at + this.left);
    this.left -= to - at;
    if (this.left === 0) this.state = this.state === CHUNK_DATA ? CHUNK_END : OVER;
    return this.pass(chunk, at, to);
  }

  private readChunkLine(chunk: Buffer, at: number): number {
    const line = this.takeLine(chunk, at);
    if (line === null) return chunk.length;
    const size = CHUNK_SIZE.exec(line)?.[1];
    if (size === undefined) throw broken('an answer with a chunk size that cannot be read');
    this.left = Number.parseInt(size, 16);
    if (this.left > 0) this.state = CHUNK_DATA;
    else {
      this.state = TRAILERS;
      // So the empty line ends a section without trailers as it ends any other.
      this.text = '\r\n';
    }
    return this.next;
  }

  private readChunkEnd(chunk: Buffer, at: number): number {
    const line = this.takeLine(chunk, at);
    if (line === null) return chunk.length;
    if (line !== '\r\n') throw broken('an answer with more than a chunk was to hold');
    this.state = CHUNK_LINE;
    return this.next;
  }

  /** @returns the line with its end, or null when that has not come yet */
  private takeLine(chunk: Buffer, at: number): string | null {
    const end = chunk.indexOf(LF, at);
    this.next = end === -1 ? chunk.length : end + 1;
    if (this.next - at + this.text.length > MAX_CHUNK_LINE) throw broken('an answer with a chunk size without end');
    const line = this.text + chunk.toString('latin1', at, this.next);
    this.text = end === -1 ? line : '';
    return end === -1 ? null : line;
  }

  private readTrailers(chunk: Buffer, at: number): number {
    const text = this.takeSection(chunk, at);
    if (text === null) return chunk.length;
    readFields(text, 2, this.trailers);
    this.state = OVER;
    return this.next;
  }
}

const LF = 0x0a;

/** As bytes: to look for a text, Node makes bytes of it each time. */
const END_OF_SECTION = Buffer.from('\r\n\r\n');

/** The beginning of a status line, whole or in part. */
const BEGINNING = /^(?:HTTP\/1\.|(?:H|HT|HTT|HTTP|HTTP\/|HTTP\/1)$)/;
/** A CR or LF without the other; the last character may still get its own. */
const ODD_LINE_END = /(?:^|[^\r])\n|\r[^\n]/;

/** RFC 9112 §7.1 without the white space that it lets nobody send: hexadecimal digits, then extensions. */
const CHUNK_SIZE =
  /^([0-9a-fA-F]{1,13})(?:;[!#$%&'*+\-.^_`|~0-9A-Za-z]+(?:=(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+|"(?:[\t\x20\x21\x23-\x5b\x5d-\x7e\x80-\xff]|\\[\t\x20-\x7e\x80-\xff])*"))?)*\r\n$/;

function bodyState(length: number): number {
  if (length === CHUNKED) return CHUNK_LINE;
  if (length === UNTIL_CLOSE) return TO_THE_END;
  return length === 0 ? OVER : COUNTED;
}
