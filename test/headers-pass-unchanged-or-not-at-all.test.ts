import { once } from 'node:events';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  startApplication,
  startRawApplication,
  valuesOf,
  type Application,
  type RawApplication,
} from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { makePki } from './support/pki.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar, type SidecarOptions } from './support/sidecar.js';

const pki = makePki();
const CONNECTION_NAMES = /^(connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|host|x-forwarded-.*)$/i;

let application: Application;
let sidecar: Sidecar;
const started: Sidecar[] = [];

async function start(options: SidecarOptions = {}): Promise<Sidecar> {
  const one = await startSidecar({ pki, upstream: application.url, ...options });
  started.push(one);
  return one;
}

beforeAll(async () => {
  application = await startApplication();
  sidecar = await start();
});

afterAll(async () => {
  for (const one of started) await one.stop();
  await application.stop();
});

/** The flat header list that the application saw of a request with these header lines. */
async function sent(lines: readonly string[], { through = sidecar, target = '/', host = '127.0.0.1' } = {}) {
  const caller = await openRaw(through, { host });
  caller.socket.write(`GET ${target} HTTP/1.1\r\nHost: Example.com:81\r\n${lines.join('\r\n')}\r\n\r\n`, 'latin1');
  await caller.receive(/ok$/);
  caller.socket.destroy();
  return application.seen.at(-1)?.rawHeaders ?? [];
}

/** Name and value of every header that is neither ours nor the connection's, in order. */
function received(rawHeaders: readonly string[]): string[] {
  const lines: string[] = [];
  for (let index = 0; index < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    if (!CONNECTION_NAMES.test(name) && !/^x-(ssl-|request-id)/i.test(name))
      lines.push(`${name}: ${rawHeaders[index + 1]}`);
  }
  return lines;
}

describe('of a request', () => {
  it('order, case, duplicates and bytes are kept', async () => {
    const lines = [
      'X-b: 2',
      'x-A: 1',
      'X-B: 3',
      'Accept: a',
      'ACCEPT: b',
      'Cookie: c=1',
      'Cookie: d=2',
      'X-Latin: gr\xfc\xdfe',
      'X-Empty: ',
    ];
    expect(received(await sent(lines))).toEqual([...lines.slice(0, -1), 'X-Empty: ']);
  });

  it('Host is kept, and nothing invented', async () => {
    const headers = await sent([]);
    expect(valuesOf(headers, 'host')).toEqual(['Example.com:81']);
    expect(received(headers)).toEqual([]);
  });

  it('what belongs to the connection is removed', async () => {
    const headers = await sent([
      'Connection: close, X-Private , ,x-secret',
      'Keep-Alive: timeout=5',
      'Proxy-Connection: keep-alive',
      'Proxy-Authorization: Basic eA==',
      'TE: trailers',
      'Upgrade: websocket',
      'X-Private: 1',
      'X-Secret: 2',
      'X-Public: 3',
    ]);
    expect(received(headers)).toEqual(['X-Public: 3']);
    expect(valuesOf(headers, 'te')).toEqual([]);
    expect(valuesOf(headers, 'upgrade')).toEqual([]);
    expect(valuesOf(headers, 'keep-alive')).toEqual([]);
    expect(valuesOf(headers, 'proxy-authorization')).toEqual([]);
    expect(valuesOf(headers, 'connection')).toEqual([]);
  });

  it('Connection cannot name away what must arrive', async () => {
    const headers = await sent([
      'Connection: Host, X-SSL-Client-Verify, X-Forwarded-For, X-Request-Id, Cookie',
      'Cookie: a=1',
    ]);
    expect(valuesOf(headers, 'host')).toEqual(['Example.com:81']);
    expect(valuesOf(headers, 'x-ssl-client-verify')).toEqual(['SUCCESS']);
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['127.0.0.1']);
    expect(valuesOf(headers, 'x-request-id')).toHaveLength(1);
    expect(valuesOf(headers, 'cookie')).toEqual([]);
  });

  it('traceparent and tracestate pass', async () => {
    const lines = ['traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01', 'tracestate: a=1,b=2'];
    expect(received(await sent(lines))).toEqual(lines);
  });
});

