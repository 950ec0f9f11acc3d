import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import request from 'supertest';
import { afterEach, describe, expect, it, onTestFinished } from 'vitest';
import { createAdminServer, isFromThisHost, type AdminServer, type AdminSource } from '../src/admin/admin-server.js';

const running: AdminServer[] = [];
afterEach(() => Promise.all(running.splice(0).map((server) => server.close())));

async function start(source: Partial<AdminSource> = {}) {
  const calls: string[] = [];
  const errors: string[] = [];
  const server = createAdminServer({
    host: '127.0.0.1',
    port: 0,
    report: (message) => errors.push(message),
    source: {
      ready: () => Promise.resolve({ ready: true, reason: '' }),
      metrics: () => Promise.resolve('up 1\n'),
      refusals: () => [{ reason: 'expired', subject: '<script>' }],
      status: () => ({ version: '1' }),
      drain: () => calls.push('drain'),
      reload: () => {
        calls.push('reload');
        return Promise.resolve({ ok: true, message: 'reloaded' });
      },
      ...source,
    },
  });
  running.push(server);
  const { port } = await server.listen();
  return { server, port, calls, errors, agent: request(`http://127.0.0.1:${port}`) };
}

/** Sends bytes and returns all that comes back. */
async function exchange(port: number, text: string): Promise<string> {
  const socket = connect(port, '127.0.0.1').setEncoding('latin1');
  let answer = '';
  socket.on('data', (chunk: string) => (answer += chunk));
  socket.write(text);
  await once(socket, 'close');
  return answer;
}

