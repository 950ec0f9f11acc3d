/**
 * CPU time per request of this sidecar and of what it competes with, in one run on one machine. README.md says how to
 * read the result.
 *
 *   npm run bench -- [--rounds 5] [--seconds 4] [--connections 50] [--only sidecar,http-proxy,nginx]
 */
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdirSync, mkdtempSync, openSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { makeCertificates } from './certificates.mjs';
import { nginxConfig } from './peers/nginx.mjs';
import { sidecarConfig } from './peers/sidecar.mjs';
import {
  cpuMicroseconds,
  freePort,
  listening,
  OTHER_CORES,
  peakMemory,
  PROXY_CORES,
  start,
  stop,
} from './processes.mjs';
import { machine, summarise, table } from './report.mjs';

const HERE = import.meta.dirname;
const NODE = process.execPath;

/** How each proxy is started; each gets { port, upstreamPort, files, directory } and returns its command line. */
const PEERS = {
  sidecar(setup) {
    const file = join(setup.directory, 'sidecar.yaml');
    writeFileSync(file, sidecarConfig(setup));
    return [NODE, join(HERE, '../dist/main.js'), 'run', '--config', file];
  },
  'http-proxy'({ port, upstreamPort, files }) {
    const script = join(HERE, 'peers/http-proxy.mjs');
    return [NODE, script, String(port), String(upstreamPort), files.serverCert, files.serverKey, files.ca];
  },
  nginx(setup) {
    const file = join(setup.directory, 'nginx.conf');
    writeFileSync(file, nginxConfig(setup));
    return ['nginx', '-p', setup.directory, '-c', file];
  },
};

function options() {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
      connections: { type: 'string', default: '50' },
      only: { type: 'string', default: Object.keys(PEERS).join(',') },
    },
  });
  const names = values.only.split(',');
  const unknown = names.filter((name) => !(name in PEERS));
  if (unknown.length > 0)
    throw new Error(`unknown proxy ${unknown.join(', ')}; known: ${Object.keys(PEERS).join(', ')}`);
  const number = (name) => {
    if (!(Number(values[name]) > 0)) throw new Error(`--${name} must be a positive number`);
    return Number(values[name]);
  };
  return { names, rounds: number('rounds'), seconds: number('seconds'), connections: number('connections') };
}

function installed(name) {
  if (name !== 'nginx' || spawnSync('nginx', ['-v']).status === 0) return true;
  console.error('nginx is not installed; left out');
  return false;
}

/** Standard output goes to a file, as in a container; errors to ours. */
async function startPeer(name, shared) {
  const port = await freePort();
  const log = openSync(join(shared.directory, `${name}.log`), 'w');
  const child = start(PROXY_CORES, PEERS[name]({ ...shared, port }), ['ignore', log, 'inherit']);
  shared.children.push(child);
  await listening(child, port, name);
  return { name, port, child, rounds: [] };
}

async function startUpstream(children) {
  const port = await freePort();
  const child = start(OTHER_CORES, [NODE, join(HERE, 'upstream.mjs'), String(port)], 'inherit');
  children.push(child);
  await listening(child, port, 'upstream');
  return port;
}

/** Returns a function that hands the load generator one order and resolves to its result. */
function startLoad(children) {
  const stdio = ['ignore', 'inherit', 'inherit', 'ipc'];
  const child = start(OTHER_CORES, [NODE, join(HERE, 'load.mjs')], stdio);
  children.push(child);
  const gone = once(child, 'exit').then(() => ({ error: 'the load generator died' }));
  return async (order) => {
    child.send(order);
    const [answer] = await Promise.race([once(child, 'message'), gone.then((error) => [error])]);
    if (answer.error) throw new Error(answer.error);
    return answer.result;
  };
}

/** The clock runs between the first answers and the last order to stop: connecting is not measured. */
async function measure(load, peer, { seconds, connections, files }) {
  await load({ do: 'connect', port: peer.port, connections, files });
  const before = cpuMicroseconds(peer.child.pid);
  const result = await load({ do: 'run', seconds });
  const after = cpuMicroseconds(peer.child.pid);
  await load({ do: 'close' });
  const user = (after.user - before.user) / result.requests;
  const system = (after.system - before.system) / result.requests;
  return { cpu: user + system, user, system, rate: result.requests / result.seconds, p50: result.p50, p99: result.p99 };
}

/** Rounds are interleaved, and each starts with another proxy, so that a disturbance hits all alike. */
async function measureAll(load, peers, settings) {
  for (const peer of peers) await measure(load, peer, settings);
  for (let round = 0; round < settings.rounds; round++) {
    const shift = round % peers.length;
    for (const peer of [...peers.slice(shift), ...peers.slice(0, shift)]) {
      const result = await measure(load, peer, settings);
      peer.rounds.push(result);
      console.error(`round ${round + 1}: ${peer.name} ${result.cpu.toFixed(1)} µs, ${result.rate.toFixed(0)}/s`);
    }
  }
  return peers.map(({ name, rounds, child }) => summarise(name, rounds, peakMemory(child.pid)));
}

function report(summaries, settings) {
  const { rounds, seconds, connections } = settings;
  console.log(`\n${table(summaries)}\n`);
  const { node, cores, cpu } = machine();
  const pinned = PROXY_CORES === null ? 'not pinned to cores' : 'the proxy alone on one core';
  console.log(
    `${rounds} rounds of ${seconds} s, ${connections} connections, ${pinned}; Node ${node}, ${cores} × ${cpu}.`,
  );
  const folder = join(HERE, 'results');
  mkdirSync(folder, { recursive: true });
  const result = { at: new Date().toISOString(), machine: machine(), rounds, seconds, connections, summaries };
  writeFileSync(join(folder, 'latest.json'), `${JSON.stringify(result, null, 2)}\n`);
}

async function main() {
  const settings = options();
  const directory = mkdtempSync(join(tmpdir(), 'mtls-sidecar-bench-'));
  const children = [];
  process.once('SIGINT', () => process.exit(130));
  process.once('exit', () => {
    for (const child of children) child.kill('SIGKILL');
    rmSync(directory, { recursive: true, force: true });
  });
  const files = makeCertificates(directory);
  const shared = { directory, children, files, upstreamPort: await startUpstream(children) };
  const peers = [];
  for (const name of settings.names.filter(installed)) peers.push(await startPeer(name, shared));
  const load = startLoad(children);
  report(await measureAll(load, peers, { ...settings, files }), settings);
  await Promise.all(children.map(stop));
}

if (process.platform !== 'linux') throw new Error('CPU time is read from /proc: this needs Linux');
await main();
