/** A request as bytes (latin1), or several on one connection, the last of which ends it. */
export interface WireRequest {
  readonly name: string;
  readonly bytes: string;
  /** Over plain TCP. */
  readonly plain?: boolean;
  readonly head?: boolean;
}

const HOST = 'Host: localhost';
const CLOSE = 'Connection: close';

function request(line: string, headers: readonly string[] = [], body = ''): string {
  return `${[line, ...headers].join('\r\n')}\r\n\r\n${body}`;
}

/** With Host and the end of the connection. */
const usual = (line: string, headers: readonly string[] = [], body = ''): string =>
  request(line, [HOST, ...headers, CLOSE], body);

const get = (path: string, ...headers: string[]): string => usual(`GET ${path} HTTP/1.1`, headers);
const post = (body: string, ...headers: string[]): string => usual('POST /p HTTP/1.1', headers, body);
const sized = (body: string, ...headers: string[]): string => post(body, `Content-Length: ${body.length}`, ...headers);
const chunked = (body: string, ...headers: string[]): string => post(body, 'Transfer-Encoding: chunked', ...headers);

const named = (prefix: string, cases: Readonly<Record<string, string>>): WireRequest[] =>
  Object.entries(cases).map(([name, bytes]) => ({ name: `${prefix}: ${name}`, bytes }));

/** Requests, honest and otherwise, of an admitted caller (and over plain TCP). The body limit is taken to be 1 KiB. */
export function wireRequests(): WireRequest[] {
  return [
    ...methods(),
    ...named('version', versions()),
    ...named('host', hosts()),
    ...named('path', paths()),
    ...named('header', headers()),
    ...named('body', bodies()),
    ...named('framing', framings()),
    ...named('connection', connections()),
    ...named('answer', answers()),
    ...plain(),
  ];
}

function methods(): WireRequest[] {
  const plainOnes = ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND', 'REPORT', 'PURGE', 'M-SEARCH'];
  const odd = ['get', 'GETT', 'G3T', 'GE_T', 'GET\t', 'X', 'TRACE', 'QUERY', 'PRI'];
  return [
    ...[...plainOnes, ...odd].map((method) => ({
      name: `method: ${JSON.stringify(method)}`,
      bytes: usual(`${method} /m HTTP/1.1`),
    })),
    { name: 'method: HEAD', bytes: usual('HEAD /m HTTP/1.1'), head: true },
    { name: 'method: HEAD of a chunked answer', bytes: usual('HEAD /chunked HTTP/1.1'), head: true },
    { name: 'method: OPTIONS of the server', bytes: usual('OPTIONS * HTTP/1.1') },
    { name: 'method: GET *', bytes: usual('GET * HTTP/1.1') },
    { name: 'method: CONNECT', bytes: usual('CONNECT localhost:443 HTTP/1.1') },
    { name: 'method: none', bytes: usual(' /m HTTP/1.1') },
  ];
}

function versions(): Record<string, string> {
  return {
    '1.0': request('GET /v HTTP/1.0', [HOST]),
    '1.0 without Host': request('GET /v HTTP/1.0'),
    '1.0 kept open and closed':
      request('GET /v HTTP/1.0', [HOST, 'Connection: keep-alive']) + request('GET /w HTTP/1.0', [HOST]),
    '1.0 with a body': request('POST /v HTTP/1.0', [HOST, 'Content-Length: 3'], 'abc'),
    '1.0 with a chunked body': request(
      'POST /v HTTP/1.0',
      [HOST, 'Transfer-Encoding: chunked'],
      '3\r\nabc\r\n0\r\n\r\n',
    ),
    '1.2': usual('GET /v HTTP/1.2'),
    '2.0': usual('GET /v HTTP/2.0'),
    '0.9': request('GET /v', [HOST]),
    '1.1 in lower case': usual('GET /v http/1.1'),
    '1.10': usual('GET /v HTTP/1.10'),
    '1': usual('GET /v HTTP/1'),
    'HTTP/1.1 and more': usual('GET /v HTTP/1.1 x'),
    'two blanks': usual('GET  /v HTTP/1.1'),
    'an empty line before': `\r\n${usual('GET /v HTTP/1.1')}`,
    'bytes that are none': '\x00\x01\x02\x03\r\n\r\n',
  };
}

