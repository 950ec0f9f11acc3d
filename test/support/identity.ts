import type { Attribute, Preset } from '../../src/config/config.js';
import { readPeerCertificate } from '../../src/identify/peer-certificate.js';
import type { PeerCertificate, PeerIdentity } from '../../src/identify/peer-identity.js';
import { createIdentityHeaders } from '../../src/rewrite/identity-headers.js';
import { createAuthority, generateKeys, issueClient, type Authority, type Options } from './pki.js';

export const everyPreset: readonly Preset[] = ['nginx', 'ingress-nginx', 'haproxy', 'xfcc', 'rfc9440', 'traefik'];

const keys = generateKeys();
const ca: Authority = createAuthority({
  subject: [
    ['O', 'Tencent'],
    ['CN', 'Root'],
  ],
  keys,
});

/** The certificate of a caller as the IM servers send one, with any part changed. */
export function certificateOf(options: Partial<Options>): PeerCertificate {
  return readPeerCertificate(issueClient(ca, { keys, ...options }).certDer);
}

/** The identity of a verified caller with such a certificate. */
export function identityOf(options: Partial<Options>, changes: Partial<PeerIdentity> = {}): PeerIdentity {
  return {
    verify: 'SUCCESS',
    fault: null,
    certificate: certificateOf(options),
    chain: [ca.certDer],
    anchorSha256: null,
    validUntil: Infinity,
    tls: { version: 'TLSv1.3', cipher: 'TLS_AES_256_GCM_SHA384', serverName: 'localhost', sessionReused: false },
    ...changes,
  };
}

export interface Sent {
  readonly headers: Readonly<Record<string, string>>;
  /** `Header attribute` of each value that was left out. */
  readonly omitted: readonly string[];
}

/** What the application would be sent. */
export function send(
  identity: PeerIdentity,
  choice: { readonly presets?: readonly Preset[]; readonly headers?: Readonly<Record<string, Attribute>> },
  now = 0,
): Sent {
  const omitted: string[] = [];
  const make = createIdentityHeaders({
    presets: choice.presets ?? [],
    headers: choice.headers ?? {},
    onOmitted: (header, attribute) => omitted.push(`${header} ${attribute}`),
  });
  const flat = make(identity, now);
  const headers = Object.fromEntries(flat.flatMap((name, at) => (at % 2 === 0 ? [[name, flat[at + 1] ?? '']] : [])));
  return { headers, omitted };
}
