import type { Config, Route, TlsVersion } from './config.js';
import { isWithin } from '../admit/host-names.js';
import { conflictingHeaders, namesTaken } from '../rewrite/identity-headers.js';
import { SETTINGS } from './schema.js';
import { isLoopback } from './upstream.js';

/** One combination of settings that is not allowed. */
export interface Rule {
  /** Settings it looks at; the first is the one to change. Not judged while one of them is malformed. */
  readonly about: readonly string[];
  /**
   * A sentence about the first setting, or null when all is well.
   * @param config settings as written: what `tls.legacy` changes is not yet changed
   */
  problem(config: Config): string | null;
}

const OLD: readonly TlsVersion[] = ['TLSv1', 'TLSv1.1'];

/** Presets with a header that tells a verified caller from another. */
const PRESETS_WITH_VERIFY: readonly string[] = ['nginx', 'ingress-nginx', 'haproxy'];

/** Presets whose readers take a certificate in them for a verified one: their formats have no word for another. */
const PRESETS_OF_VERIFIED: readonly string[] = ['xfcc', 'rfc9440', 'traefik'];

/** Every illegal combination: one small rule, one message. */
export const RULES: readonly Rule[] = [
  {
    about: ['tls.cert'],
    problem: ({ tls }) => (tls.cert === '' ? 'is required: the PEM file of the server certificate' : null),
  },
  {
    about: ['tls.key'],
    problem: ({ tls }) => (tls.key === '' ? "is required: the PEM file of the server certificate's key" : null),
  },
  {
    about: ['clientCert.ca', 'clientCert.verify'],
    // nginx refuses this too; Node would fall back to the public roots and admit the whole internet.
    problem: ({ clientCert: { ca, verify } }) =>
      ca.length === 0 && verify !== 'off' ? 'is required unless clientCert.verify is off: the CA of the callers' : null,
  },
  {
    about: ['clientCert.allow', 'clientCert.verify'],
    problem: ({ clientCert: { allow, verify } }) =>
      allow.length > 0 && verify === 'off' ? 'has nothing to match when clientCert.verify is off' : null,
  },
  {
    about: ['tls.minVersion', 'tls.maxVersion'],
    // The names sort as the versions do.
    problem: ({ tls: { minVersion, maxVersion } }) =>
      minVersion > maxVersion ? 'must not be newer than tls.maxVersion' : null,
  },
  {
    about: ['tls.minVersion', 'tls.legacy'],
    problem: ({ tls }) =>
      OLD.includes(tls.minVersion) && !tls.legacy ? `${tls.minVersion} needs tls.legacy: true` : null,
  },
  {
    about: ['tls.securityLevel', 'tls.legacy'],
    // A level that somebody wrote down and that is silently 0 would be believed.
    problem: ({ tls: { legacy, securityLevel } }) =>
      legacy && securityLevel !== 0 && securityLevel !== SETTINGS.get('tls.securityLevel')?.default
        ? 'has no effect with tls.legacy, which makes it 0: leave one of them out'
        : null,
  },
  {
    about: ['tls.ciphers'],
    problem: ({ tls }) =>
      /@SECLEVEL/i.test(tls.ciphers ?? '') ? 'must not contain @SECLEVEL: set tls.securityLevel' : null,
  },
  {
    about: ['listen.proxyProtocolFrom', 'listen.proxyProtocol'],
    // Whoever may send the header chooses the address under which a caller is logged and forwarded.
    problem: ({ listen }) =>
      listen.proxyProtocol && listen.proxyProtocolFrom.length === 0
        ? 'is required with listen.proxyProtocol: the addresses of the load balancers that send it'
        : null,
  },
  {
    about: ['listen.proxyProtocolFrom', 'listen.proxyProtocol'],
    problem: ({ listen }) =>
      !listen.proxyProtocol && listen.proxyProtocolFrom.length > 0
        ? 'has no effect without listen.proxyProtocol: true'
        : null,
  },
  {
    about: ['upstream.url', 'upstream.unsafeRemote'],
    problem: ({ upstream: { address, unsafeRemote } }) =>
      address.kind === 'tcp' && !isLoopback(address.host) && !unsafeRemote
        ? 'is not this machine: identity headers would travel in the clear and anybody on the way could forge them ' +
          '(upstream.unsafeRemote: true permits it)'
        : null,
  },
  {
    about: ['upstream.index', 'upstream.url'],
    problem: ({ upstream: { index, address } }) =>
      address.kind !== 'file' && String(index) !== String(SETTINGS.get('upstream.index')?.default)
        ? 'is of use with a file: upstream alone'
        : null,
  },
  {
    about: ['upstream.http2', 'upstream.url'],
    problem: ({ upstream: { http2, address } }) =>
      http2 && address.kind === 'file' ? 'is of no use with a file: upstream' : null,
  },
  {
    about: ['shutdown.delay', 'shutdown.grace'],
    problem: ({ shutdown: { delay, grace } }) =>
      delay > 0 && delay >= grace
        ? 'must be smaller than shutdown.grace, which counts from the signal, too: nothing in flight could finish'
        : null,
  },
  {
    about: ['identity.presets', 'clientCert.verify'],
    problem: ({ identity: { presets }, clientCert: { verify } }) =>
      verify === 'optional-no-ca' && presets.some(isForVerified)
        ? `must be without ${presets.filter(isForVerified).join(', ')} when clientCert.verify is optional-no-ca: ` +
          'an application takes every certificate in these headers for a verified one'
        : null,
  },
  {
    about: ['identity.headers', 'identity.presets', 'clientCert.verify'],
    problem: (config) =>
      config.clientCert.verify === 'optional-no-ca' && !tellsVerified(config)
        ? 'must have a header with the attribute verify when clientCert.verify is optional-no-ca: ' +
          'the application could not tell an unverified caller'
        : null,
  },
  {
    about: ['identity.presets', 'identity.headers'],
    problem: ({ identity }) => conflictingHeaders(identity).join('; ') || null,
  },
  {
    about: ['forwarded.headers', 'identity.headers', 'identity.presets'],
    problem: ({ forwarded, identity }) =>
      namesTaken(Object.keys(forwarded.headers), identity)
        .map((name) => `must not set ${name}: an identity header has this name`)
        .join('; ') || null,
  },
  {
    about: ['log.format', 'log.access'],
    problem: ({ log }) => (log.format !== null && log.access !== true ? 'needs log.access: true' : null),
  },
  {
    about: ['admin.port', 'listen.port', 'admin.host', 'listen.host'],
    problem: ({ admin, listen }) =>
      admin.port !== null && admin.port !== 0 && admin.port === listen.port && overlap(admin.host, listen.host)
        ? 'must differ from listen.port'
        : null,
  },
];

