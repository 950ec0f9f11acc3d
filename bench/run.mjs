/**
 * What the sidecar costs, beside what it competes with, in one run on one machine. README.md says how to read the result.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeCharts } from './charts.mjs';
import { guard, recordRatios } from './guard.mjs';
import { measure } from './measure.mjs';
import { readOptions, USAGE } from './options.mjs';
import { PEERS } from './peers/index.mjs';
import { takes } from './peers/sidecar.mjs';
import { OTHERS, PINNED } from './processes.mjs';
import { machine, markdown } from './report.mjs';
import { SCENARIOS } from './scenarios.mjs';
import { fillDocuments } from './sizing.mjs';
import { Stage } from './stage.mjs';
import { judge } from './targets.mjs';

const RESULTS = join(import.meta.dirname, 'results');
const say = (line) => console.error(line);

function installed(names) {
  const versions = Object.fromEntries(PEERS.map((peer) => [peer.name, peer.version()]));
  for (const name of names.filter((name) => versions[name] === null)) say(`${name} is not installed; left out`);
  return Object.fromEntries(Object.entries(versions).filter(([name, version]) => version && names.includes(name)));
}

/** Why this scenario cannot be measured here, or null. */
function obstacle(scenario, peers) {
  if (scenario.load?.protocol === 'http2' && !takes({ 'listen.http2': 'true' }))
    return 'this version has no listen.http2';
  if (scenario.kind === 'workers' && !takes({ workers: '2' })) return 'this version has no workers';
  return peers.length === 0 ? 'none of its proxies takes part' : null;
}

async function measureAll(settings, versions) {
  const stage = new Stage();
  const result = { scenarios: {}, skipped: {} };
  for (const name of settings.scenarios) {
    const scenario = SCENARIOS[name];
    const peers = PEERS.filter((peer) => scenario.peers.includes(peer.name) && peer.name in versions);
    const reason = obstacle(scenario, peers);
    say(`${name}: ${reason ?? scenario.title}`);
    if (reason !== null) {
      result.skipped[name] = reason;
      continue;
    }
    try {
      result.scenarios[name] = await measure(scenario, { stage, peers, settings, say });
    } catch (error) {
      // The others are worth having; the exit code says that one is missing.
      say(`${name}: FAILED, ${error.stack}`);
      result.skipped[name] = `it failed (${error.message.split('\n')[0]})`;
      process.exitCode = 1;
      await stage.clear();
    }
  }
  return result;
}

/** Five digits are more than was measured. */
const short = (_key, value) => (typeof value === 'number' ? Number(value.toPrecision(5)) : value);

function write(result, { record }) {
  mkdirSync(RESULTS, { recursive: true });
  const name = record ? `node-${process.versions.node.split('.')[0]}` : 'latest';
  const text = markdown(result);
  writeFileSync(join(RESULTS, `${name}.json`), `${JSON.stringify(result, short, 1)}\n`);
  writeFileSync(join(RESULTS, `${name}.md`), text);
  writeCharts(result, RESULTS, name);
  if (record) {
    recordRatios(result, RESULTS);
    fillDocuments();
  }
  console.log(text);
  say(`written to bench/results/${name}.json, .md and .svg`);
}

/** Settings of this run, or null when one of them is wrong, which is said then. */
function settingsOrComplaint() {
  const known = { scenarios: Object.keys(SCENARIOS), peers: PEERS.map(({ name }) => name) };
  try {
    return readOptions(process.argv.slice(2), known);
  } catch (error) {
    console.error(error.message);
    process.exitCode = 2;
    return null;
  }
}

async function main() {
  const settings = settingsOrComplaint();
  if (settings === null) return;
  if (settings.help) return console.log(USAGE);
  if (settings.list) {
    for (const [name, { title, peers }] of Object.entries(SCENARIOS))
      console.log(`${name}: ${title} (${peers.join(', ')})`);
    return;
  }
  const versions = installed(settings.peers ?? PEERS.map(({ name }) => name));
  const begun = performance.now();
  const measured = await measureAll(settings, versions);
  const result = {
    at: new Date().toISOString(),
    machine: machine(),
    versions,
    pinned: PINNED,
    others: OTHERS,
    settings,
    minutes: (performance.now() - begun) / 60_000,
    ...measured,
    targets: judge(measured.scenarios),
  };
  write(result, settings);
  if (settings.guard) process.exitCode = Math.max(process.exitCode ?? 0, guard(result, RESULTS, console));
}

if (process.platform !== 'linux') throw new Error('CPU time is read from /proc: this needs Linux');
await main();
