import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ask } from './ask.js';
import type { Reachable } from './caller.js';
import { makePki, temporaryDirectory, writePki, type Pki } from './pki.js';

const MAIN = fileURLToPath(new URL('../../dist/main.js', import.meta.url));

/** How a process ended. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** The built program as a process of its own. */
export interface Program {
  readonly child: ChildProcess;
  stdout(): string;
  stderr(): string;
  /** Resolves once stdout matches, past or future; rejects when the process ends before. */
  said(pattern: RegExp): Promise<RegExpExecArray>;
  /** Resolves when the process has ended and everything it wrote was read. */
  ended(): Promise<Ending>;
}

/**
 * Starts `mtls-sidecar` with these arguments and nothing of the test's environment. End it in `afterEach` with
 * `endPrograms`, whatever became of the test.
 */
export function startProgram(argv: readonly string[], env: Readonly<Record<string, string>> = {}): Program {
  const child = spawn(process.execPath, [MAIN, ...argv], {
    env: { PATH: process.env['PATH'] ?? '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.add(child);
  let out = '';
  let err = '';
  const ending = once(child, 'close').then(([code, signal]) => {
    running.delete(child);
    return { code, signal };
  });
  child.stdout.setEncoding('utf8').on('data', (text: string) => (out += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (err += text));
  return {
    child,
    stdout: () => out,
    stderr: () => err,
    ended: () => ending,
    said: (pattern) =>
      new Promise((resolve, reject) => {
        const look = (): void => {
          const found = pattern.exec(out);
          if (found === null) return;
          child.stdout.off('data', look);
          resolve(found);
        };
        child.stdout.on('data', look);
        void ending.then(() => reject(new Error(`ended without ${String(pattern)}:\n${out}\n${err}`)));
        look();
      }),
  };
}

const running = new Set<ChildProcess>();
const directories: { remove(): void }[] = [];

/** Kills what is still running, and removes its files. */
export function endPrograms(): void {
  for (const child of running) child.kill('SIGKILL');
  directories.splice(0).forEach((directory) => directory.remove());
}

/** A directory for the files of one program, removed by `endPrograms`. */
export function programDirectory(): string {
  const directory = temporaryDirectory();
  directories.push(directory);
  return directory.path;
}

/** The usual files of a PKI in a directory of their own, and the flags that name them. */
export function credentialFlags(pki: Pki): { readonly directory: string; readonly flags: Record<string, string> } {
  const directory = programDirectory();
  const { cert, key, ca } = writePki(directory, pki);
  return { directory, flags: { 'tls.cert': cert, 'tls.key': key, 'clientCert.ca': ca } };
}

/** `--name=value` for each. */
export function asArguments(flags: Readonly<Record<string, string>>): string[] {
  return Object.entries(flags).map(([name, value]) => `--${name}=${value}`);
}

/** `mtls-sidecar run` as a process of its own, listening. */
export interface RunningProgram extends Program, Reachable {
  readonly directory: string;
  admin(path: string, method?: string): ReturnType<typeof ask>;
}

/** Runs the sidecar in front of `upstream` on free ports; resolves once it listens. */
export async function startRun(
  upstream: string,
  settings: Readonly<Record<string, string>> = {},
  pki: Pki = makePki(),
): Promise<RunningProgram> {
  const { directory, flags } = credentialFlags(pki);
  const ports = { 'listen.host': '127.0.0.1', 'listen.port': '0', 'admin.port': '0' };
  const program = startProgram(['run', ...asArguments({ ...flags, ...ports, 'upstream.url': upstream, ...settings })]);
  // In JSON as for people.
  const [, port, adminPort] = await program.said(/"port":(\d+),"adminPort":(\d+)/);
  const admin: RunningProgram['admin'] = (path, method) => ask(Number(adminPort), path, method);
  return { ...program, pki, port: Number(port), directory, admin };
}
