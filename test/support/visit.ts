import type { ConnectionOptions, SecureVersion } from 'node:tls';
import { openRaw, type Identity, type Reachable } from './caller.js';

/** One TLS connection with one request. */
export interface Visit {
  readonly as?: Identity | null;
  readonly version: SecureVersion;
  /** To resume. */
  readonly session?: Buffer | undefined;
  readonly tls?: ConnectionOptions;
}

/** What came of it, and what may be resumed of it. */
export interface Visited {
  readonly status: number;
  readonly reused: boolean;
  readonly session: Buffer | undefined;
}

export async function visit(sidecar: Reachable, { as, version, session, tls }: Visit): Promise<Visited> {
  const caller = await openRaw(sidecar, {
    ...(as === undefined ? {} : { as }),
    minVersion: version,
    maxVersion: version,
    ...(session === undefined ? {} : { session }),
    ...tls,
  });
  let ticket: Buffer | undefined = caller.socket.getSession();
  caller.socket.on('session', (next: Buffer) => (ticket = next));
  const reused = caller.socket.isSessionReused();
  caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
  const answer = await caller.closed();
  return { status: Number(answer.slice(9, 12)), reused, session: ticket };
}
