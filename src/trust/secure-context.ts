import { constants, createHash, randomBytes } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { SecureContext } from 'node:tls';
import { tableOfNames } from '../admit/host-names.js';
import { modesOf } from '../admit/standing.js';
import type { Config } from '../config/config.js';
import type { Credentials } from './credentials.js';
import type { ServerPair } from './server-pair.js';
import { SessionTickets } from './session-tickets.js';

/** What the handshakes under one set of credentials are done with. */
export interface ServerContexts {
  /** Resumes sessions, and hands out tickets. */
  readonly resuming: SecureContext;
  /** Hands out tickets, but resumes nothing: whoever is led here makes a full handshake. */
  readonly starting: SecureContext;
  /** Null when nothing is ever resumed. */
  readonly tickets: SessionTickets | null;
  /** Null for a name that only the default certificate is there for; null itself when there is no other certificate. */
  readonly forName: ((serverName: string) => SecureContext | null) | null;
  /** Names what sessions are bound to: equal for equal trust. */
  readonly digest: string;
}

/**
 * Contexts whose session tickets are sealed with the configured keys, or with a secret where there are none.
 * @param ticketSecret contexts of one secret and equal trust open each other's tickets
 * @throws Error in OpenSSL's words when it does not take a certificate, key, CRL, cipher or curve
 */
export function createServerContexts(
  config: Config,
  credentials: Credentials,
  ticketSecret: Buffer = randomBytes(32),
): ServerContexts {
  const [first, ...others] = credentials.servers;
  const digest = trustDigest(config, credentials);
  const contextOf = (pair: ServerPair): SecureContext => createServerContext(config, credentials, pair, digest);
  const resuming = contextOf(first);
  const forName = contextsByName(first, others, contextOf);
  if (!config.tls.sessions.resumption) return { resuming, starting: resuming, tickets: null, forName, digest };
  const configured = credentials.ticketKeys.map(({ secret }) => secret);
  const secrets = configured.length > 0 ? configured : [ticketSecret];
  const tickets = new SessionTickets(secrets, digest);
  const starting = contextOf(first);
  tickets.useIn(resuming, true);
  tickets.useIn(starting, false);
  return { resuming, starting, tickets, forName, digest };
}

/**
 * Contexts for the other certificates. They differ in nothing else: OpenSSL takes the certificate and the bundle from them,
 * and leaves sessions and tickets with the context that the handshake began in.
 */
function contextsByName(
  first: ServerPair,
  others: readonly ServerPair[],
  contextOf: (pair: ServerPair) => SecureContext,
): ServerContexts['forName'] {
  if (others.length === 0) return null;
  return tableOfNames([
    // A name of the default certificate is not lost to a wildcard of another.
    { names: first.serverNames, value: null },
    ...others.map((pair) => ({ names: pair.serverNames, value: contextOf(pair) })),
  ]);
}

/**
 * What a handshake is done with. The security level always stands in the cipher string: left to itself, Node takes
 * RSA-1024 leaves that nginx refuses.
 * @throws Error in OpenSSL's words when it does not take a certificate, key, CRL, cipher or curve
 */
function createServerContext(
  config: Config,
  credentials: Credentials,
  pair: ServerPair,
  sessionIdContext: string,
): SecureContext {
  const { tls } = config;
  const { cas, crls } = credentials;
  const { cert, key, passphrase } = pair;
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
    sessionIdContext,
    sessionTimeout: Math.round(tls.sessions.lifetime / 1000),
  });
}

/** OpenSSL's cipher string for these settings, with the security level. */
export function cipherString({ ciphers, securityLevel }: Config['tls']): string {
  return `${ciphers ?? 'DEFAULT'}:@SECLEVEL=${securityLevel}`;
}

/** Names what a handshake alone is asked: OpenSSL looks at a chain, and agrees on a cipher, in no other place. */
export function handshakeTerms({ clientCert: { purpose }, tls }: Config): string {
  const { securityLevel, minVersion, ciphers, curves } = tls;
  return JSON.stringify({ purpose, securityLevel, minVersion, ciphers, curves });
}

/**
 * Names what a session was verified against. OpenSSL resumes a session only under the same name, so that one which was
 * admitted under another bundle, revocation list or mode needs a full handshake. 32 characters is OpenSSL's limit.
 */
function trustDigest(config: Config, { cas, crls }: Credentials): string {
  const { depth, crlExpired } = config.clientCert;
  const facts = {
    modes: [...modesOf(config)].sort(),
    depth,
    crlExpired,
    // A session keeps what was weak about its handshake, and OpenSSL resumes it with a cipher that has been taken off the list.
    handshake: handshakeTerms(config),
    cas: cas.map(({ pem }) => pem),
    crls: crls.map(({ pem }) => pem),
  };
  return createHash('sha256').update(JSON.stringify(facts)).digest('hex').slice(0, 32);
}