describe('of where a request came from', () => {
  const forged = [
    'X-Forwarded-For: 1.1.1.1',
    'X-Forwarded-For: 2.2.2.2',
    'X-Forwarded-Proto: http',
    'X-Forwarded-Host: evil',
    'X-Forwarded-Port: 1',
    'X-Forwarded-Server: evil',
    'X-Forwarded-Prefix: /evil',
    'X-Real-IP: 3.3.3.3',
    'Forwarded: for=4.4.4.4',
  ];

  it('only what we know ourselves is told', async () => {
    const headers = await sent(forged);
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['127.0.0.1']);
    expect(valuesOf(headers, 'x-forwarded-proto')).toEqual(['https']);
    expect(valuesOf(headers, 'x-forwarded-host')).toEqual(['Example.com:81']);
    expect(valuesOf(headers, 'x-forwarded-port')).toEqual([String(sidecar.port)]);
    for (const name of ['x-forwarded-server', 'x-forwarded-prefix', 'x-real-ip', 'forwarded']) {
      expect(valuesOf(headers, name), name).toEqual([]);
    }
  });

  it('no second spelling passes either, whatever headers.underscores says', async () => {
    const keeping = await start({ settings: { 'headers.underscores': 'keep' } });
    const lines = ['X_Forwarded_For: 1.1.1.1', 'X.Real.IP: 1.1.1.1', 'x_real_ip: 1.1.1.1', 'X_Other: kept'];
    expect(received(await sent(lines, { through: keeping }))).toEqual(['X_Other: kept']);
    expect(received(await sent(lines))).toEqual([]);
  });

  it('a trusted proxy may say what it heard', async () => {
    const trusting = await start({
      settings: { 'forwarded.trustedProxies': '127.0.0.0/8', 'forwarded.rfc7239': 'true' },
    });
    const headers = await sent(forged, { through: trusting });
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['1.1.1.1, 2.2.2.2, 127.0.0.1']);
    expect(valuesOf(headers, 'forwarded')).toEqual(['for=4.4.4.4, for=127.0.0.1;host="Example.com:81";proto=https']);
    expect(valuesOf(headers, 'x-forwarded-host')).toEqual(['Example.com:81']);
    expect(valuesOf(headers, 'x-real-ip')).toEqual([]);
  });

  it('a proxy outside the trusted networks may not', async () => {
    const trusting = await start({
      settings: { 'forwarded.trustedProxies': '10.0.0.0/8', 'forwarded.rfc7239': 'true' },
    });
    const headers = await sent(forged, { through: trusting });
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['127.0.0.1']);
    expect(valuesOf(headers, 'forwarded')).toEqual(['for=127.0.0.1;host="Example.com:81";proto=https']);
  });

  it('an IPv6 peer is written as RFC 7239 wants', async () => {
    const six = await start({
      settings: { 'listen.host': '::1', 'forwarded.rfc7239': 'true', 'forwarded.trustedProxies': '::1' },
    });
    const headers = await sent(['X-Forwarded-For: 2001:db8::1'], { through: six, host: '::1' });
    expect(valuesOf(headers, 'x-forwarded-for')).toEqual(['2001:db8::1, ::1']);
    expect(valuesOf(headers, 'forwarded')).toEqual(['for="[::1]";host="Example.com:81";proto=https']);
  });

  it('an IPv4 peer of a dual-stack listener is written as IPv4', async () => {
    const dual = await start({ settings: { 'listen.host': '::' } });
    expect(valuesOf(await sent([], { through: dual }), 'x-forwarded-for')).toEqual(['127.0.0.1']);
  });
});

