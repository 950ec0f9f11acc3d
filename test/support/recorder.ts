import type { Socket } from 'node:net';
import { startRawApplication } from './application.js';
import { headerValues, methodOf, WireReader, type WireMessage } from './wire.js';

/** One request as it reached the application. */
export interface Received {
  /** Its X-Request-Id, by which caller, log and application speak of the same request. */
  readonly id: string;
  readonly message: WireMessage;
}

/** An application that takes whatever bytes come, and a reader beside it that says what they were. */
export interface Recorder {
  readonly url: string;
  /** Whole requests, in the order of their ends. */
  readonly received: Received[];
  readonly byId: Map<string, WireMessage[]>;
  /** What had no single reading. */
  readonly problems: string[];
  /** Connections that ended within a request. */
  readonly cut: () => number;
  /** Resolves when no connection holds part of a request. */
  settled(): Promise<void>;
  /** Forgets what was received. */
  forget(): void;
  stop(): Promise<void>;
}

/** @param answer what to write for a request; default: 200 with its id as the body */
export async function startRecorder(answer: (received: Received, socket: Socket) => void = echoId): Promise<Recorder> {
  const received: Received[] = [];
  const byId = new Map<string, WireMessage[]>();
  const problems: string[] = [];
  const readers = new Set<WireReader>();
  let waiting: (() => void)[] = [];
  let cut = 0;
  const look = (): void => {
    if ([...readers].some(({ isPartial }) => isPartial)) return;
    waiting.splice(0).forEach((resolve) => resolve());
  };
  const application = await startRawApplication((socket) => {
    const reader = new WireReader({
      onMessage: (message) => {
        // Kept here, not there: a connection may live through a million.
        reader.messages.length = 0;
        const id = headerValues(message, 'x-request-id').join();
        received.push({ id, message });
        byId.set(id, [...(byId.get(id) ?? []), message]);
        answer({ id, message }, socket);
      },
    });
    readers.add(reader);
    socket.on('data', (chunk: Buffer) => {
      reader.push(chunk);
      if (reader.problem !== null)
        problems.push(`${reader.problem} before ${JSON.stringify(reader.rest.slice(0, 200))}`);
      look();
    });
    socket.on('close', () => {
      readers.delete(reader);
      application.sockets.splice(application.sockets.indexOf(socket), 1);
      if (reader.isPartial) cut += 1;
      look();
    });
  });
  return {
    url: application.url,
    received,
    byId,
    problems,
    cut: () => cut,
    settled: () => new Promise((resolve) => (waiting.push(resolve), look())),
    forget: () => {
      received.length = 0;
      byId.clear();
    },
    stop: async () => {
      waiting = [];
      await application.stop();
    },
  };
}

function echoId({ id, message }: Received, socket: Socket): void {
  const body = methodOf(message) === 'HEAD' ? '' : id;
  socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${id.length}\r\n\r\n${body}`, 'latin1');
}
