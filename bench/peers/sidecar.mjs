import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { loadConfig } from '../../dist/config/load.js';
import { allocator, nodeOptions } from '../../scripts/image-start.mjs';

const ROOT = join(import.meta.dirname, '../..');
const MAIN = join(ROOT, 'dist/main.js');

/**
 * This project with its defaults: identity headers of the nginx preset, an access record for each request. Only what would
 * end connections is lifted, as for nginx, so that handshakes stay out of the measurement.
 */
function settings({ port, adminPort = 'off', upstreamPort, files, http2, workers, connections }) {
  return {
    listen: { host: '127.0.0.1', port, ...(http2 ? { http2 } : {}) },
    ...(workers === 1 ? {} : { workers }),
    tls: { cert: files.serverCert, key: files.serverKey },
    clientCert: { ca: files.ca },
    upstream: { url: `http://127.0.0.1:${upstreamPort}` },
    limits: {
      requestsPerConnection: 1_000_000_000,
      connections: connections + 100,
      keepAliveTimeout: '600s',
      body: 0,
    },
    admin: { port: adminPort },
  };
}

/** Whether this version takes a setting. */
export function takes(flags) {
  try {
    loadConfig({ env: {}, flags: { 'tls.cert': 'x', 'tls.key': 'x', 'clientCert.ca': 'x', ...flags } });
    return true;
  } catch {
    return false;
  }
}

function commandOf(main, options, setup) {
  const file = join(setup.directory, `sidecar-${setup.port}.yaml`);
  writeFileSync(file, JSON.stringify(settings(setup)));
  return [process.execPath, ...options, main, 'run', '--config', file];
}

const asTheImage = { env: () => allocator() ?? {} };

/** The package, started as the image starts it. */
export const sidecar = {
  name: 'sidecar',
  version: () =>
    `Node ${process.version}, OpenSSL ${process.versions.openssl}, ${allocator() === null ? "the C library's allocator" : 'jemalloc'}`,
  command: (setup) => commandOf(MAIN, nodeOptions(), setup),
  ...asTheImage,
};

/** The package, started by its name. */
export const sidecarNpm = {
  name: 'sidecar-npm',
  version: () => 'sidecar-npm without options',
  command: (setup) => commandOf(MAIN, [], setup),
};

const imageIn = (directory) => join(directory, 'image');

/** What the image has, in a few files. */
export const sidecarImage = {
  name: 'sidecar-image',
  version() {
    const { version } = JSON.parse(readFileSync(join(ROOT, 'node_modules/rolldown/package.json'), 'utf8'));
    return `rolldown ${version}`;
  },
  prepare(directory) {
    const script = join(ROOT, 'scripts/bundle.mjs');
    const { status } = spawnSync(process.execPath, [script, imageIn(directory)], { stdio: 'inherit' });
    if (status !== 0) throw new Error('scripts/bundle.mjs failed');
  },
  command: (setup) => commandOf(join(imageIn(setup.directory), 'dist/main.js'), nodeOptions(), setup),
  ...asTheImage,
};
