import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import type { Config } from './config.js';

/** Processes to serve with, at least 1. */
export function workerCount({ workers }: Pick<Config, 'workers'>): number {
  return workers === 'auto' ? processors() : workers;
}

/**
 * CPUs that this process may keep busy: those it may run on, or fewer when a control group allows less time than they have.
 * A limit of a CPU and a half counts as two: one and a half workers' work is done by two, and not by one. Containers are
 * limited in this way, and nothing else tells them that they are not alone on a machine of 64.
 * @param root where /proc and /sys are; for tests
 */
export function processors(root = '/', cpus: number = availableParallelism()): number {
  const quotas = groupsOf(root).flatMap(({ controllers, path }) => limitsOf(root, controllers, path));
  return Math.max(1, Math.min(cpus, ...quotas.map((quota) => Math.ceil(quota))));
}

interface Group {
  /** Of version 1: `cpu,cpuacct`. Empty for version 2. */
  readonly controllers: string;
  readonly path: string;
}

/** The control groups of this process that can limit its CPU. */
function groupsOf(root: string): Group[] {
  const lines = read(join(root, 'proc/self/cgroup')).split('\n');
  return lines.flatMap((line) => {
    const [, controllers, path] = /^\d+:([^:]*):(\/.*)$/.exec(line) ?? [];
    if (controllers === undefined || path === undefined) return [];
    return controllers === '' || controllers.split(',').includes('cpu') ? [{ controllers, path }] : [];
  });
}

/** CPUs allowed by a group and by each above it. In a container its own group often stands at the top, under no name. */
function limitsOf(root: string, controllers: string, path: string): number[] {
  const mount = join(root, 'sys/fs/cgroup', controllers);
  const names = path.split('/').filter((name) => name !== '' && name !== '..');
  const folders = Array.from({ length: names.length + 1 }, (_, length) => join(mount, ...names.slice(0, length)));
  return folders.flatMap((folder) => (controllers === '' ? quotaOf(folder) : oldQuotaOf(folder)));
}

/** Version 2: `cpu.max` holds `max 100000`, or microseconds allowed in each period of microseconds. */
function quotaOf(folder: string): number[] {
  const [quota, period] = read(join(folder, 'cpu.max')).trim().split(' ');
  return share(quota, period);
}

/** Version 1: the same in two files, -1 for no limit. */
function oldQuotaOf(folder: string): number[] {
  return share(read(join(folder, 'cpu.cfs_quota_us')), read(join(folder, 'cpu.cfs_period_us')));
}

function share(quota: string | undefined, period: string | undefined): number[] {
  const cpus = Number(quota) / Number(period);
  return Number.isFinite(cpus) && cpus > 0 ? [cpus] : [];
}

/** Nothing where there is none: not every system has control groups. */
function read(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}
