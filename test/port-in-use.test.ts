import { createServer } from 'node:net';
import { once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import { afterEach, describe, expect, it } from 'vitest';
import { bindProblem } from '../src/commands/bind-problem.js';
import { configured } from './support/settings.js';

const open: Server[] = [];
afterEach(() => open.splice(0).forEach((server) => server.close()));

async function takenPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  open.push(server);
  await once(server, 'listening');
  return (server.address() as AddressInfo).port;
}

async function failureToListen(port: number, host: string): Promise<NodeJS.ErrnoException> {
  const [error] = (await once(createServer().listen(port, host), 'error').catch((reason: unknown) => [reason])) as [
    NodeJS.ErrnoException,
  ];
  return error;
}

describe('a port that is in use', () => {
  it('is told as the setting that names it', async () => {
    const port = await takenPort();
    const error = await failureToListen(port, '127.0.0.1');
    const listen = configured({ 'listen.host': '127.0.0.1', 'listen.port': String(port), 'admin.port': 'off' });
    expect(bindProblem(error, listen)).toBe(`listen.port: 127.0.0.1 port ${port} is already in use`);
    expect(bindProblem(error, configured({ 'admin.port': String(port) }))).toBe(
      `admin.port: 127.0.0.1 port ${port} is already in use`,
    );
  });

  it('is told apart by address when both listeners have the same port', async () => {
    const port = await takenPort();
    const error = await failureToListen(port, '127.0.0.1');
    const config = configured({ 'listen.host': '127.0.0.2', 'listen.port': String(port), 'admin.port': String(port) });
    expect(bindProblem(error, config)).toMatch(/^admin\.port: 127\.0\.0\.1/);
  });
});

describe('other failures', () => {
  it('to listen are told too', async () => {
    const error = await failureToListen(0, '192.0.2.1');
    expect(bindProblem(error, configured({ 'listen.host': '192.0.2.1', 'listen.port': '0' }))).toBe(
      'listen.host: 192.0.2.1 is no address of this machine',
    );
    expect(bindProblem(error, configured({ 'admin.host': '192.0.2.1', 'admin.port': '0' }))).toBe(
      'admin.host: 192.0.2.1 is no address of this machine',
    );
  });

  it.each(['ENOTFOUND', 'EAI_AGAIN'])('are the fault of the host, not of the port, with %s', (code) => {
    const hostname = 'nowhere.invalid';
    const error = Object.assign(new Error(code), { code, syscall: 'getaddrinfo', hostname });
    expect(bindProblem(error, configured({ 'listen.host': hostname }))).toMatch(/^listen\.host: nowhere\.invalid is/);
    expect(bindProblem(error, configured({ 'admin.host': hostname }))).toMatch(/^admin\.host: nowhere\.invalid is/);
  });

  it('are left to others', () => {
    expect(
      bindProblem(Object.assign(new Error('x'), { code: 'EADDRINUSE', syscall: 'connect' }), configured()),
    ).toBeNull();
    expect(bindProblem(new TypeError('x'), configured())).toBeNull();
  });
});
