import cluster, { type Worker } from 'node:cluster';
import { EventEmitter } from 'node:events';
import { afterEach, expect, it, vi } from 'vitest';
import type { Config } from '../src/config/config.js';
import { HELLO, type Message, type Order } from '../src/workers/orders.js';
import { startPrimary } from '../src/workers/primary.js';
import { configured } from './support/settings.js';

const upstream = { url: 'http://127.0.0.1:1', reached: true, open: 0, busy: 0, waiting: 0 };
const trust = {
  ...{ clientCert: { verify: 'required', allowRules: 0 }, serverCertificate: {}, serverCertificates: [] },
  ...{ routes: [], cas: [], crls: [] },
};
const facts = { trust, connections: 0, tunnels: 0, upstream, callers: [], anchors: [], recent: [] };
const address = { address: '127.0.0.1', family: 'IPv4', port: 1 };

/** The files as they are, and what a worker makes of them. */
let files = 'old';
/** Orders that workers take their time for. */
const slow = new Set<Order>();

/** A process that does as a worker does, but for serving. */
class Puppet extends EventEmitter {
  readonly orders: Order[] = [];
  readonly process = Object.assign(new EventEmitter(), {
    pid: 1,
    stdout: null,
    kill: () => setImmediate(() => this.process.emit('close', null, 'SIGKILL')),
  });
  inForce = '';
  private readonly held: Message[] = [];

  constructor() {
    super();
    setImmediate(() => this.emit('message', HELLO));
  }

  send(message: Message): void {
    this.orders.push(message.order);
    // What it reads is what is there when it is told to.
    const read = files;
    if (message.order === 'start') this.inForce = read;
    if (message.order === 'commit') this.inForce = message.argument as string;
    if (message.order === 'end') this.process.kill();
    if (slow.has(message.order)) this.held.push({ ...message, argument: read });
    // It has no sessions to tell of, and waits until it has.
    else if (message.order !== 'sessions') setImmediate(() => this.answer(message, read));
  }

  /** Answers what it was asked while that was slow. */
  release(order: Order): void {
    const index = this.held.findIndex((message) => message.order === order);
    const [message] = this.held.splice(index, 1);
    if (message !== undefined) this.answer(message, message.argument as string);
  }

  private answer({ id, order }: Message, read: string): void {
    const values: Partial<Record<Order, unknown>> = {
      ...{ start: read, prepare: read, expiring: [], listen: { address, cas: [], facts } },
    };
    this.emit('message', { id, problems: null, failure: null, value: values[order] ?? null });
  }
}

const puppets: Puppet[] = [];
const puppet = (index: number) => puppets.at(index) as Puppet;
vi.spyOn(cluster, 'setupPrimary').mockReturnValue();
vi.spyOn(cluster, 'fork').mockImplementation(() => {
  puppets.push(new Puppet());
  return puppet(-1) as unknown as Worker;
});

let close = (): Promise<void> => Promise.resolve();
afterEach(async () => {
  slow.clear();
  await close();
  puppets.length = 0;
  files = 'old';
});

/** Two workers of which the second has ended; its successor has read its files, and has not said so yet. */
async function startWithLatecomer() {
  const config: Config = configured({ 'log.level': 'fatal', 'admin.port': 'off', 'reload.interval': '1h' });
  const primary = await startPrimary(config, { size: 2, readConfig: () => config });
  close = () => primary.close();
  slow.add('start');
  puppet(1).process.kill();
  await vi.waitFor(() => expect(puppets.at(2)?.orders).toContain('start'));
  slow.delete('start');
  return { primary, late: puppet(2) };
}

it('serves with the files that a reload, under way while it came, puts in force', async () => {
  const { primary, late } = await startWithLatecomer();
  files = 'new';
  slow.add('commit');
  const reloading = primary.reload();
  await vi.waitFor(() => expect(puppet(0).orders).toContain('commit'));
  late.release('start');
  // As long as it takes to do it wrong.
  for (let turns = 0; turns < 10; turns += 1) await new Promise(setImmediate);
  expect(late.orders).not.toContain('listen');
  slow.clear();
  puppet(0).release('commit');
  expect((await reloading).result).toBe('applied');
  await vi.waitFor(() => expect(late.orders).toContain('listen'));
  expect([puppet(0).inForce, late.inForce]).toEqual(['new', 'new']);
});

it('drains when the drain began while it came', async () => {
  const { primary, late } = await startWithLatecomer();
  primary.drain();
  late.release('start');
  await vi.waitFor(() => expect(late.orders).toContain('listen'));
  expect(late.orders).toContain('drain');
});

it('does not begin to listen when the others have stopped', async () => {
  const { primary, late } = await startWithLatecomer();
  primary.stopAccepting();
  const ended = new Promise((resolve) => late.process.once('close', resolve));
  late.release('start');
  await ended;
  expect(late.orders).not.toContain('listen');
});

it('stops listening when the others stopped while it began', async () => {
  const { primary, late } = await startWithLatecomer();
  slow.add('listen');
  late.release('start');
  await vi.waitFor(() => expect(late.orders).toContain('listen'));
  primary.stopAccepting();
  const before = late.orders.length;
  slow.clear();
  late.release('listen');
  await vi.waitFor(() => expect(late.orders.slice(before)).toContain('stopAccepting'));
});
