/**
 * What one would write first: http-proxy behind an https server that demands a client certificate, with a keep-alive
 * agent. It logs nothing and passes no identity on, so it does less than what it is compared with.
 *
 *   node bench/peers/http-proxy.mjs PORT UPSTREAM_PORT CERT KEY CA
 */
import { readFileSync } from 'node:fs';
import { Agent } from 'node:http';
import { createServer } from 'node:https';
import httpProxy from 'http-proxy';

const [port, upstreamPort, cert, key, ca] = process.argv.slice(2);
const tls = { cert: readFileSync(cert), key: readFileSync(key), ca: readFileSync(ca) };
const agent = new Agent({ keepAlive: true, maxSockets: 256 });
const proxy = httpProxy.createProxyServer({ target: `http://127.0.0.1:${upstreamPort}`, agent, xfwd: true });
proxy.on('error', (_error, _request, response) => response.destroy());
const server = createServer({ ...tls, requestCert: true, rejectUnauthorized: true }, (req, res) => proxy.web(req, res));
server.keepAliveTimeout = 75_000;
server.listen(Number(port), '127.0.0.1');
