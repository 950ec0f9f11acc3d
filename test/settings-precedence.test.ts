import { join } from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig, loadConfigWithSources } from '../src/config/load.js';
import { REQUIRED, configured } from './support/settings.js';
import { temporaryDirectory, writePem } from './support/pki.js';

const dir = temporaryDirectory();
afterAll(() => dir.remove());

const yaml = (text: string): string => writePem(dir.path, 'sidecar.yaml', text);

describe('a setting', () => {
  it('comes from the flag before the variable before the file before the default', () => {
    const file = yaml('listen: {port: 1001}\ntls: {minVersion: TLSv1.3}\nlimits: {body: 2MiB}\n');
    const env = { MTLS_SIDECAR_LISTEN_PORT: '1002', MTLS_SIDECAR_TLS_MIN_VERSION: 'TLSv1.2' };
    const config = loadConfig({ file, env, flags: { ...REQUIRED, 'listen.port': '1003' } });
    expect(config.listen.port).toBe(1003);
    expect(config.tls.minVersion).toBe('TLSv1.2');
    expect(config.limits.body).toBe(2 * 1024 * 1024);
    expect(config.limits.head).toBe(16 * 1024);
  });

  it('is traced to where it came from', () => {
    const file = yaml('listen:\n  port: 1001\n');
    const env = { MTLS_SIDECAR_LOG_LEVEL: 'debug' };
    const { sources } = loadConfigWithSources({ file, env, flags: REQUIRED });
    expect(sources.get('listen.port')).toBe(`${file} line 2`);
    expect(sources.get('log.level')).toBe('environment variable MTLS_SIDECAR_LOG_LEVEL');
    expect(sources.get('tls.cert')).toBe('flag --tls.cert');
    expect(sources.has('listen.host')).toBe(false);
  });

  it('that names a file is relative to the configuration file, or else to the working directory', () => {
    const file = yaml('tls: {cert: server.pem, key: /abs/server.key}\nclientCert: {ca: [a.pem, b.pem]}\n');
    const config = loadConfig({ file, env: {}, flags: { 'tls.key': 'k.pem', 'clientCert.crl': 'x.crl,y.crl' } });
    expect(config.file).toBe(file);
    expect(config.tls.cert).toBe(join(dir.path, 'server.pem'));
    expect(config.tls.key).toBe(join(process.cwd(), 'k.pem'));
    expect(config.clientCert.ca).toEqual([join(dir.path, 'a.pem'), join(dir.path, 'b.pem')]);
    expect(config.clientCert.crl).toEqual([join(process.cwd(), 'x.crl'), join(process.cwd(), 'y.crl')]);
  });

  it('can be a list or a structure in a variable and a flag', () => {
    const config = configured({
      'listen.serverNames': 'A.example, b.example',
      'identity.presets': '["nginx","xfcc"]',
      'identity.headers': '{"X-Caller":"commonName"}',
      'clientCert.allow': '[{"commonName":"im.qq.com","methods":["POST"]}]',
      'forwarded.trustedProxies': '10.0.0.0/8,::1',
    });
    expect(config.listen.serverNames).toEqual(['a.example', 'b.example']);
    expect(config.identity).toEqual({ presets: ['nginx', 'xfcc'], headers: { 'X-Caller': 'commonName' } });
    expect(config.clientCert.allow).toEqual([{ commonName: 'im.qq.com', methods: ['POST'] }]);
    expect(config.forwarded.trustedProxies).toEqual(['10.0.0.0/8', '::1']);
  });

  it('is not disturbed by the variables that Kubernetes sets for Services', () => {
    const env = {
      MTLS_SIDECAR_SERVICE_HOST: '10.0.0.1',
      MTLS_SIDECAR_SERVICE_PORT_HTTPS: '443',
      MTLS_SIDECAR_PORT: 'tcp://10.0.0.1:443',
      MTLS_SIDECAR_PORT_443_TCP_ADDR: '10.0.0.1',
      MTLS_SIDECAR_ADMIN_PORT: 'tcp://10.0.0.2:8081',
    };
    expect(loadConfig({ env, flags: REQUIRED }).admin.port).toBe(8081);
  });

  it('cannot be emptied by a variable without a value', () => {
    const file = yaml('clientCert: {allow: [{commonName: a}]}');
    expect(() => loadConfig({ file, flags: REQUIRED, env: { MTLS_SIDECAR_CLIENT_CERT_ALLOW: '' } })).toThrow(
      'clientCert.allow (environment variable MTLS_SIDECAR_CLIENT_CERT_ALLOW): is empty',
    );
  });
});
