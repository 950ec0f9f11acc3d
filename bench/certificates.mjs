import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority } from '../dist/pki/authority.js';

/**
 * A CA, a server certificate and a client certificate, made for this run and written into `directory`. All keys are
 * P-256, as in the deployments that care about the cost of a handshake; handshakes are outside the measurement anyway.
 *
 * @returns file names: { ca, serverCert, serverKey, clientCert, clientKey }
 */
export function makeCertificates(directory) {
  const now = Date.now();
  const ca = createAuthority({
    now,
    subject: [
      ['C', 'CN'],
      ['O', 'Example'],
      ['CN', 'Callback CA'],
    ],
  });
  const server = ca.issue({
    now,
    subject: [['CN', 'localhost']],
    san: [{ dns: 'localhost' }, { ip: '127.0.0.1' }],
    eku: ['serverAuth'],
  });
  const client = ca.issue({
    now,
    subject: [
      ['C', 'CN'],
      ['O', 'Tencent'],
      ['CN', 'im.qq.com'],
    ],
    eku: ['clientAuth'],
  });
  return {
    ca: write(directory, 'ca.crt', ca.certPem),
    serverCert: write(directory, 'server.crt', server.certPem),
    serverKey: write(directory, 'server.key', server.keyPem),
    clientCert: write(directory, 'client.crt', client.certPem),
    clientKey: write(directory, 'client.key', client.keyPem),
  };
}

function write(directory, name, pem) {
  const file = join(directory, name);
  writeFileSync(file, pem, { mode: 0o600 });
  return file;
}
