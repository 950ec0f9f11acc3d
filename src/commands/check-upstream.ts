import { connect } from 'node:net';
import type { NetConnectOpts } from 'node:net';
import type { Config, UpstreamAddress } from '../config/config.js';
import { ok, warning } from './findings.js';
import type { Finding } from './findings.js';

/** An operator waits for this; the application is on this machine, as a rule. */
const PATIENCE_MS = 1_000;

/** Whether the application accepts connections. Sends nothing. It may be started later, so that is no error. */
export async function checkUpstream({ upstream }: Pick<Config, 'upstream'>): Promise<Finding[]> {
  const options = optionsOf(upstream.address);
  if (options === null) return [];
  const failure = await knock(options, Math.min(upstream.connectTimeout, PATIENCE_MS));
  if (failure === null) return [ok('upstream.url', `${upstream.url} accepts connections`)];
  return [
    warning('upstream.url', `${upstream.url} does not accept connections now (${failure}): callers would get 503`),
  ];
}

/** Null for what nobody connects to: a directory, an answer. */
function optionsOf(address: UpstreamAddress): NetConnectOpts | null {
  if (address.kind === 'tcp') return { host: address.host, port: address.port };
  return address.kind === 'unix' ? { path: address.path } : null;
}

/** @returns why not, or null */
function knock(options: NetConnectOpts, patience: number): Promise<string | null> {
  return new Promise((resolve) => {
    const socket = connect(options);
    const finish = (failure: string | null): void => {
      socket.destroy();
      resolve(failure);
    };
    socket.setTimeout(patience, () => finish(`no answer within ${patience} ms`));
    socket.once('connect', () => finish(null));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
  });
}
