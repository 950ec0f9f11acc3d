import type { FormatName, FormatOptions } from './formats.js';

/** One setting, as convict's schema holds it. */
export interface Setting extends FormatOptions {
  readonly format: FormatName;
  /** What it is for, in one sentence without a full stop. */
  readonly doc: string;
  readonly nullable: boolean;
  /**
   * Convict then leaves the value out of its messages: a secret could have been pasted where a file name belongs, and a
   * structure is shown by the message itself.
   */
  readonly sensitive: boolean;
}

/** Settings by section, nested as in the file. */
export interface Section {
  readonly [name: string]: Setting | Section;
}

type Extra = Partial<Omit<Setting, 'format' | 'default' | 'doc'>>;

function setting(format: FormatName, byDefault: unknown, doc: string, extra: Extra = {}): Setting {
  return { format, default: byDefault, doc, nullable: byDefault === null, sensitive: false, ...extra };
}

const none = (): Map<unknown, unknown> => new Map<unknown, unknown>();
const TLS_VERSIONS = ['TLSv1', 'TLSv1.1', 'TLSv1.2', 'TLSv1.3'];
const PRESETS = ['nginx', 'ingress-nginx', 'haproxy', 'xfcc', 'rfc9440', 'traefik'];
const LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'];
/** The number of callers and of upstream connections is bounded by file descriptors and memory, not by this. */
const MANY = 1_000_000;
const PORT = { max: 65_535 };