function hosts(): Record<string, string> {
  const withHost = (value: string): string => request('GET /h HTTP/1.1', [`Host: ${value}`, CLOSE]);
  const values = [
    'LOCALHOST',
    'localhost:8443',
    'localhost.',
    'other.example',
    '127.0.0.1',
    '[::1]',
    '[::1]:99',
    'a_b',
    'xn--bcher-kva.example',
  ];
  const odd = [
    '',
    'a b',
    'a/b',
    'a@b',
    'a,b',
    'localhost:',
    'localhost:x',
    '[::1',
    'a..b',
    '..',
    'ä',
    'a\\b',
    'a?b',
    'a#b',
  ];
  return {
    ...Object.fromEntries([...values, ...odd].map((value) => [JSON.stringify(value), withHost(value)])),
    none: request('GET /h HTTP/1.1', [CLOSE]),
    two: request('GET /h HTTP/1.1', ['Host: a', 'Host: b', CLOSE]),
    'the same twice': request('GET /h HTTP/1.1', ['Host: a', 'Host: a', CLOSE]),
    'with blanks around': request('GET /h HTTP/1.1', ['Host: \t localhost \t', CLOSE]),
    'and an absolute target that agrees': usual('GET http://localhost/h HTTP/1.1'),
    'and an absolute target that differs': usual('GET http://other.example/h HTTP/1.1'),
    'none, and an absolute target': request('GET http://localhost/h HTTP/1.1', [CLOSE]),
    'and an absolute target by https': usual('GET https://localhost/h?x HTTP/1.1'),
  };
}

function paths(): Record<string, string> {
  const all = [
    ...[
      '/',
      '/a/b',
      '/a//b',
      '/a/./b',
      '/a/../b',
      '/../a',
      '/a/..',
      '/a%2fb',
      '/a%2Fb',
      '/%61',
      '/a%20b',
      '/%00',
      '/%zz',
      '/a%',
    ],
    ...[
      '/?',
      '/?a=b&a=c',
      '/?a%26b',
      '/?a=/../',
      '/a;b=c',
      '/a:b',
      '/a+b',
      '/~a',
      "/a'b",
      '/a"b',
      '/<a>',
      '/a|b',
      '/a^b',
      '/a`b',
      '/{a}',
    ],
    ...[
      '/a\\b',
      '/%5c',
      '/%E4',
      '/\xe4',
      '/a#b',
      '/#',
      '/%2e%2e/a',
      '/.%2e/a',
      '//a',
      '///',
      '/a?b?c',
      '/?%00',
      'a',
      '?a',
      '/a\x7f',
      '/a\x01',
    ],
  ];
  return {
    ...Object.fromEntries(all.map((path) => [JSON.stringify(path), get(path)])),
    'of 4,000 bytes': get(`/${'a'.repeat(4000)}`),
    'of 9,000 bytes': get(`/${'a'.repeat(9000)}`),
  };
}

