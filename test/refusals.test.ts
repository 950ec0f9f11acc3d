import { afterEach, describe, expect, it, vi } from 'vitest';
import { createAccessLog } from '../src/observe/access-log.js';
import { createObserver } from '../src/observe/create-observer.js';
import { createMetrics } from '../src/observe/metrics.js';
import { createPacing } from '../src/observe/pacing.js';
import { createRefusals } from '../src/observe/refusals.js';
import { aConnection, aRecord, aRefusal, collectingLog } from './support/observed.js';

afterEach(() => vi.useRealTimers());

const START = Date.parse('2026-01-01T00:00:00Z');

function setUp(options: { access?: 'json' | 'combined'; level?: 'debug' | 'info' } = {}) {
  let now = START;
  const { log, lines, text } = collectingLog(options.level ?? 'info');
  const refusals = createRefusals();
  const metrics = createMetrics({
    version: '1.0.0',
    pool: () => ({ open: 0, busy: 0, waiting: 0 }),
    credentials: () => null,
    draining: () => false,
    droppedLines: () => 0,
    processMetrics: false,
  });
  const access = options.access ? createAccessLog(options.access, log) : null;
  const observer = createObserver({ log, metrics, refusals, access, now: () => now });
  return { observer, refusals, metrics, lines, text, pass: (ms: number) => (now += ms) };
}

describe('a refused connection', () => {
  it('is logged once, with all that is known of the caller', () => {
    const { observer, lines } = setUp();
    observer.connectionRefused(aRefusal());
    expect(lines()).toEqual([
      {
        level: 'warn',
        time: expect.any(String),
        msg: 'connection refused',
        reason: 'untrusted_issuer',
        detail: 'unable to get local issuer certificate',
        peer: '192.0.2.9:50000',
        tlsVersion: 'TLSv1.2',
        serverName: 'im.example.com',
        subject: 'CN=im.qq.com,O=Tencent',
        issuer: 'CN=IM CA',
        serial: '0A',
        sha256: 'ab'.repeat(32),
        notAfter: '2027-01-01T00:00:00.000Z',
      },
    ]);
  });

  it('is listed newest first', () => {
    const { observer, refusals, pass } = setUp();
    observer.connectionRefused(aRefusal({ reason: 'no_certificate', certificate: null }));
    pass(1000);
    observer.connectionRefused(aRefusal({ reason: 'expired' }));
    expect(refusals.list()).toMatchObject([
      { kind: 'connection', reason: 'expired', time: '2026-01-01T00:00:01.000Z' },
      { kind: 'connection', reason: 'no_certificate', time: '2026-01-01T00:00:00.000Z', subject: null },
    ]);
  });

  it('cannot fill the memory with its names', () => {
    const { observer, refusals } = setUp();
    const long = 'x'.repeat(1_000_000);
    const certificate = { subject: long, issuer: long, serial: long, sha256: 'ab', notAfter: 0 };
    observer.connectionRefused(aRefusal({ certificate, serverName: long, detail: long }));
    expect(JSON.stringify(refusals.list()).length).toBeLessThan(5000);
  });

  it('is counted but neither listed nor logged at info when the peer only went away', async () => {
    const { observer, refusals, metrics, lines } = setUp();
    observer.connectionRefused(aRefusal({ reason: 'handshake_aborted' }));
    expect(refusals.list()).toEqual([]);
    expect(lines()).toEqual([]);
    expect(await metrics.render()).toContain('handshakes_total{result="aborted",reason="handshake_aborted"} 1');
  });
});

describe('the list of refusals', () => {
  it('keeps the last 200', () => {
    const { observer, refusals } = setUp();
    for (let port = 1; port <= 450; port += 1) observer.connectionRefused(aRefusal({ remotePort: port }));
    const ports = refusals.list().map((refusal) => Number(refusal.peer.split(':')[1]));
    expect(ports).toEqual(Array.from({ length: 200 }, (_, index) => 450 - index));
  });

  it('does not lose a refused certificate when the application is down', () => {
    const { observer, refusals } = setUp();
    observer.connectionRefused(aRefusal());
    for (let i = 0; i < 300; i += 1) observer.requestFinished(aRecord({ status: 502, code: 'upstream_connect' }));
    expect(refusals.list().at(-1)).toMatchObject({ kind: 'connection', reason: 'untrusted_issuer' });
    expect(refusals.list()).toHaveLength(201);
  });
});

