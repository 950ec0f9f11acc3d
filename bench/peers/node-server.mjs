/**
 * The proxies of npm, each as one would write it first: behind an https server that demands a client certificate, with
 * keep-alive to the application. They log nothing and pass no identity on, so they do less than what they are compared with.
 *
 *   node bench/peers/node-server.mjs NAME PORT UPSTREAM_PORT CERT KEY CA
 */
import { readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { createServer } from 'node:https';

const [name, port, upstreamPort, cert, key, ca] = process.argv.slice(2);
const tls = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca) };
const https = { ...tls, requestCert: true, rejectUnauthorized: true };
const upstream = `http://127.0.0.1:${upstreamPort}`;
const IDLE_MS = 600_000;

function serve(proxy) {
  const server = createServer(https, (request, response) => void proxy.web(request, response));
  server.on('upgrade', (request, socket, head) => void proxy.ws(request, socket, {}, head));
  server.keepAliveTimeout = IDLE_MS;
  server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 });
}

const SERVERS = {
  async 'http-proxy'() {
    const { default: httpProxy } = await import('http-proxy');
    const agent = new Agent({ keepAlive: true, maxSockets: 256 });
    const proxy = httpProxy.createProxyServer({ target: upstream, agent, xfwd: true });
    proxy.on('error', (_error, _request, response) => response.destroy());
    // Its ws() takes the head third.
    serve({ web: (req, res) => proxy.web(req, res), ws: (req, socket, _options, head) => proxy.ws(req, socket, head) });
  },
  async httpxy() {
    const { createProxyServer } = await import('httpxy');
    const agent = new Agent({ keepAlive: true, maxSockets: 256 });
    const proxy = createProxyServer({ target: upstream, agent, xfwd: true });
    proxy.on('error', (_error, _request, response) => response?.destroy());
    serve(proxy);
  },
  async 'fastify-http-proxy'() {
    const { default: fastify } = await import('fastify');
    const { default: httpProxy } = await import('@fastify/http-proxy');
    const server = fastify({ https, keepAliveTimeout: IDLE_MS, logger: false, bodyLimit: 2 ** 30 });
    await server.register(httpProxy, { upstream, websocket: true, undici: { connections: 256, pipelining: 1 } });
    await server.listen({ port: Number(port), host: '127.0.0.1', backlog: 4096 });
  },
};

await SERVERS[name]();
