import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { accessSync, constants, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { delimiter, join } from 'node:path';

/** The nginx of this machine; null when there is none. */
export const NGINX = [...(process.env['PATH'] ?? '').split(delimiter), '/usr/sbin', '/usr/local/sbin']
  .map((directory) => join(directory, 'nginx'))
  .find(isExecutable);

function isExecutable(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

export interface RealNginx {
  readonly port: number;
  /** The configuration, for others to read. */
  readonly file: string;
  /** What the error log has got since the last look. */
  complaints(): string;
  stop(): Promise<void>;
}

const TEMPORARY = ['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'];

/**
 * Starts nginx in a directory of its own, with everything that it writes.
 *
 * The port is bound here and handed over, as one nginx hands its ports to the next when it is upgraded: so nobody else
 * can take it meanwhile, and what connects before nginx is ready waits in the kernel.
 * @param http what stands in the http block, for a port of 127.0.0.1
 */
export async function startNginx(directory: string, http: (port: number) => string): Promise<RealNginx> {
  const server = createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const file = join(directory, 'nginx.conf');
  const log = join(directory, 'error.log');
  writeFileSync(log, '');
  writeFileSync(file, configuration(directory, http(port)));
  const child = spawn(NGINX ?? 'nginx', ['-p', directory, '-c', file, '-e', log], {
    env: { NGINX: '3;' },
    stdio: ['ignore', 'ignore', 'inherit', descriptorOf(server)],
  });
  const ended = once(child, 'close');
  await once(child, 'spawn');
  server.close();
  const end = (): boolean => child.kill('SIGTERM');
  process.once('exit', end);
  let read = 0;
  return {
    port,
    file,
    complaints: () => {
      const text = readFileSync(log, 'utf8');
      const news = text.slice(read);
      read = text.length;
      return news;
    },
    stop: async () => {
      end();
      await ended;
      process.off('exit', end);
    },
  };
}

function configuration(directory: string, http: string): string {
  const paths = TEMPORARY.map((name) => `${name}_temp_path ${join(directory, `${name}_temp`)};`).join('\n  ');
  return `daemon off;
${process.getuid?.() === 0 ? 'user root;\n' : ''}worker_processes 1;
pid ${join(directory, 'nginx.pid')};
error_log ${join(directory, 'error.log')} info;
events {}
http {
  ${paths}
${http}
}
`;
}

/** Of a listening socket; Node has no public name for it. */
function descriptorOf(server: Server): number {
  return (server as unknown as { readonly _handle: { readonly fd: number } })._handle.fd;
}
