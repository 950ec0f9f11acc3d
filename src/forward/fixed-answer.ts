import { STATUS_CODES } from 'node:http';
import type { Permit } from '../admit/authorize.js';
import { hostName } from '../admit/screen.js';
import type { FixedAnswer } from '../config/config.js';
import { ProxyError } from '../errors.js';
import type { AnswerSink, Exchange, ForwardRequest } from './exchange.js';

/** What a route answers by itself; for the hallway it is one more application. */
export class FixedAnswers {
  constructor(private readonly answer: FixedAnswer) {}

  /** Answers one admitted request. `sink` hears of it later, never before this returns. */
  send(_permit: Permit, request: ForwardRequest, sink: AnswerSink): Exchange {
    const immediate = setImmediate(() => this.give(request, sink));
    return { resume: () => undefined, abort: () => clearImmediate(immediate) };
  }

  probe(): Promise<boolean> {
    return Promise.resolve(true);
  }

  private give(request: ForwardRequest, sink: AnswerSink): void {
    const { status, contentType, location } = this.answer;
    const target = location === null ? null : filled(location, request);
    // Nothing that a caller sends may end a header, whatever the parser lets through one day.
    if (target !== null && !/^[!-~]+$/.test(target)) {
      return sink.fail(new ProxyError('bad_request', 'downstream', 'forward', 'a target that no Location can hold'));
    }
    const body = Buffer.from(this.answer.body);
    const headers = ['Content-Type', contentType, 'Content-Length', String(body.length)];
    if (target !== null) headers.push('Location', target);
    sink.head(status, STATUS_CODES[status] ?? '', headers);
    if (request.method !== 'HEAD' && body.length > 0) sink.data(body);
    sink.end([]);
  }
}

/** `$host` is a name of ours: requests for other names do not come this far where it is used. */
function filled(location: string, { target, headers }: ForwardRequest): string {
  const at = headers.findIndex((name, index) => index % 2 === 0 && name.toLowerCase() === 'host');
  // Of `OPTIONS *`.
  const uri = target.startsWith('/') ? target : '/';
  const variables: Readonly<Record<string, string>> = { $host: hostName(headers[at + 1] ?? ''), $request_uri: uri };
  return location.replace(/\$(?:host|request_uri)/g, (variable) => variables[variable] ?? '');
}
