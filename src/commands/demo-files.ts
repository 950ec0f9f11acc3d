import { createAuthority } from '../pki/authority.js';

const DAYS = 30 * 86_400_000;

/** Who calls in the demo; IM's own certificates carry this name. */
export const CALLER = 'im.qq.com';

/** Everything `run` needs to know and the demo has to find out first. */
export interface DemoPorts {
  readonly listen: number;
  readonly admin: number;
  readonly application: number;
}

/** A CA that looks like IM's, and under it this server and one caller, as PEM texts by file name. */
export function demoCertificates(now: number): Readonly<Record<string, string>> {
  const until = { now, notAfter: now + DAYS };
  const ca = createAuthority({ subject: tencent('TencentQQAuthCA (demo)'), ...until });
  const server = ca.issue({
    subject: [['CN', 'localhost']],
    eku: ['serverAuth'],
    keyUsage: ['digitalSignature'],
    san: [{ dns: 'localhost' }, { ip: '127.0.0.1' }],
    ...until,
  });
  const client = ca.issue({
    subject: tencent(CALLER),
    eku: ['clientAuth'],
    keyUsage: ['digitalSignature'],
    san: [{ dns: CALLER }],
    ...until,
  });
  return {
    'ca.pem': ca.certPem,
    'server.pem': server.certPem,
    'server.key': server.keyPem,
    'client.pem': client.certPem,
    'client.key': client.keyPem,
  };
}

function tencent(commonName: string) {
  return [
    ['C', 'CN'],
    ['O', 'Tencent'],
    ['CN', commonName],
  ] as const;
}

/** The settings file, as somebody would write it. */
export function demoSettings({ listen, admin, application }: DemoPorts): string {
  return [
    '# Written by `mtls-sidecar demo`. File names are relative to this file.',
    'listen:',
    '  host: 127.0.0.1',
    `  port: ${listen}`,
    'tls:',
    '  cert: server.pem',
    '  key: server.key',
    'clientCert:',
    '  ca: ca.pem',
    'upstream:',
    `  url: http://127.0.0.1:${application}`,
    'admin:',
    `  port: ${admin}`,
    '',
  ].join('\n');
}
