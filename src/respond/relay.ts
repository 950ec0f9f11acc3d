import { STATUS_CODES } from 'node:http';
import type { ProxyError, RequestCode } from '../errors.js';
import type { AnswerSink, Exchange } from '../forward/exchange.js';
import type { Outcome } from '../observe/observer.js';
import { FIELD_TEXT } from '../rewrite/field-grammar.js';
import { headText, pairsOf } from '../rewrite/flat-headers.js';
import { rewriteResponseHeaders } from '../rewrite/response-headers.js';
import { refuse, statusOf } from './refuse.js';

/** What an answer is written to: Node's ServerResponse, or one stream of HTTP/2. */
export interface Outgoing {
  readonly headersSent: boolean;
  /** Whether all of the answer has been handed to the connection. */
  readonly writableFinished: boolean;
  /** Whether trailers can follow the body. */
  readonly chunkedEncoding: boolean;
  readonly socket: { readonly writableNeedDrain: boolean; write(text: string, encoding: 'latin1'): boolean } | null;
  /**
   * Sends a 1xx, unless the caller is behind with reading. Where it is missing the bytes are written to the socket: ServerResponse has no
   * word for all of them.
   */
  readonly inform?: (status: number, headers: readonly string[]) => void;
  /** @param isWhole whether the answer ends with its head, which HTTP/2 says in the same frame */
  writeHead(status: number, reason: string | undefined, headers: string[], isWhole?: boolean): unknown;
  flushHeaders(): void;
  /**
   * @param done called when the chunk's memory is no longer needed
   * @returns false when it is full; `drain` is emitted when it has room again
   */
  write(chunk: Buffer, done?: () => void): boolean;
  end(): unknown;
  end(chunk: string | Buffer, done?: () => void): unknown;
  end(chunk: string, encoding: 'latin1'): unknown;
  addTrailers(pairs: [name: string, value: string][]): void;
  /** Breaks the answer off, so that the caller can tell. */
  destroy(): unknown;
  on(event: 'close', listener: () => void): unknown;
  once(event: 'drain', listener: () => void): unknown;
}

/** What a relay has to know of the request it answers. */
export interface RelayOptions {
  readonly requestId: string;
  /** Whether this answer is to be the last of its connection. Asked when the head is written. */
  isLast(): boolean;
  /** Whether the caller's Accept asks for JSON. Asked only for a refusal. */
  wantsJson(): boolean;
  /** Whether the application has never been reachable yet. */
  isStarting(): boolean;
  readonly expectsContinue: boolean;
  readonly httpVersion: string;
}

interface PendingHead {
  readonly status: number;
  readonly reason: string;
  readonly headers: string[];
}

/** Bodies up to this size travel in one write with their head: one TLS record, one system call. Bytes. */
const SMALL_BODY = 16_384;

/**
 * The answer to one request: the application's, passed on piece by piece, or our refusal. Whatever happens, the caller
 * gets one of three things: a whole answer, a refusal, or a broken connection; never an answer cut short that looks whole.
 */
export class Relay implements AnswerSink {
  status = 0;
  code: RequestCode | null = null;
  detail: string | null = null;
  outcome: Outcome = 'ok';
  bytesOut = 0;
  /** Milliseconds of `performance.now()`; when the application's head came. */
  headAt: number | null = null;
  private exchange: Exchange | null = null;
  private pending: PendingHead | null = null;
  private first: Buffer | null = null;
  private firstDone: (() => void) | undefined;
  private informed = 0;
  private broken = false;

  constructor(
    private readonly response: Outgoing,
    private readonly options: RelayOptions,
  ) {}

  /** Connects the answer to the exchange it comes from, for backpressure and abort. */
  attach(exchange: Exchange): void {
    this.exchange = exchange;
  }

  /** Nobody waits for the application's answer any more. */
  abort(): void {
    this.exchange?.abort();
  }

  /** Answers by ourselves. Breaks the connection instead when the application's head is already out. */
  refuse(code: RequestCode, detail: string): void {
    this.code = code;
    this.detail = detail;
    if (this.response.headersSent) return this.breakOff();
    this.outcome = 'refused';
    this.status = statusOf(code, this.options.isStarting());
    refuse(this.response, {
      code,
      requestId: this.options.requestId,
      json: this.options.wantsJson(),
      close: this.options.isLast() || CLOSES.has(code),
      starting: this.options.isStarting(),
    });
  }

  information(status: number, headers: readonly string[]): void {
    if (!this.mayInform(status)) return;
    this.informed += 1;
    const kept = rewriteResponseHeaders(headers, null);
    const { response } = this;
    if (response.inform !== undefined) return response.inform(status, kept);
    response.socket?.write(headText(`HTTP/1.1 ${status} ${INFORMATION[status]}`, kept), 'latin1');
  }

  /**
   * RFC 9110 §15.2: never to an HTTP/1.0 caller; and 100 only to whom asked for it. A caller who does not read, or an
   * application that does not stop, must not fill the memory with them.
   */
  private mayInform(status: number): boolean {
    const { httpVersion, expectsContinue } = this.options;
    if (httpVersion === '1.0' || INFORMATION[status] === undefined || (status === 100 && !expectsContinue))
      return false;
    const { socket, headersSent, inform } = this.response;
    if (headersSent || this.informed >= MAX_INFORMED) return false;
    return inform !== undefined || socket?.writableNeedDrain === false;
  }