function headers(): Record<string, string> {
  return {
    'names with underscores': get('/a', 'X_A: 1', 'X-B_C: 2', '_x: 3'),
    'names with dots': get('/a', 'X.A: 1'),
    'forged identities': get(
      '/a',
      'X-SSL-Client-Verify: SUCCESS',
      'x-dn: CN=admin',
      'X_DN: CN=admin',
      'SSL-Client-Verify: SUCCESS',
    ),
    'forged addresses': get('/a', 'X-Forwarded-For: 6.6.6.6', 'X-Real-IP: 6.6.6.6', 'X-Forwarded-Proto: http'),
    'values that are empty': get('/a', 'X-A:', 'X-B: '),
    'blanks around values': get('/a', 'X-A: \t a b \t '),
    'the same name twice': get('/a', 'X-A: 1', 'x-a: 2', 'Accept: a', 'Accept: b'),
    'cookies twice': get('/a', 'Cookie: a=1', 'Cookie: b=2'),
    'bytes above 127': get('/a', 'X-A: \xe4\xff'),
    'control characters': get('/a', 'X-A: a\x01b'),
    'a NUL': get('/a', 'X-A: a\x00b'),
    'a bare CR': get('/a', 'X-A: a\rb'),
    'a bare LF': get('/a', 'X-A: a\nX-B: b'),
    'a line that goes on': get('/a', 'X-A: a\r\n b'),
    'no colon': get('/a', 'X-A'),
    'a blank before the colon': get('/a', 'X-A : 1'),
    'a blank before the name': get('/a', ' X-A: 1'),
    'a blank before the first name': request('GET /a HTTP/1.1', [' X-A: 1', HOST, CLOSE]),
    'an empty name': get('/a', ': 1'),
    'a name of odd characters': get('/a', 'X!#$%&*+^`|~A: 1'),
    'a name of bad characters': get('/a', 'X(A): 1'),
    'a name above 127': get('/a', 'X-\xe4: 1'),
    'lines that end in LF': get('/a').replaceAll('\r\n', '\n'),
    'a head of 12,000 bytes': get('/a', ...Array.from({ length: 3 }, (_, index) => `X-${index}: ${'a'.repeat(4000)}`)),
    'a header of 9,000 bytes': get('/a', `X-A: ${'a'.repeat(9000)}`),
    'a head of 40,000 bytes': get('/a', ...Array.from({ length: 10 }, (_, index) => `X-${index}: ${'a'.repeat(4000)}`)),
    'sixty of them': get('/a', ...Array.from({ length: 60 }, (_, index) => `X-${index}: a`)),
    'Connection that names another': get('/a', 'X-A: 1', 'Connection: X-A'),
    'Connection that names an identity': get('/a', 'Connection: X-DN'),
    'Keep-Alive, TE and Proxy-Connection': get('/a', 'Keep-Alive: 9', 'TE: trailers', 'Proxy-Connection: close'),
    'Proxy-Authorization': get('/a', 'Proxy-Authorization: Basic eA=='),
    'Range, conditions and languages': get('/a', 'Range: bytes=0-1', 'If-None-Match: "x"', 'Accept-Language: de'),
    'Accept-Encoding': get('/a', 'Accept-Encoding: gzip, br'),
    Authorization: get('/a', 'Authorization: Bearer x'),
    'X-Request-Id': get('/a', 'X-Request-ID: mine'),
    'Max-Forwards': get('/a', 'Max-Forwards: 0'),
    'Upgrade to nothing known': get('/a', 'Upgrade: x'),
  };
}

function bodies(): Record<string, string> {
  const limit = 'x'.repeat(1024);
  return {
    none: sized(''),
    'of three bytes': sized('abc'),
    'of a GET': usual('GET /b HTTP/1.1', ['Content-Length: 3'], 'abc'),
    'of a DELETE': usual('DELETE /b HTTP/1.1', ['Content-Length: 3'], 'abc'),
    'of every byte': sized(Array.from({ length: 256 }, (_, byte) => String.fromCharCode(byte)).join('')),
    'at the limit': sized(limit),
    'over the limit': sized(`${limit}x`),
    'over the limit, announced alone': post('', 'Content-Length: 9999999'),
    'over the limit, chunked': chunked(`400\r\n${limit}\r\n1\r\nx\r\n0\r\n\r\n`),
    'at the limit, chunked': chunked(`400\r\n${limit}\r\n0\r\n\r\n`),
    'over the limit, expected': post('', 'Content-Length: 9999999', 'Expect: 100-continue'),
    'without a length': post(''),
    chunked: chunked('3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n'),
    'chunked and empty': chunked('0\r\n\r\n'),
    'chunked with extensions': chunked('3;a=b;c="d"\r\nabc\r\n0\r\n\r\n'),
    'chunked with trailers': chunked('3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n'),
    'chunked with upper-case and leading zeros': chunked('0A\r\n0123456789\r\n000\r\n\r\n'),
    'expected and sent at once': sized('abc', 'Expect: 100-continue'),
    'expected in capitals': sized('abc', 'Expect: 100-Continue'),
    'with another expectation': sized('abc', 'Expect: x'),
    'of a type': sized('{"a":1}', 'Content-Type: application/json'),
    'in a coding': sized('x', 'Content-Encoding: gzip'),
  };
}

