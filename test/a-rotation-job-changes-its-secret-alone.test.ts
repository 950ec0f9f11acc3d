import { once } from 'node:events';
import { writeFileSync } from 'node:fs';
import type { IncomingMessage, ServerResponse } from 'node:http';
import { createServer, type Server } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { rotateTicketKeys } from '../src/commands/rotate-ticket-keys.js';
import { UsageError } from '../src/errors.js';
import { issueServer, makePki, temporaryDirectory, type Pki } from './support/pki.js';
import { endPrograms, startProgram } from './support/program.js';

const SECRET = 'mtls-sidecar-ticket-keys';
const NAMES = ['current.key', 'next.key', 'previous.key'];
const TOKEN = 'eyJhbGciOiJSUzI1NiJ9.e30.c2lnbmF0dXJl';
let pki: Pki;
const closing: (() => unknown)[] = [];

beforeAll(() => {
  pki = makePki();
});
afterEach(async () => {
  endPrograms();
  await Promise.all(closing.splice(0).map((close) => close()));
});

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly headers: IncomingMessage['headers'];
  readonly body: string;
}

/** An answer in place of that of an API server. */
type Answer = readonly [status: number, body: string];
const json = (status: number, body: unknown): Answer => [status, JSON.stringify(body)];
/** What Kubernetes says when it does not do something. */
const status = (code: number, message = 'because'): Answer => json(code, { kind: 'Status', message, code });

const key = (letter: string): string => Buffer.alloc(80, letter).toString('base64');
const secret = (data: Readonly<Record<string, unknown>> | undefined, resourceVersion: unknown = '7'): Answer =>
  json(200, { kind: 'Secret', apiVersion: 'v1', metadata: { name: SECRET, resourceVersion }, data });
const held = secret({ 'current.key': key('A'), 'next.key': key('B'), 'previous.key': key('C'), other: key('D') });

/** The API server of a cluster, which answers with these in turn. */
async function cluster(answers: readonly Answer[], server = pki.server) {
  const asked: Asked[] = [];
  const waiting = [...answers];
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const { method = '', url: path = '', headers } = request;
    asked.push({ method, path, headers, body: await text(request) });
    const [code, body] = waiting.shift() ?? status(500, 'asked too often');
    response.writeHead(code, { 'content-type': 'application/json' }).end(body);
  };
  const listening: Server = createServer({ cert: server.certPem, key: server.keyPem }, (request, response) => {
    void answer(request, response);
  });
  listening.listen(0, '127.0.0.1');
  await once(listening, 'listening');
  closing.push(async () => {
    listening.closeAllConnections();
    listening.close();
    await once(listening, 'close');
  });
  return { asked, url: `https://127.0.0.1:${(listening.address() as AddressInfo).port}` };
}

/** The files of a service account as the kubelet mounts them. */
function account(files: Readonly<Record<string, string>> = {}): string {
  const directory = temporaryDirectory();
  closing.push(() => directory.remove());
  const all = { token: `${TOKEN}\n`, 'ca.crt': pki.ca.certPem, namespace: 'im', ...files };
  for (const [name, content] of Object.entries(all)) writeFileSync(join(directory.path, name), content);
  return directory.path;
}

async function rotate(url: string, folder = account(), names: readonly string[] = NAMES) {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = { out: (line: string) => out.push(line), err: (line: string) => err.push(line), colour: false };
  const argv = [`--secret=${SECRET}`, `--api-server=${url}`, `--account=${folder}`, ...names];
  const code = await rotateTicketKeys({ argv, terminal });
  return { code, said: [...out, ...err].join('\n') };
}

const patchOf = ({ body }: Asked): { metadata: unknown; data: Record<string, string> } =>
  JSON.parse(body) as { metadata: unknown; data: Record<string, string> };

