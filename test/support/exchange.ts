import { connect, type Socket } from 'node:net';
import { connect as connectTls, type ConnectionOptions } from 'node:tls';

/** One answer out of the bytes of a connection. */
export interface WireAnswer {
  readonly status: number;
  /** Lower-case names, in order. */
  readonly headers: readonly (readonly [name: string, value: string])[];
  /** Without its framing, as latin1. */
  readonly body: string;
}

export interface Exchange {
  /** Null when the handshake failed. */
  readonly answers: readonly WireAnswer[] | null;
  /** What follows the answers and is none. */
  readonly rest: string;
  readonly localPort: number;
}

export interface ExchangeOptions {
  /** TLS options; null for plain TCP. */
  readonly tls: ConnectionOptions | null;
  readonly port: number;
  /** As latin1. */
  readonly bytes: string;
  /** Whether the answers have no bodies, because HEAD was asked. */
  readonly head?: boolean;
}

/** How long the other side may take to end the connection. Milliseconds. */
const PATIENCE = 5_000;

/** Sends bytes over a connection of their own and reads until the other side ends it. */
export function exchange(options: ExchangeOptions): Promise<Exchange> {
  const { tls, port, bytes, head = false } = options;
  return new Promise((resolve, reject) => {
    const socket: Socket = tls === null ? connect(port, '127.0.0.1') : connectTls({ ...tls, port, host: '127.0.0.1' });
    let isOpen = false;
    let localPort = 0;
    let received = '';
    const timer = setTimeout(() => {
      socket.destroy();
      reject(new Error(`still open after ${bytes.slice(0, 200)}\n${received}`));
    }, PATIENCE);
    socket.once(tls === null ? 'connect' : 'secureConnect', () => {
      isOpen = true;
      socket.write(Buffer.from(bytes, 'latin1'));
    });
    socket.once('connect', () => (localPort = socket.localPort ?? 0));
    socket.on('data', (chunk: Buffer) => (received += chunk.toString('latin1')));
    // A reset after the answer is an end like another.
    socket.on('error', () => undefined);
    socket.once('close', () => {
      clearTimeout(timer);
      const { answers, rest } = readAnswers(received, head);
      resolve({ answers: isOpen ? answers : null, rest, localPort });
    });
  });
}

/** All answers in what a connection carried. */
export function readAnswers(text: string, head: boolean): { readonly answers: WireAnswer[]; readonly rest: string } {
  const answers: WireAnswer[] = [];
  let rest = text;
  for (;;) {
    const [block = '', status] = /^HTTP\/1\.[01] (\d{3})[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n/.exec(rest) ?? [];
    if (status === undefined) return { answers, rest };
    const headers = block
      .split('\r\n')
      .slice(1, -2)
      .map(
        (line) => [line.slice(0, line.indexOf(':')).toLowerCase(), line.slice(line.indexOf(':') + 1).trim()] as const,
      );
    const { body, length } = bodyOf(rest.slice(block.length), { status: Number(status), headers, head });
    answers.push({ status: Number(status), headers, body });
    rest = rest.slice(block.length + length);
  }
}

function bodyOf(
  text: string,
  { status, headers, head }: Omit<WireAnswer, 'body'> & { readonly head: boolean },
): { readonly body: string; readonly length: number } {
  const value = (name: string): string | undefined => headers.find(([each]) => each === name)?.[1];
  if (head || status < 200 || status === 204 || status === 304) return { body: '', length: 0 };
  if (value('transfer-encoding') === 'chunked') return unchunked(text);
  const length = Number(value('content-length') ?? text.length);
  return { body: text.slice(0, length), length };
}

function unchunked(text: string): { readonly body: string; readonly length: number } {
  let body = '';
  let at = 0;
  for (;;) {
    const [line = '', digits] = /^([0-9a-f]+)\r\n/i.exec(text.slice(at)) ?? [];
    if (digits === undefined) return { body: `${body} (cut short)`, length: text.length };
    const size = parseInt(digits, 16);
    body += text.slice(at + line.length, at + line.length + size);
    at += line.length + size + 2;
    if (size === 0) return { body, length: at };
  }
}