function framings(): Record<string, string> {
  const lengths = ['+3', '-1', '3 ', '0x3', '3,3', '3, 3', '3;', '', '03', '99999999999999999999', '3 3', '1e1'];
  const codings = [
    'Chunked',
    'gzip, chunked',
    'chunked, chunked',
    'identity',
    'gzip',
    'chunked;q=1',
    'xchunked',
    '"chunked"',
    '',
    'chunked, identity',
  ];
  const body = '3\r\nabc\r\n0\r\n\r\n';
  return {
    ...Object.fromEntries(
      lengths.map((value) => [`Content-Length ${JSON.stringify(value)}`, post('abc', `Content-Length: ${value}`)]),
    ),
    ...Object.fromEntries(
      codings.map((value) => [`Transfer-Encoding ${JSON.stringify(value)}`, post(body, `Transfer-Encoding: ${value}`)]),
    ),
    'both, chunked first': post(body, 'Transfer-Encoding: chunked', 'Content-Length: 3'),
    'both, length first': post(body, 'Content-Length: 3', 'Transfer-Encoding: chunked'),
    'two equal lengths': post('abc', 'Content-Length: 3', 'Content-Length: 3'),
    'two lengths': post('abc', 'Content-Length: 3', 'Content-Length: 4'),
    'chunked twice': post(body, 'Transfer-Encoding: chunked', 'Transfer-Encoding: chunked'),
    'a blank before the colon': post(body, 'Transfer-Encoding : chunked'),
    'an underscore': post(body, 'Transfer_Encoding: chunked', 'Content-Length: 0'),
    'a vertical tab': post(body, 'Transfer-Encoding: \x0bchunked'),
    'a chunk that is no number': chunked('x\r\nabc\r\n0\r\n\r\n'),
    'a chunk of negative size': chunked('-3\r\nabc\r\n0\r\n\r\n'),
    'a chunk longer than it says': chunked('2\r\nabc\r\n0\r\n\r\n'),
    'a chunk with blanks': chunked('3 \r\nabc\r\n0\r\n\r\n'),
    'a chunk that ends in LF': chunked('3\nabc\n0\n\n'),
    'a chunk size past 64 bits': chunked('fffffffffffffffff\r\nabc\r\n0\r\n\r\n'),
    'a size written 0x3': chunked('0x3\r\nabc\r\n0\r\n\r\n'),
  };
}

function connections(): Record<string, string> {
  const open = (path: string): string => request(`GET ${path} HTTP/1.1`, [HOST]);
  const posted = request('POST /1 HTTP/1.1', [HOST, 'Content-Length: 3'], 'abc');
  return {
    'two requests': open('/1') + get('/2'),
    'ten requests': Array.from({ length: 9 }, (_, index) => open(`/${index}`)).join('') + get('/9'),
    'a body and a request': posted + get('/2'),
    'a chunked body and a request':
      request('POST /1 HTTP/1.1', [HOST, 'Transfer-Encoding: chunked'], '3\r\nabc\r\n0\r\n\r\n') + get('/2'),
    'an empty line between': `${posted}\r\n${get('/2')}`,
    'a request behind the last': get('/1') + get('/2'),
    'a bad request behind a good one': open('/1') + get('/2', 'Content-Length: x'),
    'close in capitals': request('GET /1 HTTP/1.1', [HOST, 'Connection: CLOSE']),
    'close and keep-alive': request('GET /1 HTTP/1.1', [HOST, 'Connection: keep-alive, close']),
    'a body over the limit and a request':
      request('POST /1 HTTP/1.1', [HOST, 'Content-Length: 1025'], 'x'.repeat(1025)) + get('/2'),
  };
}

function answers(): Record<string, string> {
  const one = [
    '/chunked',
    '/204',
    '/304',
    '/404',
    '/500',
    '/301',
    '/cookies',
    '/close',
    '/odd-status',
    '/empty',
    '/types',
  ];
  return Object.fromEntries(one.map((path) => [path, get(path)]));
}

function plain(): WireRequest[] {
  return named('plain', {
    GET: get('/a?b'),
    'GET without Host': request('GET /a HTTP/1.1', [CLOSE]),
    'GET of another host': request('GET /a HTTP/1.1', ['Host: other.example', CLOSE]),
    POST: sized('abc'),
    'HTTP/1.0': request('GET /a HTTP/1.0', [HOST]),
  }).map((each) => ({ ...each, plain: true }));
}
