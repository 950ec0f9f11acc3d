import type { Worker } from 'node:cluster';
import { EventEmitter } from 'node:events';
import { describe, expect, it } from 'vitest';
import { shareOf } from '../src/app.js';
import { mergeAnchors } from '../src/observe/anchors.js';
import { mergeCallers, type SeenCaller } from '../src/observe/callers.js';
import { Recent } from '../src/observe/recent.js';
import { createLog } from '../src/observe/log.js';
import { mergeRefusals } from '../src/observe/refusals.js';
import { ConfigError } from '../src/errors.js';
import { Member } from '../src/workers/member.js';
import { WholeLines } from '../src/workers/whole-lines.js';
import { configured } from './support/settings.js';

/** A worker that says what the test wants. */
function member() {
  const orders: { id: number; order: string }[] = [];
  const signals: string[] = [];
  const stdout = new EventEmitter();
  const child = Object.assign(new EventEmitter(), { pid: 1, stdout, kill: (signal: string) => signals.push(signal) });
  const worker = Object.assign(new EventEmitter(), {
    process: child,
    send: (message: { id: number; order: string }) => orders.push(message),
  });
  const lines: string[] = [];
  const one = new Member(1, worker as unknown as Worker, (bytes) => lines.push(bytes.toString()));
  const say = (message: unknown) => worker.emit('message', message);
  const answer = (value: unknown) => say({ id: orders.at(-1)?.id, problems: null, failure: null, value });
  return { one, say, answer, signals, end: () => child.emit('close', null, 'SIGKILL'), lines, stdout };
}

const NONSENSE: readonly unknown[] = [
  ...[null, 1, 'text', [], {}, { id: 'one' }, { id: 1 }, { id: 1, problems: 'x', failure: null }],
  ...[
    { id: 1, problems: null, failure: 'x' },
    { id: null, problems: [1], failure: null },
  ],
];

const METRIC = { name: 'mtls_sidecar_x', help: 'x', type: 'counter', aggregator: 'sum', values: [] };

const SESSION = { id: 'AA==', session: 'AA==' };

