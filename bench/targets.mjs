const cpu = (row) => row.figures.cpu;

/** Ratio of the sidecar's figure to another's, or null where one of them was not measured. */
function ratioTo(scenarios, name, peer, pick = cpu) {
  const rows = scenarios[name]?.rows ?? [];
  const [own, base] = ['sidecar', peer].map((wanted) => rows.find((row) => row.name === wanted));
  return own === undefined || base === undefined ? null : pick(own) / pick(base);
}

function figure(scenarios, name, field, row = 'sidecar') {
  return scenarios[name]?.rows.find((candidate) => candidate.name === row)?.figures[field] ?? null;
}

const times = (peer) => (value) => `${value.toFixed(2)} × ${peer}`;
const unit =
  (text, digits = 0) =>
  (value) =>
    `${value.toFixed(digits)} ${text}`;

function ratioTarget(target, scenario, peer, limit, pick) {
  return { target, limit, show: times(peer), measure: (scenarios) => ratioTo(scenarios, scenario, peer, pick) };
}

function figureTarget(target, scenario, field, limit, show, row) {
  return { target, limit, show, measure: (scenarios) => figure(scenarios, scenario, field, row) };
}

/** What resuming a session leaves of a handshake, without any request. */
function resumedTarget(target, keys) {
  const measure = (scenarios) => {
    const [whole, resumed] = [`tls-${keys}`, `tls-${keys}-resumed`].map((name) => figure(scenarios, name, 'cpu'));
    return whole === null || resumed === null ? null : resumed / whole;
  };
  return { target, limit: 0.5, show: times('a whole one'), measure };
}

/** What this project wants to be. Every limit is an upper one but that of the workers. */
const TARGETS = [
  ratioTarget('callbacks: CPU', 'callbacks', 'nginx', 1.45),
  ratioTarget('callbacks: CPU', 'callbacks', 'http-proxy', 0.38),
  ratioTarget('callbacks: CPU', 'callbacks', 'caddy', 0.4),
  ratioTarget('2,000 requests a second: 99th percentile', 'rate', 'nginx', 2, (row) => row.figures.p99),
  ratioTarget('whole handshake, RSA-2048: CPU', 'handshake-rsa', 'nginx', 1.2),
  ratioTarget('whole handshake, P-256: CPU', 'handshake-p256', 'nginx', 1.2),
  ratioTarget('resumed handshake: CPU', 'handshake-resumed', 'nginx', 1.15),
  resumedTarget('resumed handshake alone, RSA-2048: CPU', 'rsa'),
  resumedTarget('resumed handshake alone, P-256: CPU', 'p256'),
  ratioTarget('16 MiB to callers: CPU', 'bodies-16m-down', 'nginx', 1),
  ratioTarget('16 MiB from callers: CPU', 'bodies-16m-up', 'nginx', 1),
  figureTarget('memory of a quiet connection', 'idle', 'perConnection', 64, unit('KiB', 1)),
  figureTarget('memory at rest, the image', 'start', 'rss', 75, unit('MiB'), 'sidecar-image'),
  figureTarget('memory at rest, the npm package', 'start', 'rss', 75, unit('MiB'), 'sidecar-npm'),
  figureTarget('memory under load', 'memory', 'loaded', 130, unit('MiB')),
  figureTarget('CPU until ready, the image', 'start', 'cpu', 350, unit('ms'), 'sidecar-image'),
  figureTarget('CPU until ready, the npm package', 'start', 'cpu', 350, unit('ms'), 'sidecar-npm'),
  {
    target: 'two workers: capacity',
    limit: 1.85,
    least: true,
    show: times('one worker'),
    measure: (scenarios) => {
      const [one, two] = ['1 worker', '2 workers'].map((row) => figure(scenarios, 'workers', 'capacity', row));
      return one === null || two === null ? null : two / one;
    },
  },
];

/** @returns {{target: string, limit: string, measured: string, verdict: string}[]} the verdict is met, missed, or empty */
export function judge(scenarios) {
  return TARGETS.map(({ target, limit, least = false, show, measure }) => {
    const value = measure(scenarios);
    const met = least ? value >= limit : value <= limit;
    return {
      target,
      limit: `${least ? '≥' : '≤'} ${show(limit)}`,
      measured: value === null ? 'not measured' : show(value),
      verdict: value === null ? '' : met ? 'met' : '**missed**',
    };
  });
}