/** Something that a route must not say. */
export interface RouteRule {
  /** A sentence about the route, or null when all is well. */
  problem(route: Route, config: Config): string | null;
}

/** What no rule about settings says, since it is about the choice of requests. */
export const ROUTE_RULES: readonly RouteRule[] = [
  {
    problem: ({ upstream: { address }, hosts }, { listen }) =>
      address.kind === 'answer' &&
      address.answer.location?.includes('$host') === true &&
      hosts.length + listen.serverNames.length === 0
        ? 'return with $host needs host or listen.serverNames: callers could choose any other name'
        : null,
  },
  {
    problem({ hosts }: Route, { listen: { serverNames } }: Config): string | null {
      const others = hosts.filter((host) => serverNames.length > 0 && !isWithin(host, serverNames));
      return others.length > 0 ? `host ${others.join(', ')} is not among listen.serverNames: it gets 421` : null;
    },
  },
];

const WILDCARDS = ['0.0.0.0', '::'];

function overlap(one: string, other: string): boolean {
  return one === other || WILDCARDS.includes(one) || WILDCARDS.includes(other);
}

function isForVerified(preset: string): boolean {
  return PRESETS_OF_VERIFIED.includes(preset);
}

function tellsVerified({ identity }: Config): boolean {
  return (
    identity.presets.some((preset) => PRESETS_WITH_VERIFY.includes(preset)) ||
    Object.values(identity.headers).includes('verify')
  );
}
