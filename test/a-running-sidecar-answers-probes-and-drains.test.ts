import { createServer, type Server } from 'node:http';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { createServer as createTcpServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { drain } from '../src/commands/drain.js';
import { probe } from '../src/commands/probe.js';
import type { Command } from '../src/commands/command.js';
import { ConfigError, UsageError } from '../src/errors.js';
import { startApplication, type Application } from './support/application.js';
import { makePki, temporaryDirectory, writePki, type Pki } from './support/pki.js';
import { endPrograms, startProgram } from './support/program.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const directory = temporaryDirectory();
const running: { stop(): Promise<void> }[] = [];
let pki: Pki;
let files: ReturnType<typeof writePki>;

beforeAll(() => {
  pki = makePki();
  files = writePki(directory.path, pki);
});
afterEach(async () => {
  endPrograms();
  await Promise.all(running.splice(0).map((part) => part.stop()));
});
afterAll(() => directory.remove());

/** What a command says and ends with, called with these flags beside the files that every configuration needs. */
async function told(command: Command, flags: readonly string[], env = {}) {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = { out: (line: string) => out.push(line), err: (line: string) => err.push(line), colour: false };
  const needed = [`--tls.cert=${files.cert}`, `--tls.key=${files.key}`, `--clientCert.ca=${files.ca}`];
  const code = await command({ argv: [...needed, ...flags], terminal, env });
  return { code, out, err };
}

async function application(): Promise<Application> {
  const started = await startApplication();
  running.push(started);
  return started;
}

async function sidecar(upstream: string): Promise<Sidecar> {
  const started = await startSidecar({ pki, upstream });
  running.push(started);
  return started;
}

const adminPort = ({ adminPort: port }: Sidecar): string => `--admin.port=${port}`;

/** Something else on the admin port. */
async function impostor(answer: Parameters<typeof createServer>[1]): Promise<string> {
  const server: Server = createServer(answer);
  running.push({
    stop: async () => {
      server.closeAllConnections();
      server.close();
      await once(server, 'close');
    },
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return `--admin.port=${(server.address() as AddressInfo).port}`;
}

describe('mtls-sidecar probe', () => {
  it('ends with 0 and one line while the sidecar is ready and alive', async () => {
    const port = adminPort(await sidecar((await application()).url));
    expect(await told(probe, [port])).toEqual({ code: 0, out: ['ready'], err: [] });
    expect(await told(probe, ['--ready', port])).toEqual({ code: 0, out: ['ready'], err: [] });
    expect(await told(probe, [port, '--live'])).toEqual({ code: 0, out: ['alive'], err: [] });
  });

  it('ends with 1 and the reason while the application is away; the process is alive all the same', async () => {
    const port = adminPort(await sidecar('http://127.0.0.1:1'));
    const notReady = await told(probe, [port]);
    expect(notReady).toMatchObject({ code: 1, out: [] });
    expect(notReady.err).toEqual([
      'mtls-sidecar: /readyz answered 503: the application at http://127.0.0.1:1 does not accept connections',
    ]);
    expect((await told(probe, ['--live', port])).code).toBe(0);
  });

  it('ends with 1 when nothing listens there', async () => {
    const gone = await sidecar('http://127.0.0.1:1');
    await gone.stop();
    const answer = await told(probe, ['--live', adminPort(gone)]);
    expect(answer).toMatchObject({ code: 1, out: [] });
    expect(answer.err).toHaveLength(1);
    expect(answer.err[0]).toMatch(/no answer from the admin listener \(127\.0\.0\.1 port \d+\): .*ECONNREFUSED/);
  });

  it.each([
    ['off', 'admin.port is off'],
    ['0', 'admin.port is 0'],
  ])('ends with 1 when admin.port is %s, for nobody can be asked', async (port, message) => {
    const { code, err } = await told(probe, [`--admin.port=${port}`]);
    expect(code).toBe(1);
    expect(err).toEqual([expect.stringContaining(message)]);
  });

  it.each(['0.0.0.0', '::'])('asks on loopback what listens on every address (%s)', async (host) => {
    const port = adminPort(await sidecar((await application()).url));
    const { code, err } = await told(probe, [port, `--admin.host=${host}`]);
    // The sidecar of the test listens on 127.0.0.1 alone: ::1 must be tried, and refuse.
    if (host === '0.0.0.0') expect(code).toBe(0);
    else expect(err[0]).toMatch(/ECONNREFUSED ::1|EADDRNOTAVAIL/);
  });

  it('takes the port from the environment and from the file as well', async () => {
    const { adminPort: port } = await sidecar((await application()).url);
    expect((await told(probe, [], { MTLS_SIDECAR_ADMIN_PORT: String(port) })).code).toBe(0);
    const file = join(directory.path, 'sidecar.yaml');
    writeFileSync(file, `admin: {port: ${port}}\n`);
    expect((await told(probe, ['--config', file])).code).toBe(0);
  });

  it('does not wait for ever for something that does not answer', { timeout: 10_000 }, async () => {
    const port = await impostor(() => undefined);
    const { code, err } = await told(probe, ['--live', port]);
    expect(code).toBe(1);
    expect(err).toEqual([expect.stringContaining('no answer')]);
  });

  it('prints one harmless line of whatever it is told', async () => {
    const port = await impostor((_request, response) => response.end(`\u001b[2Jfine${'x'.repeat(1e6)}\nand more`));
    const { code, out } = await told(probe, [port]);
    expect(code).toBe(0);
    expect(out[0]).toMatch(/^\\u001b\[2Jfinex+$/);
    expect(out[0]?.length).toBeLessThan(1_100);
  });

  it.each([
    ['something that is no HTTP', 'SSH-2.0-OpenSSH\r\n', 'it is no HTTP'],
    ['a head without its end', 'HTTP/1.1 200 OK\r\n', 'it is no HTTP'],
    ['somebody who hangs up', '', 'it closed the connection'],
  ])('does not take %s for an answer', async (_, said, message) => {
    const server = createTcpServer((socket) => socket.resume().end(said)).listen(0, '127.0.0.1');
    running.push({ stop: async () => void (await once(server.close(), 'close')) });
    await once(server, 'listening');
    const { code, err } = await told(probe, [`--admin.port=${(server.address() as AddressInfo).port}`]);
    expect(code).toBe(1);
    expect(err).toEqual([expect.stringContaining(message)]);
  });

  it('takes a redirect for a failure', async () => {
    const port = await impostor((_request, response) => response.writeHead(302, { location: '/livez' }).end());
    expect((await told(probe, ['--live', port])).code).toBe(1);
  });

  it('refuses what it cannot mean', async () => {
    await expect(told(probe, ['--ready', '--live'])).rejects.toThrow(UsageError);
    await expect(told(probe, ['--alive'])).rejects.toThrow(UsageError);
    await expect(told(probe, ['--admin.port=x'])).rejects.toThrow(ConfigError);
  });
});

describe('mtls-sidecar drain', () => {
  it('makes readiness fail, and everything is still served', async () => {
    const started = await sidecar((await application()).url);
    const port = adminPort(started);
    expect(await told(drain, [port])).toEqual({ code: 0, out: ['draining'], err: [] });
    expect(await told(probe, [port])).toMatchObject({ code: 1, err: ['mtls-sidecar: /readyz answered 503: draining'] });
    expect((await told(probe, ['--live', port])).code).toBe(0);
    // A second preStop is no failure.
    expect((await told(drain, [port])).code).toBe(0);
  });

  it('ends with 1 when nothing listens there', async () => {
    const gone = await sidecar('http://127.0.0.1:1');
    await gone.stop();
    expect((await told(drain, [adminPort(gone)])).code).toBe(1);
  });
});

describe('the built program', () => {
  it('answers a HEALTHCHECK with its exit code', async () => {
    const { adminPort: port } = await sidecar((await application()).url);
    const flags = [`--tls.cert=${files.cert}`, `--tls.key=${files.key}`, `--clientCert.ca=${files.ca}`];
    const good = startProgram(['probe', '--ready', ...flags, `--admin.port=${port}`]);
    expect(await good.ended()).toEqual({ code: 0, signal: null });
    expect(good.stdout()).toBe('ready\n');
    const bad = startProgram(['drain', ...flags, '--admin.port=1']);
    expect(await bad.ended()).toEqual({ code: 1, signal: null });
    expect(bad.stderr()).toMatch(/^mtls-sidecar: no answer from the admin listener .*\n$/);
  });
});