/** Every setting: its name, format, default and meaning. Durations and sizes are written as in the file. */
export const SCHEMA = {
  listen: {
    host: setting('bind-host', '0.0.0.0', 'Address to listen on for callers'),
    port: setting('whole-number', 8443, 'Port to listen on for callers; 0 picks a free one', PORT),
    serverNames: setting('host-names', [], 'When given, requests with another SNI or Host value are answered with 421'),
    http2: setting('on-off', false, 'Offer HTTP/2 to callers, besides HTTP/1.1'),
    proxyProtocol: setting('on-off', false, 'Expect the PROXY protocol, v1 or v2, in front of the TLS handshake'),
    proxyProtocolFrom: setting(
      'networks',
      [],
      'Load balancers that send it; with listen.proxyProtocol, others are refused',
    ),
    plainHttp: setting('choice', 'error', 'Answer to plain HTTP on the TLS port: 400, or 301 to https', {
      choices: ['error', 'redirect'],
    }),
  },
  workers: setting('workers', 1, 'Processes that share the port and the work; auto is one for each CPU there is', {
    min: 1,
    max: 128,
  }),
  tls: {
    cert: setting('file', null, "PEM file of this server's certificate and its intermediates, leaf first", {
      sensitive: true,
    }),
    key: setting('file', null, 'PEM file of the private key that belongs to tls.cert', { sensitive: true }),
    keyPassphraseFile: setting('file', null, 'File whose content is the passphrase of tls.key', { sensitive: true }),
    certificates: setting('certificates', [], 'More certificates, for callers that ask for one of their server names', {
      sensitive: true,
    }),
    minVersion: setting('choice', 'TLSv1.2', 'Oldest TLS version accepted; TLSv1 and TLSv1.1 only with tls.legacy', {
      choices: TLS_VERSIONS,
    }),
    maxVersion: setting('choice', 'TLSv1.3', 'Newest TLS version offered', { choices: TLS_VERSIONS }),
    legacy: setting('on-off', false, 'Lets old callers in (TLS 1.0, SHA-1, RSA-1024): security level 0, logged loudly'),
    securityLevel: setting('whole-number', 2, "OpenSSL's security level; tls.legacy makes it 0", { max: 5 }),
    ciphers: setting('cipher-list', null, "Ciphers up to TLS 1.2 in OpenSSL's form; unset means OpenSSL's choice"),
    curves: setting('curve-list', null, "Key exchange groups in OpenSSL's form; unset means OpenSSL's choice"),
    handshakeTimeout: setting('duration', '10s', 'Longest time from the TCP connection to the end of the handshake'),
    sessions: {
      resumption: setting('on-off', true, 'Whether a caller may resume an earlier TLS session'),
      lifetime: setting('duration', '5m', 'How long a TLS session can be resumed', { min: 1_000 }),
      ticketKeys: setting(
        'file-list',
        null,
        'Session ticket keys for all replicas (48 or 80 bytes each); the first seals, all of them open',
      ),
    },
  },
  clientCert: {
    verify: setting('choice', 'required', 'Whether callers must present a certificate that chains to clientCert.ca', {
      choices: ['required', 'optional', 'optional-no-ca', 'off'],
    }),
    ca: setting('ca-files', null, 'PEM file of the CA certificates that callers must chain to'),
    crl: setting('files', null, 'PEM file of certificate revocation lists; with it every CA of a chain needs one'),
    crlExpired: setting('choice', 'refuse', 'What an expired revocation list means for callers under its CA', {
      choices: ['refuse', 'warn'],
    }),
    depth: setting('whole-number', 1, 'Most intermediates between leaf and trust anchor', { max: 100 }),
    purpose: setting('choice', 'clientAuth', "Extended key usage that a caller's certificate must allow", {
      choices: ['clientAuth', 'any'],
    }),
    allow: setting('allow-rules', [], 'Which callers are admitted; empty means every certificate under the CA', {
      sensitive: true,
    }),
  },
  upstream: {
    url: setting('upstream', 'http://127.0.0.1:8080', 'The application'),
    unsafeRemote: setting('on-off', false, 'Permits plain HTTP to an application on another machine'),
    connectTimeout: setting('duration', '2s', 'Longest time to connect to the application'),
    headTimeout: setting('duration', '60s', "Longest time until the application's answer begins"),
    idleTimeout: setting('duration', '60s', "Longest pause within the application's answer"),
    maxConnections: setting('whole-number', 256, 'Most connections to the application', { min: 1, max: MANY }),
    http2: setting('on-off', false, 'Speak HTTP/2 without TLS to the application, as gRPC needs'),
    keepAlive: setting('duration', '60s', 'How long an idle connection to the application is kept'),
    index: setting(
      'file-names',
      ['index.html'],
      'Files that answer for a directory of a file: upstream, in this order',
    ),
  },
  identity: {
    presets: setting('choices', ['nginx'], 'Ready-made sets of identity headers; several can be on', {
      choices: PRESETS,
    }),
    headers: setting('identity-headers', none(), 'More identity headers', { sensitive: true }),
  },
  forwarded: {
    trustedProxies: setting('networks', [], 'Peers whose X-Forwarded-For is kept and appended to'),
    rfc7239: setting('on-off', false, 'Also send the Forwarded header of RFC 7239'),
    headers: setting('fact-headers', none(), 'More headers about the request, such as {X-Real-IP: remoteAddress}', {
      sensitive: true,
    }),
  },
  headers: {
    underscores: setting('choice', 'drop', 'What happens to headers with _ or . in their names', {
      choices: ['drop', 'reject', 'keep'],
    }),
  },
  limits: {
    head: setting('size', '16KiB', 'Largest request line and headers; more is answered with 431', {
      min: 1024,
      max: 16 * 1024 ** 2,
    }),
    body: setting('size', '1MiB', 'Largest request body; more is answered with 413'),
    connections: setting('whole-number', 4096, 'Most connections of callers at once', { min: 1, max: MANY }),
    requestsPerConnection: setting('whole-number', 1000, 'Requests after which a connection is closed', { min: 1 }),
    connectionAge: setting('duration', '1h', 'Age after which a connection is closed with its next answer'),
    streams: setting('whole-number', 100, 'Most requests of one HTTP/2 connection at once', { min: 1, max: 1000 }),
    headTimeout: setting('duration', '60s', "Longest time for a request's line and headers to arrive"),
    bodyIdleTimeout: setting('duration', '60s', "Longest pause within a request's body"),
    keepAliveTimeout: setting('duration', '75s', 'How long an idle connection of a caller is kept'),
    tunnelIdleTimeout: setting('duration', '1h', 'Longest silence on an upgraded connection (WebSocket)'),
  },
  admin: {
    host: setting('bind-host', '127.0.0.1', 'Address of the admin listener (plain HTTP)'),
    port: setting('port-or-off', 8081, 'Port of the admin listener'),
  },
  reload: {
    interval: setting('duration', '2s', 'How often certificate, key, CA and revocation files are looked at', {
      min: 100,
    }),
  },
  shutdown: {
    delay: setting('duration', '0s', 'How long new connections are still served after SIGTERM', { min: 0 }),
    grace: setting('duration', '25s', 'Longest time from SIGTERM to the end, with shutdown.delay in it', {
      min: 0,
    }),
  },
  log: {
    level: setting('choice', 'info', 'Least severe log lines that are written', { choices: LEVELS }),
    access: setting('access-log', true, "Access records: JSON, none, or nginx's combined format"),
    format: setting('log-template', null, "Access lines in a form of your own, with nginx's variables"),
    escape: setting('choice', 'default', "How log.format escapes what callers sent, as nginx's escape=", {
      choices: ['default', 'json', 'none'],
    }),
    pretty: setting('on-off', false, 'Log for people instead of JSON lines'),
  },
  callback: {
    kind: setting('unavailable', 'none', 'Checks for Tencent IM callbacks'),
    sdkAppIds: setting('unavailable', [], 'SDKAppIDs that are served'),
    require: setting('unavailable', [], 'Proofs that a callback must carry'),
    sign: {
      tokenFiles: setting('unavailable', [], 'Files of the tokens that sign callbacks'),
      window: setting('unavailable', '60s', 'Greatest age of a signature'),
    },
    addresses: setting('unavailable', null, 'File of the networks that callbacks come from'),
    deadline: setting('unavailable', '1800ms', 'Time after which a callback is answered without the application'),
    onFailure: {
      before: setting('unavailable', 'pass', 'Answer to a callback before an event when the application fails'),
      after: setting('unavailable', 'pass', 'Answer to a callback after an event when the application fails'),
      commands: setting('unavailable', none(), 'The same by callback command'),
    },
    after: setting('unavailable', 'forward', 'How callbacks after an event are delivered'),
    spool: {
      dir: setting('unavailable', null, 'Directory for callbacks that wait for delivery'),
      maxBytes: setting('unavailable', '1GiB', 'Most bytes that wait for delivery'),
      maxAge: setting('unavailable', '24h', 'How long a callback waits for delivery'),
    },
  },
  routes: setting('routes', [], 'Other settings for some paths or hosts: see docs/routes.md', { sensitive: true }),
} as const satisfies Section;

/** Every setting by its full name (`tls.minVersion`), in the order of the schema. */
export const SETTINGS: ReadonlyMap<string, Setting> = new Map(leaves(SCHEMA, ''));

/** Names of all sections (`tls`, `tls.sessions`). */
export const SECTIONS: ReadonlySet<string> = new Set([...SETTINGS.keys()].flatMap(parents));

/** The environment variable of a setting: `clientCert.ca` is `MTLS_SIDECAR_CLIENT_CERT_CA`. */
export function environmentName(name: string): string {
  return `MTLS_SIDECAR_${name.replace(/[A-Z]/g, '_$&').replaceAll('.', '_').toUpperCase()}`;
}

function leaves(section: Section, prefix: string): [string, Setting][] {
  return Object.entries(section).flatMap(([key, entry]) =>
    isSetting(entry) ? [[prefix + key, entry] as [string, Setting]] : leaves(entry, `${prefix}${key}.`),
  );
}

function isSetting(entry: Setting | Section): entry is Setting {
  return typeof entry.format === 'string';
}

function parents(name: string): string[] {
  const parts = name.split('.').slice(0, -1);
  return parts.map((_, index) => parts.slice(0, index + 1).join('.'));
}