describe('what a worker says', () => {
  it.each(NONSENSE.map((message) => [message]))('ends it when it is no answer: %j', (message) => {
    const { one, say, signals } = member();
    void one.ask('ping').catch(() => undefined);
    say(message);
    expect(signals).toEqual(['SIGKILL']);
  });

  it.each<[Parameters<Member['ask']>[0], unknown]>([
    ['connections', 'many'],
    ['connections', null],
    ['probe', 1],
    ['start', { digest: 'x' }],
    ['listen', { address: { address: '::', family: 'IPv6', port: 'x' }, cas: [] }],
    ['metrics', [{ ...METRIC, values: [{ value: 'x', labels: {} }] }]],
    ['metrics', [{ ...METRIC, values: [{ value: 1, labels: { a: {} } }] }]],
    ['metrics', [{ ...METRIC, values: [{ value: 1, labels: { 'a"} 1\nforged{b': '' } }] }]],
    ['metrics', [{ ...METRIC, values: [{ value: 1, labels: {}, metricName: 'x 1\nforged' }] }]],
    ['metrics', [{ ...METRIC, name: '__proto__' }]],
    ['metrics', [{ ...METRIC, type: 'x 1\nforged' }]],
    ['metrics', [{ ...METRIC, aggregator: 'unknown' }]],
    ['refusals', [{ kind: 'else', time: '' }]],
    ['facts', {}],
    ['sessions', null],
    ['sessions', Array.from({ length: 9 }, () => SESSION)],
    ['sessions', [{ ...SESSION, id: 'A'.repeat(45) }]],
    ['sessions', [{ ...SESSION, session: 'A'.repeat(13_661) }]],
    ['sessions', [{ ...SESSION, session: '' }]],
    ['sessions', [{ ...SESSION, session: 'not base64' }]],
    ['sessions', [{ id: 'AA==' }]],
    ['expiring', [{ what: 'the world', name: 'x', file: null, at: 0 }]],
    ['expiring', [{ what: 'CA', name: 'x', file: null, at: -1e300 }]],
  ])('to %s ends it when it is of another shape: %j', async (order, value) => {
    const { one, answer, signals } = member();
    const asked = one.ask(order);
    answer(value);
    await expect(asked).rejects.toThrow(`worker 1 gave a strange answer to ${order}`);
    expect(signals).toEqual(['SIGKILL']);
  });

  it('is taken when it is of the right shape', async () => {
    const { one, answer } = member();
    const values = [
      { value: 1, labels: { a: 'x', b: 2 } },
      { value: 2, labels: {}, metricName: 'mtls_sidecar_x_sum' },
    ];
    const asked = one.ask('metrics');
    answer([{ ...METRIC, values }]);
    expect(await asked).toEqual([{ ...METRIC, values }]);
  });

  it('is taken once, and not without a question', async () => {
    const { one, say, answer, signals } = member();
    say({ id: 7, problems: null, failure: null, value: 1 });
    const asked = one.ask('connections');
    answer(3);
    answer(4);
    expect(await asked).toBe(3);
    expect(signals).toEqual([]);
  });

  it('comes back as the error that it was, with nothing but what is known of such errors', async () => {
    const { one, say } = member();
    const asked = one.ask('listen');
    const failure = {
      message: 'listen EADDRINUSE',
      code: 'EADDRINUSE',
      syscall: 'listen',
      port: 1,
      __proto__: null,
      x: 1,
    };
    say({ id: 1, problems: null, failure, value: null });
    const error: unknown = await asked.catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: 'EADDRINUSE', syscall: 'listen', port: 1 });
    expect(error).not.toHaveProperty('x');
    const other = one.ask('prepare');
    say({ id: 2, problems: ['tls.key: bad'], failure: null, value: null });
    await expect(other).rejects.toThrow(ConfigError);
  });

  it('never comes when it has ended, or in time', async () => {
    const { one, end } = member();
    await expect(one.ask('ping', null, 1)).rejects.toThrow('worker 1 did not answer in time');
    const asked = one.ask('ping');
    expect(one.unanswered).toBe(1);
    end();
    await expect(asked).rejects.toThrow('worker 1 has ended');
    expect(one.unanswered).toBe(0);
    await expect(one.ask('ping')).rejects.toThrow('worker 1 has ended');
    expect(one.gone).toBe(true);
  });
});

describe('what a worker writes', () => {
  it('is passed on in whole lines, of which none grows for ever', () => {
    const passed: string[] = [];
    const lines = new WholeLines((bytes) => passed.push(bytes.toString()));
    for (const piece of ['{"a"', ':1}', '\n{"b":2}\n{"c', '":3}\n']) lines.take(Buffer.from(piece));
    expect(passed).toEqual(['{"a":1}\n{"b":2}\n', '{"c":3}\n']);
    for (let mebibytes = 0; mebibytes < 33; mebibytes += 1) lines.take(Buffer.alloc(1024 * 1024, 'x'));
    expect(passed.at(-1)).toMatch(/^x+\n$/);
    // A piece takes more than its bytes.
    for (let bytes = 0; bytes < 300_000; bytes += 1) lines.take(Buffer.of(0x79));
    expect(passed.at(-1)).toMatch(/y\n$/);
  });

  it('is read as bytes: a character may come in two pieces', () => {
    const passed: string[] = [];
    const lines = new WholeLines((bytes) => passed.push(bytes.toString()));
    for (const byte of Buffer.from('{"a":"é😀"}\n')) lines.take(Buffer.of(byte));
    expect(passed).toEqual(['{"a":"é😀"}\n']);
  });
});

