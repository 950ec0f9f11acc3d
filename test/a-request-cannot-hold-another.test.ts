import { describe, expect, it } from 'vitest';
import { fieldLines, requestHead } from '../src/forward/request-head.js';
import type { ForwardRequest } from '../src/forward/exchange.js';

function headOf(change: Partial<ForwardRequest>): string {
  return requestHead({
    ...{ method: 'GET', target: '/', headers: ['Host', 'a'], identityHeaders: [], body: null },
    ...{ contentLength: null, expectsContinue: false, trailers: null },
    ...change,
  });
}

describe('a head is written', () => {
  it.each<[string, Partial<ForwardRequest>, string]>([
    ['as it is', {}, 'GET / HTTP/1.1\r\nHost: a\r\n\r\n'],
    ['with its body announced', { method: 'POST', body: Buffer.from('ab'), contentLength: 2 }, 'Content-Length: 2'],
    ['with chunks announced', { method: 'POST', body: Buffer.from('ab') }, 'Transfer-Encoding: chunked'],
    ['with the absence of a body told, where one is expected', { method: 'POST' }, 'Content-Length: 0'],
    ['with an expectation', { expectsContinue: true }, 'Expect: 100-continue'],
    ['with bytes beyond ASCII', { headers: ['X', 'caf\xe9'] }, 'X: caf\xe9'],
  ])('%s', (_how, change, text) => {
    expect(headOf(change)).toContain(text);
  });
});

/** U+010D and U+010A end in the bytes of CR and LF, and only these would be written. */
const LINE_ENDS = ['\r', '\n', '\r\n', '\0', '\u010d\u010a', '\x0b', '\x7f'];

describe('and not at all with a line end or another control character', () => {
  it.each(LINE_ENDS)('%j in a header value', (end) => {
    expect(() => headOf({ headers: ['X', `a${end}Y: b`] })).toThrow(/header that cannot be sent/);
  });

  it.each([...LINE_ENDS, ' ', ':', ''])('%j in a header name', (end) => {
    const headers = [end === '' ? '' : `X${end}`, 'a'];
    expect(() => headOf({ headers })).toThrow(/header that cannot be sent/);
    // What is kept of names makes none of them fit.
    expect(() => headOf({ headers })).toThrow(/header that cannot be sent/);
  });

  it.each([...LINE_ENDS, ' ', ''])('%j in a target', (end) => {
    expect(() => headOf({ target: end === '' ? '' : `/a${end}b` })).toThrow(/target that cannot be sent/);
  });

  it.each([...LINE_ENDS, ' ', ''])('%j in a method', (end) => {
    expect(() => headOf({ method: end === '' ? '' : `GET${end}` })).toThrow(/method that cannot be sent/);
  });

  it.each(LINE_ENDS)('%j in a trailer', (end) => {
    expect(() => fieldLines(['X', `a${end}`])).toThrow(/header that cannot be sent/);
  });
});
