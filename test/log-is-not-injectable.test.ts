import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { formatCombined, formatJson } from '../src/observe/access-log.js';
import { createLog } from '../src/observe/log.js';
import { maskQuery } from '../src/observe/mask.js';
import { createObserver } from '../src/observe/create-observer.js';
import { createRefusals } from '../src/observe/refusals.js';
import { aConnection, aRecord, aRefusal, collectingLog } from './support/observed.js';

const NOT_ONE_PLAIN_LINE = /[\p{Cc}\u2028\u2029]/u;
const AWKWARD = fc.constantFrom(
  '"',
  '\\',
  '\n',
  '\r',
  '\0',
  '\x1b[2J',
  '\x7f',
  '\x85',
  '\x9b',
  '\u2028',
  '\ud800',
  '","level":"fatal',
  'é',
  '😀',
);
const hostile = fc
  .array(fc.oneof(AWKWARD, fc.string({ unit: 'binary' })), { maxLength: 8 })
  .map((parts) => parts.join(''));
const hostileOrNull = fc.option(hostile);
const anyNumber = fc.oneof(fc.double(), fc.integer());

const certificate = aConnection().identity.certificate!;
const connection = fc
  .record({ subject: hostile, serial: hostile, version: hostile, remoteAddress: hostile })
  .map(({ subject, serial, version, remoteAddress }) => {
    const tls = { version, cipher: 'x', serverName: null, sessionReused: true };
    return aConnection({ certificate: { ...certificate, subject, serial }, tls }, { remoteAddress });
  });
const record = fc
  .record({
    connection,
    requestId: hostile,
    method: hostile,
    target: hostile.map((text) => `/?${text}`),
    httpVersion: hostile,
    host: hostileOrNull,
    referer: hostileOrNull,
    userAgent: hostileOrNull,
    detail: hostileOrNull,
    status: anyNumber,
    bytesIn: anyNumber,
    startedAt: anyNumber,
    durationMs: anyNumber,
    upstreamMs: fc.option(anyNumber),
  })
  .map(aRecord);

describe('whatever a caller sends', () => {
  it('makes one JSON access line that says what was sent', () => {
    fc.assert(
      fc.property(record, (sent) => {
        const line = formatJson(sent);
        expect(line).not.toMatch(NOT_ONE_PLAIN_LINE);
        const parsed = JSON.parse(line) as Record<string, unknown>;
        expect(parsed).toMatchObject({
          level: 'info',
          msg: 'request',
          outcome: 'ok',
          requestId: sent.requestId,
        });
        expect(Object.keys(parsed)).toEqual(Object.keys(JSON.parse(formatJson(aRecord()))));
        expect(parsed['userAgent']).toBe(sent.userAgent);
      }),
    );
  });

  it('makes one combined line of printable ASCII with its fields where they belong', () => {
    fc.assert(
      fc.property(record, (sent) => {
        const line = formatCombined({ ...sent, status: 200, bytesOut: 5 });
        expect(line).toMatch(/^[ !#-[\]-~\\]* - - \[[^\]]+\] "[^"]*" 200 5 "[^"]*" "[^"]*"$/);
      }),
    );
  });

  it('makes one refusal line', () => {
    fc.assert(
      fc.property(hostile, hostile, hostile, (subject, serverName, detail) => {
        const { log, text, lines } = collectingLog('info');
        const refusal = aRefusal({ serverName, detail, certificate: { ...certificate, subject } });
        observerOf(log).connectionRefused(refusal);
        expect(text().slice(0, -1)).not.toMatch(NOT_ONE_PLAIN_LINE);
        expect(lines()).toHaveLength(1);
        expect(lines()[0]).toMatchObject({ level: 'warn', msg: 'connection refused', reason: 'untrusted_issuer' });
      }),
    );
  });

  it('makes one line of an error or a warning', () => {
    fc.assert(
      fc.property(hostile, (message) => {
        const { log, text, lines } = collectingLog('info');
        log.error('failed', Object.assign(new Error(message, { cause: message }), { code: message }));
        log.warn(message, { name: message });
        expect(text().split('\n').slice(0, -1).join('')).not.toMatch(NOT_ONE_PLAIN_LINE);
        expect(lines()).toHaveLength(2);
      }),
    );
  });

  it('cannot steer the terminal of an operator who reads the pretty log', () => {
    fc.assert(
      fc.property(hostile, (text) => {
        let written = '';
        const log = createLog({ level: 'info', pretty: true, destination: { write: (more) => (written += more) } });
        log.warn(text, { text });
        log.error('failed', new Error(text));
        // Colours are pino-pretty's own, when a person watches the tests on a terminal.
        expect(written.replace(/\x1b\[\d+m/g, '')).not.toMatch(/[^\P{Cc}\n]/u);
      }),
    );
  });

  it('is masked without touching anything but values', () => {
    fc.assert(
      fc.property(hostile, hostile, hostile, (before, secret, after) => {
        fc.pre(![before, secret, after].some((text) => /[&;]/.test(text)) && !before.includes('='));
        const untouched = `${before}&a=`;
        fc.pre(maskQuery(`/?${untouched}`) === `/?${untouched}`);
        expect(maskQuery(`/?${untouched}&sIgN=${secret}&${after}`)).toBe(
          `/?${untouched}&sIgN=***&${maskQuery(`?${after}`).slice(1)}`,
        );
      }),
    );
  });
});

it('describes an error without what else hangs on it', () => {
  const { log, text, lines } = collectingLog('info');
  log.error(
    'parse error',
    Object.assign(new Error('bad'), { code: 'HPE_INVALID', rawPacket: Buffer.from('Sign=abc') }),
  );
  expect(Object.keys(lines()[0]!['err'] as object)).toEqual(['type', 'message', 'code', 'stack']);
  expect(text()).not.toContain('rawPacket');
});

it('changes its level while running', () => {
  const { log, lines } = collectingLog('warn');
  log.info('unseen');
  log.level = 'info';
  log.info('seen');
  log.level = 'silent';
  log.fatal('unseen');
  expect(lines().map((line) => line['msg'])).toEqual(['seen']);
  expect(log.enabled('fatal')).toBe(false);
});

function observerOf(log: ReturnType<typeof collectingLog>['log']) {
  const nothing = () => {};
  const metrics = {
    connectionAdmitted: nothing,
    connectionClosed: nothing,
    connectionRefused: nothing,
    requestFinished: nothing,
    requestRefused: nothing,
  };
  return createObserver({ log, metrics, refusals: createRefusals(), access: null });
}
