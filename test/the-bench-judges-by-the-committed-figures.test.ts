import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { compare, guard, ratiosOf } from '../bench/guard.mjs';
import { doubts } from '../bench/report.mjs';
import { judge } from '../bench/targets.mjs';

const directory = mkdtempSync(join(tmpdir(), 'mtls-sidecar-guard-'));
afterAll(() => rmSync(directory, { recursive: true, force: true }));

type Costs = Readonly<Record<string, number>>;

/** One scenario in which each proxy takes so many microseconds. */
const scenario = (costs: Costs, kind = 'requests') => ({
  kind,
  rows: Object.entries(costs).map(([name, cpu]) => ({ name, figures: { cpu } })),
});

const resultOf = (costs: Costs) => ({ at: '2026-11-24', scenarios: { callbacks: scenario(costs) } });

function judgedBy(committed: object, costs: Costs): { code: number; lines: string } {
  const lines: string[] = [];
  const out = { log: (line: string) => lines.push(line), error: (line: string) => lines.push(line) };
  writeFileSync(join(directory, 'ratios.json'), JSON.stringify(committed));
  return { code: guard(resultOf(costs), directory, out), lines: lines.join('\n') };
}

const ofThisNode = (ratios: object) => ({ [process.versions.node.split('.')[0] ?? '']: { ratios } });

describe('the guard', () => {
  it('measures the sidecar in units of nginx and http-proxy', () => {
    expect(ratiosOf(resultOf({ sidecar: 60, nginx: 30, 'http-proxy': 120, caddy: 90 }))).toEqual({
      callbacks: { nginx: 2, 'http-proxy': 0.5 },
    });
  });

  it('leaves out what has no cost by request', () => {
    expect(ratiosOf({ scenarios: { idle: scenario({ sidecar: 1, nginx: 1 }, 'idle') } })).toEqual({});
  });

  it('lets 15 % pass and no more', () => {
    const committed = ofThisNode({ callbacks: { nginx: 2, 'http-proxy': 0.5 } });
    expect(judgedBy(committed, { sidecar: 68.9, nginx: 30 }).code).toBe(0);
    const worse = judgedBy(committed, { sidecar: 69.1, nginx: 30 });
    expect(worse.code).toBe(1);
    expect(worse.lines).toBe('WORSE callbacks: 2.30 × nginx, committed 2.00');
  });

  it('compares with http-proxy where there is no nginx', () => {
    const committed = { callbacks: { nginx: 2, 'http-proxy': 0.5 } };
    expect(compare(committed, { callbacks: { 'http-proxy': 0.6 } })).toEqual([
      { scenario: 'callbacks', base: 'http-proxy', before: 0.5, now: 0.6, worse: true },
    ]);
  });

  it('does not call it good when there is nothing to compare with', () => {
    const other = judgedBy({ 1: { ratios: { callbacks: { nginx: 9 } } } }, { sidecar: 1, nginx: 1 });
    expect(other.code).toBe(1);
    expect(other.lines).toContain('nothing to compare with');
  });
});

describe('the table of targets', () => {
  it('says met, missed, and nothing about what was not measured', () => {
    const verdicts = judge({ callbacks: scenario({ sidecar: 45, nginx: 30, 'http-proxy': 150 }) });
    const of = (limit: string) => verdicts.find((row) => row.target === 'callbacks: CPU' && row.limit.includes(limit));
    expect(of('nginx')).toMatchObject({ limit: '≤ 1.45 × nginx', measured: '1.50 × nginx', verdict: '**missed**' });
    expect(of('http-proxy')).toMatchObject({ measured: '0.30 × http-proxy', verdict: 'met' });
    expect(of('caddy')).toMatchObject({ measured: 'not measured', verdict: '' });
  });

  it('compares a resumed handshake with a whole one of the same run', () => {
    const verdicts = judge({
      'tls-rsa': scenario({ sidecar: 1000, nginx: 700 }),
      'tls-rsa-resumed': scenario({ sidecar: 450, nginx: 300 }),
      'tls-p256': scenario({ sidecar: 800, nginx: 600 }),
    });
    const of = (key: string) => verdicts.find((row) => row.target === `resumed handshake alone, ${key}: CPU`);
    expect(of('RSA-2048')).toMatchObject({
      limit: '≤ 0.50 × a whole one',
      measured: '0.45 × a whole one',
      verdict: 'met',
    });
    expect(of('P-256')).toMatchObject({ measured: 'not measured', verdict: '' });
  });

  it('takes the capacity of two workers for a lower limit', () => {
    const rows = [
      { name: '1 worker', figures: { capacity: 10_000 } },
      { name: '2 workers', figures: { capacity: 18_000 } },
    ];
    expect(judge({ workers: { kind: 'workers', rows } }).at(-1)).toMatchObject({
      measured: '1.80 × one worker',
      verdict: '**missed**',
    });
  });
});

describe('doubts', () => {
  const row = (figures: Partial<Record<'proxyBusy' | 'loadBusy' | 'applicationBusy' | 'late', number>>) => ({
    name: 'nginx',
    figures: { proxyBusy: 1, loadBusy: 0.5, applicationBusy: 0.3, late: 0, ...figures },
  });
  const about = (figures: Parameters<typeof row>[0]) =>
    doubts({ kind: 'requests', figure: 'cpu', rows: [row(figures)] }, 1).join(' ');

  it('has none about a saturated proxy', () => {
    expect(about({})).toBe('');
  });

  it.each([
    ['callers that had no more to give', { proxyBusy: 0.7, loadBusy: 0.7 }, 'saturated'],
    ['callers that were late', { late: 20 }, 'late'],
    ['a machine that did something else', { proxyBusy: 0.4, loadBusy: 0.2 }, 'Something else'],
  ])('tells %s', (_, figures, word) => {
    expect(about(figures)).toContain(word);
  });
});
