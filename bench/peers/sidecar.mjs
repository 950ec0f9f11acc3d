/**
 * This project with its defaults: identity headers of the nginx preset, an access record for each request. Only the
 * limit on requests per connection is lifted, as for nginx, so that handshakes stay out of the measurement.
 */
export function sidecarConfig({ port, upstreamPort, files }) {
  return JSON.stringify({
    listen: { host: '127.0.0.1', port },
    tls: { cert: files.serverCert, key: files.serverKey },
    clientCert: { ca: files.ca },
    upstream: { url: `http://127.0.0.1:${upstreamPort}` },
    limits: { requestsPerConnection: 1_000_000_000 },
    admin: { port: 'off' },
  });
}
