import { once } from 'node:events';
import { Agent, type RequestOptions } from 'node:https';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Permit, authorize, compileAllowList } from '../src/admit/authorize.js';
import { startApplication, type Application } from './support/application.js';
import { begin, call, openRaw, readAnswer } from './support/caller.js';
import { generateKeys, issueClient, makePki } from './support/pki.js';
import { aConnection } from './support/observed.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const keys = generateKeys();
const operator = issueClient(pki.ca, { keys, subject: [['CN', 'operator']] });

const ALLOW = `[
  {commonName: im.qq.com, methods: [POST], paths: [/im/*, /callback]},
  {commonName: im.qq.com, methods: [GET, HEAD], paths: [/public/**]},
  {commonName: operator}
]`;

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({ pki, upstream: application.url, settings: { 'clientCert.allow': ALLOW } });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

/** One request with exactly this target, which no client library may tidy up. */
async function ask(method: string, target: string, as = pki.client): Promise<number> {
  const caller = await openRaw(sidecar, { as });
  caller.socket.write(`${method} ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`, 'latin1');
  return Number((await caller.closed()).slice(9, 12));
}

describe('admitted', () => {
  it.each([
    ['POST', '/im/push'],
    ['POST', '/im/push?x=../../admin&y=%2f'],
    ['POST', '/im/a%20b'],
    ['POST', '/im/a%C3%A9%e4%bd%a0%F0%9F%98%80'],
    ['POST', '/im/...'],
    ['POST', '/im/.hidden'],
    ['POST', 'https://localhost/im/push'],
    ['POST', '/callback'],
    ['GET', '/public/a'],
    ['GET', '/public/a/b/c.html'],
    ['HEAD', '/public/a'],
  ])('%s %s', async (method, target) => {
    const before = application.seen.length;
    expect(await ask(method, target)).toBe(200);
    expect(application.seen.length).toBe(before + 1);
  });

  it('a caller whose rule has no limits, wherever it goes', async () => {
    for (const target of ['/', '/im/../admin', '/a;b', '/a/%2e%2e/']) {
      expect(await ask('DELETE', target, operator)).toBe(200);
      // As it was written: nothing is tidied up on the way.
      expect(application.seen.at(-1)?.url).toBe(target);
    }
  });
});

describe('refused', () => {
  it.each([
    ['another method', 'GET', '/im/push'],
    ['a method that extends an allowed one', 'POSTED', '/im/push'],
    ['another path', 'POST', '/admin'],
    ['a path of another rule', 'POST', '/public/a'],
    ['a path in other letters', 'POST', '/IM/push'],
    ['a longer path', 'POST', '/im/a/b'],
    ['a longer exact path', 'POST', '/callback/x'],
    ['a shorter path', 'POST', '/im'],
    ['an empty segment', 'POST', '/im/'],
    ['an empty rest', 'GET', '/public/'],
    ['every path at once', 'OPTIONS', '*'],
    ['an absolute target', 'POST', 'https://localhost/admin'],
    ['an absolute target without a path', 'POST', 'https://localhost'],
  ])('%s: %s %s', async (_what, method, target) => {
    await expectForbidden(method, target);
  });
});

/** Two programs may take these for different paths, so no rule about paths covers them. */
describe('a path of more than one meaning is refused', () => {
  it.each([
    '/public/..',
    '/public/../admin',
    '/public/./a',
    '/public/.',
    '/public/%2e%2e/admin',
    '/public/%2E./admin',
    '/public/.%2e/admin',
    '/public/%252e%252e/admin',
    '/public/..%2fadmin',
    '/public/a%2Fb',
    '/public/..\\admin',
    '/public/..%5cadmin',
    '/public//admin',
    '//public/a',
    '/public/a;b=c',
    '/public/..;/admin',
    '/public/a%3bb',
    '/public/%c0%ae%c0%ae/admin',
    '/public/..%c0%afadmin',
    '/public/..%e0%80%afadmin',
    // Control characters.
    '/public/a%0a',
    '/public/a%0d%0aadmin',
    '/public/a%1F',
    '/public/a%7f',
    '/public/a%c2%85b',
    // Where a query or fragment begins, for who decodes first.
    '/public/a%3fb',
    '/public/a%23b',
    // No UTF-8.
    '/public/a%ff',
    '/public/a%80',
    '/public/a%e4%bd',
    '/public/..%c1%9cadmin',
    '/public/..%ed%a0%80admin',
    '/public/..%f0%80%80%afadmin',
    '/public/..%f4%90%80%80admin',
    '/public/..%f8%80%80%80%afadmin',
    // Full-width and small forms, and the two dots that are one character.
    '/public/..%ef%bc%8fadmin',
    '/public/..%EF%BC%8Fadmin',
    '/public/..%ef%bc%bcadmin',
    '/public/..%ef%b9%a8admin',
    '/public/%ef%bc%8e%ef%bc%8e/admin',
    '/public/%e2%80%a4%e2%80%a4/admin',
    '/public/%e2%80%a5/admin',
    '/public/a%ef%bc%9bb',
    '/public/%ef%bc%852e/admin',
    '/public/a%ef%bc%9fb',
    // Slashes and backslashes of other kinds.
    '/public/..%e2%81%84admin',
    '/public/..%e2%88%95admin',
    '/public/..%e2%a7%b8admin',
    '/public/..%e2%88%96admin',
    '/public/..%e2%a7%b5admin',
    '/public/..%e2%a7%b9admin',
    '/public/..%c2%a5admin',
    '/public/..%e2%82%a9admin',
  ])('%s', async (target) => {
    await expectForbidden('GET', target);
  });
});

