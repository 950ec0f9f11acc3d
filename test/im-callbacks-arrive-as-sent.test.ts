import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Agent, request as httpsRequest } from 'node:https';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import supertest from 'supertest';
import { Client, Pool } from 'undici';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application, type Seen } from './support/application.js';
import { readAnswer, type Answer } from './support/caller.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { ROOT } from './support/source-tree.js';

interface Callback {
  readonly command: string;
  readonly target: string;
  readonly body: Buffer;
}

const CALLBACKS = readCallbacks();

function readCallbacks(): Callback[] {
  const folder = join(ROOT, 'test/fixtures/im-callbacks');
  const manifest = JSON.parse(readFileSync(join(folder, 'manifest.json'), 'utf8'));
  return manifest.callbacks.map((entry: { command: string; body: string; query: Record<string, string> }) => ({
    command: entry.command,
    // As IM signs: the signature is the application's to check, so it must arrive.
    target: `/im/callback?${new URLSearchParams(entry.query).toString()}&RequestTime=1629883332&Sign=9f86d081884c7d65`,
    body: readFileSync(join(folder, entry.body)),
  }));
}

/** What IM makes of an answer, and a body that no JSON library would write this way: it must come back as it is. */
const ANSWER = '{ "ActionStatus":"OK", "ErrorInfo":"好的", "ErrorCode":0 }\n';

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication((_seen, response) => {
    response.setHeader('Content-Type', 'application/json');
    response.end(ANSWER);
  });
  sidecar = await startSidecar({ upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const origin = (): string => `https://127.0.0.1:${sidecar.port}`;
const identity = () => ({
  ca: sidecar.pki.ca.certPem,
  cert: sidecar.pki.client.certPem,
  key: sidecar.pki.client.keyPem,
});

/** The one request that the application saw last is this callback, byte for byte, and comes from the verified caller. */
function expectArrived(seen: Seen | undefined, { target, body }: Callback): void {
  expect(seen?.method).toBe('POST');
  expect(seen?.url).toBe(target);
  expect(seen?.body.equals(body)).toBe(true);
  const headers = seen?.rawHeaders ?? [];
  expect(valuesOf(headers, 'Content-Length')).toEqual([String(body.length)]);
  expect(valuesOf(headers, 'X-SSL-Client-CN')).toEqual(['im.qq.com']);
}

function postOver(agent: Agent, { target, body }: Callback): Promise<Answer> {
  const options = { host: '127.0.0.1', port: sidecar.port, path: target, method: 'POST', agent, ...identity() };
  // IM documents Host and Content-Length, and no other header.
  const outgoing = httpsRequest({ ...options, headers: { 'Content-Length': body.length } });
  outgoing.end(body);
  return once(outgoing, 'response').then(([response]) => readAnswer(response as IncomingMessage));
}

const peersOf = (records: readonly Readonly<Record<string, unknown>>[]): Set<unknown> =>
  new Set(records.map(({ peer }) => peer));

describe('every documented callback arrives as it was sent', () => {
  it('is a list of all there are', () => {
    expect(CALLBACKS.length).toBeGreaterThanOrEqual(12);
  });

  it.each(CALLBACKS)('$command, from supertest', async (callback) => {
    const { ca, cert, key } = identity();
    const posting = supertest(origin()).post(callback.target).ca(ca).cert(cert).key(key);
    const { status, text } = await posting.set('Content-Type', 'application/json').send(callback.body.toString());
    expect([status, text]).toEqual([200, ANSWER]);
    expectArrived(application.seen.at(-1), callback);
  });

  it('all of them over the one connection that IM keeps', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 1 });
    const [seenBefore, loggedBefore] = [application.seen.length, sidecar.requests().length];
    const answers = await Promise.all(CALLBACKS.map((callback) => postOver(agent, callback)));
    agent.destroy();
    expect(answers.map(({ status, body }) => [status, body])).toEqual(CALLBACKS.map(() => [200, ANSWER]));
    CALLBACKS.forEach((callback, index) => expectArrived(application.seen[seenBefore + index], callback));
    expect(peersOf(sidecar.requests().slice(loggedBefore)).size).toBe(1);
  });

  it('all of them at once, over several connections', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 4 });
    const [seenBefore, loggedBefore] = [application.seen.length, sidecar.requests().length];
    await Promise.all(CALLBACKS.map((callback) => postOver(agent, callback)));
    agent.destroy();
    const seen = application.seen.slice(seenBefore);
    expect(seen).toHaveLength(CALLBACKS.length);
    CALLBACKS.forEach((callback) =>
      expectArrived(
        seen.find(({ url }) => url === callback.target),
        callback,
      ),
    );
    expect(peersOf(sidecar.requests().slice(loggedBefore)).size).toBe(4);
  });

  it('from an undici client', async () => {
    const client = new Client(origin(), { connect: identity() });
    for (const callback of CALLBACKS) {
      const { statusCode, body } = await client.request({ path: callback.target, method: 'POST', body: callback.body });
      expect([statusCode, await body.text()]).toEqual([200, ANSWER]);
      expectArrived(application.seen.at(-1), callback);
    }
    await client.close();
  });

  it('from an undici client that pipelines, in order', async () => {
    const pool = new Pool(origin(), { connections: 1, pipelining: 4, connect: identity() });
    const before = application.seen.length;
    // Undici pipelines only what may be repeated.
    const asked = CALLBACKS.map(({ target }) => pool.request({ path: target, method: 'GET' }));
    for (const { body } of await Promise.all(asked)) expect(await body.text()).toBe(ANSWER);
    expect(application.seen.slice(before).map(({ url }) => url)).toEqual(CALLBACKS.map(({ target }) => target));
    await pool.close();
  });

  it('but not from an undici client or supertest without a certificate', async () => {
    const before = application.seen.length;
    const { ca } = identity();
    const client = new Client(origin(), { connect: { ca } });
    const [callback] = CALLBACKS as [Callback];
    const { statusCode, body } = await client.request({ path: callback.target, method: 'POST', body: callback.body });
    expect(statusCode).toBe(400);
    expect(await body.text()).toContain('400 No required SSL certificate was sent');
    await client.close();
    await supertest(origin()).post(callback.target).ca(ca).send(callback.body.toString()).expect(400);
    expect(application.seen).toHaveLength(before);
  });
});
