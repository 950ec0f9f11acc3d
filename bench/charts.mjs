import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

const WIDTH = 760;
const LEFT = 150;
const RIGHT = 90;
const BAR = 18;
const STEP = 26;
const TITLE = 44;
const GAP = 18;

/** Which figure a chart of a kind shows, and its unit. */
const FIGURES = {
  requests: ({ figure, unit }) => (figure === 'p99' ? ['p99', 'p99 ms'] : ['cpu', `CPU µs/${unit}`]),
  handshakes: ({ unit }) => ['cpu', `CPU µs/${unit}`],
  idle: () => ['perConnection', 'KiB/connection'],
  memory: () => ['loaded', 'MiB under load'],
  start: () => ['cpu', 'CPU ms until ready'],
};

const escape = (text) => text.replaceAll('&', '&amp;').replaceAll('<', '&lt;');
const number = (value) => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

/** Bars from zero, the sidecar's in colour; the line on each is the range of its rounds. */
function panel(scenario, top) {
  const [figure, unit] = FIGURES[scenario.kind](scenario);
  const rows = [...scenario.rows].sort((a, b) => a.figures[figure] - b.figures[figure]);
  const rangeOf = (row) => row.spread[figure] ?? [row.figures[figure], row.figures[figure]];
  const most = Math.max(...rows.map((row) => rangeOf(row)[1]));
  const scale = (value) => (value / most) * (WIDTH - LEFT - RIGHT);
  const lines = rows.map((row, index) => {
    const y = top + TITLE + index * STEP;
    const value = row.figures[figure];
    const [low, high] = rangeOf(row).map((edge) => (LEFT + scale(edge)).toFixed(1));
    const middle = y + BAR / 2;
    const name = `<text x="${LEFT - 8}" y="${middle + 4}" text-anchor="end">${escape(row.name)}</text>`;
    const bar = `<rect class="${row.name === 'sidecar' ? 'own' : 'bar'}" x="${LEFT}" y="${y}" width="${scale(value).toFixed(1)}" height="${BAR}"/>`;
    const range = `<path class="range" d="M${low} ${middle}H${high}"/>`;
    const text = `<text x="${(Number(high) + 8).toFixed(1)}" y="${middle + 4}">${number(value)}</text>`;
    return name + bar + range + text;
  });
  const title = `<text class="title" x="12" y="${top + 18}">${escape(scenario.title)}</text>`;
  const subtitle = `<text class="unit" x="12" y="${top + 35}">${escape(unit)}, less is better</text>`;
  return { svg: [title, subtitle, ...lines].join('\n'), height: TITLE + rows.length * STEP + GAP };
}

/** One SVG with a panel for each scenario. */
export function chart(scenarios, heading) {
  let top = 34;
  const panels = [];
  for (const scenario of scenarios) {
    const { svg, height } = panel(scenario, top);
    panels.push(svg);
    top += height;
  }
  return `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${top}" viewBox="0 0 ${WIDTH} ${top}" role="img">
<title>${escape(heading)}</title>
<style>
  text { font: 13px system-ui, sans-serif; fill: #24292f }
  .title { font-weight: 600 } .unit, .heading { fill: #57606a }
  .bar { fill: #b6bfc9 } .own { fill: #2f81f7 } .range { stroke: #24292f; stroke-width: 2 }
  .ground { fill: #fff }
  @media (prefers-color-scheme: dark) {
    text { fill: #e6edf3 } .unit, .heading { fill: #9198a1 } .bar { fill: #57606a } .range { stroke: #e6edf3 } .ground { fill: #0d1117 }
  }
</style>
<rect class="ground" width="${WIDTH}" height="${top}"/>
<text class="heading" x="12" y="22">${escape(heading)}</text>
${panels.join('\n')}
</svg>
`;
}

const GROUPS = {
  requests: ['callbacks', 'rate', 'mixed', 'http2', 'websocket'],
  handshakes: ['handshake-rsa', 'handshake-p256', 'handshake-resumed'],
  bodies: ['bodies-1k-down', 'bodies-1k-up', 'bodies-64k-down', 'bodies-64k-up', 'bodies-16m-down', 'bodies-16m-up'],
  memory: ['idle', 'memory', 'start'],
};

/** Writes `NAME-GROUP.svg` for each group of scenarios that was measured. */
export function writeCharts(result, folder, name) {
  const { node, cores, cpu } = result.machine;
  for (const [group, names] of Object.entries(GROUPS)) {
    const measured = names.map((scenario) => result.scenarios[scenario]).filter(Boolean);
    if (measured.length === 0) continue;
    const heading = `${result.at.slice(0, 10)}, Node ${node}, ${cores} × ${cpu}`;
    writeFileSync(join(folder, `${name}-${group}.svg`), chart(measured, heading));
  }
}