describe('X-Request-Id', () => {
  it.each(['abc-123', 'A'.repeat(128), "!#$%&'*+-.^_`|~"])('is kept when it is a short token (%s)', async (id) => {
    const answer = await call(sidecar, { path: '/kept', headers: { 'x-request-id': id } });
    expect(answer.headers['x-request-id']).toBe(id);
    expect(valuesOf(application.seen.at(-1)?.rawHeaders ?? [], 'x-request-id')).toEqual([id]);
    expect(await sidecar.logged(({ requestId }) => requestId === id)).toMatchObject({ path: '/kept' });
  });

  it.each([
    ['absent', []],
    ['empty', ['X-Request-Id: ']],
    ['too long', [`X-Request-Id: ${'A'.repeat(129)}`]],
    ['no token', ['X-Request-Id: a b']],
    ['quoted', ['X-Request-Id: "a"']],
    ['twofold', ['X-Request-Id: a', 'X-Request-Id: b']],
  ])('is made when it is %s', async (what, lines) => {
    const target = `/made-${what.replace(' ', '-')}`;
    const [id] = valuesOf(await sent(lines, { target }), 'x-request-id');
    expect(id).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    expect(await recordOf(sidecar, target)).toMatchObject({ requestId: id });
  });
});

describe('of an answer', () => {
  let raw: RawApplication;
  let through: Sidecar;
  let bytes = '';

  beforeAll(async () => {
    raw = await startRawApplication((socket) => socket.on('data', () => socket.write(bytes, 'latin1')));
    through = await start({ upstream: raw.url });
  });

  afterAll(() => raw.stop());

  async function answer(lines: readonly string[]) {
    bytes = `HTTP/1.1 200 Fine\r\n${lines.join('\r\n')}\r\nContent-Length: 2\r\n\r\nok`;
    const caller = await openRaw(through);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    const head = (await caller.closed()).split('\r\n\r\n')[0]?.split('\r\n') ?? [];
    return head;
  }

  it('status text, order, case, duplicates and bytes are kept', async () => {
    const lines = [
      'x-b: 2',
      'X-A: 1',
      'X-B: 3',
      'Set-Cookie: a=1; Path=/',
      'set-cookie: b=2',
      'Date: Thu, 01 Jan 1970 00:00:00 GMT',
      'Server: app',
      'X-Latin: gr\xfc\xdfe',
      'WWW-Authenticate: Basic',
    ];
    const head = await answer(lines);
    expect(head.slice(0, 10)).toEqual(['HTTP/1.1 200 Fine', ...lines]);
    expect(head.filter((line) => /^date:/i.test(line))).toHaveLength(1);
  });

  it('what belongs to the connection to the application is removed', async () => {
    const head = await answer([
      'Connection: keep-alive, X-Private',
      'Keep-Alive: timeout=1',
      'Proxy-Authenticate: Basic',
      'Proxy-Connection: x',
      'Upgrade: h2c',
      'Trailer: X-T',
      'TE: x',
      'X-Private: 1',
      'X-Public: 2',
      'X-Request-Id: from-the-application',
    ]);
    expect(head.slice(1).filter((line) => !/^(date|x-request-id|content-length|connection):/i.test(line))).toEqual([
      'X-Public: 2',
    ]);
    expect(head.filter((line) => /^connection:/i.test(line))).toEqual(['Connection: close']);
    expect(head.filter((line) => /^x-request-id:/i.test(line))).not.toContain('X-Request-Id: from-the-application');
  });

  it('a date is added where there is none', async () => {
    expect((await answer(['X: y'])).filter((line) => /^date: /i.test(line))).toHaveLength(1);
  });

  it('a header cannot be split into two', async () => {
    bytes = 'HTTP/1.1 200 OK\r\nX-A: b\rSet-Cookie: evil=1\r\nContent-Length: 0\r\n\r\n';
    const caller = await openRaw(through);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n');
    await once(caller.socket, 'close');
    expect(caller.received()).toMatch(/^HTTP\/1\.1 502 /);
    expect(caller.received()).not.toContain('evil');
  });
});
