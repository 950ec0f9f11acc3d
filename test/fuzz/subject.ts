import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { connect, createSecureContext, type TLSSocket } from 'node:tls';
import { ask } from '../support/ask.js';
import { tlsOptions, type Reachable } from '../support/caller.js';
import type { makePki } from '../support/pki.js';
import { asArguments, credentialFlags } from '../support/program.js';

/** An access record, as far as it is compared. */
export interface AccessRecord {
  readonly requestId: string;
  readonly method: string;
  readonly status: number;
  readonly code: string | null;
  readonly outcome: string;
  readonly bytesIn: number;
  readonly bytesOut: number;
  readonly peer: string;
}

/** The sidecar under attack: the built program in a process of its own, its log read as it comes. */
export interface Subject extends Reachable {
  readonly child: ChildProcess;
  /** Takes the records of one caller, by its local port, once there are `count`; fewer when they do not come in time. */
  records(port: number, count: number): Promise<AccessRecord[]>;
  /** Whether it has ended. */
  readonly dead: () => boolean;
  /** Opens a connection; TLS 1.2 sessions are resumed, for a full handshake costs more than what is tried over it. */
  open(protocol?: 'h2'): Promise<TLSSocket>;
  held(): Promise<Held>;
  /** What it holds of the machine, in MiB, by `/proc`: it notices nothing of being asked. */
  rss(): number;
  admin(path: string): ReturnType<typeof ask>;
  stop(): Promise<void>;
}

/** What the process holds, in MiB: of the machine, and in objects on V8's heap. */
export interface Held {
  readonly rss: number;
  readonly heapUsed: number;
}

/**
 * @param pattern with the figure as its group
 * @throws Error where there is none, for nothing is larger than NaN
 */
function figure(text: string, pattern: RegExp): number {
  const [, found] = pattern.exec(text) ?? [];
  if (found === undefined) throw new Error(`${pattern} is not in ${text}`);
  return Number(found);
}

function mib(metrics: string, name: string): number {
  return Math.round(figure(metrics, new RegExp(`^${name} (\\S+)$`, 'm')) / 1_048_576);
}

function residentMib(pid: number | undefined): number {
  return Math.round(figure(readFileSync(`/proc/${pid}/status`, 'utf8'), /^VmRSS:\s+(\d+) kB$/m) / 1024);
}

/** How a sentence begins that tells of a time-out: the sidecar hangs, or the machine had no time. Nothing else is known then. */
export const TIME_OUT = 'time-out';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));
const PATIENCE = 20_000;

/** How Node is started. */
export interface NodeStart {
  readonly options: readonly string[];
  readonly env: Readonly<Record<string, string>>;
}

export const PLAIN_NODE: NodeStart = { options: [], env: {} };

export async function startSubject(
  pki: ReturnType<typeof makePki>,
  upstream: string,
  settings: Readonly<Record<string, string>> = {},
  node = PLAIN_NODE,
): Promise<Subject> {
  const { flags } = credentialFlags(pki);
  const own = {
    'listen.host': '127.0.0.1',
    'listen.port': '0',
    'admin.port': '0',
    'limits.requestsPerConnection': '1000000',
  };
  const args = asArguments({ ...flags, ...own, 'upstream.url': upstream, ...settings });
  const child = spawn(process.execPath, [...node.options, MAIN, 'run', ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: node.env,
  });
  // Whatever becomes of the attackers.
  const kill = (): unknown => child.kill('SIGKILL');
  process.once('exit', kill);
  const log = new RecordLog();
  const ports = new Promise<[port: number, adminPort: number]>((resolve, reject) => {
    child.once('exit', () => reject(new Error('the sidecar did not start')));
    createInterface(child.stdout).on('line', (line) => {
      const [, port, adminPort] = /"port":(\d+),"adminPort":(\d+)/.exec(line) ?? [];
      if (port !== undefined) resolve([Number(port), Number(adminPort)]);
      log.read(line);
    });
  });
  const [port, adminPort] = await ports;
  const reachable = { port, pki };
  const options = { ...tlsOptions(reachable), maxVersion: 'TLSv1.2' } as const;
  const secureContext = createSecureContext(options);
  let session: Buffer | undefined;
  return {
    ...reachable,
    child,
    records: (peer, count) => log.take(`127.0.0.1:${peer}`, count),
    dead: () => child.exitCode !== null || child.signalCode !== null,
    open: async (protocol) => {
      const ALPNProtocols = protocol === undefined ? [] : [protocol];
      const socket = connect({ ...options, secureContext, ALPNProtocols, ...(session && { session }) });
      socket.on('session', (fresh: Buffer) => (session = fresh));
      socket.on('error', () => undefined);
      await once(socket, 'secureConnect');
      // Ports come round again; what an earlier caller's end added to the log is nothing of this one's.
      log.forget(`127.0.0.1:${socket.localPort}`);
      return socket;
    },
    held: async () => {
      const { body } = await ask(adminPort, '/metrics');
      return { rss: mib(body, 'process_resident_memory_bytes'), heapUsed: mib(body, 'nodejs_heap_size_used_bytes') };
    },
    rss: () => residentMib(child.pid),
    admin: (path) => ask(adminPort, path),
    stop: async () => {
      if (child.exitCode !== null) return;
      kill();
      await once(child, 'exit');
      process.off('exit', kill);
    },
  };
}

class RecordLog {
  private readonly byPeer = new Map<string, AccessRecord[]>();
  private readonly waiting = new Map<string, () => void>();

  read(line: string): void {
    if (!line.endsWith('"msg":"request"}')) return;
    const record = JSON.parse(line) as AccessRecord;
    const records = this.byPeer.get(record.peer);
    if (records === undefined) this.byPeer.set(record.peer, [record]);
    else records.push(record);
    this.waiting.get(record.peer)?.();
  }

  forget(peer: string): void {
    this.byPeer.delete(peer);
  }

  async take(peer: string, count: number): Promise<AccessRecord[]> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, PATIENCE);
      const look = (): void => {
        if ((this.byPeer.get(peer)?.length ?? 0) < count) return;
        clearTimeout(timer);
        resolve();
      };
      this.waiting.set(peer, look);
      look();
    });
    this.waiting.delete(peer);
    const records = this.byPeer.get(peer) ?? [];
    this.byPeer.delete(peer);
    return records;
  }
}