describe('in a cluster', () => {
  it('the keys of the Secret move up by one, and nothing else is written', async () => {
    const { asked, url } = await cluster([held, held]);
    expect(await rotate(url)).toEqual({ code: 0, said: `rotated ${NAMES.join(', ')} in Secret ${SECRET}` });
    const path = `/api/v1/namespaces/im/secrets/${SECRET}`;
    expect(asked.map((one) => [one.method, one.path])).toEqual([
      ['GET', path],
      ['PATCH', path],
    ]);
    for (const { headers } of asked) expect(headers.authorization).toBe(`Bearer ${TOKEN}`);
    const [, patched] = asked as [Asked, Asked];
    expect(patched.headers['content-type']).toBe('application/merge-patch+json');
    const { metadata, data, ...rest } = patchOf(patched);
    expect([metadata, rest]).toEqual([{ resourceVersion: '7' }, {}]);
    expect(Object.keys(data)).toEqual(NAMES);
    expect([data['current.key'], data['previous.key']]).toEqual([key('B'), key('A')]);
    const fresh = Buffer.from(data['next.key'] ?? '', 'base64');
    expect(fresh).toHaveLength(80);
    expect([key('A'), key('B'), key('C')]).not.toContain(fresh.toString('base64'));
  });

  it('the built program does it', async () => {
    const { asked, url } = await cluster([held, held]);
    const options = [`--secret=${SECRET}`, `--api-server=${url}`, `--account=${account()}`];
    const program = startProgram(['rotate-ticket-keys', ...options, ...NAMES]);
    expect(await program.ended()).toEqual({ code: 0, signal: null });
    expect([program.stdout(), asked.length]).toEqual([`rotated ${NAMES.join(', ')} in Secret ${SECRET}\n`, 2]);
  });

  it.each([
    ['an empty Secret', undefined, NAMES],
    ['one with the keys of an earlier version', { 'current.key': key('A'), 'previous.key': key('C') }, ['next.key']],
  ])('%s is filled, and what is there stays', async (_what, data, made) => {
    const { asked, url } = await cluster([secret(data), held]);
    const said = `made ${made.join(', ')}; rotated nothing yet in Secret ${SECRET}`;
    expect(await rotate(url)).toEqual({ code: 0, said });
    const patched = patchOf(asked[1] as Asked).data;
    expect(patched).toMatchObject(data ?? {});
    for (const name of made) expect(Buffer.from(patched[name] ?? '', 'base64')).toHaveLength(80);
  });

  it('what somebody else changed meanwhile is read again, once', async () => {
    const changed = secret({ 'current.key': key('X'), 'next.key': key('Y'), 'previous.key': key('Z') }, '8');
    const { asked, url } = await cluster([held, status(409), changed, held]);
    expect((await rotate(url)).code).toBe(0);
    expect(asked.map(({ method }) => method)).toEqual(['GET', 'PATCH', 'GET', 'PATCH']);
    const { metadata, data } = patchOf(asked[3] as Asked);
    expect(metadata).toEqual({ resourceVersion: '8' });
    expect([data['current.key'], data['previous.key']]).toEqual([key('Y'), key('X')]);
  });
});

