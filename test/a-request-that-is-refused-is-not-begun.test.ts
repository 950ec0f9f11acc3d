import { afterAll, beforeAll, expect, it } from 'vitest';
import { startRawApplication, type RawApplication } from './support/application.js';
import { call, sendRaw } from './support/caller.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

let application: RawApplication;
let sidecar: Sidecar;
let received = '';

beforeAll(async () => {
  application = await startRawApplication((socket) => {
    socket.on('data', (chunk) => {
      received += chunk.toString('latin1');
      socket.write('HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok');
    });
  });
  sidecar = await startSidecar({ upstream: application.url });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

it.each(['+3\r\nabc\r\n', 'x\r\n', '3\n', '0\r\nX: \0\r\n\r\n'])(
  'with an application at hand, when the body that came with its head begins with %j',
  async (body) => {
    // So that a connection is there, over which a head would go out at once.
    await call(sidecar, { path: '/good' });
    const head = 'POST /refused HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n';
    expect(await sendRaw(sidecar, head + body)).toMatch(/^HTTP\/1\.1 400 /);
    await call(sidecar, { path: '/good' });
    expect(received).toContain('GET /good ');
    expect(received).not.toContain('/refused');
  },
);
