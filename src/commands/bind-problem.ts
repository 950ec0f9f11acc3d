import type { Config } from '../config/config.js';

const BIND_FAILURES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is already in use',
  EACCES: 'may not be listened on by this user',
  EADDRNOTAVAIL: 'is no address of this machine',
  ENOTFOUND: 'has a host name that is not known',
};

/** A failure to listen as a sentence that names the setting, or null when the error is another one. */
export function bindProblem(
  error: NodeJS.ErrnoException & { port?: number; address?: string },
  config: Config,
): string | null {
  const failure = BIND_FAILURES[error.code ?? ''];
  if (failure === undefined || (error.syscall !== 'listen' && error.syscall !== 'getaddrinfo')) return null;
  const { listen, admin } = config;
  const isAdmin = error.port === admin.port && (error.port !== listen.port || error.address === admin.host);
  const [setting, { host, port }] = isAdmin ? ['admin.port', admin] : ['listen.port', listen];
  return `${setting}: ${host} port ${String(port)} ${failure}`;
}
