import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Caddy with the same certificates, the identity headers that its placeholders can give, an access log in a file, and
 * keep-alive to the application. Go takes as many threads as the process may use cores.
 */
function config({ port, upstreamPort, files, directory, http2 }) {
  return `
{
  admin off
  auto_https disable_redirects
  log {
    output file ${directory}/caddy.log
    level ERROR
  }
  servers {
    protocols h1${http2 ? ' h2' : ''}
    timeouts {
      idle 600s
    }
  }
}
https://localhost:${port} {
  bind 127.0.0.1
  tls ${files.serverCert} ${files.serverKey} {
    client_auth {
      mode require_and_verify
      trusted_ca_cert_file ${files.ca}
    }
  }
  log {
    output file ${directory}/caddy-access.log {
      roll_disabled
    }
    level INFO
  }
  reverse_proxy 127.0.0.1:${upstreamPort} {
    header_up X-Request-Id {http.request.uuid}
    header_up X-SSL-Client-S-DN {http.request.tls.client.subject}
    header_up X-SSL-Client-I-DN {http.request.tls.client.issuer}
    header_up X-SSL-Client-Serial {http.request.tls.client.serial}
    transport http {
      keepalive_idle_conns_per_host 256
    }
  }
}
`;
}

export const caddy = {
  name: 'caddy',
  version() {
    const { status, stdout } = spawnSync('caddy', ['version'], { encoding: 'utf8' });
    return status === 0 ? `Caddy ${stdout.split(' ')[0].trim()}` : null;
  },
  env: ({ directory }) => ({ HOME: directory, XDG_DATA_HOME: directory, XDG_CONFIG_HOME: directory }),
  command(setup) {
    const file = join(setup.directory, `Caddyfile-${setup.port}`);
    writeFileSync(file, config(setup));
    return ['caddy', 'run', '--config', file, '--adapter', 'caddyfile'];
  },
};
