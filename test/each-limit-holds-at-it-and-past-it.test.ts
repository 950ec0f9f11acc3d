import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type { ServerResponse } from 'node:http';
import { connect } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { SETTINGS } from '../src/config/schema.js';
import { startApplication } from './support/application.js';
import { call, openRaw, type RawCaller } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** How long a time limit is in these tests, and by how much a timer that counts whole milliseconds may be early. */
const LIMIT = 400;
const EARLY = 5;

/** Limits with a file of their own, which asks for more than the limit alone. */
const ELSEWHERE: Readonly<Record<string, string>> = {
  workers: 'the-admin-listener-answers-when-no-caller-gets-in',
  'tls.sessions.lifetime': 'callers-without-tickets-resume-by-id',
  'clientCert.depth': 'chains-are-as-long-as-depth-allows',
  'upstream.maxConnections': 'connections-to-the-application-are-bounded',
  'limits.head': 'a-caller-that-oversteps-a-limit-is-told-which',
  'limits.body': 'a-caller-that-oversteps-a-limit-is-told-which',
  'limits.streams': 'http2-floods-are-cut-off',
  'shutdown.delay': 'a-stop-loses-no-request',
  'shutdown.grace': 'a-stop-loses-no-request',
};

/** Numbers and times that nobody can overstep. */
const NO_LIMITS = ['listen.port', 'tls.securityLevel', 'reload.interval'];

interface Scene {
  readonly sidecar: Sidecar;
  /** The next request as the application has it, to be answered. */
  readonly next: () => Promise<ServerResponse>;
  /** Called right before what the limit is counted from. */
  readonly begins: () => void;
}

const pki = makePki();
const stops: (() => unknown)[] = [];

afterEach(async () => {
  for (const stop of stops.splice(0).reverse()) await stop();
});

/** A sidecar with one connection to an application that answers nothing by itself, but an Upgrade. */
async function start(settings: Readonly<Record<string, string>>): Promise<Omit<Scene, 'begins'>> {
  const held: ServerResponse[] = [];
  const application = await startApplication((_seen, response) => void held.push(response));
  stops.push(() => application.stop());
  application.server.on('upgrade', (_request, socket) => {
    socket.on('error', () => undefined).on('end', () => socket.end());
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  });
  const own = { 'upstream.maxConnections': '1', ...settings };
  const sidecar = await startSidecar({ pki, upstream: application.url, settings: own });
  stops.push(() => sidecar.stop());
  const next = async (): Promise<ServerResponse> => {
    await expect.poll(() => held.length, { interval: 5 }).toBeGreaterThan(0);
    return held.shift() as ServerResponse;
  };
  return { sidecar, next };
}

async function open(sidecar: Sidecar, begun = ''): Promise<RawCaller> {
  const caller = await openRaw(sidecar);
  stops.push(() => caller.socket.destroy());
  caller.socket.write(begun);
  return caller;
}

function get(path: string, more = ''): string {
  return `GET ${path} HTTP/1.1\r\nHost: localhost\r\n${more}\r\n`;
}

/** One more request on a connection. @returns what its answer says about the connection */
async function ask(caller: RawCaller, { next }: Pick<Scene, 'next'>): Promise<string | undefined> {
  const before = caller.received().length;
  caller.socket.write(get('/again'));
  (await next()).end('ok');
  const received = await caller.receive(new RegExp(`^[^]{${before}}[^]*ok$`));
  return /\r\nConnection: (\S+)\r\n/i.exec(received.slice(before))?.[1];
}