describe('what a worker writes, for people', () => {
  it('is shown as it is when it makes no sense', () => {
    let shown = '';
    const log = createLog({ level: 'info', pretty: true, destination: { write: (text) => (shown += text) } });
    log.lines(Buffer.from('{"level":"info","time":"2026-11-24T00:00:00Z","msg":"good"}\n{"level\n{}\nplain\n'));
    expect(shown).toMatch(/INFO: good\n\{"level\n[^]*plain\n$/);
  });
});

describe('what several workers know is added up', () => {
  it('connections are shared so that all of them are as many as were set', () => {
    const config = configured({ 'limits.connections': '10', 'upstream.maxConnections': '2' });
    const shares = [1, 2, 3].map((number) => shareOf(config, { number, of: 3 }));
    expect(shares.map(({ limits }) => limits.connections)).toEqual([4, 3, 3]);
    expect(shares.map(({ upstream }) => upstream.maxConnections)).toEqual([1, 1, 1]);
  });

  it('callers by certificate, but not verified ones with others', () => {
    const caller = (lastSeen: string, more: Partial<SeenCaller> = {}): SeenCaller => ({
      ...{ subject: 'CN=a', issuer: 'CN=ca', serial: '1', sha256: 'aa', verified: true, anchorSha256: 'cc' },
      ...{ notBefore: '2026-01-01', notAfter: '2027-01-01', firstSeen: lastSeen, address: lastSeen },
      ...{ openConnections: 1, connections: 2, requests: 3 },
      lastSeen,
      ...more,
    });
    const merged = mergeCallers([
      [caller('2026-11-02'), caller('2026-11-01', { verified: false, anchorSha256: null })],
      [caller('2026-11-03')],
    ]);
    expect(merged).toEqual([
      caller('2026-11-03', { firstSeen: '2026-11-02', openConnections: 2, connections: 4, requests: 6 }),
      caller('2026-11-01', { verified: false, anchorSha256: null }),
    ]);
    expect(mergeCallers([[caller('2026-11-02')], [caller('2026-11-03', { sha256: 'bb' })]], 1)).toHaveLength(1);
  });

  it('anchors by certificate, with the last use', () => {
    const use = { ca: 'ca', serial: '01', openConnections: 1, connections: 2, requests: 3 };
    const one = { ...use, sha256: 'aa', lastUsed: 5 };
    const merged = mergeAnchors([[one, { ...one, sha256: null, lastUsed: 0 }], [{ ...one, lastUsed: 9 }]]);
    expect(merged).toEqual([
      { ...use, sha256: 'aa', openConnections: 2, connections: 4, requests: 6, lastUsed: 9 },
      { ...one, sha256: null, lastUsed: 0 },
    ]);
  });

  it('refusals by time, newest first, as many of a kind as one process keeps', () => {
    const refusal = (time: string, kind: 'connection' | 'request' = 'connection') => ({ kind, time });
    const lists = [
      [refusal('3'), refusal('1')],
      [refusal('4'), refusal('2', 'request')],
    ];
    expect(mergeRefusals(lists).map(({ time }) => time)).toEqual(['4', '3', '2', '1']);
    expect(mergeRefusals(lists, 1).map(({ time }) => time)).toEqual(['4', '2']);
  });

  it('durations before quantiles are made of them', () => {
    const now = Date.now();
    const [fast, slow, both] = [new Recent(now), new Recent(now), new Recent(now)];
    const finish = (recent: Recent, durationMs: number) =>
      recent.requestFinished({ at: now, durationMs, status: 200, refused: false });
    for (let count = 0; count < 99; count += 1) finish(fast, 1);
    for (let count = 0; count < 9; count += 1) finish(slow, 1000);
    for (const one of [fast, slow]) both.add(one.counts(now));
    const [step] = both.intervals(now);
    expect(step).toMatchObject({ requests: 108, p50Ms: 1 });
    expect(step?.p99Ms).toBeGreaterThan(900);
  });
});
