import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import { get, type RequestOptions } from 'node:https';
import type { IncomingMessage } from 'node:http';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config/load.js';
import { readAnswer } from './support/caller.js';
import { composeFile, imageCommand, type ComposeService } from './support/container-files.js';
import { makePki, temporaryDirectory } from './support/pki.js';
import { readProjectFile, ROOT } from './support/source-tree.js';

const FILES = ['compose.yaml', 'compose.sidecar.yaml'] as const;
const CERTIFICATES = '/etc/mtls-sidecar/certs';
const pki = makePki();
const directory = temporaryDirectory();
const children = new Set<ChildProcess>();

writeFileSync(join(directory.path, 'server.crt'), pki.server.certPem);
writeFileSync(join(directory.path, 'server.key'), pki.server.keyPem);
writeFileSync(join(directory.path, 'ca.crt'), pki.ca.certPem);
writeFileSync(join(directory.path, 'sidecar.yaml'), '# As in the image: nothing is set here.\n');

afterEach(() => children.forEach((child) => child.kill('SIGKILL')));
afterAll(() => directory.remove());

/** A path of the container on this machine: the program, and the folder that is mounted. */
const here = (word: string): string =>
  word
    .replace(/^\/app\//, `${ROOT}/`)
    .replace(CERTIFICATES, directory.path)
    .replace(/^\/etc\/mtls-sidecar\//, `${directory.path}/`);

const hereAll = (environment: Readonly<Record<string, string>>): Record<string, string> =>
  Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, here(value)]));

interface Running {
  readonly child: ChildProcess;
  said(pattern: RegExp): Promise<RegExpExecArray>;
}

