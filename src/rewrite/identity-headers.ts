import type { Attribute, Preset } from '../config/config.js';
import type { PeerIdentity } from '../identify/peer-identity.js';
import {
  haproxyIssuer,
  haproxyNotAfter,
  haproxyNotBefore,
  haproxySecure,
  haproxySubject,
  haproxyVerify,
  isPlain,
  VALUES,
  type Format,
} from './identity-values.js';
import { foldName } from './fold.js';

/** One header, the attribute in it, and how it is written. */
interface Entry {
  readonly header: string;
  readonly attribute: Attribute;
  readonly format: Format;
  /** For messages: the preset, or the setting. */
  readonly source: string;
}

type PresetEntry = readonly [header: string, attribute: Attribute, format?: Format];

/** Which identity headers are sent. */
export interface HeaderChoice {
  readonly presets: readonly Preset[];
  readonly headers: Readonly<Record<string, Attribute>>;
}

export interface IdentityHeaderOptions extends HeaderChoice {
  /** Called for a value that the certificate has and the header cannot carry. `why` is fixed text. */
  onOmitted(header: string, attribute: Attribute, why: string): void;
}

const PRESETS: Readonly<Record<Preset, readonly PresetEntry[]>> = {
  nginx: [
    ['X-SSL-Client-Verify', 'verify'],
    ['X-SSL-Client-S-DN', 'subject'],
    ['X-SSL-Client-I-DN', 'issuer'],
    ['X-SSL-Client-CN', 'commonName'],
    ['X-SSL-Client-Serial', 'serial'],
    ['X-SSL-Client-SHA256', 'sha256'],
    ['X-SSL-Client-SAN', 'san'],
    ['X-SSL-Client-Not-After', 'notAfter'],
  ],
  'ingress-nginx': [
    ['ssl-client-verify', 'verify'],
    ['ssl-client-subject-dn', 'subject'],
    ['ssl-client-issuer-dn', 'issuer'],
    ['ssl-client-cert', 'certPem'],
  ],
  haproxy: [
    ['X-SSL', 'tlsVersion', haproxySecure],
    ['X-SSL-Client-Verify', 'verify', haproxyVerify],
    ['X-SSL-Client-DN', 'subject', haproxySubject],
    ['X-SSL-Client-CN', 'commonName'],
    ['X-SSL-Issuer', 'issuer', haproxyIssuer],
    ['X-SSL-Client-NotBefore', 'notBefore', haproxyNotBefore],
    ['X-SSL-Client-NotAfter', 'notAfter', haproxyNotAfter],
  ],
  xfcc: [['X-Forwarded-Client-Cert', 'xfcc']],
  rfc9440: [
    ['Client-Cert', 'certDer'],
    ['Client-Cert-Chain', 'chainDer'],
  ],
  traefik: [
    ['X-Forwarded-Tls-Client-Cert', 'traefikCert'],
    ['X-Forwarded-Tls-Client-Cert-Info', 'traefikInfo'],
  ],
};

/** Whole families, so that a name that a later preset (or another proxy) uses is not left open today. */
const RESERVED_PREFIXES = [
  'x-ssl-client-',
  'ssl-client-',
  'x-client-cert',
  'client-cert',
  'x-forwarded-client-cert',
  'x-forwarded-tls-client-cert',
];

/** Names of HAProxy's recipe that no preset sends, and what its documentation writes with an underscore. */
const UNSENT = ['x-ssl-session-id'];

const RESERVED_NAMES: ReadonlySet<string> = new Set([
  ...Object.values(PRESETS).flatMap((entries) => entries.map(([header]) => foldName(header))),
  ...UNSENT,
]);

/** Every name in the custom maps, folded, for `isReservedHeader`. */
export function reservedNames(headers: Readonly<Record<string, string>>): ReadonlySet<string> {
  return new Set(Object.keys(headers).map((header) => foldName(header)));
}

/**
 * Whether the caller must not send this header (or trailer), because an application could take it for ours. Names are
 * compared as loosely as the loosest application server does: CGI, WSGI and PHP turn `-`, `_` and `.` into one
 * character, others every mark. Called for each header of each request.
 * @param custom from `reservedNames`.
 */
