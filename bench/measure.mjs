import { request } from 'node:http';
import { takes } from './peers/sidecar.mjs';
import {
  childrenOf,
  cpuMicroseconds,
  cpuMilliseconds,
  cpuOfChildren,
  freePort,
  hasEnded,
  ROOM_FOR_WORKERS,
  residentKib,
} from './processes.mjs';
import { LIMITED, Quota, SHARE } from './quota.mjs';
import { median } from './statistics.mjs';

const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const total = ({ user, system }) => user + system;
const minus = (after, before) => ({ user: after.user - before.user, system: after.system - before.system });
const mib = (kib) => kib / 1024;

/** What a peer is started with. */
function setupOf(scenario, { stage, upstream, settings }, extra = {}) {
  return {
    upstreamPort: upstream.port,
    files: stage.files[scenario.keys ?? 'p256'],
    http2: scenario.load?.protocol === 'http2',
    websocket: scenario.load?.protocol === 'websocket',
    connections: scenario.kind === 'idle' ? settings.connections : 2000,
    workers: 1,
    ...extra,
  };
}

/**
 * Rounds of one order each, between two looks at the proxy's CPU time. Connecting is not in it where connections are kept.
 * Rounds are interleaved and each starts with another proxy, so that a disturbance hits all alike. The first round of
 * each is twice as long and not counted: it warms compilers up.
 */
async function rounds(peers, context, round) {
  for (const peer of peers) await round(peer, 2 * context.seconds);
  for (let count = 0; count < context.settings.rounds; count++) {
    const shift = count % peers.length;
    for (const peer of [...peers.slice(shift), ...peers.slice(0, shift)]) {
      const result = await round(peer, context.seconds);
      peer.rounds.push(result);
      context.say(`round ${count + 1}: ${peer.name} ${result.cpu.toFixed(1)} µs, ${result.rate.toFixed(0)}/s`);
    }
  }
  return peers.map(({ name, rounds: results, child }) => rowOf(name, results, { rss: mib(residentKib(child.pid)) }));
}

/** Medians: a neighbour on a shared machine disturbs single rounds. `spread` is of the main figure. */
function rowOf(name, results, more = {}, figure = 'cpu') {
  const of = (field) => results.map((result) => result[field]);
  const figures = Object.fromEntries(Object.keys(results[0]).map((field) => [field, median(of(field))]));
  const spread = Object.fromEntries(
    ['cpu', 'p99', figure].map((field) => [field, [Math.min(...of(field)), Math.max(...of(field))]]),
  );
  return { name, figures: { ...figures, ...more }, spread, rounds: results };
}

/** One order to the callers, and what it cost the proxy, by request. */
async function costOf(peer, { load, upstream }, order) {
  const before = { proxy: cpuMicroseconds(peer.child.pid), application: cpuMicroseconds(upstream.child.pid) };
  const result = await load.ask(order);
  const proxy = minus(cpuMicroseconds(peer.child.pid), before.proxy);
  const application = total(minus(cpuMicroseconds(upstream.child.pid), before.application));
  return {
    cpu: total(proxy) / result.requests,
    user: proxy.user / result.requests,
    system: proxy.system / result.requests,
    rate: result.requests / result.seconds,
    p50: result.p50,
    p99: result.p99,
    late: result.late ?? 0,
    /** Shares of one core. */
    proxyBusy: total(proxy) / 1e6 / result.seconds,
    loadBusy: result.busy,
    applicationBusy: application / 1e6 / result.seconds,
  };
}

/**
 * Seconds of load before each round that are not counted. While the others have their turns V8 takes a proxy of Node for resting, and drops code
 * that it compiled for objects of which none is alive; to make it anew takes half a second of CPU, which is a cost of the turns and not of requests.
 * Of full load, for at a low rate it takes longer.
 */
const WAKE_S = 1;

async function requestRound(peer, seconds, scenario, context) {
  const { rate, ...how } = scenario.load;
  await context.load.ask({ do: 'open', port: peer.port, files: peer.setup.files, ...how });
  // Not while connecting: whoever is stopped meanwhile would get no connection.
  peer.quota?.on();
  await context.load.ask({ do: 'run', seconds: WAKE_S });
  const result = await costOf(peer, context, { do: 'run', seconds, rate });
  peer.quota?.off();
  await context.load.ask({ do: 'close' });
  return result;
}

