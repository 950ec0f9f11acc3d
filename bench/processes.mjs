import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { cpus } from 'node:os';

const hasTaskset = spawnSync('taskset', ['--version']).status === 0 && cpus().length > 1;
const ticksPerSecond = Number(spawnSync('getconf', ['CLK_TCK']).stdout) || 100;

/** Core for the proxy under measurement, and the cores for everything else; null where processes cannot be pinned. */
export const PROXY_CORES = hasTaskset ? '0' : null;
export const OTHER_CORES = hasTaskset ? `1-${cpus().length - 1}` : null;

/** Starts a program on the given cores. `taskset` replaces itself with the program, so the pid is the program's. */
export function start(cores, [command, ...args], stdio) {
  if (cores === null) return spawn(command, args, { stdio });
  return spawn('taskset', ['-c', cores, command, ...args], { stdio });
}

export async function stop(child) {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill('SIGTERM');
  const force = setTimeout(() => child.kill('SIGKILL'), 3000);
  await once(child, 'exit');
  clearTimeout(force);
}

/** User and system CPU time of a process with all its threads, in microseconds (proc(5): fields 14 and 15 of stat). */
export function cpuMicroseconds(pid) {
  const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
  // The command name, field 2, may hold spaces and parentheses: count from the last one.
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  const perTick = 1e6 / ticksPerSecond;
  return { user: Number(fields[11]) * perTick, system: Number(fields[12]) * perTick };
}

/** Peak resident memory in MiB. */
export function peakMemory(pid) {
  const [, kib] = /VmHWM:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'latin1')) ?? [];
  return Math.round(Number(kib) / 1024);
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

/** Resolves when the child accepts connections; rejects when it exits instead or takes longer than 10 s. */
export async function listening(child, port, name) {
  const deadline = Date.now() + 10_000;
  while (Date.now() < deadline) {
    if (child.exitCode !== null) throw new Error(`${name} exited with code ${child.exitCode}`);
    if (await accepts(port)) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`${name} does not listen on port ${port}`);
}
