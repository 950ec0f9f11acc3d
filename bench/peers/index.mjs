import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { caddy } from './caddy.mjs';
import { haproxy } from './haproxy.mjs';
import { nginx } from './nginx.mjs';
import { sidecar, sidecarImage, sidecarNpm } from './sidecar.mjs';

const SERVER = join(import.meta.dirname, 'node-server.mjs');

function nodePeer(name, packageName = name) {
  const folder = join(import.meta.dirname, '../../node_modules', packageName);
  return {
    name,
    version: () => `${packageName} ${JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')).version}`,
    command: ({ port, upstreamPort, files }) =>
      [process.execPath, SERVER, name, port, upstreamPort, files.serverCert, files.serverKey, files.ca].map(String),
  };
}

/**
 * Everything that is compared. Each has `name`; `version()`, null when it is not installed; `command(setup)`, its command line, with the configuration written into `setup.directory`; and perhaps `env(setup)`,
 * and `prepare(directory)`, for what takes time that is none of its start.
 *
 * setup: { port, adminPort?, upstreamPort, files, directory, http2, websocket, workers, connections }
 */
export const PEERS = [
  sidecar,
  sidecarImage,
  sidecarNpm,
  nginx,
  haproxy,
  caddy,
  nodePeer('http-proxy'),
  nodePeer('httpxy'),
  nodePeer('fastify-http-proxy', '@fastify/http-proxy'),
];