async function startAll(scenario, context, extra) {
  const running = [];
  for (const peer of context.peers) running.push(await context.stage.peer(peer, setupOf(scenario, context, extra)));
  return running;
}

async function requests(scenario, context) {
  const peers = await startAll(scenario, context);
  const rows = await rounds(peers, context, (peer, seconds) => requestRound(peer, seconds, scenario, context));
  await context.stage.end(...peers);
  return rows;
}

async function handshakes(scenario, context) {
  const peers = await startAll(scenario, context);
  const order = { do: 'handshakes', ...scenario.load };
  const rows = await rounds(peers, context, async (peer, seconds) => {
    const target = { ...order, port: peer.port, files: peer.setup.files };
    await context.load.ask({ ...target, seconds: WAKE_S });
    return costOf(peer, context, { ...target, seconds });
  });
  await context.stage.end(...peers);
  return rows;
}

const SETTLE_MS = 5_000;
const IDLE_MS = 5_000;
const WARM_UP = { seconds: 1, concurrency: 8, resumed: false };

/** Memory by connection is what is more than after some connections that came and went. */
async function idle(scenario, context) {
  const { load, settings } = context;
  const rows = [];
  for (const peer of await startAll(scenario, context)) {
    const target = { port: peer.port, files: peer.setup.files };
    await load.ask({ do: 'handshakes', ...target, ...WARM_UP });
    await sleep(1000);
    const empty = residentKib(peer.child.pid);
    await load.ask({ do: 'hold', ...target, connections: settings.connections });
    await sleep(SETTLE_MS);
    const full = residentKib(peer.child.pid);
    const before = cpuMilliseconds(peer.child.pid);
    await sleep(IDLE_MS);
    const cpu = cpuMilliseconds(peer.child.pid) - before;
    const held = residentKib(peer.child.pid);
    await load.ask({ do: 'close' });
    const figures = {
      perConnection: (full - empty) / settings.connections,
      empty: mib(empty),
      held: mib(held),
      cpu: cpu / (IDLE_MS / 1000),
      connections: settings.connections,
    };
    rows.push(rowOf(peer.name, [figures], {}, 'perConnection'));
    context.say(`${peer.name}: ${figures.perConnection.toFixed(1)} KiB a connection`);
    await context.stage.end(peer);
  }
  return rows;
}

/** Whether the proxy has let one caller through: for the sidecar what its readiness says. */
async function untilReady(peer) {
  const { adminPort } = peer.setup;
  const url = adminPort === undefined ? `http://127.0.0.1:${peer.port}/` : `http://127.0.0.1:${adminPort}/readyz`;
  const ask = () =>
    new Promise((resolve) => {
      const asked = request(url, { agent: false }, (response) => {
        response.resume();
        // The others answer plain HTTP on their TLS port somehow, or close; either way they are there.
        resolve(adminPort === undefined || response.statusCode === 200);
      });
      asked.on('error', ({ code }) => resolve(adminPort === undefined && code !== 'ECONNREFUSED'));
      asked.end();
    });
  for (let tries = 0; tries < 1000 && !hasEnded(peer.child); tries++) {
    if (await ask()) return;
    await sleep(10);
  }
  throw new Error(`${peer.name} does not get ready`);
}

async function startOnce(peer, scenario, context) {
  const adminPort = peer.name.startsWith('sidecar') ? await freePort() : undefined;
  const begun = performance.now();
  const running = await context.stage.launch(peer, setupOf(scenario, context, { adminPort }));
  await untilReady(running);
  const wall = performance.now() - begun;
  const cpu = cpuMilliseconds(running.child.pid);
  await sleep(1000);
  const rss = mib(residentKib(running.child.pid));
  await context.stage.end(running);
  return { cpu, wall, rss };
}

async function starts(scenario, context) {
  const rows = new Map(context.peers.map((peer) => [peer, []]));
  for (const peer of context.peers) peer.prepare?.(context.stage.directory);
  for (let count = 0; count < Math.max(3, context.settings.rounds); count++) {
    for (const peer of context.peers) rows.get(peer).push(await startOnce(peer, scenario, context));
  }
  return [...rows].map(([{ name }, results]) => {
    const row = rowOf(
      name,
      results.map((result) => ({ ...result, p99: 0 })),
    );
    context.say(`${name}: ${row.figures.cpu.toFixed(0)} ms of CPU, ${row.figures.rss.toFixed(0)} MiB`);
    return row;
  });
}

