import { once } from 'node:events';
import { createServer, type AddressInfo } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { endPrograms, startRun } from './support/program.js';
import { startSidecar, type Sidecar, type SidecarOptions } from './support/sidecar.js';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  endPrograms();
  for (const close of closing.splice(0).reverse()) await close();
});

async function application(listen?: Parameters<typeof startApplication>[1]): Promise<Application> {
  const started = await startApplication(undefined, listen);
  closing.push(() => started.stop());
  return started;
}

async function sidecarFor(upstream: string, options: SidecarOptions = {}): Promise<Sidecar> {
  const sidecar = await startSidecar({ upstream, ...options });
  closing.push(() => sidecar.stop());
  return sidecar;
}

/** A port on which nobody listens. */
async function unusedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

const status = async (sidecar: Sidecar) => JSON.parse((await sidecar.admin('/status')).body);

describe('readiness', () => {
  it('comes with the application, and goes with it', async () => {
    const port = await unusedPort();
    const sidecar = await sidecarFor(`http://127.0.0.1:${port}`);
    const missing = `the application at http://127.0.0.1:${port} does not accept connections\n`;
    expect(await sidecar.admin('/readyz')).toEqual({ status: 503, body: missing });
    expect(await sidecar.admin('/livez')).toEqual({ status: 200, body: 'alive\n' });
    expect(await call(sidecar)).toMatchObject({ status: 503, headers: { 'retry-after': '1' } });

    const started = await application({ port, host: '127.0.0.1' });
    expect(await sidecar.admin('/readyz')).toEqual({ status: 200, body: 'ready\n' });
    expect((await call(sidecar)).status).toBe(200);

    await started.stop();
    expect((await sidecar.admin('/readyz')).status).toBe(503);
    // It was there before, so this is a failure and no start.
    expect((await call(sidecar)).status).toBe(502);
    expect((await sidecar.admin('/livez')).status).toBe(200);
  });

  it('sends the application nothing', async () => {
    const started = await application();
    const sidecar = await sidecarFor(started.url);
    const connections: unknown[] = [];
    started.server.on('connection', (socket) => connections.push(socket));
    expect((await sidecar.admin('/readyz')).status).toBe(200);
    expect(started.seen).toEqual([]);
    expect(connections).toHaveLength(1);
  });
});

describe('the metrics', () => {
  it('count callers, requests and refusals', async () => {
    const sidecar = await sidecarFor((await application()).url);
    await call(sidecar);
    await call(sidecar, { path: '/im', body: '{}' });
    await call(sidecar, { as: null });
    await call(sidecar, { as: sidecar.pki.stranger.client });
    const { body } = await sidecar.admin('/metrics');
    const value = (line: string): number =>
      Number(
        body
          .split('\n')
          .find((one) => one.startsWith(`${line} `))
          ?.split(' ')[1],
      );
    expect(value('mtls_sidecar_handshakes_total{result="refused",reason="no_certificate"}')).toBe(1);
    expect(value('mtls_sidecar_handshakes_total{result="refused",reason="untrusted_issuer"}')).toBe(1);
    const admittedLines = body.match(/^mtls_sidecar_handshakes_total\{result="admitted".*$/gm) ?? [];
    expect(admittedLines.map((line) => line.split(' ')[1])).toContain('2');
    expect(body).toMatch(/^mtls_sidecar_requests_total\{status="2xx",method="GET"\} 1$/m);
    expect(body).toMatch(/^mtls_sidecar_requests_total\{status="2xx",method="POST"\} 1$/m);
  });

  it('say when the server certificate and the CA expire', async () => {
    const sidecar = await sidecarFor((await application()).url);
    const { body } = await sidecar.admin('/metrics');
    const seconds = (body.match(/^mtls_sidecar_\w*expir\w*(?:\{[^}]*\})? [\d.e+]+$/gm) ?? []).map((line) =>
      Number(line.split(' ')[1]),
    );
    expect(seconds.length).toBeGreaterThanOrEqual(2);
    for (const left of seconds) expect(left).toBeGreaterThan(0);
  });
});

describe('the list of refusals', () => {
  it('names who was turned away and why, newest first', async () => {
    const sidecar = await sidecarFor((await application()).url, {
      settings: { 'clientCert.allow': '[{"commonName":"im.qq.com","paths":["/im"]}]' },
    });
    await call(sidecar, { as: sidecar.pki.stranger.client });
    await call(sidecar, { as: null });
    await call(sidecar, { path: '/elsewhere?Sign=abc' });
    const [request, nobody, stranger, ...more] = JSON.parse((await sidecar.admin('/refusals')).body);
    expect(more).toEqual([]);
    expect(request).toMatchObject({ kind: 'request', code: 'not_allowed', status: 403, path: '/elsewhere?Sign=***' });
    expect(request.subject).toBe('CN=im.qq.com,O=Tencent,C=CN');
    expect(nobody).toMatchObject({ kind: 'connection', reason: 'no_certificate', subject: null });
    expect(stranger).toMatchObject({ reason: 'untrusted_issuer', subject: 'CN=im.qq.com,O=Tencent,C=CN' });
    expect(stranger.sha256).toMatch(/^[0-9a-f]{64}$/);
  });
});

