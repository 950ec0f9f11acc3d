import { describe, expect, it } from 'vitest';
import { Activity } from '../src/observe/activity.js';
import type { Connection } from '../src/identify/peer-identity.js';
import { aConnection, aRecord } from './support/observed.js';

const START = Date.parse('2026-01-01T00:00:00Z');
const template = aConnection().identity.certificate;

/** A connection of the caller whose certificate has this number. */
function connectionOf(number: number, at = START, more: Partial<Connection['identity']> = {}): Connection {
  if (template === null) throw new Error('the usual caller has a certificate');
  const certificate = { ...template, subject: `CN=caller ${number}`, sha256: String(number).padStart(64, '0') };
  return aConnection({ certificate, anchorSha256: 'aa', ...more }, { openedAt: at });
}

function setUp() {
  let now = START;
  const activity = new Activity(() => now);
  const request = (connection: Connection, durationMs = 1, more: Parameters<typeof aRecord>[0] = {}) =>
    activity.requestFinished(aRecord({ connection, startedAt: now - durationMs, durationMs, ...more }));
  return { activity, request, pass: (ms: number) => (now += ms) };
}

const namesOf = (activity: Activity): string[] => activity.callers().map(({ subject }) => subject);

describe('callers', () => {
  it('are listed by the last sign of life, with what they did', () => {
    const { activity, request, pass } = setUp();
    const first = connectionOf(1);
    activity.connectionAdmitted(first);
    activity.connectionAdmitted(connectionOf(2));
    activity.connectionAdmitted(connectionOf(2, START + 500));
    pass(5000);
    request(first);
    request(first, 3);
    activity.connectionClosed(first);
    expect(activity.callers()).toMatchObject([
      {
        subject: 'CN=caller 1',
        verified: true,
        notAfter: '2027-01-01T00:00:00.000Z',
        firstSeen: '2026-01-01T00:00:00.000Z',
        lastSeen: '2026-01-01T00:00:05.000Z',
        address: '192.0.2.7',
        openConnections: 0,
        connections: 1,
        requests: 2,
      },
      { subject: 'CN=caller 2', lastSeen: '2026-01-01T00:00:00.500Z', openConnections: 2, requests: 0 },
    ]);
  });

  it('are a hundred at most: the one silent longest is forgotten', () => {
    const { activity, request, pass } = setUp();
    const first = connectionOf(0);
    activity.connectionAdmitted(first);
    for (let number = 1; number < 100; number += 1) activity.connectionAdmitted(connectionOf(number, START + number));
    pass(5000);
    request(first);
    for (let number = 100; number < 150; number += 1) activity.connectionAdmitted(connectionOf(number, START + 6000));
    const names = namesOf(activity);
    expect(names).toHaveLength(100);
    expect(names).toContain('CN=caller 0');
    expect(names).not.toContain('CN=caller 1');
    expect(names).not.toContain('CN=caller 50');
    expect(names).toContain('CN=caller 51');
  });

  it('come back when they call again on a connection that outlived their entry', () => {
    const { activity, request, pass } = setUp();
    const patient = connectionOf(0);
    activity.connectionAdmitted(patient);
    for (let number = 1; number <= 100; number += 1) activity.connectionAdmitted(connectionOf(number, START + number));
    expect(namesOf(activity)).not.toContain('CN=caller 0');
    pass(5000);
    request(patient);
    expect(activity.callers()).toHaveLength(100);
    expect(activity.callers()[0]).toMatchObject({ subject: 'CN=caller 0', openConnections: 1, requests: 1 });
  });

  it('are none where there is no certificate', () => {
    const { activity, request } = setUp();
    const nobody = aConnection({ verify: 'NONE', certificate: null });
    activity.connectionAdmitted(nobody);
    request(nobody);
    activity.connectionClosed(nobody);
    expect(activity.callers()).toEqual([]);
    expect(activity.anchors([])).toMatchObject([{ ca: 'other', connections: 1, requests: 1, openConnections: 0 }]);
  });

  it('are not vouched for by an earlier verification', () => {
    const { activity } = setUp();
    activity.connectionAdmitted(connectionOf(1));
    const failed = { verify: 'FAILED:self-signed certificate', anchorSha256: null } as const;
    activity.connectionAdmitted(connectionOf(1, START + 1, failed));
    expect(activity.callers()).toMatchObject([{ verified: false, anchorSha256: null, connections: 1 }]);
  });

  it('cannot fill the memory with their names', () => {
    const { activity } = setUp();
    for (let number = 0; number < 100; number += 1) {
      const { certificate } = connectionOf(number).identity;
      if (certificate === null) throw new Error('the usual caller has a certificate');
      const long = 'x'.repeat(100_000);
      activity.connectionAdmitted(
        aConnection({ certificate: { ...certificate, subject: long, issuer: long, serial: long } }),
      );
    }
    expect(JSON.stringify(activity.callers()).length).toBeLessThan(300_000);
  });

  it('count a request that ends after its connection', () => {
    const { activity, request } = setUp();
    const connection = connectionOf(1);
    activity.connectionAdmitted(connection);
    activity.connectionClosed(connection);
    request(connection);
    expect(activity.callers()).toMatchObject([{ openConnections: 0, requests: 1 }]);
  });
});

