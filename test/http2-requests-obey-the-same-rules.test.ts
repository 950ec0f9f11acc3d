import { once } from 'node:events';
import { constants, type ClientHttp2Session, type OutgoingHttpHeaders } from 'node:http2';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { answerOf, begin2, call2, openHttp2 } from './support/http2.js';
import { block, FLAGS, frame, openFrames, request, TYPES } from './support/http2-frames.js';
import { recordOf } from './support/records.js';
import { startSidecar, type LogLine, type Sidecar } from './support/sidecar.js';

let application: Application;
let sidecar: Sidecar;
const sessions: ClientHttp2Session[] = [];

async function open(): Promise<ClientHttp2Session> {
  const session = await openHttp2(sidecar);
  sessions.push(session);
  return session;
}

beforeAll(async () => {
  application = await startApplication((seen, response) => {
    if (seen.url === '/early') response.writeEarlyHints({ link: '</a.css>; rel=preload' });
    if (seen.url === '/none') return response.writeHead(204).end();
    if (seen.url === '/unchanged') return response.writeHead(304, { etag: '"1"' }).end();
    if (seen.url === '/cookies') response.setHeader('Set-Cookie', ['a=1', 'b=2']);
    if (seen.url === '/reset') return response.writeHead(205, { 'content-length': 5 }).end('hello');
    const [, twice] = /^\/twice\/(.+)$/.exec(seen.url) ?? [];
    if (twice !== undefined) return response.writeHead(200, [twice, '1', twice, '2']).end('x');
    if (seen.url === '/trailers') {
      response.writeHead(200, { Trailer: 'X-Sum' });
      response.write('body');
      response.addTrailers({ 'X-Sum': '42', 'X-Request-Id': 'not theirs' });
      return response.end();
    }
    response.end(seen.body.length > 0 ? `${seen.body.length}` : 'ok');
  });
  sidecar = await startSidecar({
    upstream: application.url,
    settings: {
      'listen.http2': 'true',
      'listen.serverNames': 'localhost',
      'limits.body': '64KiB',
      'limits.head': '4KiB',
    },
  });
});
afterEach(() => {
  for (const session of sessions.splice(0)) session.destroy();
});
afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

/** Every header that Node knows by name, but for those that frame a message or belong to a connection. */
const ORDINARY_NAMES = Object.entries(constants as Readonly<Record<string, unknown>>)
  .filter(([key]) => key.startsWith('HTTP2_HEADER_'))
  .map(([, name]) => name as string)
  .filter(
    (name) => !/^(?::|content-length$|transfer-encoding$|host$|connection$|keep-alive$|proxy-connection$)/.test(name),
  )
  .filter((name) => !/^(?:te|trailer|upgrade|http2-settings)$/.test(name));

const lastSeen = () => application.seen.at(-1) as Application['seen'][number];