/** Looks each half second at what is resident while the callers do what they can. */
async function memoryOf(peer, scenario, context) {
  const { connections, protocol, mix } = scenario.load;
  const { load, seconds } = context;
  const before = mib(residentKib(peer.child.pid));
  await load.ask({ do: 'open', port: peer.port, files: peer.setup.files, protocol, connections, mix });
  const samples = [];
  const timer = setInterval(() => samples.push(mib(residentKib(peer.child.pid))), 500);
  const result = await load.ask({ do: 'run', seconds }).finally(() => clearInterval(timer));
  await load.ask({ do: 'close' });
  const lastThird = samples.slice(Math.floor((samples.length * 2) / 3));
  return { before, loaded: median(lastThird), peak: Math.max(...samples), requests: result.requests, seconds };
}

async function memory(scenario, context) {
  const rows = [];
  for (const peer of await startAll(scenario, context)) {
    await sleep(500);
    const figures = await memoryOf(peer, scenario, context);
    rows.push(rowOf(peer.name, [figures], {}, 'loaded'));
    context.say(`${peer.name}: ${figures.loaded.toFixed(0)} MiB after ${figures.requests} requests`);
    await context.stage.end(peer);
  }
  return rows;
}

/** One that serves by itself has no workers. */
async function startWorkers(count, scenario, context) {
  const [peer] = await startAll(scenario, context, { workers: count, limited: LIMITED });
  const whole = count === 1 ? 0 : count;
  while (!hasEnded(peer.child) && childrenOf(peer.child.pid).length < whole) await sleep(20);
  const quota = LIMITED ? new Quota(peer.child.pid, childrenOf(peer.child.pid)) : null;
  return { ...peer, name: `${count} worker${count === 1 ? '' : 's'}`, count, quota };
}

function capacityOf({ rate, cpu }, largestShare) {
  if (ROOM_FOR_WORKERS) return rate;
  return LIMITED ? rate / SHARE : 1e6 / cpu / largestShare;
}

/**
 * With cores to spare, throughput. On two, the second worker would take the core that its load comes from. Where workers
 * can be held to a share of a core, none of them has more alone than beside another, and throughput is compared all the same.
 * Elsewhere both are on one core: what a request costs then, and how evenly they share, is all that there is to say.
 */
async function workers(scenario, context) {
  if (!takes({ workers: '2' })) throw new Error('this version has no workers');
  const variants = [];
  for (const count of [1, 2]) variants.push(await startWorkers(count, scenario, context));
  const before = variants.map(({ child }) => cpuOfChildren(child.pid));
  const rows = await rounds(variants, context, (peer, seconds) => requestRound(peer, seconds, scenario, context));
  const result = rows.map((row, index) => {
    const { child, count } = variants[index];
    const spent = cpuOfChildren(child.pid).map((after, at) => after - (before[index][at] ?? 0));
    const whole = spent.reduce((sum, one) => sum + one, 0);
    const largestShare = count === 1 || whole === 0 ? 1 : Math.max(...spent) / whole;
    const quota = LIMITED ? { quota: count * SHARE } : {};
    return {
      ...row,
      figures: { ...row.figures, largestShare, capacity: capacityOf(row.figures, largestShare), ...quota },
    };
  });
  await context.stage.end(...variants);
  for (const { quota } of variants) quota?.end();
  return result;
}

const KINDS = { requests, handshakes, idle, start: starts, memory, workers };

/**
 * Measures one scenario.
 * @param context { stage, peers, settings, say }; peers are those that take part
 * @returns {Promise<object>} { title, unit, kind, figure, seconds, rows }
 */
export async function measure(scenario, context) {
  const upstream = await context.stage.upstream();
  const load = context.stage.load();
  // A soak says its own seconds; otherwise a scenario may need longer or shorter rounds than others.
  const seconds =
    context.settings.seconds >= 60 ? context.settings.seconds : context.settings.seconds * (scenario.seconds ?? 1);
  const rows = await KINDS[scenario.kind](scenario, { ...context, upstream, load, seconds });
  await context.stage.end(load, upstream);
  const { title, kind, unit = null, figure = 'cpu' } = scenario;
  return { title, kind, unit, figure, seconds, rows };
}