  head(status: number, reason: string, headers: readonly string[]): void {
    if (status < 200) return this.distrust(`an answer with status ${status}`);
    this.headAt = performance.now();
    this.status = status;
    this.pending = {
      status,
      // Anything at all, and nobody reads it (RFC 9112 §4): no reason to lose an answer.
      reason: FIELD_TEXT.test(reason) ? reason : (STATUS_CODES[status] ?? ''),
      headers: rewriteResponseHeaders(headers, this.options.requestId, status),
    };
    // A body that comes with the head shall leave with it; an answer that trickles must not wait for it.
    process.nextTick(flushHead, this);
  }

  /** Node would not send this answer: it is not one. */
  private distrust(detail: string): void {
    this.broken = true;
    this.exchange?.abort();
    this.refuse('upstream_protocol', detail);
  }

  data(chunk: Buffer, done?: () => void): boolean {
    // RFC 9110 §15.3.6: a 205 has no body, though its application may send one.
    if (this.broken || this.status === 205) {
      done?.();
      return true;
    }
    this.bytesOut += chunk.length;
    if (this.pending !== null && this.first === null) {
      this.first = chunk;
      this.firstDone = done;
      return true;
    }
    this.flush();
    // The head may have turned out to be none: after our refusal there is nothing to write to.
    return this.broken || this.write(chunk, done);
  }

  private write(chunk: Buffer, done?: () => void): boolean {
    if (this.response.write(chunk, done)) return true;
    this.response.once('drain', () => this.exchange?.resume());
    return false;
  }

  end(trailers: readonly string[]): void {
    const { first, firstDone, response } = this;
    this.first = null;
    this.writeHead(first === null && trailers.length === 0);
    this.addTrailers(trailers);
    if (this.broken) return;
    if (first === null) response.end();
    else if (first.length > SMALL_BODY) response.end(first, firstDone);
    else {
      // As latin1 text, byte for byte the same, Node joins it with the head into one write.
      response.end(first.toString('latin1'), 'latin1');
      firstDone?.();
    }
  }

  private addTrailers(trailers: readonly string[]): void {
    if (this.broken || trailers.length === 0 || !this.response.chunkedEncoding) return;
    try {
      this.response.addTrailers(pairsOf(rewriteResponseHeaders(trailers, null)));
    } catch (error) {
      this.distrust(`trailers that cannot be sent: ${(error as Error).message}`);
    }
  }

  fail(error: ProxyError): void {
    if (this.broken) return;
    // Of a 205 nothing was missing but the body that it cannot have.
    if (this.status === 205 && (this.pending !== null || this.response.headersSent)) return this.end([]);
    if (this.pending === null) return this.refuse(error.code, error.message);
    this.flush();
    if (!this.broken) this.refuse(error.code, error.message);
  }

  /** The head of an answer is out and the rest will not come: the caller must be able to tell. */
  private breakOff(): void {
    this.outcome = 'upstream_aborted';
    this.response.destroy();
  }

  /** Writes what waits for company. */
  flush(): void {
    const { first, firstDone, pending } = this;
    this.first = null;
    this.writeHead();
    if (this.broken) return;
    if (first !== null) this.write(first, firstDone);
    // Node keeps a head until its body begins, which for a stream of events may be long after.
    else if (pending !== null) this.response.flushHeaders();
  }

  private writeHead(isWhole = false): void {
    if (this.pending === null) return;
    const { status, reason, headers } = this.pending;
    this.pending = null;
    if (this.options.isLast()) headers.push('Connection', 'close');
    try {
      this.response.writeHead(status, reason, headers, isWhole);
    } catch (error) {
      // The application's parser and Node's writer need not agree on what a header is; the process must survive it.
      this.distrust(`an answer that cannot be sent: ${(error as Error).message}`);
    }
  }
}

/** More 1xx than any application has to say about one request. */
const MAX_INFORMED = 64;

function flushHead(relay: Relay): void {
  relay.flush();
}

/**
 * After these, what follows on the connection cannot be trusted to be a request; or, as in nginx, its caller has to
 * shake hands anew to show a better certificate. Whether the rest of a body that is too large has come already depends on
 * packets; what becomes of the connection must not.
 */
const CLOSES: ReadonlySet<RequestCode> = new Set([
  ...(['bad_request', 'headers_too_large', 'uri_too_long', 'body_too_large', 'request_timeout'] as const),
  ...(['no_certificate', 'untrusted_issuer', 'self_signed', 'expired', 'not_yet_valid', 'revoked'] as const),
  ...(['crl_missing', 'crl_expired', 'wrong_purpose', 'weak_signature', 'chain_too_long', 'invalid'] as const),
]);

const INFORMATION: Readonly<Record<number, string>> = { 100: 'Continue', 102: 'Processing', 103: 'Early Hints' };
