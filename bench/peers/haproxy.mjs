import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * HAProxy with one thread, the same certificates, the identity headers that its fetches can give, a line in its HTTP log for
 * each request, and keep-alive to the application.
 */
function config({ port, upstreamPort, files, http2, connections }) {
  return `
global
  nbthread 1
  maxconn ${connections + 500}
  log stdout format raw daemon info

defaults
  mode http
  log global
  option httplog
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  timeout http-keep-alive 600s
  timeout tunnel 1h

frontend callers
  bind 127.0.0.1:${port} ssl crt ${files.serverBundle} ca-file ${files.ca} verify required alpn ${http2 ? 'h2,' : ''}http/1.1 backlog 4096
  http-request set-header X-Forwarded-For %[src]
  http-request set-header X-Forwarded-Proto https
  http-request set-header X-Request-Id %[uuid()]
  http-request set-header X-SSL-Client-Verify %[ssl_c_verify]
  http-request set-header X-SSL-Client-DN %[ssl_c_s_dn(,0,rfc2253)]
  http-request set-header X-SSL-Issuer %[ssl_c_i_dn(,0,rfc2253)]
  http-request set-header X-SSL-Client-Serial %[ssl_c_serial,hex]
  http-request set-header X-SSL-Client-NotAfter %[ssl_c_notafter]
  default_backend application

backend application
  http-reuse always
  server application 127.0.0.1:${upstreamPort}
`;
}

export const haproxy = {
  name: 'haproxy',
  version() {
    const { status, stdout } = spawnSync('haproxy', ['-v'], { encoding: 'utf8' });
    return status === 0 ? stdout.split(' - ')[0].replace('HAProxy version ', 'HAProxy ') : null;
  },
  command(setup) {
    const file = join(setup.directory, `haproxy-${setup.port}.cfg`);
    writeFileSync(file, config(setup));
    return ['haproxy', '-db', '-f', file];
  },
};
