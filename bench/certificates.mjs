import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createAuthority } from '../dist/pki/authority.js';

/**
 * A CA, a client certificate and two server certificates, made for this run and written into `directory`. All keys are
 * P-256 but one server key: RSA with 2048 bits is what most public certificates have, and what handshakes cost with it.
 *
 * @returns `{ p256, rsa }`, each `{ ca, serverCert, serverKey, serverBundle, clientCert, clientKey }`: file names.
 *   A bundle is certificate and key in one file, as HAProxy wants it.
 */
export function makeCertificates(directory) {
  const now = Date.now();
  const named = (CN, O) => [['C', 'CN'], ['O', O], ['CN', CN]]; // prettier-ignore
  const ca = createAuthority({ now, subject: named('Callback CA', 'Example') });
  const client = ca.issue({ now, subject: named('im.qq.com', 'Tencent'), eku: ['clientAuth'] });
  const shared = {
    ca: write(directory, 'ca.crt', ca.certPem),
    clientCert: write(directory, 'client.crt', client.certPem),
    clientKey: write(directory, 'client.key', client.keyPem),
  };
  const server = (kind, name) => {
    const { certPem, keyPem } = ca.issue({
      now,
      subject: [['CN', 'localhost']],
      san: [{ dns: 'localhost' }, { ip: '127.0.0.1' }],
      eku: ['serverAuth'],
      key: kind,
    });
    return {
      ...shared,
      serverCert: write(directory, `server-${name}.crt`, certPem),
      serverKey: write(directory, `server-${name}.key`, keyPem),
      serverBundle: write(directory, `server-${name}.pem`, `${certPem}\n${keyPem}`),
    };
  };
  return { p256: server('p256', 'p256'), rsa: server('rsa-2048', 'rsa') };
}

function write(directory, name, pem) {
  const file = join(directory, name);
  writeFileSync(file, pem, { mode: 0o600 });
  return file;
}

/**
 * What a caller says in its hello. Group and cipher are named, so that all proxies do the same work: left alone, Go
 * prefers AES-128, and a newer OpenSSL a hybrid key exchange that an older one does not know.
 */
export function callerTls(files) {
  return {
    ca: readFileSync(files.ca),
    cert: readFileSync(files.clientCert),
    key: readFileSync(files.clientKey),
    minVersion: 'TLSv1.3',
    ciphers: 'TLS_AES_256_GCM_SHA384',
    ecdhCurve: 'X25519',
  };
}