describe('a request of HTTP/2 reaches the application as one of HTTP/1.1 does', () => {
  it('with its authority as Host, its caller in the headers, and a record', async () => {
    const answer = await call2(await open(), { ':path': '/who?a=1', 'x-mine': 'kept' });
    expect(answer).toMatchObject({ status: 200, body: 'ok' });
    const { method, url, rawHeaders } = lastSeen();
    expect({ method, url }).toEqual({ method: 'GET', url: '/who?a=1' });
    expect(valuesOf(rawHeaders, 'host')).toEqual(['localhost']);
    expect(valuesOf(rawHeaders, 'x-mine')).toEqual(['kept']);
    expect(valuesOf(rawHeaders, 'x-ssl-client-s-dn')).toEqual(['CN=im.qq.com,O=Tencent,C=CN']);
    expect(valuesOf(rawHeaders, 'x-forwarded-proto')).toEqual(['https']);
    expect(rawHeaders.filter((_, index) => index % 2 === 0).some((name) => name.startsWith(':'))).toBe(false);
    const record = await recordOf(sidecar, '/who?a=1');
    expect(record).toMatchObject({ httpVersion: '2.0', status: 200, outcome: 'ok', host: 'localhost', bytesOut: 2 });
    expect(answer.headers['x-request-id']).toBe(record['requestId']);
  });

  it('without what its caller may not say', async () => {
    await call2(await open(), {
      'x-ssl-client-verify': 'SUCCESS',
      ssl_client_s_dn: 'CN=forged',
      'x-forwarded-for': '192.0.2.1',
      'x-real-ip': '192.0.2.1',
      'x-forwarded-client-cert': 'forged',
      te: 'trailers',
    });
    const { rawHeaders } = lastSeen();
    expect(valuesOf(rawHeaders, 'x-ssl-client-verify')).toEqual(['SUCCESS']);
    expect(valuesOf(rawHeaders, 'x-forwarded-for')).toEqual(['127.0.0.1']);
    for (const name of ['ssl_client_s_dn', 'x-real-ip', 'x-forwarded-client-cert', 'te']) {
      expect(valuesOf(rawHeaders, name)).toEqual([]);
    }
  });

  it('with the pieces of its cookie in one', async () => {
    const session = await open();
    await call2(session, { cookie: ['a=1', 'b=2', 'c=3'] });
    expect(valuesOf(lastSeen().rawHeaders, 'cookie')).toEqual(['a=1; b=2; c=3']);
  });

  it('beside others of its connection, each with its own answer', async () => {
    const session = await open();
    const bodies = Array.from({ length: 40 }, (_, index) => 'x'.repeat(index + 1));
    const answers = await Promise.all(bodies.map((body) => call2(session, {}, body)));
    expect(answers.map(({ body }) => body)).toEqual(bodies.map(({ length }) => `${length}`));
  });

  it('while callers of HTTP/1.1 are served as before', async () => {
    expect(await call(sidecar, { path: '/old' })).toMatchObject({ status: 200, body: 'ok' });
    expect(await recordOf(sidecar, '/old')).toMatchObject({ httpVersion: '1.1' });
  });
});

describe('answers of every shape arrive whole', () => {
  it.each([
    ['/none', 204],
    ['/reset', 205],
    ['/unchanged', 304],
  ])('%s', async (path, status) => {
    expect(await call2(await open(), { ':path': path })).toMatchObject({ status, body: '' });
    expect(await recordOf(sidecar, path)).toMatchObject({ outcome: 'ok', status, bytesOut: 0 });
  });

  it('of HEAD', async () => {
    const answer = await call2(await open(), { ':method': 'HEAD', ':path': '/head' });
    expect(answer).toMatchObject({ status: 200, body: '' });
    expect(await recordOf(sidecar, '/head')).toMatchObject({ outcome: 'ok', status: 200 });
  });

  it('with early hints', async () => {
    expect((await call2(await open(), { ':path': '/early' })).informed).toEqual([103]);
  });

  it('with several cookies', async () => {
    expect((await call2(await open(), { ':path': '/cookies' })).headers['set-cookie']).toEqual(['a=1', 'b=2']);
  });

  it('with trailers, without those that are not the application’s to set', async () => {
    const { body, trailers } = await call2(await open(), { ':path': '/trailers' });
    expect(body).toBe('body');
    expect(Object.entries(trailers)).toEqual([['x-sum', '42']]);
  });

  it('with headers that say something twice, those that Node would send once among them', async () => {
    const session = await open();
    for (const name of ORDINARY_NAMES) {
      const path = `/twice/${name}`;
      const [old, answer] = [await call(sidecar, { path }), await call2(session, { ':path': path })];
      expect([answer.status, valuesOf(answer.rawHeaders, name).join(', ')], name).toEqual([
        200,
        valuesOf(old.rawHeaders, name).join(', '),
      ]);
    }
    const { rawHeaders } = await call2(session, { ':path': '/twice/content-language' });
    expect(valuesOf(rawHeaders, 'content-language')).toEqual(['1, 2']);
  });

  it('after 100 Continue, which the application gives', async () => {
    const stream = begin2(await open(), { ':method': 'POST', expect: '100-continue', 'content-length': 4 });
    await once(stream, 'continue');
    stream.end('late');
    expect((await answerOf(stream)).body).toBe('4');
  });
});