describe('what stands in its way is named, and nothing is written', () => {
  const secretNamed = `mtls-sidecar: Secret ${SECRET}: `;
  it.each<[what: string, answers: readonly Answer[], said: RegExp]>([
    ['no right to read', [status(403)], /may not get it: its Role needs the verbs get and patch with resourceNames \[/],
    ['no right to write', [held, status(403)], /may not patch it: .* \(because\)$/],
    ['an old token', [status(401)], /does not accept the token/],
    ['no Secret', [status(404)], /there is none of this name: it has to be made first/],
    [
      'somebody else, twice',
      [held, status(409), held, status(409)],
      /changed it meanwhile, twice; nothing was rotated$/,
    ],
    ['a Secret that is immutable', [held, status(422, 'immutable')], /patch with status 422 \(immutable\)$/],
    ['trouble', [[500, 'down']], /answered get with status 500$/],
    ['a redirection', [[302, '']], /answered get with status 302$/],
    ['no JSON', [[200, '<html>']], /something that is no Secret$/],
    ['other JSON', [[200, 'null']], /something that is no Secret$/],
    ['a Secret without version', [secret({}, 7)], /something that is no Secret$/],
    ['entries that are no texts', [secret({ 'current.key': 7 })], /something that is no Secret$/],
    ['no end of it', [[200, ' '.repeat(5 * 1024 * 1024)]], /its answer is too long$/],
  ])('%s', async (_what, answers, said) => {
    const { asked, url } = await cluster(answers);
    const result = await rotate(url);
    expect(result.code).toBe(1);
    expect(result.said.startsWith(secretNamed)).toBe(true);
    expect(result.said).toMatch(said);
    expect(asked).toHaveLength(answers.length);
    expect(result.said).not.toContain(TOKEN);
  });

  it('what the API server says cannot write on the terminal', async () => {
    const { url } = await cluster([status(403, `\u001b[2J${'x'.repeat(9_999)}`)]);
    const { said } = await rotate(url);
    expect(said).toContain('\\u001b[2J');
    expect(said.length).toBeLessThan(700);
  });

  it('an entry that is no key', async () => {
    const { asked, url } = await cluster([secret({ 'current.key': key('A'), 'next.key': 'c2hvcnQ=' })]);
    await expect(rotate(url)).rejects.toThrow(
      `Secret ${SECRET}: next.key has 5 bytes; a ticket key is 80 or 48 random bytes`,
    );
    expect(asked).toHaveLength(1);
  });

  it.each([
    [
      'of another CA',
      () => pki.stranger.ca.issue({ subject: [['CN', 'x']], san: [{ ip: '127.0.0.1' }], eku: ['serverAuth'] }),
    ],
    ['for another name', () => issueServer(pki.ca, { san: [{ dns: 'elsewhere' }] })],
  ])('a server certificate %s gets no token', async (_what, certificate) => {
    const { asked, url } = await cluster([held, held], certificate());
    const { code, said } = await rotate(url);
    expect([code, asked]).toEqual([1, []]);
    expect(said).toMatch(/no answer from the API server https:\/\/127\.0\.0\.1:\d+: \S+ .*certificate/i);
  });

  it('a server that the environment would let pass gets no token', async () => {
    const { asked, url } = await cluster([held, held], issueServer(pki.stranger.ca, { san: [{ ip: '127.0.0.1' }] }));
    const options = [`--secret=${SECRET}`, `--api-server=${url}`, `--account=${account()}`];
    const program = startProgram(['rotate-ticket-keys', ...options, ...NAMES], {
      NODE_TLS_REJECT_UNAUTHORIZED: '0',
    });
    expect([(await program.ended()).code, asked]).toEqual([1, []]);
  });

  // Without a CA, Node would trust all public ones.
  it.each(['token', 'ca.crt', 'namespace'])('an empty %s', async (file) => {
    const { asked, url } = await cluster([held, held]);
    const folder = account({ [file]: '\n' });
    const said = `mtls-sidecar: Secret ${SECRET}: ${join(folder, file)} is empty`;
    expect([await rotate(url, folder), asked]).toEqual([{ code: 1, said }, []]);
  });

  it('nobody there', async () => {
    const { code, said } = await rotate('https://127.0.0.1:1');
    expect([code, said]).toEqual([1, expect.stringMatching(/no answer from the API server .* ECONNREFUSED/)]);
  });

  it('no service account', async () => {
    const { code, said } = await rotate('https://127.0.0.1:1', '/nowhere');
    expect([code, said]).toEqual([
      1,
      expect.stringContaining('/nowhere/token cannot be read: no such file or directory'),
    ]);
  });

  it.each([
    [['--secret', '../nodes', ...NAMES], /no name of a Secret/],
    [['--secret', 'keys', 'a', 'b', 'c/d'], /c\/d is no name of an entry/],
    [['--secret', 'keys', '--api-server', 'http://127.0.0.1', ...NAMES], /no https:\/\/ URL/],
    [['--secret', 'keys', '--api-server', 'https://127.0.0.1/k8s', ...NAMES], /URL of a host/],
    [['--secret', 'keys', '--api-server', 'https://me:pass@127.0.0.1', ...NAMES], /URL of a host/],
  ])('%j', async (argv, message) => {
    const terminal = { out: () => undefined, err: () => undefined, colour: false };
    const refusal = await rotateTicketKeys({ argv, terminal }).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(UsageError);
    expect((refusal as Error).message).toMatch(message);
  });
});
