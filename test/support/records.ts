import type { LogLine, Sidecar } from './sidecar.js';

/** The access record of the request for `path`, as soon as it is written. Tests give every request a path of its own. */
export function recordOf(sidecar: Sidecar, path: string): Promise<LogLine> {
  return sidecar.logged((line) => line.msg === 'request' && line['path'] === path);
}

/** How many requests the metrics say were answered with `code`. */
export function refusalsOf(sidecar: Sidecar, code: string): Promise<number> {
  return sidecar.metric(`mtls_sidecar_request_refusals_total{code="${code}"}`);
}
