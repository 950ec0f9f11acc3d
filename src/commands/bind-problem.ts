import type { Config } from '../config/config.js';

const BIND_FAILURES: Readonly<Record<string, string>> = {
  EADDRINUSE: 'is already in use',
  EACCES: 'may not be listened on by this user',
};

/** Failures that another port would not mend. */
const HOST_FAILURES: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'is no address of this machine',
  ENOTFOUND: 'is a host name that nobody knows',
  EAI_AGAIN: 'is a host name that cannot be looked up now',
};

type BindError = NodeJS.ErrnoException & {
  /** Not there for port 0. */
  readonly port?: number;
  readonly address?: string;
  /** In place of port and address when the name was not found. */
  readonly hostname?: string;
};

/** A failure to listen as a sentence that names the setting, or null when the error is another one. */
export function bindProblem(error: BindError, config: Config): string | null {
  // A worker's port is bound for it, which Node calls by another name.
  if (!['listen', 'bind', 'getaddrinfo'].includes(error.syscall ?? '')) return null;
  const [section, { host, port }] = isAdmin(error, config) ? ['admin', config.admin] : ['listen', config.listen];
  const { code = '' } = error;
  if (HOST_FAILURES[code] !== undefined) return `${section}.host: ${host} ${HOST_FAILURES[code]}`;
  return BIND_FAILURES[code] === undefined
    ? null
    : `${section}.port: ${host} port ${String(port)} ${BIND_FAILURES[code]}`;
}

function isAdmin({ port = 0, address, hostname }: BindError, { admin, listen }: Config): boolean {
  // The admin listener comes first, so a host that both have has failed there.
  if (hostname !== undefined) return admin.port !== null && hostname === admin.host;
  return port === admin.port && (port !== listen.port || address === admin.host);
}
