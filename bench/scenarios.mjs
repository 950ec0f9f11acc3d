import { WAY } from './quota.mjs';

const ALL = ['sidecar', 'nginx', 'haproxy', 'caddy', 'http-proxy', 'httpxy', 'fastify-http-proxy'];
const SERVERS = ['sidecar', 'nginx', 'haproxy', 'caddy', 'http-proxy'];
const CLOSEST = ['sidecar', 'nginx', 'http-proxy'];

const callbacks = (extra) => ({ protocol: 'http1', connections: 50, mix: { callback: 1 }, ...extra });
const bodies = (size, way, connections) => [
  `bodies-${size}-${way}`,
  {
    title: `Bodies of ${size.toUpperCase().replace(/(\d+)/, '$1 ')}iB, ${way === 'up' ? 'from callers' : 'to callers'}`,
    kind: 'requests',
    unit: 'request',
    peers: CLOSEST,
    seconds: 0.7,
    load: callbacks({ connections, mix: { [`${size}-${way}`]: 1 } }),
  },
];
/** Connections that ask nothing: what is left is the handshake, with what belongs to opening and closing. */
const handshakesAlone = (keys, key) =>
  [false, true].map((resumed) => [
    `tls-${keys}${resumed ? '-resumed' : ''}`,
    {
      title: `A connection without a request, ${resumed ? 'resumed session' : 'whole handshake'}, ${key} server key`,
      kind: 'handshakes',
      unit: 'connection',
      peers: ['sidecar', 'nginx'],
      keys,
      load: { concurrency: 8, resumed, asks: false },
    },
  ]);

/**
 * What is measured, by name. `kind` says how (measure.mjs): rounds of requests, rounds of handshakes, idle connections, a
 * start, memory under load, workers. `seconds` is a factor on the seconds of a round.
 */
export const SCENARIOS = {
  callbacks: {
    title: 'Callbacks on 50 kept connections, as many as go through',
    kind: 'requests',
    unit: 'request',
    peers: ALL,
    load: callbacks(),
  },
  rate: {
    title: 'Callbacks on 50 kept connections, 2,000 a second',
    kind: 'requests',
    unit: 'request',
    figure: 'p99',
    peers: SERVERS,
    seconds: 1.3,
    load: callbacks({ rate: 2000 }),
  },
  mixed: {
    title: '1,000 connections, 2,000 requests a second, one in ten with an answer of 64 KiB',
    kind: 'requests',
    unit: 'request',
    peers: CLOSEST,
    seconds: 1.3,
    load: callbacks({ connections: 1000, rate: 2000, mix: { callback: 9, '64k-down': 1 } }),
  },
  'handshake-rsa': {
    title: 'A connection for each callback, whole handshake, RSA-2048 server key',
    kind: 'handshakes',
    unit: 'connection',
    peers: SERVERS,
    keys: 'rsa',
    load: { concurrency: 8, resumed: false },
  },
  'handshake-p256': {
    title: 'A connection for each callback, whole handshake, ECDSA P-256 server key',
    kind: 'handshakes',
    unit: 'connection',
    peers: ['sidecar', 'nginx', 'haproxy'],
    load: { concurrency: 8, resumed: false },
  },
  'handshake-resumed': {
    title: 'A connection for each callback, resumed session',
    kind: 'handshakes',
    unit: 'connection',
    peers: SERVERS,
    keys: 'rsa',
    load: { concurrency: 8, resumed: true },
  },
  ...Object.fromEntries([...handshakesAlone('rsa', 'RSA-2048'), ...handshakesAlone('p256', 'ECDSA P-256')]),
  ...Object.fromEntries([
    bodies('1k', 'down', 50),
    bodies('1k', 'up', 50),
    bodies('64k', 'down', 16),
    bodies('64k', 'up', 16),
    bodies('16m', 'down', 4),
    bodies('16m', 'up', 4),
  ]),
  http2: {
    title: 'Callbacks over HTTP/2, 5 connections with 10 streams each',
    kind: 'requests',
    unit: 'request',
    peers: ['sidecar', 'nginx', 'haproxy', 'caddy'],
    load: callbacks({ protocol: 'http2', connections: 5, streams: 10 }),
  },
  websocket: {
    title: 'WebSocket, frames of 125 bytes there and back on 50 connections',
    kind: 'requests',
    unit: 'frame',
    peers: ['sidecar', 'nginx', 'haproxy', 'http-proxy'],
    load: callbacks({ protocol: 'websocket' }),
  },
  idle: { title: 'Quiet connections', kind: 'idle', peers: CLOSEST },
  start: {
    title: 'From the start to the first answer',
    kind: 'start',
    peers: ['sidecar-image', 'sidecar-npm', 'nginx', 'http-proxy'],
  },
  memory: {
    title: 'Memory under full load of callbacks',
    kind: 'memory',
    peers: CLOSEST,
    load: callbacks(),
    seconds: 15,
  },
  workers: { title: `One worker and two, ${WAY}`, kind: 'workers', peers: ['sidecar'], load: callbacks({ doors: 1 }) },
};
