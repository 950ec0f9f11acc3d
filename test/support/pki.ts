import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import * as authority from '../../src/pki/authority.js';
import type { Authority as PureAuthority } from '../../src/pki/authority.js';
import type { CertificateOptions, Issued } from '../../src/pki/certificate.js';
import type { CrlOptions } from '../../src/pki/crl.js';
import type { NameInput } from '../../src/pki/names.js';

export type { AltName, RawExtension } from '../../src/pki/extensions.js';
export type { Issued } from '../../src/pki/certificate.js';
export type { NameInput } from '../../src/pki/names.js';
export { generateKeys } from '../../src/pki/keys.js';

/** Certificate options with the clock filled in. */
export type Options = Omit<CertificateOptions, 'now'> & { readonly now?: number };

export interface Authority extends Issued {
  issue(options: Options): Issued;
  subordinate(options: Options): Authority;
  crl(options?: Omit<CrlOptions, 'now'>): string;
}

const timed = (options: Options): CertificateOptions => ({ now: Date.now(), ...options });

const clocked = (pure: PureAuthority): Authority => ({
  ...pure,
  issue: (options) => pure.issue(timed(options)),
  subordinate: (options) => clocked(pure.subordinate(timed(options))),
  crl: (options = {}) => pure.crl({ now: Date.now(), ...options }),
});

export const createAuthority = (options: Options): Authority => clocked(authority.createAuthority(timed(options)));
export const selfSigned = (options: Options): Issued => authority.selfSigned(timed(options));

export const CA_SUBJECT: NameInput = [
  ['C', 'CN'],
  ['O', 'Tencent'],
  ['CN', 'TencentQQAuthCA'],
];
export const CLIENT_SUBJECT: NameInput = [
  ['C', 'CN'],
  ['O', 'Tencent'],
  ['CN', 'im.qq.com'],
];
export const SERVER_SUBJECT: NameInput = [['CN', 'localhost']];

/** A client certificate under `ca` as the IM servers present one; any option can be overridden. */
export function issueClient(ca: Authority, options: Partial<Options> = {}): Issued {
  return ca.issue({
    subject: CLIENT_SUBJECT,
    eku: ['clientAuth'],
    keyUsage: ['digitalSignature'],
    san: [{ dns: 'im.qq.com' }],
    ...options,
  });
}

/** A server certificate for localhost, 127.0.0.1 and ::1. */
export function issueServer(ca: Authority, options: Partial<Options> = {}): Issued {
  return ca.issue({
    subject: SERVER_SUBJECT,
    eku: ['serverAuth'],
    keyUsage: ['digitalSignature'],
    san: [{ dns: 'localhost' }, { ip: '127.0.0.1' }, { ip: '::1' }],
    ...options,
  });
}

export interface Pki {
  /** Signs client and server alike. */
  readonly ca: Authority;
  readonly server: Issued;
  readonly client: Issued;
  /** A CA of the same name that nobody trusts, and a client certificate under it. */
  readonly stranger: { readonly ca: Authority; readonly client: Issued };
}

export function makePki(): Pki {
  const ca = createAuthority({ subject: CA_SUBJECT });
  const other = createAuthority({ subject: CA_SUBJECT });
  return {
    ca,
    server: issueServer(ca),
    client: issueClient(ca),
    stranger: { ca: other, client: issueClient(other) },
  };
}

/** Leaf first, then the issuers, as a TLS peer sends them. */
export const chainPem = (...certificates: readonly Pick<Issued, 'certPem'>[]): string =>
  certificates.map(({ certPem }) => certPem).join('');

/** Writes `name` under `dir` (see `temporaryDirectory`) and returns its path. Keys get mode 0600. */
export function writePem(dir: string, name: string, pem: string): string {
  const path = join(dir, name);
  writeFileSync(path, pem, { mode: pem.includes('PRIVATE KEY') ? 0o600 : 0o644 });
  return path;
}

/** A directory of the test's own. `remove` is safe to call twice. */
export function temporaryDirectory(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), 'mtls-sidecar-'));
  return { path, remove: () => rmSync(path, { recursive: true, force: true }) };
}

/** The usual files: `ca.pem`, `server.pem`, `server.key`, `client.pem`, `client.key`. Returns their paths. */
export function writePki(
  dir: string,
  pki: Pki,
): Readonly<Record<'ca' | 'cert' | 'key' | 'clientCert' | 'clientKey', string>> {
  return {
    ca: writePem(dir, 'ca.pem', pki.ca.certPem),
    cert: writePem(dir, 'server.pem', pki.server.certPem),
    key: writePem(dir, 'server.key', pki.server.keyPem),
    clientCert: writePem(dir, 'client.pem', pki.client.certPem),
    clientKey: writePem(dir, 'client.key', pki.client.keyPem),
  };
}