describe('the status', () => {
  it('tells what runs, for whom, and who is inside', async () => {
    const started = await application();
    const sidecar = await sidecarFor(started.url);
    expect(await status(sidecar)).toMatchObject({
      phase: 'ready',
      connections: 0,
      listen: { host: '127.0.0.1', port: sidecar.port },
      upstream: { url: started.url, reached: false },
      clientCert: { verify: 'required', allowRules: 0 },
      cas: [{ subject: 'CN=TencentQQAuthCA,O=Tencent,C=CN' }],
    });
    const inside = await openRaw(sidecar);
    inside.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await inside.receive(/ok$/);
    expect(await status(sidecar)).toMatchObject({ connections: 1, upstream: { reached: true } });
    inside.socket.destroy();
  });
});

describe('the admin listener', () => {
  it('is not where callers are served, nor the other way round', async () => {
    const started = await application();
    const sidecar = await sidecarFor(started.url);
    expect((await sidecar.admin('/im', 'POST')).status).toBe(404);
    expect(started.seen).toEqual([]);
    for (const path of ['/readyz', '/metrics', '/status', '/refusals']) {
      expect(await call(sidecar, { path })).toMatchObject({ status: 200, body: 'ok' });
    }
    expect(started.seen.map(({ url }) => url)).toEqual(['/readyz', '/metrics', '/status', '/refusals']);
  });

  it('can be off', async () => {
    const sidecar = await sidecarFor((await application()).url, { settings: { 'admin.port': 'off' } });
    expect(sidecar.app.adminAddress).toBeNull();
    expect((await call(sidecar)).status).toBe(200);
  });
});

describe('the log of a running program', () => {
  const ended = async (settings: Readonly<Record<string, string>>) => {
    const program = await startRun((await application()).url, settings);
    const headers = { 'user-agent': 'IM "7"', referer: 'https://example.com/?token=abc' };
    await call(program, { path: '/im?SdkAppid=1&Sign=abc', body: '{}', headers });
    await call(program, { as: null });
    program.child.kill('SIGTERM');
    expect(await program.ended()).toEqual({ code: 0, signal: null });
    expect(program.stderr()).toBe('');
    return program.stdout();
  };

  it('is one JSON object a line, with a record of each request and each refusal', async () => {
    const lines = (await ended({}))
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(lines.filter(({ msg }) => msg === 'request')).toMatchObject([
      { method: 'POST', path: '/im?SdkAppid=1&Sign=***', status: 200, subject: 'CN=im.qq.com,O=Tencent,C=CN' },
    ]);
    expect(lines.filter(({ msg }) => msg === 'connection refused')).toMatchObject([{ reason: 'no_certificate' }]);
    expect(lines.map(({ msg }) => msg)).toContain('listening');
    expect(lines.at(-1).msg).toBe('stopped');
  });

  it('has nginx’s combined lines for log.access combined', async () => {
    const text = await ended({ 'log.access': 'combined' });
    const time = String.raw`\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}`;
    const request = String.raw`"POST /im\?SdkAppid=1&Sign=\*\*\* HTTP/1\.1" 200 2`;
    const rest = String.raw`"https://example\.com/\?token=\*\*\*" "IM \\x227\\x22"`;
    expect(text).toMatch(new RegExp(`^127\\.0\\.0\\.1 - - \\[${time}\\] ${request} ${rest}$`, 'm'));
    expect(text).not.toContain('"msg":"request"');
    expect(text).toContain('"reason":"no_certificate"');
  });

  it('has no requests for log.access false', async () => {
    const text = await ended({ 'log.access': 'false' });
    expect(text).not.toContain('/im');
    expect(text).toContain('"reason":"no_certificate"');
  });

  it('has only what is wrong for log.level warn', async () => {
    const port = await unusedPort();
    const quiet = await sidecarFor(`http://127.0.0.1:${port}`, { settings: { 'log.level': 'warn' } });
    await call(quiet, { as: null });
    await call(quiet);
    expect(new Set(quiet.log.map(({ level }) => level))).toEqual(new Set(['warn']));
    expect(quiet.log.slice(-2).map(({ level, msg }) => [level, msg])).toEqual([
      ['warn', 'connection refused'],
      ['warn', 'request'],
    ]);
  });

  it('is for people with --pretty, and without colours where there is no terminal', async () => {
    const text = await ended({ 'log.pretty': 'true' });
    const lines = text.trimEnd().split('\n');
    for (const line of lines) expect(line).toMatch(/^\[\d\d:\d\d:\d\d\.\d{3}\] (?:INFO|WARN): /);
    expect(text).toMatch(/INFO: listening /);
    expect(text).toMatch(/INFO: request .*"status":200/);
    expect(text).toMatch(/WARN: connection refused .*"reason":"no_certificate"/);
    expect(text).not.toContain('\u001b');
  });
});
