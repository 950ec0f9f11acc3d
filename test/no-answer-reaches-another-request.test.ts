import fc from 'fast-check';
import type { Socket } from 'node:net';
import { Readable } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { Permit } from '../src/admit/authorize.js';
import type { AnswerSink, ForwardRequest } from '../src/forward/exchange.js';
import { Upstream } from '../src/forward/upstream.js';
import { answers, piecesOf } from './support/answers.js';
import { startRawApplication, type RawApplication } from './support/application.js';
import { identityOf } from './support/identity.js';
import { configured } from './support/settings.js';

const PERMIT = Permit.grant(identityOf({}));
const OK = 'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok';

let application: RawApplication;
let upstream: Upstream;
/** What the application does with a request for `/odd`; any other is answered with its own path. */
let misbehave: (socket: Socket) => void;
let connections = 0;

beforeAll(async () => {
  application = await startRawApplication((socket) => {
    connections += 1;
    socket.on('data', (chunk) => {
      const path = / (\/\S+) HTTP/.exec(chunk.toString('latin1'))?.[1];
      if (path === '/odd') misbehave(socket);
      else if (path !== undefined) {
        socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${path.length}\r\n\r\n${path}`);
      }
    });
  });
  upstream = new Upstream(configured({ 'upstream.url': application.url, 'upstream.headTimeout': '2s' }).upstream);
});

afterAll(async () => {
  upstream.close();
  await application.stop();
});

interface Outcome {
  readonly body: string | null;
  readonly code: string | null;
}

interface Asking extends Partial<Pick<ForwardRequest, 'body' | 'contentLength'>> {
  readonly to?: Upstream;
  /** For how long the sink is full after its first bytes. Milliseconds. */
  readonly fullFor?: number;
}

/** Asks for a path, with a sink that has room unless it is told otherwise. */
function ask(
  target: string,
  method = 'GET',
  { to = upstream, fullFor = 0, ...content }: Asking = {},
): Promise<Outcome> {
  return new Promise((resolve) => {
    let body = '';
    const takes = (): boolean => {
      if (fullFor === 0 || body.length > 1) return true;
      setTimeout(() => exchange.resume(), fullFor);
      return false;
    };
    const sink: AnswerSink = {
      information: () => undefined,
      head: () => undefined,
      data: (chunk) => ((body += chunk.toString('latin1')), takes()),
      end: () => resolve({ body, code: null }),
      fail: ({ code }) => resolve({ body: null, code }),
    };
    const framed = { body: null, contentLength: null, ...content };
    const request = {
      method,
      target,
      headers: ['Host', 'a'],
      identityHeaders: [],
      ...framed,
      expectsContinue: false,
      trailers: null,
    };
    const exchange = to.send(PERMIT, request, sink);
  });
}

let count = 0;

/** The next request gets its own answer, whatever came before. */
async function expectOwnAnswer(): Promise<void> {
  const path = `/own-${(count += 1)}`;
  expect(await ask(path)).toEqual({ body: path, code: null });
}

/** Whether the connection of one more request to `/odd` was used for the next one. */
async function reuseAfter(bytes: string, method = 'GET'): Promise<boolean> {
  await expectOwnAnswer();
  misbehave = (socket) => socket.write(bytes, 'latin1');
  await ask('/odd', method);
  const before = connections;
  await expectOwnAnswer();
  return connections === before;
}

describe('whatever the application wrote before', () => {
  it('to many requests, one after the other', async () => {
    const property = fc.asyncProperty(answers, async (answer) => {
      misbehave = (socket) => {
        for (const piece of piecesOf(answer).slice(0, 50)) socket.write(piece);
        // Without an end some would never be over.
        setImmediate(() => socket.end());
      };
      await ask('/odd', answer.method);
      await expectOwnAnswer();
    });
    await fc.assert(property, { numRuns: 300, seed: 20_261_124 });
  });
});

describe('a head that is like the one before', () => {
  const HEAD = 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n';

  it('has a body after that of a HEAD, and none before', async () => {
    await expectOwnAnswer();
    const before = connections;
    for (const method of ['HEAD', 'GET', 'GET', 'HEAD', 'GET']) {
      const body = method === 'HEAD' ? '' : 'hello';
      misbehave = (socket) => socket.write(HEAD + body);
      expect(await ask('/odd', method)).toEqual({ body, code: null });
    }
    expect(connections).toBe(before);
  });
});

describe('a connection is used again', () => {
  it.each([
    ['a length', OK],
    ['chunks', 'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n'],
    ['204', 'HTTP/1.1 204 No Content\r\n\r\n'],
    ['304 that tells a length', 'HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n'],
    ['an interim answer before', `HTTP/1.1 100 Continue\r\n\r\n${OK}`],
    ['a long enough promise to stay', `HTTP/1.1 200 OK\r\nKeep-Alive: timeout=60\r\nContent-Length: 0\r\n\r\n`],
    ['a HEAD that was told a length', 'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n', 'HEAD'],
  ])('after an answer with %s', async (_what, bytes, method?: string) => {
    expect(await reuseAfter(bytes, method)).toBe(true);
  });
});

describe('a connection is not used again', () => {
  it.each([
    ['says close', 'HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n'],
    ['is of HTTP/1.0', 'HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n'],
    ['has something behind it', `${OK}\r\n`],
    ['has another answer behind it', `${OK}HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil`],
    ['is a 204 that tells a length', 'HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\n'],
    ['is a 204 in chunks', 'HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n'],
    ['is to be closed at once', 'HTTP/1.1 200 OK\r\nKeep-Alive: timeout=1\r\nContent-Length: 0\r\n\r\n'],
    ['cannot be read', 'HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n'],
    ['has no framing, to a HEAD', 'HTTP/1.1 200 OK\r\n\r\n', 'HEAD'],
  ])('after an answer that %s', async (_what, bytes, method?: string) => {
    expect(await reuseAfter(bytes, method)).toBe(false);
  });

  it('when the answer came before the end of the request', async () => {
    await expectOwnAnswer();
    const before = connections;
    misbehave = (socket) => socket.write(OK);
    const body = new Readable({ read() {} });
    body.push('abc');
    expect(await ask('/odd', 'POST', { body, contentLength: 6 })).toEqual({ body: 'ok', code: null });
    body.push('GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n');
    await expectOwnAnswer();
    expect(connections).toBe(before + 1);
    body.destroy();
  });

  it.each([2, 4])('when a body is not as long as announced (%i instead of 3)', async (length) => {
    await expectOwnAnswer();
    const before = connections;
    misbehave = () => undefined;
    const body = Readable.from([Buffer.alloc(length)]);
    expect(await ask('/odd', 'POST', { body, contentLength: 3 })).toMatchObject({ code: 'internal' });
    await expectOwnAnswer();
    expect(connections).toBe(before + 1);
  });

  it('when something comes while nobody asks', async () => {
    await expectOwnAnswer();
    const socket = application.sockets.at(-1) as Socket;
    const closed = new Promise((resolve) => socket.once('close', resolve));
    socket.write('HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil');
    await closed;
    await expectOwnAnswer();
  });

  it('longer than the application said', async () => {
    misbehave = (socket) => socket.write('HTTP/1.1 200 OK\r\nKeep-Alive: timeout=2\r\nContent-Length: 0\r\n\r\n');
    await ask('/odd');
    const open = upstream.numbers().open;
    await expect.poll(() => upstream.numbers().open, { timeout: 5_000 }).toBe(open - 1);
  });
});

describe('bytes behind an answer that nobody has read yet are no answer to whoever is next in turn', () => {
  const evil = 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil';
  let single: Upstream;

  beforeAll(() => {
    single = new Upstream(configured({ 'upstream.url': application.url, 'upstream.maxConnections': '1' }).upstream);
  });
  afterAll(() => single.close());

  /** Asks for `/odd`, and for a path of its own as soon as that is over. */
  async function expectOwnAnswerBehindOdd(fullFor: number): Promise<void> {
    const path = `/own-${(count += 1)}`;
    const [, { body }] = await Promise.all([
      ask('/odd', 'GET', { to: single, fullFor }),
      ask(path, 'GET', { to: single }),
    ]);
    expect(body).toBe(path);
  }

  it('when the answer fills what is read at once', async () => {
    const head = 'HTTP/1.1 200 OK\r\nContent-Length: 65494\r\n\r\n';
    misbehave = (socket) => socket.write(head + 'x'.repeat(65_536 - head.length) + evil);
    await expectOwnAnswerBehindOdd(0);
  });

  it('when they came while the caller had no room', async () => {
    misbehave = (socket) => {
      socket.write('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n');
      setTimeout(() => socket.write(evil), 20);
    };
    await expectOwnAnswerBehindOdd(100);
  });
});
