import { cpus } from 'node:os';

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

/** One peer's rounds in one line. Medians: a neighbour on a shared machine disturbs single rounds. */
export function summarise(name, rounds, memory) {
  const of = (field) => rounds.map((round) => round[field]);
  const cpu = of('cpu');
  return {
    name,
    cpu: median(cpu),
    cpuLowest: Math.min(...cpu),
    cpuHighest: Math.max(...cpu),
    user: median(of('user')),
    system: median(of('system')),
    rate: median(of('rate')),
    p50: median(of('p50')),
    p99: median(of('p99')),
    memory,
    rounds,
  };
}

function ratio(row, base) {
  return base === undefined ? '–' : (row.cpu / base.cpu).toFixed(2);
}

/** A Markdown table, cheapest first. */
export function table(summaries) {
  const base = (name) => summaries.find((row) => row.name === name);
  const lines = [...summaries]
    .sort((a, b) => a.cpu - b.cpu)
    .map((row) => [
      row.name,
      row.cpu.toFixed(1),
      `${row.cpuLowest.toFixed(1)}–${row.cpuHighest.toFixed(1)}`,
      ratio(row, base('nginx')),
      ratio(row, base('http-proxy')),
      row.rate.toFixed(0),
      row.p50.toFixed(2),
      row.p99.toFixed(2),
      row.memory,
    ]);
  const head = [
    'proxy',
    'CPU µs/request',
    'range',
    '× nginx',
    '× http-proxy',
    'requests/s',
    'p50 ms',
    'p99 ms',
    'peak MiB',
  ];
  return [head, head.map((_, column) => (column === 0 ? '---' : '--:')), ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

/** What the numbers were measured on: they compare within one run only. */
export function machine() {
  return {
    node: process.version,
    openssl: process.versions.openssl,
    cores: cpus().length,
    cpu: cpus()[0]?.model.trim(),
  };
}
