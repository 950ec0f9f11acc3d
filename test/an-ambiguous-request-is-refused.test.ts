import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw, sendRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { refusalsOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n';

/** A request head with these lines besides Host. */
function withHeaders(lines: string, { method = 'POST', version = 'HTTP/1.1', target = '/' } = {}): string {
  return `${method} ${target} ${version}\r\nHost: localhost\r\n${lines}\r\n`;
}

const CASES: readonly (readonly [string, string])[] = [
  [
    'both Content-Length and Transfer-Encoding',
    `${withHeaders('Content-Length: 6\r\nTransfer-Encoding: chunked\r\n')}0\r\n\r\n${SMUGGLED}`,
  ],
  [
    'both, the other way round',
    `${withHeaders('Transfer-Encoding: chunked\r\nContent-Length: 6\r\n')}0\r\n\r\n${SMUGGLED}`,
  ],
  ['two Content-Length', `${withHeaders('Content-Length: 3\r\nContent-Length: 4\r\n')}abcd${SMUGGLED}`],
  ['two equal Content-Length', `${withHeaders('Content-Length: 3\r\nContent-Length: 3\r\n')}abc${SMUGGLED}`],
  ['a list of Content-Length', `${withHeaders('Content-Length: 3, 3\r\n')}abc`],
  ['a signed Content-Length', `${withHeaders('Content-Length: +3\r\n')}abc`],
  ['a negative Content-Length', withHeaders('Content-Length: -1\r\n')],
  ['a hexadecimal Content-Length', `${withHeaders('Content-Length: 0x3\r\n')}abc`],
  ['an empty Content-Length', withHeaders('Content-Length: \r\n')],
  ['a Content-Length beyond counting', withHeaders('Content-Length: 99999999999999999999\r\n')],
  ['a Content-Length with a space inside', `${withHeaders('Content-Length: 1 0\r\n')}0123456789`],
  ['Transfer-Encoding: gzip', withHeaders('Transfer-Encoding: gzip\r\n')],
  ['Transfer-Encoding: identity', withHeaders('Transfer-Encoding: identity\r\n')],
  ['Transfer-Encoding: gzip, chunked', `${withHeaders('Transfer-Encoding: gzip, chunked\r\n')}0\r\n\r\n`],
  ['Transfer-Encoding: chunked, gzip', `${withHeaders('Transfer-Encoding: chunked, gzip\r\n')}0\r\n\r\n`],
  ['Transfer-Encoding: chunked, chunked', `${withHeaders('Transfer-Encoding: chunked, chunked\r\n')}0\r\n\r\n`],
  ['two Transfer-Encoding', `${withHeaders('Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n')}0\r\n\r\n`],
  ['Transfer-Encoding: xchunked', `${withHeaders('Transfer-Encoding: xchunked\r\n')}0\r\n\r\n`],
  ['Transfer-Encoding: "chunked"', `${withHeaders('Transfer-Encoding: "chunked"\r\n')}0\r\n\r\n`],
  ['Transfer-Encoding behind a vertical tab', `${withHeaders('Transfer-Encoding: \x0bchunked\r\n')}0\r\n\r\n`],
  [
    'Transfer-Encoding in HTTP/1.0',
    `${withHeaders('Transfer-Encoding: chunked\r\n', { version: 'HTTP/1.0' })}0\r\n\r\n${SMUGGLED}`,
  ],
  ['a chunk size with a sign', `${withHeaders('Transfer-Encoding: chunked\r\n')}+3\r\nabc\r\n0\r\n\r\n`],
  [
    'a chunk size that overflows',
    `${withHeaders('Transfer-Encoding: chunked\r\n')}10000000000000003\r\nabc\r\n0\r\n\r\n`,
  ],
  ['a chunk longer than its size', `${withHeaders('Transfer-Encoding: chunked\r\n')}3\r\nabcd\r\n0\r\n\r\n`],
  ['a bare LF behind a chunk size', `${withHeaders('Transfer-Encoding: chunked\r\n')}3\nabc\r\n0\r\n\r\n`],
  ['a bare LF behind a chunk', `${withHeaders('Transfer-Encoding: chunked\r\n')}3\r\nabc\n0\r\n\r\n`],
  ['a bare LF in a chunk extension', `${withHeaders('Transfer-Encoding: chunked\r\n')}3;\nabc\r\n0\r\n\r\n`],
  ['a bare LF behind the last chunk', `${withHeaders('Transfer-Encoding: chunked\r\n')}0\n\r\n`],
  ['a folded header', withHeaders('X-A: b\r\n c\r\n', { method: 'GET' })],
  ['a folded Transfer-Encoding', `${withHeaders('Transfer-Encoding:\r\n chunked\r\n')}0\r\n\r\n`],
  ['a header that begins with a space', withHeaders(' X-A: b\r\n', { method: 'GET' })],
  ['a space before the colon', withHeaders('X-A : b\r\n', { method: 'GET' })],
  ['a space before the colon of Content-Length', `${withHeaders('Content-Length : 3\r\n')}abc`],
  ['a space in a header name', withHeaders('X A: b\r\n', { method: 'GET' })],
  ['a header without a colon', withHeaders('X-A\r\n', { method: 'GET' })],
  ['an empty header name', withHeaders(': b\r\n', { method: 'GET' })],
  ['a bare LF behind a header', withHeaders('X-A: b\nX-B: c\r\n', { method: 'GET' })],
  ['bare LFs throughout', 'GET / HTTP/1.1\nHost: localhost\n\n'],
  ['a bare LF behind the request line', 'GET / HTTP/1.1\nHost: localhost\r\n\r\n'],
  ['a bare CR in a header', withHeaders('X-A: b\rX-B: c\r\n', { method: 'GET' })],
  ['a bare CR behind a header', withHeaders('X-A: b\r', { method: 'GET' })],
  ['NUL in a header', withHeaders('X-A: b\0c\r\n', { method: 'GET' })],
  ['NUL in a header name', withHeaders('X\0A: b\r\n', { method: 'GET' })],
  ['NUL in the target', withHeaders('', { method: 'GET', target: '/a\0b' })],
  ['a control character in a header', withHeaders('X-A: b\x01c\r\n', { method: 'GET' })],
  ['an unknown method', withHeaders('', { method: 'FETCH' })],
  ['a method in lower case', withHeaders('', { method: 'get' })],
  ['a method with a colon', withHeaders('', { method: 'GET:' })],
  ['a space in the target', withHeaders('', { method: 'GET', target: '/a b' })],
  ['a tab in the target', withHeaders('', { method: 'GET', target: '/a\tb' })],
  ['a form feed in the target', withHeaders('', { method: 'GET', target: '/a\fb' })],
  ['a byte above 127 in the target', withHeaders('', { method: 'GET', target: '/a\xe9b' })],
  ['DEL in the target', withHeaders('', { method: 'GET', target: '/a\x7fb' })],
  ['a tab before the target', 'GET\t/ HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['no target', 'GET HTTP/1.1\r\nHost: localhost\r\n\r\n'],
  ['a relative target', withHeaders('', { method: 'GET', target: 'a' })],
  ['a target of another scheme', withHeaders('', { method: 'GET', target: 'ftp://localhost/' })],
  ['a fragment', withHeaders('', { method: 'GET', target: '/a#b' })],
  ['a fragment behind a query', withHeaders('', { method: 'GET', target: '/a?b#c' })],
  ['* for another method than OPTIONS', withHeaders('', { method: 'GET', target: '*' })],
  ['HTTP/0.9', 'GET /\r\n\r\n'],
  ['HTTP/1.2', withHeaders('', { method: 'GET', version: 'HTTP/1.2' })],
  ['HTTP/2.0', withHeaders('', { method: 'GET', version: 'HTTP/2.0' })],
  ['HTTP/11', withHeaders('', { method: 'GET', version: 'HTTP/11' })],
  ['HTTP/1.1 in lower case', withHeaders('', { method: 'GET', version: 'http/1.1' })],
  ['another protocol', withHeaders('', { method: 'GET', version: 'GOPHER/1.0' })],
  ['the preface of HTTP/2', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
  ['no Host', 'GET / HTTP/1.1\r\nX-A: b\r\n\r\n'],
  ['no Host in HTTP/1.0', 'GET / HTTP/1.0\r\n\r\n'],
  ['an empty Host', 'GET / HTTP/1.1\r\nHost: \r\n\r\n'],
  ['two Hosts', withHeaders('Host: other\r\n', { method: 'GET' })],
  ['two equal Hosts', withHeaders('host: localhost\r\n', { method: 'GET' })],
  ['a Host with a user', 'GET / HTTP/1.1\r\nHost: user@localhost\r\n\r\n'],
  ['a Host with a path', 'GET / HTTP/1.1\r\nHost: localhost/x\r\n\r\n'],
  ['a Host of two names', 'GET / HTTP/1.1\r\nHost: localhost, other\r\n\r\n'],
  ['a Host with a port of letters', 'GET / HTTP/1.1\r\nHost: localhost:http\r\n\r\n'],
  ['an absolute target of another authority', withHeaders('', { method: 'GET', target: 'http://other/' })],
  ['an absolute target with a user', withHeaders('', { method: 'GET', target: 'http://u@localhost/' })],
  ['CONNECT', 'CONNECT localhost:443 HTTP/1.1\r\nHost: localhost:443\r\n\r\n'],
  ['CONNECT with a path', withHeaders('', { method: 'CONNECT' })],
  ['TRACE', withHeaders('', { method: 'TRACE' })],
];

describe('refused with 400, the connection closed and nothing forwarded:', () => {
  let application: Application;
  let sidecar: Sidecar;

  beforeAll(async () => {
    application = await startApplication();
    sidecar = await startSidecar({ pki: makePki(), upstream: application.url });
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  it.each(CASES)('%s', async (_what, bytes) => {
    const [seen, records, refusals] = [application.seen.length, sidecar.requests().length, await count()];
    // What follows a request that cannot be trusted must not be read as another one.
    const answer = await sendRaw(sidecar, `${bytes}${SMUGGLED}`);
    expect(answer).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(answer).toMatch(/\r\nConnection: close\r\n/i);
    expect(answer.match(/HTTP\/1\.1 /g)).toHaveLength(1);
    expect(answer).toContain('<code>bad_request</code>');
    expect(application.seen.length).toBe(seen);
    expect(sidecar.requests().slice(records)).toMatchObject([
      { status: 400, code: 'bad_request', outcome: 'refused', bytesOut: 0 },
    ]);
    expect(await count()).toBe(refusals + 1);
  });

  function count(): Promise<number> {
    return refusalsOf(sidecar, 'bad_request');
  }

  it('by the same measure over an Upgrade', async () => {
    const seen = application.seen.length;
    for (const lines of ['Host: other\r\n', 'X-A : b\r\n']) {
      const head = withHeaders(`Connection: Upgrade\r\nUpgrade: websocket\r\n${lines}`, { method: 'GET' });
      expect(await sendRaw(sidecar, head)).toMatch(/^HTTP\/1\.1 400 /);
    }
    for (const target of ['/a\tb', '/a#b', '/a\x7f']) {
      const head = withHeaders('Connection: Upgrade\r\nUpgrade: websocket\r\n', { method: 'GET', target });
      expect(await sendRaw(sidecar, head)).toMatch(/^HTTP\/1\.1 400 /);
    }
    expect(application.seen.length).toBe(seen);
  });

  it('without a word of the request in the answer', async () => {
    const answer = await sendRaw(sidecar, withHeaders('X-<script>: 1\r\n', { target: '/<script>', method: 'TRACE' }));
    expect(answer).not.toContain('script');
  });

  it('and JSON for a caller that asks for it', async () => {
    const head = withHeaders('Accept: application/json\r\n', { method: 'GET', target: '/a#b' });
    const answer = await sendRaw(sidecar, head);
    const { error } = JSON.parse(answer.slice(answer.indexOf('\r\n\r\n'))) as { error: Record<string, string> };
    expect(error).toMatchObject({ code: 'bad_request', message: 'Bad Request' });
  });

  it('while unusual requests that have one meaning pass', async () => {
    const good: readonly (readonly [string, string, string])[] = [
      ['an absolute target', withHeaders('', { method: 'GET', target: 'http://LOCALHOST/abs?q' }), '/abs?q'],
      ['an absolute target without a path', withHeaders('', { method: 'GET', target: 'https://localhost?q' }), '/?q'],
      ['OPTIONS *', withHeaders('', { method: 'OPTIONS', target: '*' }), '*'],
      [
        'a target of dots and slashes',
        withHeaders('', { method: 'GET', target: '//a/../b/%2e%2E/;x' }),
        '//a/../b/%2e%2E/;x',
      ],
      ['two spaces before the target', 'GET  /spaces HTTP/1.1\r\nHost: localhost\r\n\r\n', '/spaces'],
      ['an empty line in front', `\r\n${withHeaders('', { method: 'GET', target: '/crlf' })}`, '/crlf'],
      ['HTTP/1.0 with Host', withHeaders('', { method: 'GET', target: '/one-zero', version: 'HTTP/1.0' }), '/one-zero'],
      ['chunked in capitals', `${withHeaders('Transfer-Encoding: CHUNKED\r\n', { target: '/te' })}0\r\n\r\n`, '/te'],
      ['Content-Length: 0', withHeaders('Content-Length: 0\r\n', { target: '/zero' }), '/zero'],
    ];
    for (const [what, bytes, url] of good) {
      const caller = await openRaw(sidecar);
      caller.socket.write(bytes, 'latin1');
      expect(await caller.receive(/ok/), what).toMatch(/^HTTP\/1\.1 200 /);
      expect(application.seen.at(-1)?.url, what).toBe(url);
      caller.socket.destroy();
    }
    expect((await call(sidecar)).status).toBe(200);
  });
});
