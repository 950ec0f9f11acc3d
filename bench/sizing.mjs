/**
 * Fills the figures of docs/scaling.md and of README.md from the committed results, so that no document says what nobody has
 * measured.
 *
 *   node bench/sizing.mjs
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { doubts, markdownTable } from './report.mjs';

const ROOT = join(import.meta.dirname, '..');
const SIDECAR = 'k8s/components/native-sidecar/sidecar.yaml';
/** Of a core: beyond it, what comes in a burst waits noticeably. */
const FILL = 0.6;

/** Document, and what stands between its marks. */
const PARTS = [
  { document: 'docs/scaling.md', name: 'sizing', text: sizing },
  { document: 'README.md', name: 'ratios', text: ratioSentence },
];

const markOf = (name) => [`<!-- ${name}: node bench/sizing.mjs -->`, `<!-- end of ${name} -->`];

/** Committed results, those of the newest Node first. */
export function committedResults() {
  const folder = join(ROOT, 'bench/results');
  return readdirSync(folder)
    .filter((name) => /^node-\d+\.json$/.test(name))
    .map((name) => JSON.parse(readFileSync(join(folder, name), 'utf8')))
    .sort((a, b) => Number.parseInt(b.machine.node.slice(1), 10) - Number.parseInt(a.machine.node.slice(1), 10));
}

function figuresOf(result, scenario, name = 'sidecar') {
  return result.scenarios[scenario]?.rows.find((row) => row.name === name)?.figures;
}

/** Two digits: more would promise more than a bench can keep. */
function rounded(value) {
  const step = 10 ** Math.max(0, Math.floor(Math.log10(value)) - 1);
  return (Math.round(value / step) * step).toLocaleString('en');
}

/** `100m` of the manifests as a part of a core. */
function requestedCpu() {
  const pod = parse(readFileSync(join(ROOT, SIDECAR), 'utf8')).spec.template.spec;
  return pod.initContainers[0].resources.requests.cpu;
}

function byCost(result, [what, scenario, unit]) {
  const figures = figuresOf(result, scenario);
  if (figures === undefined) return [];
  const { cpu } = figures;
  return [[what, `${rounded(cpu)} µs`, `${rounded(1e6 / cpu)} ${unit}`, `${rounded((FILL * 1e6) / cpu)} ${unit}`]];
}

/** The figures of the sizing page, from one result. */
export function sizing([result]) {
  const { node, cpu } = result.machine;
  const costs = [
    ['callback on a kept connection', 'callbacks', 'a second'],
    ['the same over HTTP/2', 'http2', 'a second'],
    ['answer of 64 KiB', 'bodies-64k-down', 'a second'],
    ['answer of 16 MiB', 'bodies-16m-down', 'a second'],
    ['upload of 16 MiB', 'bodies-16m-up', 'a second'],
    ['connection and callback, whole handshake, P-256 key', 'handshake-p256', 'a second'],
    ['connection and callback, whole handshake, RSA-2048 key', 'handshake-rsa', 'a second'],
    ['connection and callback, resumed session', 'handshake-resumed', 'a second'],
    ['WebSocket frame, there and back', 'websocket', 'a second'],
  ].flatMap((row) => byCost(result, row));
  return [
    `${result.at.slice(0, 10)}, Node ${node.slice(1)}, ${cpu}:`,
    markdownTable(['what', 'CPU', 'one core does', `plan with (${FILL * 100} %)`], costs),
    memoryTable(result),
    requestLine(result),
    ...warning(result),
  ].join('\n\n');
}

function memoryTable(result) {
  const { perConnection, cpu: idleCpu } = figuresOf(result, 'idle');
  const { rss, cpu } = figuresOf(result, 'start', 'sidecar-image');
  const { loaded } = figuresOf(result, 'memory');
  return markdownTable(
    ['memory and start', ''],
    [
      ['at rest', `${rounded(rss)} MiB`],
      ['under full load', `${rounded(loaded)} MiB`],
      ['10,000 quiet connections, beside that', `${rounded((perConnection * 10_000) / 1024)} MiB`],
      ['CPU that they take', `${rounded(Math.max(0.1, idleCpu))} ms a second`],
      ['CPU from start to ready', `${rounded(cpu)} ms`],
    ],
  );
}

/** Figures of a busy machine are worth more than none, if they say so. */
function warning({ scenarios, others }) {
  const doubtful = Object.entries(scenarios).filter(([, scenario]) => doubts(scenario, others).length > 0);
  const busy = doubtful.length > Object.keys(scenarios).length / 4;
  return busy
    ? ['**The machine was busy with other things while this was measured; the real figures are lower.**']
    : [];
}

function requestLine(result) {
  const request = requestedCpu();
  const share = Number.parseInt(request, 10) / 1000;
  const { cpu } = figuresOf(result, 'callbacks');
  return `The \`${request}\` of CPU that the manifests request are good for ${rounded((share * 1e6) / cpu)} callbacks a second.`;
}

/** One sentence for the README, with every Node that was measured. */
export function ratioSentence(results) {
  const of = (result) => {
    const [own, nginx, httpProxy] = ['sidecar', 'nginx', 'http-proxy'].map(
      (name) => figuresOf(result, 'callbacks', name).cpu,
    );
    const major = result.machine.node.slice(1).split('.')[0];
    return `${(own / httpProxy).toFixed(2)} of http-proxy's CPU time and ${(own / nginx).toFixed(1)} times nginx's on Node ${major}`;
  };
  return `(\`npm run bench\`: ${results.map(of).join(', ')})`;
}

/** What stands between the marks of a document, and what should. */
export function parts() {
  const results = committedResults();
  return PARTS.map(({ document, name, text }) => {
    const [begin, end] = markOf(name);
    const content = readFileSync(join(ROOT, document), 'utf8');
    const [from, to] = [content.indexOf(begin) + begin.length, content.indexOf(end)];
    if (from < begin.length || to < from) throw new Error(`${document} has no place for ${name}`);
    // A block stands apart from its marks by empty lines, a sentence in its line does not.
    const space = content[from] === '\n' ? '\n\n' : '';
    const wanted = `${space}${text(results)}${space}`;
    const filled = content.slice(0, from) + wanted + content.slice(to);
    return { document, stands: content.slice(from, to), wanted, filled };
  });
}

export function fillDocuments() {
  for (const { document, filled } of parts()) writeFileSync(join(ROOT, document), filled);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) fillDocuments();