describe('trailers of the caller', () => {
  it('reach the application when they were announced', async () => {
    const stream = begin2(await open(), { ':method': 'POST', trailer: 'x-sum' }, { waitForTrailers: true });
    stream.on('wantTrailers', () => stream.sendTrailers({ 'x-sum': '7', 'x-ssl-client-verify': 'forged' }));
    stream.end('abc');
    await answerOf(stream);
    expect(lastSeen().rawTrailers).toEqual(['x-sum', '7']);
  });
});

describe('what is refused in HTTP/1.1 is refused in HTTP/2, by the same name', () => {
  const cases: [string, OutgoingHttpHeaders, number, string][] = [
    ['another Host beside the authority', { host: 'other.example' }, 400, 'bad_request'],
    ['a name that is not ours', { ':authority': 'other.example' }, 421, 'misdirected'],
    ['a scheme that nobody came over', { ':scheme': 'http' }, 400, 'bad_request'],
    ['a method that HTTP/1.1 does not know', { ':method': 'BREW' }, 400, 'bad_request'],
    ['TRACE', { ':method': 'TRACE' }, 400, 'bad_request'],
    ['headers above limits.head', { 'x-long': 'x'.repeat(5000) }, 431, 'headers_too_large'],
    ['headers far above it', { 'x-long': 'x'.repeat(30_000) }, 431, 'headers_too_large'],
    ['a body announced above limits.body', { ':method': 'POST', 'content-length': '70000' }, 413, 'body_too_large'],
  ];
  it.each(cases)('%s', async (name, headers, status, code) => {
    const path = `/refused/${encodeURIComponent(name)}`;
    const stream = begin2(await open(), { ':path': path, ...headers }, { endStream: headers[':method'] !== 'POST' });
    const seen = application.seen.length;
    const answer = await answerOf(stream);
    expect(answer.status).toBe(status);
    expect(answer.body).toContain(code);
    expect(await recordOf(sidecar, path)).toMatchObject({ status, code, httpVersion: '2.0', outcome: 'refused' });
    expect(application.seen.length).toBe(seen);
  });

  it('CONNECT', async () => {
    const session = await open();
    const stream = session.request({ ':method': 'CONNECT', ':authority': 'localhost:443' });
    expect((await answerOf(stream)).status).toBe(400);
  });

  it.each([
    ['a space', '/a b'],
    ['a second line', '/ HTTP/1.1\tX: y'],
    ['bytes beyond ASCII', '/\xff'],
    ['a whole URL', 'https://localhost/'],
    ['a fragment', '/#a'],
  ])('a path with %s', async (_, path) => {
    const seen = application.seen.length;
    const answered = answerOf(begin2(await open(), { ':path': path }));
    // Node's parser may reset it before anybody sees it.
    await expect(answered.then(({ status }) => status).catch(() => 400)).resolves.toBe(400);
    expect(application.seen.length).toBe(seen);
  });

  it('more bytes than announced, and than allowed', async () => {
    const answer = await call2(await open(), { ':path': '/large' }, 'x'.repeat(100_000));
    expect(answer.status).toBe(413);
    expect(await recordOf(sidecar, '/large')).toMatchObject({ code: 'body_too_large' });
  });

  it('as JSON when the caller asks for it', async () => {
    const answer = await call2(await open(), { ':method': 'BREW', accept: 'application/json' });
    expect(JSON.parse(answer.body)).toMatchObject({ error: { code: 'bad_request' } });
    expect(answer.headers).not.toHaveProperty('connection');
  });

  it('and its connection goes on', async () => {
    const session = await open();
    expect((await call2(session, { ':authority': 'other.example' })).status).toBe(421);
    expect((await call2(session)).status).toBe(200);
  });
});