function start([program = '', ...args]: readonly string[], env: Readonly<Record<string, string>>): Running {
  const child = spawn(program === 'node' ? process.execPath : program, args, {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  children.add(child);
  child.once('exit', () => children.delete(child));
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (more: string) => (text += more));
  return {
    child,
    said: async (pattern) => {
      for (let found = pattern.exec(text); ; found = pattern.exec(text)) {
        if (found !== null) return found;
        await once(child.stdout, 'data');
      }
    },
  };
}

function startApp(service: ComposeService): Running {
  return start(service.command ?? [], { ...service.environment, PORT: '0' });
}

/** What the container runs: the image's entry point, and the service's command or else the image's. */
function commandOf(service: ComposeService): string[] {
  const image = imageCommand();
  return [...image.entrypoint, ...(service.command ?? image.command)].map(here);
}

async function callHttps(port: number, as: Pick<RequestOptions, 'cert' | 'key'>) {
  const outgoing = get({ host: '127.0.0.1', port, servername: 'localhost', ca: pki.ca.certPem, agent: false, ...as });
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  return readAnswer(response);
}

describe('compose.yaml, its very commands as processes', () => {
  const { app, sidecar } = composeFile('compose.yaml').services;
  const testPorts = { MTLS_SIDECAR_LISTEN_HOST: '127.0.0.1', MTLS_SIDECAR_LISTEN_PORT: '0' };

  it('lets a caller with a certificate through and no other, is healthy, and stops with 0', async () => {
    const application = startApp(app);
    const [, applicationPort = ''] = await application.said(/application on port (\d+)/);
    const environment = {
      ...hereAll(sidecar.environment ?? {}),
      ...testPorts,
      MTLS_SIDECAR_UPSTREAM_URL: `http://127.0.0.1:${applicationPort}`,
    };
    const running = start(commandOf(sidecar), { ...environment, MTLS_SIDECAR_ADMIN_PORT: '0' });
    const [, port, adminPort = ''] = await running.said(/"port":(\d+),"adminPort":(\d+)/);

    const honest = await callHttps(Number(port), { cert: pki.client.certPem, key: pki.client.keyPem });
    expect(honest).toMatchObject({ status: 200, body: 'hello im.qq.com\n' });
    expect((await callHttps(Number(port), {})).status).toBe(400);

    const [kind, ...check] = sidecar.healthcheck?.test ?? [];
    expect([kind, check[0]]).toEqual(['CMD', 'node']);
    const health = () =>
      spawnSync(process.execPath, check.slice(1).map(here), {
        encoding: 'utf8',
        env: { ...environment, MTLS_SIDECAR_ADMIN_PORT: adminPort },
      });
    expect(health()).toMatchObject({ status: 0, stdout: 'ready\n' });

    // Compose stops what depends on something before that.
    running.child.kill('SIGTERM');
    expect(await once(running.child, 'exit')).toEqual([0, null]);
    expect(health().status).toBe(1);
    application.child.kill('SIGTERM');
    expect(await once(application.child, 'exit')).toEqual([0, null]);
  });

  it('starts the application first, and leaves it reachable for the sidecar alone', () => {
    const { networks = {} } = composeFile('compose.yaml');
    expect(sidecar.depends_on).toEqual(['app']);
    expect(app.ports).toBeUndefined();
    expect(app.networks).toEqual(['inner']);
    expect(networks['inner']?.internal).toBe(true);
    expect(sidecar.networks).toEqual(Object.keys(networks));
    expect(sidecar.environment?.['MTLS_SIDECAR_UPSTREAM_URL']).toBe(`http://app:${app.environment?.['PORT']}`);
  });
});

describe('compose.sidecar.yaml, beside the file of an existing project', () => {
  const { app, sidecar, net } = composeFile('compose.sidecar.yaml').services;

  it('moves the application behind the sidecar: its ports and networks go, loopback is enough', () => {
    expect(app.network_mode).toBe('service:net');
    expect(app.depends_on).toEqual(['net', 'sidecar']);
    expect(readProjectFile('compose.sidecar.yaml')).toMatch(/^ {4}ports: !reset \[\]\n {4}networks: !reset \[\]$/m);
    expect(sidecar.environment?.['MTLS_SIDECAR_UPSTREAM_URL']).toBe('http://127.0.0.1:8080');
    expect(sidecar.environment).not.toHaveProperty('MTLS_SIDECAR_UPSTREAM_UNSAFE_REMOTE');
  });

  // Whoever is in the network of a container that restarts is cut off: it may be that of neither.
  it('keeps their network in a container that outlives both', async () => {
    expect([sidecar.network_mode, sidecar.depends_on]).toEqual(['service:net', ['net']]);
    expect(net).toMatchObject({ image: sidecar.image, healthcheck: { disable: true }, restart: 'unless-stopped' });
    expect(net).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
    const [node = '', flag = '', code = ''] = net?.entrypoint ?? [];
    const holder = start([node, flag, `${code}; console.log('here')`], {});
    await holder.said(/here/);
    holder.child.kill('SIGTERM');
    expect(await once(holder.child, 'exit')).toEqual([0, null]);
  });
});

describe.each(FILES)('the sidecar of %s', (file) => {
  const { sidecar, net = sidecar } = composeFile(file).services;
  const config = () => loadConfig({ env: hereAll(sidecar.environment ?? {}) });

  it('has settings that are settings, and publishes the port that it listens on', () => {
    expect(net.ports).toEqual([`\${SIDECAR_PORT:-443}:${config().listen.port}`]);
  });

  it('is the version of this checkout', () => {
    const { version } = JSON.parse(readProjectFile('package.json')) as { version: string };
    expect(sidecar.image).toBe(`mtls-sidecar:${version}`);
  });

  it('is given its certificates as a folder that it cannot write', () => {
    expect(sidecar.volumes).toEqual([`./certs:${CERTIFICATES}:ro`]);
  });

  it('has less than nothing to break out with', () => {
    expect(sidecar).toMatchObject({ read_only: true, cap_drop: ['ALL'], security_opt: ['no-new-privileges:true'] });
  });

  it('is given more time to stop than it takes', () => {
    expect(Number.parseInt(sidecar.stop_grace_period ?? '0', 10) * 1000).toBeGreaterThan(config().shutdown.grace);
    expect(sidecar.restart).toBe('unless-stopped');
  });
});
