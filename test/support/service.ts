import { once } from 'node:events';
import { Agent } from 'node:https';
import { connect, createServer, type AddressInfo, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { call, type Reachable } from './caller.js';

/** A balancer of TCP connections, as a Service is one: each new connection goes to the next port in turn. */
export interface Balancer {
  readonly port: number;
  add(port: number): void;
  /** New connections no longer go there; those that are open stay. */
  remove(port: number): void;
  /** Resolves when no connection goes there any more, and callers have noticed. */
  deserted(port: number): Promise<void>;
  stop(): Promise<void>;
}

export async function startBalancer(): Promise<Balancer> {
  let ports: readonly number[] = [];
  let turn = 0;
  const sockets = new Set<Socket>();
  /** Where callers' connections go. */
  const goals = new Map<Socket, number>();
  const server = createServer((downstream) => {
    const port = ports[turn++ % ports.length];
    if (port === undefined) return void downstream.destroy();
    const upstream = connect(port, '127.0.0.1');
    goals.set(downstream, port);
    downstream.once('close', () => goals.delete(downstream));
    for (const [one, other] of [
      [downstream, upstream],
      [upstream, downstream],
    ] as const) {
      sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => sockets.delete(one) && other.destroySoon());
      one.pipe(other);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    port: (server.address() as AddressInfo).port,
    add: (port) => (ports = [...ports, port]),
    remove: (port) => (ports = ports.filter((other) => other !== port)),
    deserted: async (port) => {
      const open = [...goals].filter(([, goal]) => goal === port);
      await Promise.all(open.map(([socket]) => new Promise((resolve) => socket.once('close', resolve))));
      // Their other ends are in this process. An end is read in one turn, and the socket is closed in another.
      for (let turns = 0; turns < 10; turns += 1) await new Promise(setImmediate);
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** One request of the load. */
export interface Attempt {
  /** The status, or the error's code when there was no answer. */
  readonly outcome: number | string;
  readonly retryAfter: string | undefined;
  readonly startedAt: number;
  readonly milliseconds: number;
}

export interface Load {
  /** Sends no more, waits for what is under way. */
  finish(): Promise<readonly Attempt[]>;
}

/** Requests each way a second. */
const EACH_WAY = 50;
/** Requests under way to which no more are added: a machine that has no time falls behind in their number, not in their time. */
const MOST_OPEN = 20;

/** 100 requests a second (fewer on a machine that has no time) until `finish`: half of them over a few connections that stay, half over a new one each. */
export function startLoad(to: Reachable): Load {
  // In turn, so that no connection is left lying until its other end is gone.
  const agent = new Agent({ keepAlive: true, maxSockets: 4, scheduling: 'fifo' });
  const attempts: Attempt[] = [];
  const open = new Set<Promise<void>>();
  const send = (over: Agent | false): void => {
    const startedAt = Date.now();
    const done = (outcome: number | string, retryAfter?: string): void => {
      attempts.push({ outcome, retryAfter, startedAt, milliseconds: Date.now() - startedAt });
    };
    const request = call(to, { agent: over }).then(
      ({ status, headers }) => done(status, headers['retry-after']),
      (error: NodeJS.ErrnoException) => done(error.code ?? error.message),
    );
    open.add(request);
    void request.then(() => open.delete(request));
  };
  const timer = setInterval(() => {
    if (open.size >= MOST_OPEN) return;
    send(agent);
    send(false);
  }, 1000 / EACH_WAY);
  return {
    finish: async () => {
      clearInterval(timer);
      await Promise.all(open);
      agent.destroy();
      return attempts;
    },
  };
}

/** Time in which the load goes on undisturbed. */
export async function undisturbed(milliseconds: number): Promise<void> {
  await sleep(milliseconds);
}
