import { describe, expect, it } from 'vitest';
import { createAccessLog, formatCombined, formatJson } from '../src/observe/access-log.js';
import { createLog } from '../src/observe/log.js';
import { maskQuery } from '../src/observe/mask.js';
import { jsonNumber } from '../src/observe/text.js';
import { clfTime, isoTime } from '../src/observe/timestamps.js';
import { aConnection, aRecord, collectingLog } from './support/observed.js';

describe('an access record in JSON', () => {
  it('says who asked what, and what became of it', () => {
    const record = aRecord({ durationMs: 12.34567, upstreamMs: 3 });
    expect(JSON.parse(formatJson(record))).toEqual({
      level: 'info',
      time: '2026-01-31T23:59:59.135Z',
      requestId: 'r-1',
      method: 'POST',
      path: '/im?SdkAppid=1&Sign=***',
      httpVersion: '1.1',
      host: 'im.example.com',
      route: null,
      status: 200,
      code: null,
      detail: null,
      outcome: 'ok',
      bytesIn: 10,
      bytesOut: 20,
      durationMs: 12.346,
      upstreamMs: 3,
      upgraded: false,
      userAgent: 'IM',
      peer: '192.0.2.7:40000',
      subject: 'CN=im.qq.com,O=Tencent',
      serial: '0A',
      sha256: 'ab'.repeat(32),
      tlsVersion: 'TLSv1.3',
      sessionReused: false,
      msg: 'request',
    });
  });

  it('has the same fields when the caller presented no certificate and left early', () => {
    const connection = aConnection({ certificate: null });
    const early = formatJson(
      aRecord({ connection, status: 0, outcome: 'caller_aborted', host: null, userAgent: null }),
    );
    expect(Object.keys(JSON.parse(early))).toEqual(Object.keys(JSON.parse(formatJson(aRecord()))));
    expect(JSON.parse(early)).toMatchObject({ subject: null, serial: null, sha256: null, host: null, status: 0 });
  });

  it('is a warning when the status is ours', () => {
    const record = aRecord({ status: 502, code: 'upstream_connect', detail: 'ECONNREFUSED', outcome: 'refused' });
    expect(JSON.parse(formatJson(record))).toMatchObject({
      level: 'warn',
      code: 'upstream_connect',
      detail: 'ECONNREFUSED',
    });
  });

  it('writes numbers as JavaScript does, to the thousandth', () => {
    const fractions = Array.from({ length: 1000 }, (_, thousandths) => thousandths / 1000);
    const numbers = [0, 7, 59, 1234, 999_999_999].flatMap((whole) => fractions.map((fraction) => whole + fraction));
    const others = [
      -0.0001,
      -0.5,
      -12.3456,
      0.0004,
      0.0005,
      0.99951,
      1e-9,
      1e9 + 0.25,
      1e15 + 0.5,
      2 ** 52 + 0.5,
      1e300,
    ];
    for (const number of [...numbers, ...others]) {
      const exact = Number.isInteger(number) ? number : Math.round(number * 1000) / 1000;
      expect(jsonNumber(number)).toBe(String(exact));
    }
    expect([null, NaN, Infinity, -Infinity].map(jsonNumber)).toEqual(['null', 'null', 'null', 'null']);
  });

  it('puts brackets around an IPv6 address', () => {
    const connection = aConnection({}, { remoteAddress: '2001:db8::1' });
    expect(JSON.parse(formatJson(aRecord({ connection }))).peer).toBe('[2001:db8::1]:40000');
  });

  it('does not let a name of many kilobytes into each line', () => {
    const connection = aConnection({
      certificate: { ...aConnection().identity.certificate!, subject: 'x'.repeat(50_000) },
    });
    expect(formatJson(aRecord({ connection })).length).toBeLessThan(1500);
  });
});

