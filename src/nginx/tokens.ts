/** A configuration that nginx would not take. */
export class NginxSyntaxError extends Error {
  override readonly name = 'NginxSyntaxError';

  constructor(
    message: string,
    readonly file: string,
    readonly line: number,
  ) {
    super(`${file}:${line}: ${message}`);
  }
}

/** A word with its quotes and escapes resolved, or one of the three marks. */
export interface Token {
  readonly kind: 'word' | ';' | '{' | '}';
  readonly text: string;
  /** Of its first character, counted from 1. */
  readonly line: number;
}

/** As ngx_conf_read_token: nothing but these ends a word, and no other white space exists. */
const SPACES = ' \t\r\n';
const MARKS = ';{}';
const ESCAPES: Readonly<Record<string, string>> = { t: '\t', r: '\r', n: '\n', '"': '"', "'": "'", '\\': '\\' };

/** Cuts the text of one file into tokens, by nginx's lexical rules (ngx_conf_read_token). */
export class Lexer {
  private at = 0;
  line = 1;

  constructor(
    private readonly text: string,
    private readonly file: string,
  ) {}

  /** @returns null at the end of the file */
  next(): Token | null {
    this.skipBlank();
    const first = this.text[this.at];
    if (first === undefined) return null;
    const { line } = this;
    if (MARKS.includes(first)) {
      this.at += 1;
      return { kind: first as Token['kind'], text: first, line };
    }
    const written = first === '"' || first === "'" ? this.quoted(first) : this.bare();
    return { kind: 'word', text: unescape(written), line };
  }

  fail(message: string): never {
    throw new NginxSyntaxError(message, this.file, this.line);
  }

  /** A `#` begins a comment where a word could begin; within a word it is a character like others. */
  private skipBlank(): void {
    for (let char = this.text[this.at]; char !== undefined; char = this.text[this.at]) {
      if (char === '#') this.skipComment();
      else if (SPACES.includes(char)) this.step();
      else return;
    }
  }

  private skipComment(): void {
    while (this.at < this.text.length && this.text[this.at] !== '\n') this.at += 1;
  }

  private step(): void {
    if (this.text[this.at] === '\n') this.line += 1;
    this.at += 1;
  }

  private quoted(quote: string): string {
    this.at += 1;
    const start = this.at;
    while (this.peek() !== quote) this.stepOver();
    const written = this.text.slice(start, this.at);
    this.at += 1;
    const after = this.text[this.at];
    // A closing parenthesis is what the conditions of `if` end with.
    if (after !== undefined && !`${SPACES};{)`.includes(after)) this.fail(`unexpected ${JSON.stringify(after)}`);
    return written;
  }

  private bare(): string {
    const start = this.at;
    let afterDollar = false;
    while (this.at < this.text.length) {
      const char = this.text[this.at] as string;
      // The brace of ${name} belongs to the word.
      if (`${SPACES};`.includes(char) || (char === '{' && !afterDollar)) break;
      afterDollar = char === '$';
      this.stepOver();
    }
    return this.text.slice(start, this.at);
  }

  /** One character, or a backslash and what it protects. */
  private stepOver(): void {
    if (this.peek() === '\\') {
      this.step();
      this.peek();
    }
    this.step();
  }

  private peek(): string {
    return this.text[this.at] ?? this.fail('unexpected end of file, expecting ";" or "}"');
  }
}

/** A backslash before any other character stays where it is: regular expressions rely on it. */
function unescape(written: string): string {
  if (!written.includes('\\')) return written;
  return written.replace(/\\([trn"'\\])/g, (_, escaped: string) => ESCAPES[escaped] ?? escaped);
}
