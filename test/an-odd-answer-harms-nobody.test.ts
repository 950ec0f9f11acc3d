import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { begin, call, openRaw, readAnswer, type Answer } from './support/caller.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** What the application writes in reply to the next request: at once, or in two packets. */
let reply: readonly string[] = [];

describe('an answer that Node would not write', () => {
  let application: RawApplication;
  let sidecar: Sidecar;

  beforeAll(async () => {
    application = await startRawApplication((socket) => {
      socket.on('data', () => {
        const [first = '', second] = reply;
        socket.write(first, 'latin1');
        if (second !== undefined) setTimeout(() => socket.write(second, 'latin1'), 30);
      });
    });
    sidecar = await startSidecar({ upstream: application.url });
  });

  afterEach(async () => {
    reply = ['HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok'];
    expect((await call(sidecar)).status).toBe(200);
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  const inOneOrTwo = (head: string, body: string): (readonly string[])[] => [[head + body], [head, body]];
  const utf8 = Buffer.from('你好 café').toString('latin1');

  it.each([
    ...inOneOrTwo(`HTTP/1.1 200 ${utf8}\r\nContent-Length: 2\r\n\r\n`, 'ok'),
    ...inOneOrTwo('HTTP/1.1 200 caf\xe9\r\nContent-Length: 2\r\n\r\n', 'ok'),
  ])('keeps its meaning whatever its reason says (%#)', async (...packets) => {
    reply = packets;
    expect(await call(sidecar)).toMatchObject({ status: 200, body: 'ok' });
  });

  it.each([
    ...inOneOrTwo('HTTP/1.1 000 Nothing\r\nContent-Length: 2\r\n\r\n', 'ok'),
    ...inOneOrTwo('HTTP/1.1 099 Odd\r\nContent-Length: 2\r\n\r\n', 'ok'),
    ...inOneOrTwo('HTTP/1.1 600 Odd\r\nContent-Length: 2\r\n\r\n', 'ok'),
    ...inOneOrTwo('HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\n', 'ok'),
  ])('is a 502 with a status that is none (%#)', async (...packets) => {
    reply = packets;
    const path = `/status-${Math.random()}`;
    expect((await call(sidecar, { path })).status).toBe(502);
    expect(await recordOf(sidecar, path)).toMatchObject({ status: 502, outcome: 'refused' });
  });

  it.each(['000', '099', '200'])('is survived on the road of Expect, too (%s)', async (status) => {
    reply = [`HTTP/1.1 ${status} \x01${utf8}\r\nContent-Length: 2\r\n\r\nok`];
    const outgoing = begin(sidecar, { method: 'POST', headers: { host: 'localhost', expect: '100-continue' } });
    outgoing.end('x');
    const answer = await new Promise<Answer>((resolve, reject) => {
      outgoing.on('response', (response) => void readAnswer(response).then(resolve, reject));
      outgoing.on('error', reject);
    });
    expect([200, 502]).toContain(answer.status);
  });

  it('is not passed on as an interim answer of a kind that nobody knows', async () => {
    reply = [
      'HTTP/1.1 150 Whatever\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok',
    ];
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    const received = await caller.receive(/ok$/);
    expect(received).toMatch(/^HTTP\/1\.1 103 Early Hints\r\n/);
    expect(received).not.toContain(' 150 ');
    caller.socket.destroy();
  });

  it('is passed on as an interim answer a bounded number of times', async () => {
    const hint = 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n';
    reply = [`${hint.repeat(1_000)}HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok`];
    const caller = await openRaw(sidecar);
    caller.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect((await caller.receive(/ok$/)).split('103 Early').length - 1).toBeLessThanOrEqual(64);
    caller.socket.destroy();
  });
});