export function isReservedHeader(name: string, custom: ReadonlySet<string>): boolean {
  if (custom.size === 0 && !couldBeReserved(name)) return false;
  const folded = foldName(name);
  return (
    custom.has(folded) || RESERVED_NAMES.has(folded) || RESERVED_PREFIXES.some((prefix) => folded.startsWith(prefix))
  );
}

/**
 * All reserved names begin with x, ss or cl; checked without making a string, since nearly all other headers
 * (content-*, cookie, host, accept) end here. Bit 5 is the case of a letter.
 */
function couldBeReserved(name: string): boolean {
  const first = name.charCodeAt(0) | 0x20;
  if (first === 0x78) return true;
  const second = name.charCodeAt(1) | 0x20;
  return (first === 0x73 && second === 0x73) || (first === 0x63 && second === 0x6c);
}

/**
 * Problems with a choice of presets and custom headers, one sentence each: two of them want the same header (however
 * spelled) with different contents. The application could not know which one it reads.
 */
export function conflictingHeaders(choice: HeaderChoice): string[] {
  const seen = new Map<string, Entry>();
  return entriesOf(choice).flatMap((entry) => {
    const earlier = seen.get(foldName(entry.header));
    if (earlier === undefined) seen.set(foldName(entry.header), entry);
    if (earlier === undefined || earlier.format === entry.format) return [];
    return [`${entry.source} and ${earlier.source} give the header ${entry.header} different contents`];
  });
}

/** Which of these names an identity header of the choice has already, however spelled. */
export function namesTaken(names: readonly string[], choice: HeaderChoice): string[] {
  const taken = new Set(entriesOf(choice).map(({ header }) => foldName(header)));
  return names.filter((name) => taken.has(foldName(name)));
}

/**
 * Makes the function that turns an identity into a flat list name, value, name, value: the same list for the same
 * identity, unless a value in it depends on the time. Without a certificate only `verify` (NONE) and the facts about TLS
 * are there. Every value is printable ASCII: what cannot be said so is escaped as the dialect does, or left out and
 * reported.
 */
export function createIdentityHeaders(
  options: IdentityHeaderOptions,
): (identity: PeerIdentity, now: number) => readonly string[] {
  const entries = withoutRepeats(entriesOf(options));
  const dependsOnTime = entries.some(({ attribute }) => attribute === 'daysRemaining');
  const made = new WeakMap<PeerIdentity, readonly string[]>();
  return (identity, now) => {
    const before = made.get(identity);
    if (before !== undefined) return before;
    let isWhole = true;
    const onOmitted: IdentityHeaderOptions['onOmitted'] = (...omitted) => {
      isWhole = false;
      options.onOmitted(...omitted);
    };
    const headers = entries.flatMap((entry) => headerOf(entry, entry.format(identity, now), { onOmitted }));
    // What was left out is reported each time.
    if (isWhole && !dependsOnTime) made.set(identity, headers);
    return headers;
  };
}

function headerOf(
  { header, attribute }: Entry,
  value: ReturnType<Format>,
  { onOmitted }: Pick<IdentityHeaderOptions, 'onOmitted'>,
): string[] {
  if (value === null) return [];
  if (typeof value === 'string' && isPlain(value)) return [header, value];
  onOmitted(header, attribute, typeof value === 'string' ? 'it is not plain printable ASCII' : value.unfit);
  return [];
}

function entriesOf({ presets, headers }: HeaderChoice): Entry[] {
  const preset = presets.flatMap((name) =>
    PRESETS[name].map(([header, attribute, format]) => entry(header, attribute, `preset ${name}`, format)),
  );
  const custom = Object.entries(headers).map(([header, attribute]) => entry(header, attribute, 'identity.headers'));
  return [...preset, ...custom];
}

function entry(header: string, attribute: Attribute, source: string, format?: Format): Entry {
  return { header, attribute, format: format ?? VALUES[attribute], source };
}

/** Two presets share a header (X-SSL-Client-CN): it is sent once. */
function withoutRepeats(entries: readonly Entry[]): Entry[] {
  const names = entries.map(({ header }) => foldName(header));
  return entries.filter((_, index) => names.indexOf(names[index] ?? '') === index);
}
