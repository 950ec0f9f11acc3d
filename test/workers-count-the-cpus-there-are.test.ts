import { mkdirSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config/load.js';
import { processors, workerCount } from '../src/config/processors.js';
import { temporaryDirectory } from './support/pki.js';
import { configured, refused } from './support/settings.js';

const directory = temporaryDirectory();
afterAll(() => directory.remove());

let roots = 0;

/** A root folder with these files. */
function root(files: Readonly<Record<string, string>>): string {
  roots += 1;
  const path = join(directory.path, String(roots));
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) {
    mkdirSync(dirname(join(path, name)), { recursive: true });
    writeFileSync(join(path, name), content);
  }
  return path;
}

const V2 = 'sys/fs/cgroup';
const V1 = 'sys/fs/cgroup/cpu,cpuacct';
const v2 = (max: string) => root({ 'proc/self/cgroup': '0::/\n', [`${V2}/cpu.max`]: max });

describe('of 16 CPUs', () => {
  it.each([
    ['max 100000\n', 16],
    ['200000 100000\n', 2],
    ['150000 100000\n', 2],
    ['50000 100000\n', 1],
    ['1000 100000\n', 1],
    ['3200000 100000\n', 16],
    ['', 16],
    ['nonsense', 16],
    ['0 100000\n', 16],
    ['100000 0\n', 16],
  ])('cpu.max %j leaves %d', (max, expected) => expect(processors(v2(max), 16)).toBe(expected));

  it('the tightest of the groups above counts', () => {
    const path = root({
      'proc/self/cgroup': '0::/pods/pod1/sidecar\n',
      [`${V2}/pods/cpu.max`]: '800000 100000\n',
      [`${V2}/pods/pod1/cpu.max`]: '300000 100000\n',
      [`${V2}/pods/pod1/sidecar/cpu.max`]: 'max 100000\n',
    });
    expect(processors(path, 16)).toBe(3);
  });

  it.each([
    ['250000', '100000', 3],
    ['-1', '100000', 16],
    ['400000', '100000', 4],
  ])('version 1 with a quota of %s in %s leaves %d', (quota, period, expected) => {
    const files = { [`${V1}/cpu.cfs_quota_us`]: quota, [`${V1}/cpu.cfs_period_us`]: period };
    // As Docker shows it: the group has a name, and stands at the top of what the container sees.
    const path = root({ 'proc/self/cgroup': '12:pids:/a\n4:cpu,cpuacct:/docker/0123\n0::/docker/0123\n', ...files });
    expect(processors(path, 16)).toBe(expected);
  });

  it('all are left where there are no control groups', () => expect(processors(root({}), 16)).toBe(16));

  it('a group whose name leads elsewhere is not followed', () => {
    const path = root({ 'proc/self/cgroup': '0::/../../..\n', 'cpu.max': '100000 100000\n' });
    expect(processors(path, 16)).toBe(16);
  });
});

it('settings arrive at a worker as they are', () => {
  const file = new URL('../config/mtls-sidecar.yaml', import.meta.url).pathname;
  const flags = {
    ...{ 'clientCert.allow': '[{commonName: a, paths: [/x/*]}]', 'forwarded.headers': '{X-Real-IP: remoteAddress}' },
    ...{ 'tls.cert': 'c', 'tls.key': 'k', 'clientCert.ca': 'ca' },
  };
  const config = loadConfig({ file, env: {}, flags });
  expect(JSON.parse(JSON.stringify(config))).toStrictEqual(config);
});

describe('workers', () => {
  it('is one by default, a number as given, and for auto as many as there are CPUs', () => {
    expect(workerCount(configured())).toBe(1);
    expect(workerCount(configured({ workers: '3' }))).toBe(3);
    const automatic = workerCount(configured({ workers: 'auto' }));
    expect(automatic).toBeGreaterThanOrEqual(1);
    expect(automatic).toBeLessThanOrEqual(availableParallelism());
  });

  it.each(['0', '-1', '1.5', '129', 'many', ''])('is not %j', (workers) => {
    expect(refused({ workers })).toEqual([expect.stringContaining('must be a whole number from 1 to 128, or auto')]);
  });
});
