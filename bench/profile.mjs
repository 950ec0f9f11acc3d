/**
 * Where the CPU time of a request goes: kernel, TLS, parsing, our code, libraries, Node, garbage collection. profile.md says
 * what this can see and what it cannot.
 *
 *   node bench/profile.mjs [--scenario callbacks] [--seconds 10] [--cpu-prof] [--record]
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { callsFromPerf, callsFromProfile } from './profile-samples.mjs';
import { sidecar } from './peers/sidecar.mjs';
import { cpuMicroseconds } from './processes.mjs';
import { machine, markdownTable } from './report.mjs';
import { SCENARIOS } from './scenarios.mjs';
import { Stage } from './stage.mjs';

const DOCUMENT = join(import.meta.dirname, 'profile.md');
/** Not a divisor of anything that happens in whole milliseconds. */
const HERTZ = 997;
const WARM_UP_S = 5;

function options() {
  const { values } = parseArgs({
    options: {
      scenario: { type: 'string', default: 'callbacks' },
      seconds: { type: 'string', default: '10' },
      'cpu-prof': { type: 'boolean', default: false },
      record: { type: 'boolean', default: false },
    },
  });
  const scenario = SCENARIOS[values.scenario];
  if (!['requests', 'handshakes'].includes(scenario?.kind))
    throw new Error('--scenario must be one of requests or handshakes');
  const perf = !values['cpu-prof'] && spawnSync('perf', ['--version']).status === 0;
  return { name: values.scenario, scenario, seconds: Number(values.seconds), perf, record: values.record };
}

/** The sidecar, told to leave behind what is needed to name its machine code, or its own profile. */
function profiled({ perf }, directory) {
  const flags = perf ? ['--perf-basic-prof'] : ['--cpu-prof', '--cpu-prof-interval=500', `--cpu-prof-dir=${directory}`];
  return {
    ...sidecar,
    command(setup) {
      const [node, ...rest] = sidecar.command(setup);
      return [node, ...flags, ...rest];
    },
  };
}

/** Microseconds of CPU time for each request of one order. */
async function costOf(load, child, order) {
  const before = cpuMicroseconds(child.pid);
  const { requests } = await load.ask(order);
  const after = cpuMicroseconds(child.pid);
  return (after.user + after.system - before.user - before.system) / requests;
}

async function recordPerf(stage, child, seconds, work) {
  const data = join(stage.directory, 'perf.data');
  const record = ['record', '-q', '-e', 'cpu-clock', '-F', String(HERTZ), '-g', '-p', String(child.pid), '-o', data];
  const perf = spawn('perf', [...record, '--', 'sleep', String(seconds)], { stdio: ['ignore', 'ignore', 'inherit'] });
  await Promise.all([once(perf, 'exit'), work()]);
  // `perf script` reads the names of compiled code from a file that Node writes under this name.
  const script = spawnSync('perf', ['script', '-i', data, '-F', 'comm,tid,ip,sym,dso'], {
    encoding: 'utf8',
    maxBuffer: 2 ** 30,
  });
  rmSync(`/tmp/perf-${child.pid}.map`, { force: true });
  if (script.status !== 0) throw new Error(`perf script: ${script.stderr}`);
  return callsFromPerf(script.stdout);
}

async function profile(settings) {
  const { scenario, seconds, perf } = settings;
  const stage = new Stage();
  const [upstream, load] = [await stage.upstream(), stage.load()];
  const files = stage.files[scenario.keys ?? 'p256'];
  const setup = { upstreamPort: upstream.port, files, workers: 1, connections: 2000 };
  const peer = await stage.peer(profiled(settings, stage.directory), setup);
  const target = { port: peer.port, files, ...scenario.load };
  if (scenario.kind === 'requests') await load.ask({ do: 'open', ...target });
  const order = scenario.kind === 'requests' ? { do: 'run' } : { do: 'handshakes', ...target };
  await load.ask({ ...order, seconds: WARM_UP_S });
  const cost = await costOf(load, peer.child, { ...order, seconds });
  const again = () => load.ask({ ...order, seconds: seconds + 1 });
  const fromPerf = perf ? await recordPerf(stage, peer.child, seconds, again) : null;
  await load.ask({ do: 'close' });
  await stage.end(peer, load, upstream);
  const calls = fromPerf ?? callsFromProfile(readProfile(stage.directory));
  return { cost, calls };
}

function readProfile(directory) {
  const [file] = readdirSync(directory).filter((name) => name.endsWith('.cpuprofile'));
  return JSON.parse(readFileSync(join(directory, file), 'utf8'));
}

function shares(calls, key) {
  const sums = new Map();
  for (const call of calls) sums.set(call[key], (sums.get(call[key]) ?? 0) + call.weight);
  return [...sums].filter(([name]) => name !== null).sort((a, b) => b[1] - a[1]);
}

function table(calls, { key, head, cost, most }) {
  const total = calls.reduce((sum, { weight }) => sum + weight, 0);
  const lines = shares(calls, key)
    .slice(0, most)
    .map(([name, weight]) => [name, `${((weight / total) * 100).toFixed(1)} %`, ((weight / total) * cost).toFixed(1)]);
  return markdownTable([head, 'share', 'µs'], lines);
}

function report({ cost, calls }, { name, perf }) {
  const { node, cpu } = machine();
  const unit = SCENARIOS[name].unit;
  return [
    `${new Date().toISOString().slice(0, 10)}, \`${name}\`, Node ${node}, ${cpu}: ${cost.toFixed(1)} µs of CPU a ${unit}, by ${
      perf ? `perf (${calls.length} samples)` : '--cpu-prof'
    }.`,
    table(calls, { key: 'part', head: 'part', cost, most: 20 }),
    'The largest places within these parts:',
    table(calls, { key: 'place', head: 'place', cost, most: 24 }),
  ].join('\n\n');
}

/** Puts the figures between the two marks of profile.md. */
function intoDocument(text) {
  const [begin, end] = ['<!-- figures: node bench/profile.mjs --record -->', '<!-- end of figures -->'];
  const document = readFileSync(DOCUMENT, 'utf8');
  const head = document.slice(0, document.indexOf(begin) + begin.length);
  writeFileSync(DOCUMENT, `${head}\n\n${text}\n\n${document.slice(document.indexOf(end))}`);
}

const settings = options();
const text = report(await profile(settings), settings);
console.log(text);
if (settings.record) intoDocument(text);
