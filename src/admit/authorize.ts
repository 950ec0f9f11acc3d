import type { AllowRule } from '../config/config.js';
import type { PeerCertificate, PeerIdentity, SubjectAltName } from '../identify/peer-identity.js';
import { compilePattern, type Matcher } from './pattern.js';

/**
 * The right of one request to be forwarded. The forwarder takes nothing else, so no code path can forget to ask.
 * Only `authorize` makes one.
 */
export class Permit {
  declare private readonly brand: never;
  private constructor(readonly identity: PeerIdentity) {}

  /** @internal for `authorize` alone */
  static grant(identity: PeerIdentity): Permit {
    return new Permit(identity);
  }
}

export interface CompiledRule {
  /** Null when the rule says nothing about who. */
  readonly matchesCertificate: ((certificate: PeerCertificate) => boolean) | null;
  readonly methods: ReadonlySet<string> | null;
  readonly paths: readonly Matcher[] | null;
}

/** Null stands for no list at all: every admitted caller may send everything. */
export type AllowList = readonly CompiledRule[] | null;

/** Compiles `clientCert.allow`. */
export function compileAllowList(rules: readonly AllowRule[]): AllowList {
  return rules.length === 0 ? null : rules.map(compileRule);
}

/**
 * The rules that this caller satisfies; what is left to ask is method and path. Depends on the connection alone, so it
 * is asked once a connection (and again after a change of the list). Null as in `AllowList`.
 *
 * An identity that OpenSSL did not verify satisfies no condition about who it is: pins add to chain and expiry checks,
 * they never replace them.
 */
export function rulesFor(identity: Pick<PeerIdentity, 'verify' | 'certificate'>, list: AllowList): AllowList {
  if (list === null) return null;
  const certificate = identity.verify === 'SUCCESS' ? identity.certificate : null;
  return list.filter(({ matchesCertificate }) => {
    if (matchesCertificate === null) return true;
    return certificate !== null && matchesCertificate(certificate);
  });
}

export interface Asked {
  readonly method: string;
  /** Origin form with query. */
  readonly target: string;
  /** Whether what the caller was verified by has ended, its certificate or a CA above it. */
  readonly hasEnded: boolean;
}

/** Decides about one request of a connection. `rules` is what `rulesFor` gave for it. */
export function authorize(identity: PeerIdentity, rules: AllowList, asked: Asked): Permit | 'not_allowed' | 'expired' {
  // An open connection outlives its certificate otherwise: nginx serves it for up to an hour more.
  if (asked.hasEnded && identity.certificate !== null) return 'expired';
  if (rules !== null && !matchesAny(rules, asked)) return 'not_allowed';
  return Permit.grant(identity);
}

function matchesAny(rules: readonly CompiledRule[], { method, target }: Asked): boolean {
  const path = pathOf(target);
  // Judged once, however many rules there are.
  const isAmbiguous = isAmbiguousPath(path);
  return rules.some((rule) => {
    if (rule.methods !== null && !rule.methods.has(method)) return false;
    return rule.paths === null || (!isAmbiguous && rule.paths.some((matches) => matches(path)));
  });
}

/** The path of a target, as written. */
export function pathOf(target: string): string {
  const query = target.indexOf('?');
  return query === -1 ? target : target.slice(0, query);
}

/**
 * A path that the application may resolve to another one (dot segments, doubled slashes, encoded separators, path
 * parameters that some servers drop, control characters, broken escapes, and text that some decode to a separator)
 * satisfies no path condition: `/im/..%2fadmin` must not pass a rule for `/im/*`.
 */
export function isAmbiguousPath(path: string): boolean {
  if (AMBIGUOUS_AS_WRITTEN.test(path)) return true;
  return path.includes('%') && (AMBIGUOUS_ESCAPE.test(path) || holdsAmbiguousText(path));
}

/** The parser lets through nothing but visible ASCII. Should another one do so, nobody knows in which encoding. */
const AMBIGUOUS_AS_WRITTEN = /\/\/|[^!-~]|[\\;]|\/\.{1,2}(?:\/|$)/;
/** Control characters, `# % . / ; ? \` and what is no escape at all. */
const AMBIGUOUS_ESCAPE = /%(?:[01][0-9a-f]|7f|2[35ef]|3[bf]|5c|(?![0-9a-f]{2}))/i;

