import { cpus, release } from 'node:os';

const fixed = (digits) => (value) => (value === undefined ? '–' : value.toFixed(digits));
const whole = fixed(0);
const one = fixed(1);
const two = fixed(2);
const percent = (value) => `${Math.round(value * 100)} %`;

/** Columns by kind: head, and what stands in it. `base(name)` gives another row's figures. */
const COLUMNS = {
  requests: (unit) => [
    [`CPU µs/${unit}`, ({ figures }) => one(figures.cpu)],
    ['range', ({ spread }) => spread.cpu.map(one).join('–')],
    ['× nginx', (row, base) => ratio(row, base('nginx'), 'cpu')],
    ['× http-proxy', (row, base) => ratio(row, base('http-proxy'), 'cpu')],
    [`${unit}s/s`, ({ figures }) => whole(figures.rate)],
    ['p50 ms', ({ figures }) => two(figures.p50)],
    ['p99 ms', ({ figures }) => two(figures.p99)],
    ['MiB', ({ figures }) => whole(figures.rss)],
    ['core of the proxy', ({ figures }) => percent(figures.proxyBusy)],
    ['callers + application', ({ figures }) => percent(figures.loadBusy + figures.applicationBusy)],
  ],
  idle: () => [
    ['KiB/connection', ({ figures }) => one(figures.perConnection)],
    ['connections', ({ figures }) => whole(figures.connections)],
    ['MiB without', ({ figures }) => whole(figures.empty)],
    ['MiB with', ({ figures }) => whole(figures.held)],
    ['CPU ms/s', ({ figures }) => two(figures.cpu)],
  ],
  start: () => [
    ['CPU ms', ({ figures }) => whole(figures.cpu)],
    ['range', ({ spread }) => spread.cpu.map(whole).join('–')],
    ['ms', ({ figures }) => whole(figures.wall)],
    ['idle MiB', ({ figures }) => whole(figures.rss)],
  ],
  memory: () => [
    ['MiB before', ({ figures }) => whole(figures.before)],
    ['MiB under load', ({ figures }) => whole(figures.loaded)],
    ['peak MiB', ({ figures }) => whole(figures.peak)],
    ['seconds', ({ figures }) => whole(figures.seconds)],
    ['requests', ({ figures }) => whole(figures.requests)],
  ],
};
COLUMNS.handshakes = COLUMNS.requests;
COLUMNS.workers = (unit) => [
  ...COLUMNS.requests(unit ?? 'request').filter(([head]) => !head.startsWith('×')),
  ['largest share', ({ figures }) => percent(figures.largestShare)],
  ['capacity/s', ({ figures }) => whole(figures.capacity)],
];

function ratio(row, base, figure) {
  return base === undefined ? '–' : two(row.figures[figure] / base.figures[figure]);
}

export function markdownTable(head, lines) {
  return [head, head.map((_, column) => (column === 0 ? '---' : '--:')), ...lines]
    .map((cells) => `| ${cells.join(' | ')} |`)
    .join('\n');
}

/** One scenario as a Markdown table, cheapest first. */
export function scenarioTable({ kind, unit, rows, figure }) {
  const columns = COLUMNS[kind](unit ?? 'request');
  const base = (name) => rows.find((row) => row.name === name);
  const main = { idle: 'perConnection', memory: 'loaded' }[kind] ?? figure;
  const sorted = kind === 'workers' ? rows : [...rows].sort((a, b) => a.figures[main] - b.figures[main]);
  const lines = sorted.map((row) => [row.name, ...columns.map(([, text]) => text(row, base))]);
  return markdownTable(['proxy', ...columns.map(([head]) => head)], lines);
}

const FULL = 0.93;
/** Cores that the proxy may use. */
const room = ({ quota = 1 }) => quota;
const LATE_MS = 5;

/**
 * What makes the figures of a scenario doubtful, in sentences: callers and application that had no more to give (then a
 * rate is theirs and no proxy's), ticks that came late, or something else that ran on the machine.
 */
export function doubts({ rows, kind, figure }, otherCores) {
  if (!['requests', 'handshakes', 'workers'].includes(kind)) return [];
  const names = (test) => rows.filter(({ figures }) => test(figures)).map(({ name }) => name);
  const othersFull = ({ loadBusy, applicationBusy }) => loadBusy + applicationBusy > FULL * otherCores;
  const atRate = figure === 'p99';
  const findings = [
    [
      'Callers and application were saturated; more a second would go through',
      names((f) => f.proxyBusy < FULL * room(f) && othersFull(f)),
    ],
    ['The callers themselves were late; latencies are theirs in part', names((f) => f.late > LATE_MS)],
    [
      'Something else ran on this machine; do not trust',
      atRate
        ? []
        : names(
            (f) => f.late === 0 && f.proxyBusy < 0.8 * room(f) && f.loadBusy + f.applicationBusy < 0.8 * otherCores,
          ),
    ],
  ];
  return findings.filter(([, found]) => found.length > 0).map(([text, found]) => `${text}: ${found.join(', ')}.`);
}

/** What the numbers were measured on: they compare within one run only. */
export function machine() {
  return {
    node: process.version,
    openssl: process.versions.openssl,
    cores: cpus().length,
    cpu: cpus()[0]?.model.trim(),
    kernel: release().split('-')[0],
  };
}

/** The whole run as a document. */
export function markdown(result) {
  const { node, openssl, cores, cpu, kernel } = result.machine;
  const parts = [
    `# Bench of ${result.at.slice(0, 10)}, Node ${node}`,
    `${cores} × ${cpu}, Linux ${kernel}; sidecar on Node ${node} with OpenSSL ${openssl}; ${Object.values(result.versions).join(', ')}.`,
    `${result.settings.rounds} rounds of about ${result.settings.seconds} s each, ${result.pinned ? 'the proxy alone on one core' : 'not pinned to cores'}. Medians; the range is that of the rounds.`,
    ...Object.entries(result.scenarios).flatMap(([name, scenario]) => [
      `## ${name}`,
      `${scenario.title}.`,
      scenarioTable(scenario),
      ...doubts(scenario, result.others),
    ]),
    ...Object.entries(result.skipped).map(([name, why]) => `${name}: not measured, ${why}.`),
    '## targets',
    markdownTable(
      ['target', 'limit', 'measured', ''],
      result.targets.map(({ target, limit, measured, verdict }) => [target, limit, measured, verdict]),
    ),
  ];
  return `${parts.join('\n\n')}\n`;
}