/** Whatever the rules say: nobody has a meaning for them. */
it.each([
  '/..',
  '/public/../../admin',
  '/public/..%2f%2e%2e/admin',
  '//..',
  '/public/%2e%2E/./..',
  '/public/a%00.html',
  '/public/..%u2215admin',
  '/public/a%',
  '/public/a%zz',
])('a path that leads nowhere is refused: %s', async (target) => {
  const seen = application.seen.length;
  for (const as of [undefined, operator]) expect(await ask('GET', target, as)).toBe(400);
  expect(application.seen.length).toBe(seen);
});

/** Node's parser refuses them before; with another parser the rules must hold as well. */
it.each(['a\xff', '..\xef\xbc\x8fadmin', '\uff0e\uff0e/admin', 'a\tb', 'a b', 'a\x7f'])(
  'a path that is not written in visible ASCII satisfies no rule: /public/%j',
  (rest) => {
    const rules = compileAllowList([{ paths: ['/public/**', `/public/${rest}`] }]);
    const judge = (target: string) =>
      authorize(aConnection().identity, rules, { method: 'GET', target, hasEnded: false });
    expect(judge('/public/a')).toBeInstanceOf(Permit);
    expect(judge(`/public/${rest}`)).toBe('not_allowed');
  },
);

async function expectForbidden(method: string, target: string): Promise<void> {
  const seen = application.seen.length;
  const refusals = sidecar.refusals().length;
  // Not even a method that Node's parser does not know gets further than a refusal.
  const expected = method === 'POSTED' ? [400, 'bad_request'] : [403, 'not_allowed'];
  expect(await ask(method, target)).toBe(expected[0]);
  expect(sidecar.requests().at(-1)).toMatchObject({ status: expected[0], code: expected[1], outcome: 'refused' });
  expect(sidecar.refusals()).toHaveLength(refusals);
  expect(application.seen.length).toBe(seen);
}

it('the answer is nginx’s page, or JSON for who asks for it, and the connection stays', async () => {
  const agent = new Agent({ keepAlive: true, maxSockets: 1 });
  const options = { path: '/admin', agent } satisfies RequestOptions;
  const page = await call(sidecar, options);
  expect(page).toMatchObject({ status: 403, headers: { 'content-type': 'text/html' } });
  expect(page.body).toContain('<title>403 Forbidden</title>');
  expect(page.headers.connection).not.toBe('close');
  const json = await call(sidecar, { ...options, headers: { accept: 'application/json' } });
  const error = { code: 'not_allowed', message: 'Forbidden', requestId: json.headers['x-request-id'] };
  expect(JSON.parse(json.body)).toEqual({ error });
  const outgoing = begin(sidecar, { ...options, path: '/public/a' });
  outgoing.end();
  const [response] = (await once(outgoing, 'response')) as [Parameters<typeof readAnswer>[0]];
  expect(outgoing.reusedSocket).toBe(true);
  expect((await readAnswer(response)).status).toBe(200);
  agent.destroy();
});

it('a refusal does not wait for the body', async () => {
  const outgoing = begin(sidecar, { path: '/admin', method: 'POST', headers: { 'content-length': 100_000 } });
  outgoing.on('error', () => undefined).flushHeaders();
  const [response] = (await once(outgoing, 'response')) as [Parameters<typeof readAnswer>[0]];
  expect(response.statusCode).toBe(403);
  outgoing.destroy();
});

it('an Upgrade is judged like any request', async () => {
  const caller = await openRaw(sidecar);
  const before = application.seen.length;
  caller.socket.write('GET /admin HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n');
  expect(await caller.closed()).toMatch(/^HTTP\/1\.1 403 Forbidden\r\n/);
  expect(application.seen.length).toBe(before);
});
