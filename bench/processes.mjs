import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { cpus } from 'node:os';

const hasTaskset = spawnSync('taskset', ['--version']).status === 0 && cpus().length > 1;
const ticksPerSecond = Number(spawnSync('getconf', ['CLK_TCK']).stdout) || 100;

/** With four cores or more, two workers can have one each and leave enough for their load. */
export const ROOM_FOR_WORKERS = cpus().length >= 4;
const FIRST_OTHER = ROOM_FOR_WORKERS ? 2 : 1;

/** Cores for the proxy under measurement, and those for everything else; null where processes cannot be pinned. */
export const PINNED = hasTaskset;
export const proxyCores = ({ workers, limited }) =>
  hasTaskset ? (limited || (ROOM_FOR_WORKERS && workers > 1) ? '0-1' : '0') : null;
export const OTHER_CORES = hasTaskset ? `${FIRST_OTHER}-${cpus().length - 1}` : null;
/** How many of the latter there are. */
export const OTHERS = Math.max(1, cpus().length - FIRST_OTHER);

/** The shell raises the limit of open files as far as it may, and is replaced by the program. */
const RAISE = 'ulimit -n 65536 2>/dev/null || ulimit -n "$(ulimit -H -n)"; exec "$@"';

/** Starts a program on the given cores. Shell and `taskset` replace themselves, so the pid is the program's. */
export function start(cores, command, stdio, env = {}) {
  const pinned = cores === null ? command : ['taskset', '-c', cores, ...command];
  return spawn('sh', ['-c', RAISE, 'sh', ...pinned], { stdio, env: { ...process.env, ...env } });
}

/** The signal goes to the first process of a tree, as an init system would send it. */
export async function stop(child) {
  if (hasEnded(child)) return;
  const exit = once(child, 'exit');
  child.kill('SIGTERM');
  const force = setTimeout(() => killTree(child.pid), 3000);
  await exit;
  clearTimeout(force);
}

export function hasEnded(child) {
  return child.exitCode !== null || child.signalCode !== null;
}

/** For a bench that is interrupted: nothing of it stays behind, whatever its programs are doing. */
export function killTree(pid) {
  for (const member of [...treeOf(pid)].reverse()) {
    try {
      process.kill(member, 'SIGKILL');
    } catch {
      // It has gone by itself.
    }
  }
}

function statOf(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The command name, field 2, may hold spaces and parentheses: count from the last one.
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ');
}

/** A process and all below it, parents first. */
function treeOf(root) {
  const children = new Map();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const parent = Number(statOf(entry)[1]);
      children.set(parent, [...(children.get(parent) ?? []), Number(entry)]);
    } catch {
      // It ended while we were reading.
    }
  }
  const tree = [root];
  for (const pid of tree) tree.push(...(children.get(pid) ?? []));
  return tree;
}

/**
 * User and system CPU time in microseconds of a process, all its threads, and all processes below it, those that have
 * ended included (proc(5): fields 14 to 17 of stat).
 */
export function cpuMicroseconds(pid) {
  const total = { user: 0, system: 0 };
  for (const member of treeOf(pid)) {
    const fields = statOf(member);
    total.user += ((Number(fields[11]) + Number(fields[13])) * 1e6) / ticksPerSecond;
    total.system += ((Number(fields[12]) + Number(fields[14])) * 1e6) / ticksPerSecond;
  }
  return total;
}

/** The processes below `pid`. */
export function childrenOf(pid) {
  return treeOf(pid).slice(1);
}

/** CPU time of each process below `pid`, in microseconds: how evenly workers share. */
export function cpuOfChildren(pid) {
  return childrenOf(pid).map((member) => {
    const fields = statOf(member);
    return ((Number(fields[11]) + Number(fields[12])) * 1e6) / ticksPerSecond;
  });
}

/** CPU time of one process in milliseconds by the scheduler's own clock: finer than the ticks of `stat`. */
export function cpuMilliseconds(pid) {
  const threads = readdirSync(`/proc/${pid}/task`);
  const spent = threads.map((tid) =>
    Number(readFileSync(`/proc/${pid}/task/${tid}/schedstat`, 'latin1').split(' ')[0]),
  );
  return spent.reduce((sum, nanoseconds) => sum + nanoseconds, 0) / 1e6;
}

/** Resident memory of a tree in KiB, now. Pages that workers share count for each of them. */
export function residentKib(pid) {
  return treeOf(pid).reduce((sum, member) => {
    const [, kib = 0] = /VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${member}/status`, 'latin1')) ?? [];
    return sum + Number(kib);
  }, 0);
}

/** A port that was free a moment ago: nginx cannot be told to pick one and say which. */
export async function freePort() {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

function accepts(port) {
  return new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1');
    socket.once('connect', () => resolve(true)).once('error', () => resolve(false));
    socket.once('connect', () => socket.destroy());
  });
}

/** Resolves when the child accepts connections; rejects when it exits instead or takes longer than 20 s. */
export async function listening(child, port, name) {
  const deadline = Date.now() + 20_000;
  while (Date.now() < deadline) {
    if (hasEnded(child)) throw new Error(`${name} exited with code ${child.exitCode}`);
    if (await accepts(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`${name} does not listen on port ${port}`);
}
