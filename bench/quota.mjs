import { mkdirSync, rmdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { ROOM_FOR_WORKERS } from './processes.mjs';

/** Where Linux keeps the control groups of CPU time, version 1. */
const ROOT = '/sys/fs/cgroup/cpu';
/** Of a core, for each worker: two of them, their callers and the application together do not fill two cores. */
export const SHARE = 0.4;
/** Microseconds. In shorter ones a worker is stopped so often that what it finds in no cache is a good part of the cost. */
const PERIOD = 50_000;

/** Groups that limit a process with its workers: each worker to its share, all of them with the primary to the sum. */
export class Quota {
  #groups = [];

  /** @param workers their pids; empty for a process that serves itself */
  constructor(pid, workers) {
    process.once('exit', () => this.end());
    const all = this.#group(`mtls-sidecar-bench-${pid}`, Math.max(1, workers.length), pid);
    for (const worker of workers) this.#group(join(all, String(worker)), 1, worker);
  }

  #group(name, shares, pid) {
    this.#groups.push({ name, shares });
    mkdirSync(join(ROOT, name));
    write(name, 'cpu.cfs_period_us', PERIOD);
    write(name, 'cgroup.procs', pid);
    return name;
  }

  on() {
    for (const { name, shares } of this.#groups) write(name, 'cpu.cfs_quota_us', Math.round(shares * SHARE * PERIOD));
  }

  off() {
    for (const { name } of this.#groups) write(name, 'cpu.cfs_quota_us', -1);
  }

  /** Removes the groups, once their processes have ended. */
  end() {
    for (const { name } of this.#groups.splice(0).reverse()) remove(join(ROOT, name));
  }
}

function write(group, file, value) {
  writeFileSync(join(ROOT, group, file), String(value));
}

/** A process that was killed a moment ago may still be in it. */
function remove(path) {
  for (let attempt = 0; attempt < 100; attempt++) {
    try {
      return rmdirSync(path);
    } catch ({ code }) {
      if (code !== 'EBUSY') return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 10);
    }
  }
}

function canLimit() {
  const probe = join(ROOT, `mtls-sidecar-bench-probe-${process.pid}`);
  try {
    mkdirSync(probe);
    writeFileSync(join(probe, 'cpu.cfs_quota_us'), '-1');
    return true;
  } catch {
    return false;
  } finally {
    remove(probe);
  }
}

/** Whether workers are held to shares here: where they cannot have a core each, by a user who may make control groups. */
export const LIMITED = !ROOM_FOR_WORKERS && cpus().length > 1 && canLimit();

/** How one worker is compared with two, for the title. */
export const WAY = ROOM_FOR_WORKERS
  ? 'with a core each'
  : LIMITED
    ? `each held to ${SHARE} of a core, capacity at whole cores`
    : 'on one core, capacity by cost and largest share';
