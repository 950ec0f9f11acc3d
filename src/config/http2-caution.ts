import type { Config } from './config.js';

/** The first major version of Node without the fault. */
const FIRST_GOOD = 22;

/**
 * What is to be said of HTTP/2 on this Node, or null. Node 20 ends the process (`Assertion failed: current_nghttp2_memory_`) when it
 * collects a session that broke in the middle of a header block behind the first, trailers for instance. Nothing of ours can prevent
 * it: a bare `node:http2` server fell within seconds, streams cancelled first or not; 22 and 24 survived 140,000 such connections.
 * @param node as `process.versions.node`
 */
export function http2Caution(
  { listen, upstream, routes }: Pick<Config, 'listen' | 'upstream' | 'routes'>,
  node = process.versions.node,
): { readonly setting: string; readonly text: string } | null {
  if (Number.parseInt(node, 10) >= FIRST_GOOD) return null;
  const toApplication = upstream.http2 || routes.some((route) => route.upstream.http2);
  if (!listen.http2 && !toApplication) return null;
  return {
    setting: listen.http2 ? 'listen.http2' : 'upstream.http2',
    text: `HTTP/2 of Node ${node} can end the process when the other side breaks the protocol; Node ${FIRST_GOOD} and newer do not`,
  };
}