describe('the last ten minutes', () => {
  it('are steps of ten seconds, the newest last and not over', () => {
    const { activity, request, pass } = setUp();
    const connection = connectionOf(1);
    activity.connectionAdmitted(connection);
    request(connection, 4);
    request(connection, 4, { status: 502, code: 'upstream_closed' });
    pass(14_000);
    request(connection, 100);
    activity.connectionRefused();
    expect(activity.recent()).toMatchObject([
      { at: '2026-01-01T00:00:00.000Z', seconds: 10, requests: 2, refusedRequests: 1, serverErrors: 1 },
      { at: '2026-01-01T00:00:10.000Z', seconds: 4, requests: 1, refusedRequests: 0, refusedConnections: 1 },
    ]);
  });

  it('never are more than sixty, and forget what is older', () => {
    const { activity, request, pass } = setUp();
    const connection = connectionOf(1);
    request(connection);
    pass(9 * 60_000 + 55_000);
    expect(activity.recent()).toHaveLength(60);
    expect(activity.recent()[0]).toMatchObject({ requests: 1 });
    pass(10_000);
    expect(activity.recent()).toHaveLength(60);
    expect(activity.recent().some(({ requests }) => requests > 0)).toBe(false);
    request(connection);
    expect(activity.recent().at(-1)).toMatchObject({ requests: 1 });
    pass(24 * 3_600_000);
    expect(activity.recent()).toHaveLength(60);
    expect(activity.recent().some(({ requests }) => requests > 0)).toBe(false);
  });

  it('know medians and 99th percentiles to a fifth, and none without requests', () => {
    const { activity, request, pass } = setUp();
    const connection = connectionOf(1);
    for (let i = 0; i < 98; i += 1) request(connection, 10);
    for (let i = 0; i < 2; i += 1) request(connection, 1000);
    pass(20_000);
    const [step, , current] = activity.recent();
    expect(step?.p50Ms).toBeGreaterThanOrEqual(10);
    expect(step?.p50Ms).toBeLessThan(12);
    expect(step?.p99Ms).toBeGreaterThanOrEqual(1000);
    expect(step?.p99Ms).toBeLessThan(1200);
    expect(current).toMatchObject({ requests: 0, p50Ms: null, p99Ms: null });
  });

  it.each([0, 0.01, 0.0625, 131_072, 1e9])('take a duration of %d ms', (duration) => {
    const { activity, request } = setUp();
    request(connectionOf(1), duration);
    expect(activity.recent()).toMatchObject([{ requests: 1, p50Ms: expect.any(Number) as number }]);
  });

  it('leave tunnels out of latencies', () => {
    const { activity, request } = setUp();
    request(connectionOf(1), 3_600_000, { upgraded: true });
    expect(activity.recent().at(-1)).toMatchObject({ requests: 1, p50Ms: null });
  });

  it('survive a clock that is set back, and lose nothing newer', () => {
    const { activity, request, pass } = setUp();
    const connection = connectionOf(1);
    pass(600_000);
    request(connection);
    pass(-600_000);
    request(connection);
    expect(activity.recent().length).toBeGreaterThan(0);
    pass(600_000);
    expect(activity.recent().at(-1)?.requests).toBeGreaterThanOrEqual(1);
  });
});