describe('the admin listener answers', () => {
  it('probes', async () => {
    const { agent } = await start();
    await agent.get('/livez').expect(200, 'alive\n').expect('Content-Type', 'text/plain; charset=utf-8');
    await agent.get('/readyz?verbose').expect(200, 'ready\n');
  });

  it('503 with the reason while not ready', async () => {
    const { agent } = await start({ ready: () => Promise.resolve({ ready: false, reason: 'draining' }) });
    await agent.get('/readyz').expect(503, 'draining\n');
  });

  it('scrapers in the Prometheus text format', async () => {
    const { agent } = await start();
    await agent
      .get('/metrics')
      .expect(200, 'up 1\n')
      .expect('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
  });

  it('operators in JSON that no browser takes for a page', async () => {
    const { agent } = await start();
    const answer = await agent.get('/refusals').expect(200).expect('Content-Type', 'application/json; charset=utf-8');
    expect(answer.body).toEqual([{ reason: 'expired', subject: '<script>' }]);
    expect(answer.headers).toMatchObject({ 'x-content-type-options': 'nosniff', 'cache-control': 'no-store' });
    await agent.get('/status').expect(200, { version: '1' });
  });

  it('HEAD as GET without the body', async () => {
    const { agent } = await start();
    const answer = await agent.head('/metrics').expect(200).expect('Content-Length', '5');
    expect(answer.text).toBeUndefined();
  });

  it('drain and reload', async () => {
    const { agent, calls } = await start();
    await agent.post('/drain').expect(202, 'draining\n');
    await agent.post('/reload').send('ignored').expect(200, { ok: true, message: 'reloaded' });
    expect(calls).toEqual(['drain', 'reload']);
  });

  it('500 when a reload kept the old, 501 when there is none', async () => {
    const failing = await start({ reload: () => Promise.resolve({ ok: false, message: 'key does not match' }) });
    await failing.agent.post('/reload').expect(500, { ok: false, message: 'key does not match' });
    const without = await start({ reload: () => null });
    await without.agent.post('/reload').expect(501);
  });

  it('405 with what is allowed', async () => {
    const { agent, calls } = await start();
    await agent.get('/drain').expect(405).expect('Allow', 'POST');
    await agent.post('/metrics').expect(405).expect('Allow', 'GET, HEAD');
    await agent.options('/drain').expect(405);
    expect(calls).toEqual([]);
  });

  it('404 with the paths there are, and not the path asked for', async () => {
    const { agent } = await start();
    const answer = await agent
      .get('/%3Cscript%3E')
      .expect(404)
      .expect('Content-Type', /^text\/plain/);
    expect(answer.text).toContain('/metrics\n/refusals');
    expect(answer.text).not.toContain('script');
  });

  it('500 without details when a source fails, and reports it', async () => {
    const { agent, errors } = await start({ metrics: () => Promise.reject(new Error('secret')) });
    const answer = await agent.get('/metrics').expect(500);
    expect(answer.text).not.toContain('secret');
    expect(errors).toEqual(['admin request failed']);
    await agent.get('/livez').expect(200);
  });
});

describe('a web page in an operator’s browser', () => {
  it.each(['https://evil.example', 'null', 'http://127.0.0.1:8081', ''])(
    'cannot post from origin "%s"',
    async (origin) => {
      const { agent, calls } = await start();
      await agent.post('/drain').set('Origin', origin).expect(403);
      expect(calls).toEqual([]);
    },
  );

  it.each(['evil.example', '127.0.0.1.evil.example', 'localhost.evil.example:8081', 'evil.example:127', '[evil]', ''])(
    'cannot post after rebinding its name "%s" to us',
    async (host) => {
      const { agent, calls } = await start();
      await agent.post('/drain').set('Host', host).expect(403);
      expect(calls).toEqual([]);
    },
  );

  it('cannot read across origins', async () => {
    const { agent } = await start();
    await agent.get('/refusals').set('Origin', 'https://evil.example').expect(403);
  });

  it.each(['10.1.2.3:8081', '[::1]:8081', '[fd00::1]', 'localhost', 'LOCALHOST:8081', '127.0.0.1'])(
    'is not who says Host: %s',
    async (host) => {
      const { agent } = await start();
      await agent.post('/drain').set('Host', host).expect(202);
    },
  );

  it('is not a scraper that uses a service name', async () => {
    const { agent } = await start();
    await agent.get('/metrics').set('Host', 'app.monitoring.svc:8081').expect(200);
  });
});

describe('who may POST', () => {
  it.each(['127.0.0.1', '127.8.9.10', '::1', '::ffff:127.0.0.1'])('%s, which is this host', (address) => {
    expect(isFromThisHost(address)).toBe(true);
  });

  it.each(['10.0.0.7', '192.0.2.1', '::ffff:10.0.0.7', '2001:db8::1', '::', '', undefined])('not %s', (address) => {
    expect(isFromThisHost(address)).toBe(false);
  });
});

describe('a slow or careless client', () => {
  it('is answered and cut off after a POST whose body never comes', async () => {
    const { port, calls } = await start();
    const answer = await exchange(port, 'POST /drain HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000000\r\n\r\n');
    expect(answer).toMatch(/^HTTP\/1\.1 202 /);
    expect(calls).toEqual(['drain']);
  });

  it('is refused a head of more than 8 KiB', async () => {
    const { port } = await start();
    const answer = await exchange(port, `GET /livez HTTP/1.1\r\nHost: a\r\nX: ${'x'.repeat(9000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 431 /);
  });

  it('is cut off when its head does not come within seconds', { timeout: 15_000 }, async () => {
    const { port } = await start();
    const started = Date.now();
    expect(await exchange(port, 'GET /livez HTTP/1.1\r\n')).toMatch(/^HTTP\/1\.1 408 /);
    expect(Date.now() - started).toBeLessThan(9_000);
  });

  /** 64 connections, the first of them the oldest. */
  async function takeAll(port: number, bytes: string): Promise<Socket[]> {
    const sockets: Socket[] = [];
    for (let index = 0; index < 64; index += 1) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      sockets.push(socket.resume());
      await once(socket, 'connect');
      socket.write(bytes);
    }
    onTestFinished(() => sockets.forEach((socket) => socket.destroy()));
    return sockets;
  }

  it.each([
    ['silent', ''],
    ['slow', 'GET /metrics HTTP/1.1\r\nHost: a\r\n'],
    ['kept', 'GET /livez HTTP/1.1\r\nHost: a\r\n\r\n'],
  ])('makes room for a probe when it is the oldest of 64 %s ones', async (_what, bytes) => {
    const { port, agent } = await start();
    const sockets = await takeAll(port, bytes);
    const closed = once(sockets[0] as Socket, 'close');
    const started = Date.now();
    await agent.get('/livez').expect(200);
    // For whoever has to wait, room comes after 5 seconds, when the head of the first has not come or its idleness is over.
    expect(Date.now() - started).toBeLessThan(4_000);
    await closed;
    expect(sockets.filter(({ destroyed }) => destroyed)).toHaveLength(1);
  });

  it('does not take the place of one that is being answered: at most 64 are', async () => {
    let release = (): void => undefined;
    let asked = 0;
    const answer = new Promise<string>((resolve) => (release = () => resolve('up 1\n')));
    const { port, agent } = await start({
      metrics: () => {
        asked += 1;
        return answer;
      },
    });
    const sockets = await takeAll(port, 'GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n');
    await expect.poll(() => asked).toBe(64);
    await expect(agent.get('/livez')).rejects.toMatchObject({ code: 'ECONNRESET' });
    expect(sockets.some(({ destroyed }) => destroyed)).toBe(false);
    const answers = sockets.map((socket) => once(socket, 'data'));
    release();
    await Promise.all(answers);
    await agent.get('/livez').expect(200);
  });
});

describe('the admin listener itself', () => {
  it('says where it listens, and lets go on close', async () => {
    const { server, port } = await start();
    expect(server.address()).toMatchObject({ address: '127.0.0.1', port });
    await server.close();
    expect(server.address()).toBeNull();
    await expect(once(connect(port, '127.0.0.1'), 'connect')).rejects.toMatchObject({ code: 'ECONNREFUSED' });
  });

  it('closes although somebody keeps a connection open', async () => {
    const { server, port } = await start();
    const socket = connect(port, '127.0.0.1');
    await once(socket, 'connect');
    socket.write('GET /livez HTTP/1.1\r\n');
    const closed = once(socket, 'close');
    await server.close();
    await closed;
  });

  it('fails to start on a port in use', async () => {
    const { port } = await start();
    const source = {} as AdminSource;
    const second = createAdminServer({ host: '127.0.0.1', port, source, report: () => {} });
    await expect(second.listen()).rejects.toMatchObject({ code: 'EADDRINUSE' });
  });
});
