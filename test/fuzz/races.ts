import { once } from 'node:events';
import { createServer, type AddressInfo, type Socket } from 'node:net';
import type { makePki } from '../support/pki.js';
import { headerValues, statusOf, WireReader } from '../support/wire.js';
import { startSubject, type Subject } from './subject.js';

export interface RaceResult {
  readonly requests: number;
  /** Sent a second time by the sidecar, after a connection had closed under the first. */
  readonly repeated: number;
  /** Lost with a kept connection, and answered 502, because sending twice was not allowed. */
  readonly givenUp: number;
  /** What must not be, one sentence each. */
  readonly wrong: readonly string[];
}

/** Without a body all but POST and PATCH may be sent twice (RFC 9110 §9.2.2). */
const KINDS = [
  { method: 'GET', lines: '' },
  { method: 'HEAD', lines: '' },
  { method: 'PUT', lines: '' },
  { method: 'DELETE', lines: '' },
  { method: 'OPTIONS', lines: '' },
  { method: 'POST', lines: '' },
  { method: 'POST', lines: 'Content-Length: 2\r\n' },
  { method: 'PUT', lines: 'Content-Length: 2\r\n' },
  { method: 'PATCH', lines: 'Transfer-Encoding: chunked\r\n' },
] as const;

/** Callers at one time. */
const CALLERS = 40;

/** Callers against an application that closes its idle connections in the moment in which they are used again. */
export async function race(pki: ReturnType<typeof makePki>, requests: number): Promise<RaceResult> {
  const application = await startHasty();
  const subject = await startSubject(pki, application.url);
  const wrong: string[] = [];
  let next = 0;
  let givenUp = 0;
  const call = async (): Promise<void> => {
    const caller = await openCaller(subject);
    while (next < requests) {
      const number = next++;
      const kind = KINDS[number % KINDS.length] ?? KINDS[0];
      const status = await caller.ask(kind, `/race/${number}`);
      const arrivals = application.arrivals.get(`/race/${number}`) ?? 0;
      const mayRepeat = kind.lines === '' && kind.method !== 'POST';
      if (status === 502 && !mayRepeat) givenUp += 1;
      else if (status !== 200) wrong.push(`${kind.method} /race/${number} was answered ${status}`);
      if (arrivals > (mayRepeat ? 2 : 1)) wrong.push(`${kind.method} /race/${number} was sent ${arrivals} times`);
      await pause();
    }
    caller.end();
  };
  await Promise.all(Array.from({ length: CALLERS }, call));
  const repeated = [...application.arrivals.values()].filter((count) => count > 1).length;
  await subject.stop();
  application.stop();
  return { requests, repeated, givenUp, wrong };
}

/** Between no time and a little, so that every moment of a closing is met. */
async function pause(): Promise<void> {
  if (Math.random() < 0.5) await new Promise((resolve) => setTimeout(resolve, Math.random() * 4));
}

interface Hasty {
  readonly url: string;
  /** How often each target arrived, answered or not. */
  readonly arrivals: Map<string, number>;
  stop(): void;
}

/** An application that closes each connection a moment after an answer, at rest or not, by FIN or by reset. */
async function startHasty(): Promise<Hasty> {
  const arrivals = new Map<string, number>();
  const sockets = new Set<Socket>();
  const server = createServer((socket) => {
    sockets.add(socket);
    let over = false;
    const close = (): void => {
      over = true;
      if (Math.random() < 0.5) socket.end();
      else socket.destroy();
    };
    const reader = new WireReader({
      onMessage: ({ line }) => {
        reader.messages.length = 0;
        const [method = '', target = ''] = line.split(' ');
        arrivals.set(target, (arrivals.get(target) ?? 0) + 1);
        // It has given up this connection already: whatever comes is not looked at.
        if (over) return;
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n${method === 'HEAD' ? '' : 'ok'}`);
        const now = Math.random();
        if (now < 0.1) setImmediate(close);
        else if (now < 0.4) setTimeout(close, now * 10);
      },
    });
    socket.on('data', (chunk: Buffer) => reader.push(chunk));
    socket.on('error', () => undefined);
    socket.on('close', () => sockets.delete(socket));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const stop = (): void => {
    for (const socket of sockets) socket.destroy();
    server.close();
  };
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, arrivals, stop };
}

interface RaceCaller {
  /** @returns the status, or 0 when the connection broke */
  ask(kind: { readonly method: string; readonly lines: string }, target: string): Promise<number>;
  end(): void;
}

async function openCaller(subject: Subject): Promise<RaceCaller> {
  let socket = await subject.open();
  /** Whether the last answer said close. */
  let over = false;
  return {
    async ask({ method, lines }, target) {
      if (over) {
        socket.destroy();
        socket = await subject.open();
        over = false;
      }
      const reader = new WireReader({ nextMethod: () => method });
      const answered = new Promise<number>((resolve) => {
        const finish = (status: number): void => {
          socket.off('data', onData);
          socket.off('close', onClose);
          resolve(status);
        };
        const onData = (chunk: Buffer): void => {
          reader.push(chunk);
          const [answer] = reader.messages;
          if (answer === undefined) return;
          over = headerValues(answer, 'connection').join() === 'close';
          finish(statusOf(answer));
        };
        const onClose = (): void => finish(0);
        socket.on('data', onData);
        socket.on('close', onClose);
      });
      const body = lines === '' ? '' : lines.startsWith('T') ? '2\r\nhi\r\n0\r\n\r\n' : 'hi';
      socket.write(`${method} ${target} HTTP/1.1\r\nHost: a\r\n${lines}\r\n${body}`);
      return answered;
    },
    end: () => socket.destroy(),
  };
}
