import fc from 'fast-check';
import { readCorpus } from '../support/corpus.js';

/** One request as a caller writes it. */
export interface Input {
  /** Latin1. */
  readonly bytes: string;
  /** Whether nothing is wrong with it, so that it has to be forwarded. */
  readonly clean: boolean;
}

/** What one caller sends over one connection, and where it is cut into packets (parts of the whole, 0 to 1). */
export interface Conversation {
  readonly inputs: readonly Input[];
  readonly cuts: readonly number[];
}

/** What mutations put in: everything that two readers are known to read in two ways. */
const WORDS = [
  ...['\r', '\n', '\r\n', '\r\n\r\n', '\n\n', '\0', ' ', '\t', '\v', '\f', '\x7f', '\x80', '\xa0', '\xff', '\x1b'],
  ...[':', ';', ',', '_', '-', '+', '.', '#', '?', '"', '\\', '%0d%0a', '0', '00', '0x', '1', 'f', 'ffffffffffffffff'],
  ...['chunked', 'identity', 'gzip, ', 'close', 'keep-alive', 'HTTP/1.0', 'HTTP/1.1', 'GET', 'HEAD', 'CONNECT ', '* '],
  ...[
    'Content-Length: 5\r\n',
    'Content-Length: 0\r\n',
    'Content-Length:',
    'content_length: 7\r\n',
    'Content-Length : 3\r\n',
  ],
  ...['Transfer-Encoding: chunked\r\n', 'Transfer-Encoding:\r\n chunked\r\n', 'Transfer_Encoding: chunked\r\n'],
  ...[
    'Transfer-Encoding: x\r\n',
    'Host: b\r\n',
    'Host:',
    ' Host: b\r\n',
    'Expect: 100-continue\r\n',
    'TE: trailers\r\n',
  ],
  ...['Connection: close\r\n', 'Connection: Content-Length, Host\r\n', 'Connection: X-SSL-Client-Verify\r\n'],
  ...['X-SSL-Client-Verify: SUCCESS\r\n', 'x_ssl_client_s_dn: CN=root\r\n', 'X-Forwarded-For: 1.2.3.4\r\n'],
  ...[
    'Upgrade: websocket\r\nConnection: upgrade\r\n',
    'Trailer: X-T\r\n',
    '0\r\n\r\n',
    '5\r\nhello\r\n',
    '5;a=b\r\nhello\r\n',
  ],
  ...['GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n', 'HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n', 'http://a/', '/../'],
];

const token = fc.stringMatching(/^[A-Za-z][A-Za-z0-9-]{0,11}$/);
const text = fc.stringMatching(/^[!-~]([ -~]{0,20}[!-~])?$/);

const header = fc.oneof(
  { weight: 3, arbitrary: fc.tuple(token, text).map(([name, value]) => `X-${name}: ${value}`) },
  {
    weight: 1,
    arbitrary: fc.constantFrom(
      ...['Accept: */*', 'User-Agent: fuzz', 'Cookie: a=b; c=d', 'X-Empty:', 'X-Latin: caf\xe9', 'x_under_score: 1'],
      ...[
        'X-SSL-Client-Verify: FAILED',
        'X-Ssl_Client.S-DN: CN=root',
        'X-Forwarded-For: 6.6.6.6',
        'Client-Cert: :eA==:',
      ],
      ...[
        'Connection: keep-alive',
        'Connection: X-SSL-Client-CN',
        'TE: trailers',
        'Proxy: http://b',
        'X-Request-Id: two words',
      ],
    ),
  },
);

/** Bodies look like requests as often as not. */
const content = fc.oneof(
  fc.constant(''),
  fc.constantFrom('hello', '0\r\n\r\n', '\r\n', 'GET /smuggled HTTP/1.1\r\nHost: s\r\n\r\n', 'a'.repeat(70_000)),
  fc.string({ unit: 'binary-ascii', maxLength: 60 }),
);

const framed = fc.tuple(content, fc.nat(3)).map(([body, kind]): readonly [lines: readonly string[], body: string] => {
  if (kind === 0) return [[], ''];
  if (kind === 1) return [[`Content-Length: ${body.length}`], body];
  const half = body.length >> 1;
  const parts = [body.slice(0, half), body.slice(half)].filter((part) => part !== '');
  const extension = kind === 3 ? ';a="b"' : '';
  const chunks = parts.map((part) => `${part.length.toString(16)}${extension}\r\n${part}\r\n`);
  return [['Transfer-Encoding: chunked'], `${chunks.join('')}0${extension}\r\n\r\n`];
});

const clean = fc
  .record({
    method: fc.constantFrom('GET', 'POST', 'PUT', 'HEAD', 'DELETE', 'OPTIONS', 'PATCH'),
    target: fc.stringMatching(/^\/(?:[a-z0-9/=&;~-]|%4[0-9a-f]){0,12}(?:\?[a-z0-9=&%.?/]{0,8})?$/),
    before: fc.array(header, { maxLength: 3 }),
    after: fc.array(header, { maxLength: 3 }),
    framed,
  })
  .map(({ method, target, before, after, framed: [lines, body] }): Input => {
    const head = [`${method} ${target} HTTP/1.1`, ...before, 'Host: a', ...lines, ...after, '', ''];
    return { bytes: head.join('\r\n') + body, clean: true };
  });

/** Short ones: a long one says nothing new when it is changed. */
const CORPUS = readCorpus()
  .map(({ send }) => send)
  .filter((send) => send.length < 400);

const mutation = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  what: fc.constantFrom('insert', 'remove', 'replace', 'repeat'),
  word: fc.constantFrom(...WORDS),
  length: fc.integer({ min: 1, max: 12 }),
});

function mutate(
  bytes: string,
  changes: readonly (typeof mutation extends fc.Arbitrary<infer T> ? T : never)[],
): string {
  return changes.reduce((text, { at, what, word, length }) => {
    // Of a large body only the head is worth changing.
    const from = Math.floor(at * Math.min(text.length, 400));
    if (what === 'insert') return text.slice(0, from) + word + text.slice(from);
    if (what === 'remove') return text.slice(0, from) + text.slice(from + length);
    if (what === 'replace') return text.slice(0, from) + word + text.slice(from + word.length);
    return text.slice(0, from + length) + text.slice(from);
  }, bytes);
}

const changes = fc.array(mutation, { minLength: 1, maxLength: 3 });
const known = fc.constantFrom(...CORPUS).map((bytes): Input => ({ bytes, clean: false }));
const input = fc.oneof(
  { weight: 60, arbitrary: clean },
  {
    weight: 2,
    arbitrary: fc.tuple(clean, changes).map(([{ bytes }, all]) => ({ bytes: mutate(bytes, all), clean: false })),
  },
  { weight: 1, arbitrary: known },
  {
    weight: 1,
    arbitrary: fc.tuple(known, changes).map(([{ bytes }, all]) => ({ bytes: mutate(bytes, all), clean: false })),
  },
);

export const conversation: fc.Arbitrary<Conversation> = fc.record({
  inputs: fc.array(input, { minLength: 1, maxLength: 60, size: 'max' }),
  cuts: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 8 }),
});
