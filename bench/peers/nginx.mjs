import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * nginx as a sidecar: the same certificates, the identity headers that its variables can give, an access log, and
 * keep-alive to the application. Long bodies are streamed as the others stream them, and not first written to a file.
 */
function config({ port, upstreamPort, files, directory, http2, websocket }) {
  // One process (`master_process off`), so that one pid carries the whole cost.
  return `
daemon off;
master_process off;
pid ${directory}/nginx-${port}.pid;
error_log ${directory}/nginx-error.log;
worker_rlimit_nofile 65536;
events { worker_connections 24000; }
http {
  client_body_temp_path ${directory}/nginx-body;
  proxy_temp_path ${directory}/nginx-proxy;
  fastcgi_temp_path ${directory}/nginx-fastcgi;
  uwsgi_temp_path ${directory}/nginx-uwsgi;
  scgi_temp_path ${directory}/nginx-scgi;
  keepalive_requests 1000000000;
  keepalive_timeout 600s;
  client_max_body_size 0;
  access_log ${directory}/nginx-access.log combined;
  ssl_session_cache shared:tls:10m;
  upstream application {
    server 127.0.0.1:${upstreamPort};
    keepalive 256;
    keepalive_requests 1000000000;
  }
  server {
    listen 127.0.0.1:${port} ssl${http2 ? ' http2' : ''} backlog=4096;
    ssl_certificate ${files.serverCert};
    ssl_certificate_key ${files.serverKey};
    ssl_client_certificate ${files.ca};
    ssl_verify_client on;
    ssl_protocols TLSv1.2 TLSv1.3;
    proxy_http_version 1.1;
    proxy_max_temp_file_size 0;
    proxy_set_header Connection ${websocket ? 'upgrade' : '""'};
    ${websocket ? 'proxy_set_header Upgrade $http_upgrade;' : ''}
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $remote_addr;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Request-Id $request_id;
    proxy_set_header X-SSL-Client-Verify $ssl_client_verify;
    proxy_set_header X-SSL-Client-S-DN $ssl_client_s_dn;
    proxy_set_header X-SSL-Client-I-DN $ssl_client_i_dn;
    proxy_set_header X-SSL-Client-Serial $ssl_client_serial;
    proxy_set_header X-SSL-Client-Not-After $ssl_client_v_end;
    location / { proxy_pass http://application; }
    location /im/upload {
      proxy_pass http://application;
      proxy_request_buffering off;
    }
  }
}
`;
}

export const nginx = {
  name: 'nginx',
  version() {
    const { status, stderr } = spawnSync('nginx', ['-v'], { encoding: 'utf8' });
    return status === 0 ? stderr.trim().replace('nginx version: ', '') : null;
  },
  command(setup) {
    const file = join(setup.directory, `nginx-${setup.port}.conf`);
    writeFileSync(file, config(setup));
    return ['nginx', '-p', setup.directory, '-c', file];
  },
};