describe('a refused request', () => {
  const refused = aRecord({ status: 403, code: 'not_allowed', detail: 'no rule', outcome: 'refused' });

  it('is listed with its secrets masked', () => {
    const { observer, refusals } = setUp();
    observer.requestFinished(refused);
    expect(refusals.list()).toMatchObject([
      {
        kind: 'request',
        code: 'not_allowed',
        status: 403,
        path: '/im?SdkAppid=1&Sign=***',
        subject: 'CN=im.qq.com,O=Tencent',
      },
    ]);
  });

  it.each([
    ['json', 1],
    [undefined, 1],
  ] as const)('is logged once whether or not there are access records (%s)', (access, count) => {
    const { observer, lines } = setUp(access ? { access } : {});
    observer.requestFinished(refused);
    expect(lines()).toHaveLength(count);
    expect(lines()[0]).toMatchObject({ level: 'warn', code: 'not_allowed', detail: 'no rule' });
  });

  it('has a line with its code beside a combined line, which cannot say it', () => {
    const { observer, text } = setUp({ access: 'combined' });
    observer.requestFinished(refused);
    expect(text()).toMatch(/" 403 20 ".*\n.*"code":"not_allowed".*\n$/);
  });

  it('is none when the application answered', () => {
    const { observer, refusals, lines } = setUp();
    observer.requestFinished(aRecord({ status: 403 }));
    expect(refusals.list()).toEqual([]);
    expect(lines()).toEqual([]);
  });
});

describe('refusals of one address in a flood', () => {
  it('do not flood the log, and the next line says how many were left out', async () => {
    const { observer, metrics, lines, pass } = setUp();
    for (let i = 0; i < 1000; i += 1) observer.connectionRefused(aRefusal());
    expect(lines()).toHaveLength(200);
    observer.connectionRefused(aRefusal({ remoteAddress: '192.0.2.10' }));
    expect(lines()).toHaveLength(201);
    pass(1000);
    observer.connectionRefused(aRefusal());
    expect(lines().at(-1)).toMatchObject({ msg: 'connection refused', withheld: 800 });
    expect(await metrics.render()).toContain('reason="untrusted_issuer"} 1002');
  });

  it('are summed up a minute later, even when no further one comes', () => {
    vi.useFakeTimers();
    const { observer, lines } = setUp();
    for (let i = 0; i < 250; i += 1) observer.connectionRefused(aRefusal());
    vi.advanceTimersByTime(59_000);
    expect(lines()).toHaveLength(200);
    vi.advanceTimersByTime(1_000);
    const summary = { msg: 'connection refusals not logged one by one', address: '192.0.2.9', withheld: 50 };
    expect(lines().slice(200)).toMatchObject([summary]);
    vi.advanceTimersByTime(600_000);
    expect(lines()).toHaveLength(201);
    observer.connectionRefused(aRefusal());
    vi.advanceTimersByTime(60_000);
    expect(lines().slice(201)).toMatchObject([{ ...summary, withheld: 1 }]);
  });

  it('cannot be spread over the addresses of one IPv6 network', () => {
    const { observer, lines } = setUp();
    for (let i = 1; i <= 300; i += 1) observer.connectionRefused(aRefusal({ remoteAddress: `2001:db8::${i}:1` }));
    expect(lines()).toHaveLength(200);
    observer.connectionRefused(aRefusal({ remoteAddress: '2001:db8:0:1::1' }));
    expect(lines()).toHaveLength(201);
  });

  it('are remembered for a bounded number of addresses, and the forgotten reported', () => {
    const forgotten: unknown[] = [];
    const pacing = createPacing({
      burst: 1,
      perSecond: 0,
      addresses: 2,
      now: () => 0,
      forgotten: (withheld) => forgotten.push(withheld),
    });
    expect([pacing.take('a'), pacing.take('a'), pacing.take('a')]).toEqual([0, null, null]);
    expect([pacing.take('b'), pacing.take('c')]).toEqual([0, 0]);
    expect(forgotten).toEqual([{ address: 'a', withheld: 2 }]);
    expect(pacing.take('a')).toBe(0);
  });
});

it('tells of connections at debug only', () => {
  const quiet = setUp();
  const loud = setUp({ level: 'debug' });
  for (const { observer } of [quiet, loud]) {
    observer.connectionAdmitted(aConnection());
    observer.connectionClosed(aConnection());
  }
  expect(quiet.lines()).toEqual([]);
  expect(loud.lines().map((line) => line['msg'])).toEqual(['connection admitted', 'connection closed']);
});