it('a malformed request reaches nobody, and is told of', async () => {
  const malformed = [
    request('/malformed').slice(0, 3),
    request('/malformed', [['X-Upper', 'a']]),
    request('/malformed', [['connection', 'close']]),
    request('/malformed', [[':path', '/second']]),
    request('/malformed', [['content-length', '+1']]),
  ];
  const caller = await openFrames(sidecar);
  // Callers of other tests may leave late, and be told of then.
  const peer = `127.0.0.1:${caller.socket.localPort}`;
  const isUnread = (line: LogLine): boolean =>
    line.msg === 'streams of an HTTP/2 connection were reset unread' && line['peer'] === peer;
  const unread = (): number => sidecar.log.filter(isUnread).reduce((sum, line) => sum + Number(line['streams']), 0);
  const ask = (stream: number, fields: [string, string][]): void =>
    caller.send(frame('headers', FLAGS.endStream | FLAGS.endHeaders, stream, block(fields)));
  ask(1, request('/before-malformed'));
  for (const [index, fields] of malformed.entries()) ask(3 + 2 * index, fields);
  for (let index = 0; index < malformed.length; index += 1)
    await caller.frame((type, stream) => type === TYPES.reset && stream === 3 + 2 * index);
  ask(13, request('/behind-malformed'));
  await recordOf(sidecar, '/behind-malformed');
  expect(await sidecar.logged(isUnread)).toMatchObject({ subject: 'CN=im.qq.com,O=Tencent,C=CN' });
  await expect.poll(unread, { timeout: 5_000 }).toBe(5);
  // One that leaves at once is told of, too.
  ask(15, malformed[0] ?? []);
  await caller.frame((type, stream) => type === TYPES.reset && stream === 15);
  caller.socket.destroy();
  await expect.poll(unread, { timeout: 5_000 }).toBe(6);
  expect(application.seen.map(({ url }) => url)).not.toContain('/malformed');
});

it('a caller that may not come in is told so in HTTP/2', async () => {
  const session = await openHttp2(sidecar, { as: null });
  sessions.push(session);
  const answer = await call2(session);
  expect(answer.status).toBe(400);
  expect(answer.body).toContain('No required SSL certificate was sent');
  await once(session, 'close');
});

it('HTTP/2 is not offered unless it is asked for', async () => {
  const plain = await startSidecar({ pki: sidecar.pki, upstream: application.url });
  await expect(openHttp2(plain)).rejects.toThrow();
  await plain.stop();
});

it('all connections together may not ask more at once than HTTP/1.1 could', async () => {
  const hanging = await startApplication((seen, response) => {
    if (seen.url !== '/hangs') response.end('ok');
  });
  const narrow = await startSidecar({
    pki: sidecar.pki,
    upstream: hanging.url,
    settings: { 'listen.http2': 'true', 'limits.connections': '2' },
  });
  const session = await openHttp2(narrow);
  const [first, second] = [begin2(session, { ':path': '/hangs' }), begin2(session, { ':path': '/hangs' })];
  expect((await call2(session, { ':path': '/third' })).status).toBe(503);
  expect(await recordOf(narrow, '/third')).toMatchObject({ code: 'overloaded' });
  const gone = [once(first, 'close'), once(second, 'close')];
  first.close(8);
  second.close(8);
  await Promise.all(gone);
  await narrow.logged(({ msg, outcome }) => msg === 'request' && outcome === 'caller_aborted');
  expect((await call2(session)).status).toBe(200);
  session.destroy();
  await narrow.stop();
  await hanging.stop();
});

it('nobody speaks HTTP/2 over a version of TLS that is too old for it', async () => {
  const legacy = await startSidecar({
    pki: sidecar.pki,
    upstream: application.url,
    settings: { 'listen.http2': 'true', 'tls.legacy': 'true', 'tls.minVersion': 'TLSv1' },
  });
  const tls = { minVersion: 'TLSv1', maxVersion: 'TLSv1', ciphers: 'DEFAULT@SECLEVEL=0' } as const;
  const session = await openHttp2(legacy, { tls });
  const [code] = (await once(session, 'goaway')) as [number];
  const INADEQUATE_SECURITY = 12;
  expect(code).toBe(INADEQUATE_SECURITY);
  session.destroy();
  await legacy.stop();
});
