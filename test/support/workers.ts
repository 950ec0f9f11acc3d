import { X509Certificate } from 'node:crypto';
import { call, openRaw, type Answer, type CallOptions, type RawCaller } from './caller.js';
import type { Issued } from './pki.js';
import type { RunningProgram } from './program.js';
import type { LogLine } from './sidecar.js';

/** A worker as `/status` shows it. */
export interface WorkerStatus {
  readonly worker: number;
  readonly pid: number;
  readonly state: string;
}

export async function statusOf(sidecar: RunningProgram) {
  return JSON.parse((await sidecar.admin('/status')).body);
}

export async function workersOf(sidecar: RunningProgram): Promise<readonly WorkerStatus[]> {
  return (await statusOf(sidecar)).workers;
}

/** Every line that was logged so far, parsed. */
export function linesOf(sidecar: RunningProgram): LogLine[] {
  const whole = sidecar.stdout().slice(0, sidecar.stdout().lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as LogLine);
}

/** The record of the request for `path`, once it is written. Tests give every request a path of its own. */
export async function recordFor(sidecar: RunningProgram, path: string): Promise<LogLine> {
  const [line] = await sidecar.said(new RegExp(`^.*"path":"${path}".*"msg":"request"}$`, 'm'));
  return JSON.parse(line) as LogLine;
}

let requests = 0;

/** One request over a connection of its own, and the number of the worker that served it. */
export async function ask(
  sidecar: RunningProgram,
  options: CallOptions = {},
): Promise<{ readonly answer: Answer; readonly worker: unknown; readonly record: LogLine }> {
  requests += 1;
  const path = `/request-${requests}-end`;
  const answer = await call(sidecar, { ...options, path });
  const record = await recordFor(sidecar, path);
  return { answer, record, worker: record['worker'] };
}

/** More connections than ever go to the same of two workers by chance. */
const TRIES = 60;

/** What each of two workers answers, in their order. Which one a new connection goes to is the kernel's choice. */
export async function askBoth(sidecar: RunningProgram, options: CallOptions = {}) {
  const asked = new Map<unknown, Awaited<ReturnType<typeof ask>>>();
  for (let tries = 0; tries < TRIES; tries += 1) {
    const one = await ask(sidecar, options);
    asked.set(one.worker, one);
    const [first, second] = [asked.get(1), asked.get(2)];
    if (first !== undefined && second !== undefined) return [first, second] as const;
  }
  throw new Error(`only of worker ${[...asked.keys()].join()}`);
}

/** A caller of each of two workers, in their order, over connections that stay open. */
export async function openBoth(sidecar: RunningProgram, options: Parameters<typeof openRaw>[1] = {}) {
  const callers = new Map<unknown, RawCaller>();
  for (let tries = 0; tries < TRIES; tries += 1) {
    const caller = await openRaw(sidecar, options);
    requests += 1;
    const path = `/request-${requests}-end`;
    caller.socket.write(`GET ${path} HTTP/1.1\r\nHost: localhost\r\n\r\n`);
    const { worker } = await recordFor(sidecar, path);
    if (callers.has(worker)) caller.socket.destroy();
    else callers.set(worker, caller);
    const [first, second] = [callers.get(1), callers.get(2)];
    if (first !== undefined && second !== undefined) return [first, second] as const;
  }
  throw new Error(`only to worker ${[...callers.keys()].join()}`);
}

/** Serial number of a certificate, as a TLS client is shown it. */
export function serialOf({ certPem }: Pick<Issued, 'certPem'>): string {
  return new X509Certificate(certPem).serialNumber;
}

/** The value of a line of `/metrics`; 0 when absent. */
export async function metricOf(sidecar: RunningProgram, name: string): Promise<number> {
  const { body } = await sidecar.admin('/metrics');
  const line = body.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length + 1));
}