/** What ends when its time is over, and how that looks. */
const TIMES: Readonly<Record<string, (scene: Scene) => Promise<unknown>>> = {
  async 'tls.handshakeTimeout'({ sidecar, begins }) {
    begins();
    await once(connect(sidecar.port, '127.0.0.1').resume(), 'close');
    await sidecar.logged(({ reason }) => reason === 'handshake_timeout');
  },
  async 'upstream.connectTimeout'({ sidecar, next, begins }) {
    await open(sidecar, get('/has-the-connection'));
    await next();
    begins();
    expect((await call(sidecar, { path: '/waits' })).status).toBe(504);
    expect(await recordOf(sidecar, '/waits')).toMatchObject({ code: 'upstream_timeout', outcome: 'refused' });
  },
  async 'upstream.headTimeout'({ sidecar, begins }) {
    begins();
    expect((await call(sidecar, { path: '/unanswered' })).status).toBe(504);
    expect(await recordOf(sidecar, '/unanswered')).toMatchObject({ code: 'upstream_timeout', outcome: 'refused' });
  },
  async 'upstream.idleTimeout'({ sidecar, next, begins }) {
    const caller = await open(sidecar, get('/half'));
    const answer = await next();
    begins();
    answer.writeHead(200, { 'content-length': 4 }).write('ha');
    expect(await caller.closed()).toMatch(/ha$/);
    expect(await recordOf(sidecar, '/half')).toMatchObject({ code: 'upstream_timeout', outcome: 'upstream_aborted' });
  },
  async 'upstream.keepAlive'({ sidecar, next, begins }) {
    const caller = await open(sidecar, get('/'));
    const answer = await next();
    begins();
    answer.end('ok');
    await once(answer.req.socket, 'close');
    expect(caller.socket.destroyed).toBe(false);
    expect(await sidecar.metric('mtls_sidecar_upstream_connections{state="idle"}')).toBe(0);
  },
  async 'limits.headTimeout'({ sidecar, begins }) {
    begins();
    const caller = await open(sidecar, 'GET / HTTP/1.1\r\nHost: loc');
    expect(await caller.closed()).toMatch(/^HTTP\/1\.1 408 [^]*<code>request_timeout<\/code>/);
  },
  async 'limits.bodyIdleTimeout'({ sidecar, begins }) {
    begins();
    const caller = await open(sidecar, get('/', 'Content-Length: 4\r\n'));
    expect(await caller.closed()).toMatch(/^HTTP\/1\.1 408 [^]*<code>request_timeout<\/code>/);
  },
  async 'limits.keepAliveTimeout'({ sidecar, next, begins }) {
    const caller = await open(sidecar, get('/'));
    const answer = await next();
    begins();
    answer.end('ok');
    expect(await caller.closed()).toMatch(/\r\nConnection: keep-alive\r\n[^]*ok$/i);
    expect(sidecar.requests()).toHaveLength(1);
  },
  async 'limits.connectionAge'({ sidecar, next, begins }) {
    begins();
    const caller = await open(sidecar);
    while ((await ask(caller, { next })) === 'keep-alive');
    await caller.closed();
    expect(sidecar.requests().every(({ outcome }) => outcome === 'ok')).toBe(true);
  },
  async 'limits.tunnelIdleTimeout'({ sidecar, begins }) {
    begins();
    const caller = await open(sidecar, get('/tunnel', 'Connection: Upgrade\r\nUpgrade: echo\r\n'));
    expect(await caller.closed()).toMatch(/^HTTP\/1\.1 101 /);
    expect(await recordOf(sidecar, '/tunnel')).toMatchObject({ status: 101, outcome: 'ok' });
  },
};

/** What is asked for exactly as often as the limit says, which is 3, and once more. */
const COUNTS: Readonly<Record<string, (scene: Omit<Scene, 'begins'>) => Promise<unknown>>> = {
  async 'limits.requestsPerConnection'({ sidecar, next }) {
    const caller = await open(sidecar);
    const said = [await ask(caller, { next }), await ask(caller, { next }), await ask(caller, { next })];
    expect(said).toEqual(['keep-alive', 'keep-alive', 'close']);
    await caller.closed();
  },
  async 'limits.connections'({ sidecar, next }) {
    const callers = [await open(sidecar), await open(sidecar), await open(sidecar)];
    for (const caller of callers) expect(await ask(caller, { next })).toBe('keep-alive');
    const refused = await call(sidecar);
    expect(refused).toMatchObject({ status: 503, headers: { 'retry-after': '1', connection: 'close' } });
    expect(refused.body).toContain('<code>overloaded</code>');
    const line = await sidecar.logged(({ reason }) => reason === 'overloaded');
    expect(line).toMatchObject({ msg: 'connection refused', subject: 'CN=im.qq.com,O=Tencent,C=CN' });
    expect(await sidecar.metric('mtls_sidecar_handshakes_total{result="refused",reason="overloaded"}')).toBe(1);
    expect(await sidecar.metric('mtls_sidecar_connections_open')).toBe(3);
    callers[0]?.socket.destroy();
    await expect.poll(() => sidecar.app.connections()).toBe(2);
    expect(await ask(await open(sidecar), { next })).toBe('keep-alive');
  },
};

describe('a time limit ends what it bounds, and nothing before', () => {
  it.each(Object.entries(TIMES))('%s', async (name, run) => {
    const scene = await start({ [name]: `${LIMIT}ms` });
    let began = NaN;
    await run({ ...scene, begins: () => void (began = performance.now()) });
    expect(performance.now() - began).toBeGreaterThanOrEqual(LIMIT - EARLY);
  });
});

describe('a limit of number lets in as many, and not one more', () => {
  it.each(Object.entries(COUNTS))('%s', async (name, run) => {
    await run(await start({ [name]: '3' }));
  });
});

describe('no limit is without such a test', () => {
  const numeric = [...SETTINGS].filter(([, { format }]) => /^(?:duration|size|whole-number|workers)$/.test(format));

  it('here or elsewhere', () => {
    const asked = [TIMES, COUNTS, ELSEWHERE].flatMap(Object.keys);
    expect([...asked, ...NO_LIMITS].sort()).toEqual(numeric.map(([name]) => name).sort());
  });

  it.each(Object.entries(ELSEWHERE))('%s in %s', (name, file) => {
    const text = readFileSync(new URL(`${file}.test.ts`, import.meta.url), 'utf8');
    expect(text).toContain(name);
  });
});