describe('an access record in the combined format', () => {
  it("is nginx's line, byte for byte", () => {
    const record = aRecord({ referer: 'https://a.example/?token=1', userAgent: 'curl/8.0' });
    const time = clfTime(record.startedAt + record.durationMs);
    expect(time).toMatch(/^\d\d\/[A-Z][a-z]{2}\/2026:\d\d:59:59 [+-]\d{4}$/);
    expect(formatCombined(record)).toBe(
      `192.0.2.7 - - [${time}] "POST /im?SdkAppid=1&Sign=*** HTTP/1.1" 200 20 "https://a.example/?token=***" "curl/8.0"`,
    );
  });

  it('escapes as nginx does', () => {
    const userAgent = 'a"b\\c\n\t\x7f\xe5~';
    expect(formatCombined(aRecord({ userAgent }))).toMatch(/ "a\\x22b\\x5Cc\\x0A\\x09\\x7F\\xE5~"$/);
  });

  it('writes - for an absent header, and 499 for a caller that left before its answer', () => {
    const record = aRecord({ status: 0, bytesOut: 0, userAgent: null, referer: null, outcome: 'caller_aborted' });
    expect(formatCombined(record)).toMatch(/ 499 0 "-" "-"$/);
  });
});

describe('the access log', () => {
  it.each([
    ['info', 2],
    ['warn', 1],
    ['error', 0],
  ] as const)('follows the level: at %s it writes %i of an answer and a refusal', (level, written) => {
    const { log, lines } = collectingLog(level);
    const access = createAccessLog('json', log);
    access.write(aRecord());
    access.write(aRecord({ code: 'upstream_timeout', status: 504 }));
    expect(lines()).toHaveLength(written);
  });

  it('keeps combined lines as they are when the log is pretty', () => {
    const texts: string[] = [];
    const log = createLog({ level: 'info', pretty: true, destination: { write: (text) => texts.push(text) } });
    createAccessLog('combined', log).write(aRecord());
    expect(texts).toEqual([`${formatCombined(aRecord())}\n`]);
  });
});

describe('timestamps', () => {
  it('keeps milliseconds apart within one second', () => {
    expect([0, 1, 999, 1000].map(isoTime)).toEqual([
      '1970-01-01T00:00:00.000Z',
      '1970-01-01T00:00:00.001Z',
      '1970-01-01T00:00:00.999Z',
      '1970-01-01T00:00:01.000Z',
    ]);
  });

  it.each([NaN, Infinity, -1, 1e300])('does not throw at %d', (time) => {
    expect(isoTime(time)).toBe('1970-01-01T00:00:00.000Z');
    expect(clfTime(time)).toContain('/19');
  });
});

describe('secrets in a query', () => {
  it.each([
    ['/p?Sign=abc', '/p?Sign=***'],
    ['/p?SIGN=abc&x=1', '/p?SIGN=***&x=1'],
    [
      '/p?a=1&token=b&password=c&secret=d&signature=e&key=f',
      '/p?a=1&token=***&password=***&secret=***&signature=***&key=***',
    ],
    ['/p?%53ign=abc', '/p?%53ign=***'],
    ['/p?%zz%74oken=abc', '/p?%zz%74oken=abc'],
    ['/p?%74%6F%6b%65%6E=abc', '/p?%74%6F%6b%65%6E=***'],
    ['/p?+token=abc', '/p?+token=***'],
    ['/p?key[]=abc&key%5B0%5D=d', '/p?key[]=***&key%5B0%5D=***'],
    ['/p?a=1;token=abc', '/p?a=1;token=***'],
    ['/p?token=ab;cd=ef', '/p?token=***'],
    ['/p?token=a=b==', '/p?token=***'],
    ['/p?token=', '/p?token=***'],
    ['/p?x?token=1', '/p?x?token=1'],
    ['http://h/p?key=1', 'http://h/p?key=***'],
  ])('%s becomes %s', (target, masked) => {
    expect(maskQuery(target)).toBe(masked);
  });

  it.each(['/token=1', '/p?token', '/p?', '/p?&&=&', '/p?monkey=1&keys=2&a%20b=%zz+c', '/p?x=token=1', '/sign?a=b'])(
    'leaves %s byte for byte',
    (target) => {
      expect(maskQuery(target)).toBe(target);
    },
  );
});
