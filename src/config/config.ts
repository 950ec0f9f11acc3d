/** The typed, deep-frozen form of every setting. Durations are milliseconds, sizes bytes, file names absolute. */

import type { Includes } from '../errors.js';

export type VerifyMode = 'required' | 'optional' | 'optional-no-ca' | 'off';
export type TlsVersion = 'TLSv1' | 'TLSv1.1' | 'TLSv1.2' | 'TLSv1.3';
export type Preset = 'nginx' | 'ingress-nginx' | 'haproxy' | 'xfcc' | 'rfc9440' | 'traefik';

/** Attributes of a verified identity that a header can carry. */
export const ATTRIBUTES = [
  'verify',
  'subject',
  'issuer',
  'subjectLegacy',
  'commonName',
  'serial',
  'sha256',
  'sha1',
  'spkiSha256',
  'notBefore',
  'notAfter',
  'daysRemaining',
  'san',
  'dnsNames',
  'uris',
  'emails',
  'certPem',
  'certDer',
  'chainDer',
  'xfcc',
  'traefikCert',
  'traefikInfo',
  'tlsVersion',
  'cipher',
  'serverName',
  'sessionReused',
] as const;
export type Attribute = (typeof ATTRIBUTES)[number];

/** All conditions given must hold. Name conditions are exact, or patterns with `*` (one label or path segment) and `**`. */
export interface AllowRule {
  readonly commonName?: string;
  readonly organization?: string;
  readonly organizationalUnit?: string;
  readonly dnsName?: string;
  readonly uri?: string;
  readonly email?: string;
  readonly ipAddress?: string;
  /** RFC 2253, whole, as nginx prints `$ssl_client_s_dn`. */
  readonly subject?: string;
  readonly issuer?: string;
  /** `sha256:<base64>` */
  readonly spkiSha256?: string;
  /** 64 lower-case hex digits (colons and upper case are accepted in the file and folded) */
  readonly certSha256?: string;
  /** Upper-case hex as nginx prints it (leading zeros, colons and lower case are folded) */
  readonly serial?: string;
  readonly methods?: readonly string[];
  readonly paths?: readonly string[];
}

export type NetworkAddress =
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'unix'; readonly path: string };

/** An answer that needs no application. */
export interface FixedAnswer {
  readonly status: number;
  readonly body: string;
  readonly contentType: string;
  /** Of a redirect: a URL, or a path, with `$host` and `$request_uri`; null without. */
  readonly location: string | null;
}

/** A program to speak to, a directory of files to send, or what a route answers by itself. */
export type UpstreamAddress =
  | NetworkAddress
  | { readonly kind: 'file'; readonly path: string }
  | { readonly kind: 'answer'; readonly answer: FixedAnswer };

/** One entry of `routes`: which requests it is for, and the settings as they are for these. */
export interface Route extends Pick<Config, 'clientCert' | 'upstream' | 'limits' | 'forwarded'> {
  /** Host and path as written, for people and labels: `/admin/*`, `b.example/im`. No two are the same. */
  readonly name: string;
  /** Lower case; empty means every host. */
  readonly hosts: readonly string[];
  /** Exact, or the beginning of a path and a star. */
  readonly path: string;
  /** What the application gets in place of the path up to the star; null: the path goes on as it is. */
  readonly replaceWith: string | null;
}

/** A certificate for some server names. */
export interface NamedCertificate {
  readonly cert: string;
  readonly key: string;
  readonly keyPassphraseFile: string | null;
  /** Lower case; `*.` in front of a name means whatever ends in it. None: those that the certificate is for. */
  readonly serverNames: readonly string[];
}

export interface Config {
  /** The file the settings came from, or null when there was none. */
  readonly file: string | null;
  readonly includes: Includes;
  readonly listen: {
    readonly host: string;
    readonly port: number;
    /** Lower case. */
    readonly serverNames: readonly string[];
    readonly http2: boolean;
    readonly proxyProtocol: boolean;
    /** CIDRs, or single addresses, of those who send it. */
    readonly proxyProtocolFrom: readonly string[];
    readonly plainHttp: 'error' | 'redirect';
  };
  /** Processes that serve. See `workerCount`. */
  readonly workers: number | 'auto';
  readonly tls: {
    /** Null only where a command can do without (never for `run`). */
    readonly cert: string;
    readonly key: string;
    readonly keyPassphraseFile: string | null;
    /** Besides `cert`, which is shown where none of them is for the name that was asked for. */
    readonly certificates: readonly NamedCertificate[];
    readonly minVersion: TlsVersion;
    readonly maxVersion: TlsVersion;
    readonly legacy: boolean;
    /** Effective level: 0 when `legacy`. */
    readonly securityLevel: number;
    readonly ciphers: string | null;
    readonly curves: string | null;
    readonly handshakeTimeout: number;
    readonly sessions: {
      readonly resumption: boolean;
      readonly lifetime: number;
      readonly ticketKeys: readonly string[];
    };
  };
  readonly clientCert: {
    readonly verify: VerifyMode;
    readonly ca: readonly string[];
    /** What operators call the CAs of a file or directory, by its name in `ca`. */
    readonly caLabels: Readonly<Record<string, string>>;
    readonly crl: readonly string[];
    readonly crlExpired: 'refuse' | 'warn';
    readonly depth: number;
    readonly purpose: 'clientAuth' | 'any';
    readonly allow: readonly AllowRule[];
  };
  readonly upstream: {
    /** As written. */
    readonly url: string;
    readonly address: UpstreamAddress;
    /** Files that answer for a directory, in this order. Only for a `file:` upstream. */
    readonly index: readonly string[];
    readonly unsafeRemote: boolean;
    /** Whether the application speaks HTTP/2, with prior knowledge. */
    readonly http2: boolean;
    readonly connectTimeout: number;
    readonly headTimeout: number;
    readonly idleTimeout: number;
    readonly maxConnections: number;
    readonly keepAlive: number;
  };
  readonly identity: {
    readonly presets: readonly Preset[];
    readonly headers: Readonly<Record<string, Attribute>>;
  };
  readonly forwarded: {
    /** CIDRs, or single addresses. */
    readonly trustedProxies: readonly string[];
    readonly rfc7239: boolean;
    /** More headers about the request: a fact (`remoteAddress`), `text:` and a text, or `none`. */
    readonly headers: Readonly<Record<string, string>>;
  };
  readonly headers: { readonly underscores: 'drop' | 'reject' | 'keep' };
  readonly limits: {
    readonly head: number;
    /** 0 means no limit. */
    readonly body: number;
    readonly connections: number;
    readonly requestsPerConnection: number;
    readonly connectionAge: number;
    /** Requests of one HTTP/2 connection at once. */
    readonly streams: number;
    readonly headTimeout: number;
    readonly bodyIdleTimeout: number;
    readonly keepAliveTimeout: number;
    readonly tunnelIdleTimeout: number;
  };
  readonly admin: {
    readonly host: string;
    /** Null means the admin listener is off. */
    readonly port: number | null;
  };
  readonly reload: { readonly interval: number };
  readonly shutdown: { readonly delay: number; readonly grace: number };
  readonly log: {
    readonly level: 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'fatal' | 'silent';
    readonly access: boolean | 'combined';
    /** Template with nginx's variables, in place of JSON. */
    readonly format: string | null;
    readonly escape: 'default' | 'json' | 'none';
    readonly pretty: boolean;
  };
  readonly routes: readonly Route[];
}
