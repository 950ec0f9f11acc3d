/**
 * The callers: bare TLS sockets and prepared bytes, so that a caller costs less than the cheapest proxy. What it took of
 * its core is part of each result.
 *
 * Driven over the IPC channel, one order at a time, each answered with one message:
 *   { do: 'open', protocol, port, files, connections, streams, mix, doors }   every connection has had one answer; `doors` at once
 *   { do: 'run', seconds, rate }       closed loop, or with a rate open loop: see run-load.mjs
 *   { do: 'handshakes', port, files, seconds, concurrency, resumed, asks }   a connection for each request, or for none
 *   { do: 'hold', port, files, connections }                           connections that are quiet after one answer
 *   { do: 'close' }
 */
import { createSecureContext } from 'node:tls';
import { callerTls } from './certificates.mjs';
import { http1Bytes, REQUESTS } from './callback.mjs';
import { Http1Caller } from './load/http1.mjs';
import { Http2Connection, http2Bytes } from './load/http2.mjs';
import { handshakes } from './load/handshakes.mjs';
import { hold } from './load/hold.mjs';
import { closedLoop, openLoop } from './load/loops.mjs';
import { WebSocketCaller } from './load/websocket.mjs';

/** Connections that are opened at once. */
const DOORS = 64;
let callers = [];
let mix = [];
let closing = [];
const hooks = { answered: () => undefined };

function fail(message) {
  process.send({ error: message });
}

function tlsOptions({ port, files }) {
  const secureContext = createSecureContext(callerTls(files));
  return { host: '127.0.0.1', port, servername: 'localhost', secureContext };
}

const CALLERS = {
  http1: (options, _streams, handlers) => new Http1Caller(options, handlers),
  http2: (options, streams, handlers) => new Http2Connection(options, streams, handlers),
  websocket: (options, _streams, handlers) => new WebSocketCaller(options, handlers),
};

/** Requests in the shares of the mix, `{ callback: 9, '64k-down': 1 }`, one after another. */
function prepare(protocol, shares) {
  return Object.entries(shares).flatMap(([name, count]) => {
    const request = REQUESTS[name]();
    const made = protocol === 'http2' ? http2Bytes(request) : { bytes: http1Bytes(request) };
    return Array.from({ length: count }, () => ({ ...made, expects: request.expects ?? null }));
  });
}

async function open(order) {
  const { protocol, connections, streams = 1, doors = DOORS } = order;
  mix = prepare(protocol, order.mix);
  const options = tlsOptions(order);
  const one = () =>
    new Promise((resolve) => {
      let left = streams;
      const handlers = {
        failed: fail,
        ready: (caller) => caller.send(mix[0]),
        answered: (caller, bytes) => {
          if (left === 0) return hooks.answered(caller, bytes);
          callers.push(caller);
          if (--left === 0) resolve();
        },
      };
      closing.push(CALLERS[protocol](options, streams, handlers));
    });
  let todo = connections;
  const worker = async () => {
    while (todo-- > 0) await one();
  };
  await Promise.all(Array.from({ length: Math.min(doors, connections) }, worker));
}

async function run({ seconds, rate }) {
  const loop = rate === undefined ? closedLoop : openLoop;
  return loop({ callers, mix, hooks, seconds, rate });
}

function close() {
  for (const caller of closing) caller.close();
  callers = [];
  closing = [];
}

const ACTIONS = {
  open,
  run,
  close,
  handshakes: (order) => handshakes(tlsOptions(order), order),
  hold: async (order) => {
    closing = await hold(tlsOptions(order), order.connections);
  },
};

process.on('message', async (order) => {
  const before = process.cpuUsage();
  const start = performance.now();
  try {
    const result = (await ACTIONS[order.do](order)) ?? {};
    const { user, system } = process.cpuUsage(before);
    process.send({ result: { ...result, busy: (user + system) / 1000 / (performance.now() - start) } });
  } catch (error) {
    fail(error.message);
  }
});