/**
 * Whether escapes beyond ASCII are no UTF-8 (overlong forms among it), or stand for characters that a program may fold to
 * a separator: `/im/..%ef%bc%8fadmin` holds a full-width slash.
 */
function holdsAmbiguousText(path: string): boolean {
  try {
    // ASCII was judged before; here its own slashes and dots would be in the way.
    const text = decodeURIComponent(path).replace(/[ -~]+/g, ' ');
    return AMBIGUOUS_TEXT.test(text.normalize('NFKC'));
  } catch {
    return true;
  }
}

/**
 * What NFKC makes of compatibility forms, and what it leaves but code pages take for a slash (U+2044, U+2215, U+29F8) or
 * a backslash (U+2216, U+29F5, U+29F9, and the yen and won signs in those of Japan and Korea).
 */
const AMBIGUOUS_TEXT = /[#%./;?\\\p{Cc}\u2044\u2215\u29f8\u2216\u29f5\u29f9\u00a5\u20a9]/u;

function compileRule(rule: AllowRule): CompiledRule {
  const conditions = CONDITIONS.flatMap(({ key, compile }) => {
    const wanted = rule[key];
    return typeof wanted === 'string' ? [compile(wanted)] : [];
  });
  return {
    matchesCertificate:
      conditions.length === 0 ? null : (certificate) => conditions.every((condition) => condition(certificate)),
    methods: rule.methods === undefined ? null : new Set(rule.methods),
    paths: rule.paths?.map((path) => compilePattern(path, { separators: '/' })) ?? null,
  };
}

type Condition = (certificate: PeerCertificate) => boolean;

interface ConditionKind {
  readonly key: Exclude<keyof AllowRule, 'methods' | 'paths'>;
  readonly compile: (wanted: string) => Condition;
}

const NAME = { separators: '.' } as const;

const CONDITIONS: readonly ConditionKind[] = [
  { key: 'commonName', compile: (wanted) => onlyCommonName(compilePattern(wanted, NAME)) },
  { key: 'organization', compile: (wanted) => some((certificate) => certificate.organizations, wanted) },
  { key: 'organizationalUnit', compile: (wanted) => some((certificate) => certificate.organizationalUnits, wanted) },
  {
    key: 'dnsName',
    compile: (wanted) => altName('dns', compilePattern(wanted, { separators: '.', ignoreCase: true })),
  },
  { key: 'uri', compile: (wanted) => altName('uri', compilePattern(wanted, { separators: '/' })) },
  { key: 'email', compile: (wanted) => altName('email', compilePattern(wanted, NAME)) },
  { key: 'ipAddress', compile: (wanted) => altName('ip', (value) => value === wanted) },
  { key: 'subject', compile: (wanted) => distinguishedName('subject', wanted) },
  { key: 'issuer', compile: (wanted) => distinguishedName('issuer', wanted) },
  { key: 'spkiSha256', compile: (wanted) => (certificate) => certificate.spkiSha256 === wanted },
  { key: 'certSha256', compile: (wanted) => (certificate) => certificate.sha256 === wanted },
  { key: 'serial', compile: (wanted) => (certificate) => withoutZeros(certificate.serial) === withoutZeros(wanted) },
];

/** A certificate with two common names has none: readers disagree on which of them counts. */
function onlyCommonName(matches: Matcher): Condition {
  return ({ commonNames }) => commonNames.length === 1 && matches(commonNames[0] as string);
}

function some(read: (certificate: PeerCertificate) => readonly string[], wanted: string): Condition {
  const matches = compilePattern(wanted, NAME);
  return (certificate) => read(certificate).some(matches);
}

function altName(type: SubjectAltName['type'], matches: Matcher): Condition {
  return ({ subjectAltNames }) => subjectAltNames.some((name) => name.type === type && matches(name.value));
}

function distinguishedName(which: 'subject' | 'issuer', wanted: string): Condition {
  const matches = compilePattern(wanted, { separators: ',' });
  return (certificate) => matches(certificate[which]);
}

function withoutZeros(serial: string): string {
  return serial.replace(/^0+(?=.)/, '');
}
