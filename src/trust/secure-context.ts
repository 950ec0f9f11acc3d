import { constants, createHash, hkdfSync, randomBytes } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import type { Config } from '../config/config.js';
import type { Credentials } from './credentials.js';

/**
 * What a handshake is done with. The security level always stands in the cipher string: left to itself, Node takes
 * RSA-1024 leaves that nginx refuses.
 * @param ticketSecret what session tickets are sealed with; contexts of one secret and equal trust open each other's
 * @throws Error in OpenSSL's words when it does not take a certificate, key, CRL, cipher or curve
 */
export function createServerContext(
  config: Config,
  credentials: Credentials,
  ticketSecret: Buffer = randomBytes(32),
): SecureContext {
  const { tls } = config;
  const digest = trustDigest(config, credentials);
  const { cert, key, passphrase, cas, crls } = credentials;
  return createSecureContext({
    cert,
    key,
    ...(passphrase === null ? {} : { passphrase }),
    // An empty list trusts nobody. Without the option Node would trust the public roots.
    ca: cas.map(({ pem }) => pem),
    // One CRL an entry: of several in one text Node reads only the first.
    // With `warn` the lists are read by us: OpenSSL can only refuse what an expired one covers.
    ...(crls.length === 0 || config.clientCert.crlExpired === 'warn' ? {} : { crl: crls.map(({ pem }) => pem) }),
    minVersion: tls.minVersion,
    maxVersion: tls.maxVersion,
    ciphers: cipherString(tls),
    ...(tls.curves === null ? {} : { ecdhCurve: tls.curves }),
    // Of what both sides can do, our order decides: a caller cannot choose the weakest.
    honorCipherOrder: true,
    // Node allows renegotiation, in which a caller could show another certificate than the one that was judged.
    secureOptions: constants.SSL_OP_NO_RENEGOTIATION | (tls.sessions.resumption ? 0 : constants.SSL_OP_NO_TICKET),
    sessionIdContext: digest,
    ticketKeys: deriveTicketKeys(ticketSecret, digest),
    sessionTimeout: Math.round(tls.sessions.lifetime / 1000),
  });
}

/** Node's form: 16 bytes of name, 16 for the HMAC, 16 for AES-128. */
const TICKET_KEY_BYTES = 48;

/** Mixed with the trust settings, so that a ticket from before they changed cannot even be opened (RFC 5869). */
function deriveTicketKeys(secret: Buffer, digest: string): Buffer {
  return Buffer.from(hkdfSync('sha256', secret, '', `session tickets ${digest}`, TICKET_KEY_BYTES));
}

/** OpenSSL's cipher string for these settings, with the security level. */
export function cipherString({ ciphers, securityLevel }: Config['tls']): string {
  return `${ciphers ?? 'DEFAULT'}:@SECLEVEL=${securityLevel}`;
}

/**
 * Names what a session was verified against. OpenSSL resumes a session only under the same name, so that one which was
 * admitted under another bundle, revocation list or mode needs a full handshake. 32 characters is OpenSSL's limit.
 */
export function trustDigest({ clientCert, tls }: Config, { cas, crls }: Credentials): string {
  const { verify, depth, purpose, crlExpired } = clientCert;
  const facts = {
    verify,
    depth,
    purpose,
    crlExpired,
    // A session keeps what was weak about its handshake.
    securityLevel: tls.securityLevel,
    minVersion: tls.minVersion,
    cas: cas.map(({ pem }) => pem),
    crls: crls.map(({ pem }) => pem),
  };
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 32);
}
