import { once } from 'node:events';
import { createWriteStream, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer as createApplication } from 'node:http';
import type { IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { createServer as createPort } from 'node:net';
import type { AddressInfo, Server as NetServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { App } from '../app.js';
import type { Config } from '../config/config.js';
import { loadConfig } from '../config/load.js';
import { UsageError } from '../errors.js';
import { runUntilStopped } from '../lifecycle.js';
import { EXIT } from './command.js';
import type { Invocation, Terminal } from './command.js';
import { CALLBACK } from './demo-callback.js';
import { demoCertificates, demoSettings } from './demo-files.js';
import type { DemoPorts } from './demo-files.js';
import { admitted, happening, introduction, invitation, mirror, refused } from './demo-story.js';
import type { DemoAnswer, DemoPlace, FlatHeaders } from './demo-story.js';
import { start } from './run.js';

const HOST = '127.0.0.1';
const PREFERRED = { listen: 8443, admin: 8081 };

/**
 * Shows the main job on one machine, with certificates of its own: a caller with a certificate gets through and is named
 * to the application, one without does not. Goes on serving, unless `--once` is given.
 * @returns 0, or 75 when requests in flight were cut short
 * @throws UsageError, ConfigError
 */
export async function demo({ argv, terminal }: Invocation): Promise<number> {
  const stranger = argv.find((word) => word !== '--once');
  if (stranger !== undefined) throw new UsageError(`unexpected argument ${JSON.stringify(stranger)}`);
  // Made before the directory: a signal that comes meanwhile leaves nothing behind.
  const certificates = demoCertificates(Date.now());
  const application = await startApplication();
  const ports = { application: application.port, ...(await freePorts()) };
  const directory = mkdtempSync(join(tmpdir(), 'mtls-sidecar-demo-'));
  try {
    const place = { ports, path: (name: string) => join(directory, name) };
    const readConfig = prepare(place, certificates);
    return await serve({ readConfig, place, application, terminal, goesOn: !argv.includes('--once') });
  } finally {
    application.stop();
    rmSync(directory, { recursive: true, force: true });
    terminal.out(`Removed ${directory}`);
  }
}

interface Demo {
  readonly readConfig: () => Config;
  readonly place: DemoPlace;
  readonly application: Application;
  readonly terminal: Terminal;
  readonly goesOn: boolean;
}

/** From here on everything is as in `run`, but for the place of the log. */
async function serve({ readConfig, place, application, terminal, goesOn }: Demo): Promise<number> {
  const diary = keepDiary(place.path('sidecar.log'), terminal);
  const config = readConfig();
  const app = await start(config, { logTo: diary, readConfig });
  // Before the first request: a signal ends the demo in good order from here on.
  const stopped = runUntilStopped(app, config);
  const say = speaker(terminal);
  const seen = await Promise.race([stopped, tell(place, application, say)]);
  if (typeof seen === 'number') return seen;
  if (!goesOn) return end(app);
  invitation(place, seen).forEach(say);
  diary.readAloud();
  const code = await stopped;
  // Behind the ^C of the terminal.
  terminal.out('');
  return code;
}

/** Headings are what is not indented. */
function speaker({ out, colour }: Terminal): (line: string) => void {
  return (line) => out(colour && /^\S/.test(line) ? `\u001b[1m${line}\u001b[0m` : line);
}

async function end(app: App): Promise<number> {
  await app.close();
  return EXIT.ok;
}

/** @returns what reads the settings, now and whenever they change */
function prepare({ ports, path }: DemoPlace, certificates: Readonly<Record<string, string>>): () => Config {
  for (const [name, pem] of Object.entries(certificates)) writeFileSync(path(name), pem, { mode: 0o600 });
  writeFileSync(path('callback.json'), CALLBACK.body);
  const file = path('mtls-sidecar.yaml');
  writeFileSync(file, demoSettings(ports));
  // Settings from the environment are meant for another sidecar.
  return () => loadConfig({ file, env: {} });
}

/** @returns the headers with which the callback reached the application */
async function tell(place: DemoPlace, application: Application, say: (line: string) => void): Promise<FlatHeaders> {
  introduction(place).forEach(say);
  const answer = await callBack(place, true);
  const { requests, headers } = application.seenSoFar();
  admitted(answer, headers, SENT).forEach(say);
  refused(await callBack(place, false), application.seenSoFar().requests > requests).forEach(say);
  return headers;
}

/** Headers of the callback. Tencent documents these two and no others. */
const SENT = ['Host', 'Content-Length'];

async function callBack({ ports, path }: DemoPlace, identified: boolean): Promise<DemoAnswer> {
  const read = (name: string): Buffer => readFileSync(path(name));
  const outgoing = httpsRequest({
    host: HOST,
    port: ports.listen,
    path: CALLBACK.target,
    method: 'POST',
    headers: { 'Content-Length': Buffer.byteLength(CALLBACK.body) },
    agent: false,
    ca: read('ca.pem'),
    ...(identified ? { cert: read('client.pem'), key: read('client.key') } : {}),
  });
  outgoing.end(CALLBACK.body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  const { httpVersion, statusCode = 0, statusMessage = '' } = response;
  return { statusLine: `HTTP/${httpVersion} ${statusCode} ${statusMessage}`, body: await textOf(response) };
}

async function textOf(message: IncomingMessage): Promise<string> {
  let text = '';
  for await (const chunk of message.setEncoding('utf8')) text += chunk as string;
  return text;
}

interface Application {
  readonly port: number;
  /** How many requests, and the headers of the last. */
  seenSoFar(): { readonly requests: number; readonly headers: FlatHeaders };
  stop(): void;
}

/** What stands behind the sidecar: knows nothing of TLS, answers callbacks, and shows other requests as it sees them. */
async function startApplication(): Promise<Application> {
  let seen: ReturnType<Application['seenSoFar']> = { requests: 0, headers: [] };
  const server = createApplication((request, response) => {
    const { method = '', url = '', rawHeaders } = request;
    seen = { requests: seen.requests + 1, headers: rawHeaders };
    request.resume();
    const isCallback = url.includes('CallbackCommand=');
    response.setHeader('Content-Type', isCallback ? 'application/json' : 'text/plain; charset=utf-8');
    response.end(isCallback ? CALLBACK.answer : mirror(method, url, rawHeaders));
  });
  const port = await listening(server, 0);
  const stop = (): void => {
    server.close();
    server.closeAllConnections();
  };
  return { port, stop, seenSoFar: () => seen };
}

async function freePorts(): Promise<Omit<DemoPorts, 'application'>> {
  const listen = await freePort(PREFERRED.listen);
  return { listen, admin: await freePort(PREFERRED.admin) };
}

/** The port, or any other when that one is taken. */
async function freePort(port: number): Promise<number> {
  const server = createPort();
  try {
    return await listening(server, port);
  } catch (error) {
    if (port === 0) throw error;
    return await freePort(0);
  } finally {
    server.close();
  }
}

async function listening(server: NetServer, port: number): Promise<number> {
  server.listen(port, HOST);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

interface Diary {
  write(text: string): void;
  /** From now on, requests and refusals are told on the terminal as well. */
  readAloud(): void;
}

/** The sidecar's log, kept in a file so that it does not talk into the story. */
function keepDiary(path: string, { out }: Terminal): Diary {
  const file = createWriteStream(path, { mode: 0o600 });
  // A full disk is no reason to stop.
  file.on('error', () => undefined);
  let aloud = false;
  return {
    write(text) {
      file.write(text);
      if (!aloud) return;
      const lines = text.split('\n').filter((line) => line !== '');
      lines.forEach((line) => out(happening(line)));
    },
    readAloud: () => (aloud = true),
  };
}
