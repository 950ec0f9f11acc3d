import { X509Certificate } from 'node:crypto';
import { rootCertificates } from 'node:tls';
import type { Config } from '../config/config.js';
import { formatRfc2253, nameOf } from '../identify/distinguished-name.js';
import { readTbsFields } from '../identify/tbs-certificate.js';
import { altNamesOf, subjectOf } from '../trust/credentials.js';
import type { Inspection, LoadedCa, LoadedCrl } from '../trust/credentials.js';
import type { Scope } from '../trust/crl-scope.js';
import { scopeOfList } from '../trust/revocation.js';
import { admittingLevel, keyType, weaknesses } from '../trust/strength.js';
import { date, note, ok, problem, span, warning } from './findings.js';
import type { Finding } from './findings.js';

const SOON = 30 * 24 * 3_600_000;
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';

/** What the findings are judged by. */
export interface Circumstances {
  readonly config: Config;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Findings about the certificates that this server presents. */
export function checkServerChains(inspection: Inspection, circumstances: Circumstances): Finding[] {
  const [first = [], ...others] = inspection.chains;
  const leaves = inspection.chains.flatMap(([leaf]) => leaf ?? []);
  return [
    ...checkServerChain('tls.cert', first, inspection, circumstances),
    ...others.flatMap((chain) => checkServerChain('tls.certificates', chain, inspection, circumstances)),
    ...serverNames(leaves, circumstances.config.listen.serverNames),
  ];
}

function checkServerChain(
  about: string,
  chain: readonly X509Certificate[],
  inspection: Inspection,
  { config, now }: Circumstances,
): Finding[] {
  const [leaf, ...issuers] = chain;
  if (leaf === undefined) return [];
  const altNames = altNamesOf(leaf);
  return [
    ok(about, `${subjectOf(leaf)}, ${keyType(leaf)}`),
    altNames === null
      ? warning(about, 'has no subject alternative names: most callers refuse it')
      : ok(about, `for ${altNames}`),
    validity(about, leaf, { now, expired: 'callers that check it will refuse to connect' }),
    ...serverPurpose(about, leaf),
    ...order(about, chain),
    ...completeness(about, chain, inspection),
    ...chain.flatMap((one) => weak(about, one, { config, effect: 'callers may refuse it' })),
    ...issuers.map((issuer, index) =>
      validity(`${about} chain ${index + 1}`, issuer, {
        now,
        expired: 'callers will refuse',
        name: subjectOf(issuer),
      }),
    ),
  ];
}

/** Findings about each CA of the trust bundle. */
export function checkAuthorities({ cas, copies }: Inspection, { config, now }: Circumstances): Finding[] {
  const repeated = copies.map(({ subject, file }) =>
    note('clientCert.ca', `${subject}: stands in the bundle more than once (${file})`),
  );
  const each = cas.flatMap((ca) => [
    ok(
      'clientCert.ca',
      `${ca.subject}, ${keyType(ca.certificate)}, ${isSelfSigned(ca) ? 'self-signed' : 'intermediate'}`,
    ),
    validity('clientCert.ca', ca.certificate, {
      now,
      expired: 'every caller under it is refused (expired)',
      name: ca.subject,
    }),
    ...authorityWarnings(ca, cas, config),
  ]);
  return [...each, ...repeated];
}

/** Findings about each revocation list, and about each CA whose lists leave somebody out. */
export function checkRevocation({ cas, crls }: Inspection, { config, now }: Circumstances): Finding[] {
  if (crls.length === 0) return [];
  const lists = crls.map((crl) => ({ crl, scope: scopeOfList(crl, certificatesOf(crl, cas)) }));
  return [
    ...lists.flatMap((list) => [
      ...revocationList(list.crl, cas, { config, now }),
      ...unclearList(list, lists, config.clientCert),
    ]),
    ...cas.flatMap((ca) => gap(ca, { cas, lists, config })),
  ];
}

/** A list, and which certificates it speaks for. */
interface ScopedList {
  readonly crl: LoadedCrl;
  readonly scope: Scope;
}

function certificatesOf({ issuer }: LoadedCrl, cas: readonly LoadedCa[]): X509Certificate[] {
  return cas.filter(({ subject }) => subject === issuer).map(({ certificate }) => certificate);
}

function revocationList(crl: LoadedCrl, cas: readonly LoadedCa[], { config, now }: Circumstances): Finding[] {
  const about = 'clientCert.crl';
  const findings = [period(crl, now)];
  if (!cas.some(({ subject }) => subject === crl.issuer)) {
    findings.push(
      note(about, `${crl.issuer}: no CA of the bundle has this name; it serves only intermediates callers bring`),
    );
  }
  if (crl.thisUpdate > now) findings.push(warning(about, `${crl.issuer}: is not yet valid`));
  if (crl.nextUpdate !== null && crl.nextUpdate < now) findings.push(expiredList(crl, crl.nextUpdate, { config, now }));
  return findings;
}

/** Whoever makes a list anew in time seldom lets it get this old. */
const LATE = 1 / 4;

function period({ issuer, thisUpdate, nextUpdate }: LoadedCrl, now: number): Finding {
  const about = 'clientCert.crl';
  const from = `${issuer}, from ${date(thisUpdate)}`;
  if (nextUpdate === null) return ok(about, `${from} without an end`);
  const text = `${from} until ${date(nextUpdate)}`;
  const left = nextUpdate - now;
  const isLate = left >= 0 && left < (nextUpdate - thisUpdate) * LATE;
  return isLate ? warning(about, `${text}: only ${span(left)} left, less than a quarter of its time`) : ok(about, text);
}

/** What a list means that only OpenSSL may understand, which sees nothing but full handshakes. */
function unclearList(
  { crl, scope }: ScopedList,
  lists: readonly ScopedList[],
  { crlExpired }: Config['clientCert'],
): Finding[] {
  if (scope.of !== 'unclear') return [];
  const about = 'clientCert.crl';
  const fault = `${crl.issuer}: ${scope.why}`;
  if (crlExpired === 'warn') {
    const others = new Set(lists.filter((other) => other.crl.issuer === crl.issuer).map((other) => other.scope.of));
    if (others.has('all') || (others.has('users') && others.has('authorities'))) {
      return [warning(about, `${fault}: beside other lists of this CA it is not used`)];
    }
    const effect = 'under clientCert.crlExpired: warn every caller under this CA is refused (crl_missing)';
    return [problem(about, `${fault}: ${effect}`)];
  }
  return [warning(about, `${fault}: OpenSSL alone judges by it, so that no session under this CA is resumed`)];
}

interface Lists {
  readonly cas: readonly LoadedCa[];
  readonly lists: readonly ScopedList[];
  readonly config: Config;
}

/** Whom the lists of a CA leave out. What is unclear has been said of the list. */
function gap(ca: LoadedCa, { cas, lists, config }: Lists): Finding[] {
  const about = 'clientCert.crl';
  const own = lists.filter(({ crl }) => crl.issuer === ca.subject);
  const has = new Set(own.map(({ scope }) => scope.of));
  if (has.has('all') || has.has('unclear') || (has.has('users') && has.has('authorities'))) return [];
  if (has.has('authorities')) {
    const isAbove = cas.some((other) => other !== ca && other.certificate.checkIssued(ca.certificate));
    const text = `no list of ${ca.subject} is about certificates of users: callers whom it certifies itself are refused`;
    return [(isAbove ? note : warning)(about, `${text} (crl_missing)`)];
  }
  if (!has.has('users')) {
    return [warning(about, `no list of ${ca.subject}: every caller under it is refused (crl_missing)`)];
  }
  // Ours asks for no list about an anchor.
  if (!isSelfSigned(ca) || config.clientCert.crlExpired === 'warn') return [];
  const text = `no list of ${ca.subject} is about certificates of CAs, and OpenSSL asks for one about itself`;
  return [warning(about, `${text}: every caller under it is refused (crl_missing)`)];
}

function expiredList({ issuer }: LoadedCrl, nextUpdate: number, { config, now }: Circumstances): Finding {
  const effect =
    config.clientCert.crlExpired === 'refuse'
      ? 'every caller under this CA is refused (crl_expired)'
      : 'it is still used, because clientCert.crlExpired is warn';
  return warning('clientCert.crl', `${issuer}: EXPIRED ${span(now - nextUpdate)} ago: ${effect}`);
}

function authorityWarnings(ca: LoadedCa, cas: readonly LoadedCa[], config: Config): Finding[] {
  const about = 'clientCert.ca';
  const findings: Finding[] = [];
  if (!ca.certificate.ca) findings.push(warning(about, `${ca.subject}: is no CA certificate (basicConstraints)`));
  const hasIssuer = cas.some((other) => other !== ca && ca.certificate.checkIssued(other.certificate));
  if (!isSelfSigned(ca) && !hasIssuer) {
    findings.push(warning(about, `${ca.subject}: its issuer is not in the bundle, so nobody under it is admitted`));
  }
  const namesakes = cas.filter(({ subject }) => subject === ca.subject);
  if (namesakes[0] === ca && namesakes.length > 1) {
    findings.push(
      note(about, `${ca.subject}: ${namesakes.length} certificates have this name (a CA that is renewed?)`),
    );
  }
  return [...findings, ...weak(about, ca.certificate, { config, effect: REFUSED })];
}

const REFUSED = 'callers under it are refused (weak_signature)';

/** What OpenSSL will object to, and the setting under which it would not. */
function weak(
  about: string,
  certificate: X509Certificate,
  { config: { tls }, effect }: { readonly config: Config; readonly effect: string },
): Finding[] {
  const lower = admittingLevel(certificate, tls.securityLevel);
  const way = lower === null || lower === 0 ? 'tls.legacy' : `tls.securityLevel ${lower} or tls.legacy`;
  return weaknesses(certificate, tls.securityLevel).map((weakness) => {
    const level = `is too weak for security level ${tls.securityLevel}`;
    return warning(about, `${subjectOf(certificate)}: ${weakness} ${level}: ${effect}; ${way} would admit it`);
  });
}

function isSelfSigned({ certificate }: LoadedCa): boolean {
  return certificate.checkIssued(certificate);
}

function validity(
  about: string,
  certificate: X509Certificate,
  // Among several certificates a line has to say whose it is, wherever it is read.
  { now, expired, name }: { readonly now: number; readonly expired: string; readonly name?: string },
): Finding {
  const whose = name === undefined ? '' : `${name}: `;
  const from = Date.parse(certificate.validFrom);
  const to = Date.parse(certificate.validTo);
  if (to < now) return warning(about, `EXPIRED ${span(now - to)} ago, on ${date(to)}: ${whose}${expired}`);
  if (from > now) return warning(about, `${whose}is NOT YET VALID, only from ${date(from)}`);
  const text = `${whose}valid from ${date(from)} to ${date(to)}, ${span(to - now)} left`;
  return to - now < SOON ? warning(about, text) : ok(about, text);
}

function serverPurpose(about: string, leaf: X509Certificate): Finding[] {
  // Node's name for extended key usages; absent means any purpose.
  const purposes = leaf.keyUsage as readonly string[] | undefined;
  if (purposes === undefined || purposes.includes(SERVER_AUTH)) return [];
  return [warning(about, 'its extended key usage does not allow serverAuth: callers will refuse it')];
}

function serverNames(leaves: readonly X509Certificate[], names: readonly string[]): Finding[] {
  if (leaves.length === 0) return [];
  const whose = leaves.length === 1 ? 'the server certificate is not' : 'no server certificate is';
  return names
    .filter((name) => leaves.every((leaf) => leaf.checkHost(name.replace(/^\*/, 'any')) === undefined))
    .map((name) => warning('listen.serverNames', `${whose} for ${name}`));
}

function order(about: string, chain: readonly X509Certificate[]): Finding[] {
  const wrong = chain.findIndex((one, index) => {
    const next = chain[index + 1];
    return next !== undefined && !one.checkIssued(next);
  });
  if (wrong !== -1) {
    return [
      warning(about, `certificate ${wrong + 1} of the file is not issued by certificate ${wrong + 2}: wrong order?`),
    ];
  }
  return [ok(about, chain.length === 1 ? 'no intermediates' : `chain of ${chain.length}, each issued by the next`)];
}

/** Whether a caller who knows the roots can get from the leaf to one of them. */
function completeness(about: string, chain: readonly X509Certificate[], { cas }: Inspection): Finding[] {
  const last = chain.at(-1);
  if (last === undefined) return [];
  if (last.checkIssued(last)) {
    const spare =
      chain.length > 1 ? 'ends in a root, which callers do not need' : 'is self-signed: callers must trust it';
    return [note(about, spare)];
  }
  const issuer = issuerOf(last);
  if (isIssuedByPublicRoot(last)) return [ok(about, `complete up to the public root ${issuer}`)];
  if (cas.some(({ certificate }) => isIssuedBy(last, certificate))) return [ok(about, `complete up to ${issuer}`)];
  // A CA whose own certificate can be fetched from there is an intermediate, as a rule.
  return last.infoAccess?.includes('CA Issuers') === true
    ? [warning(about, `ends below ${issuer}, which is no public root: is an intermediate missing?`)]
    : [note(about, `ends below ${issuer}, which callers must trust`)];
}

function issuerOf({ raw }: X509Certificate): string {
  const [, , issuer] = readTbsFields(raw);
  return formatRfc2253(nameOf(issuer));
}

function isIssuedByPublicRoot(certificate: X509Certificate): boolean {
  return rootCertificates.some((pem) => isIssuedBy(certificate, new X509Certificate(pem)));
}

function isIssuedBy(certificate: X509Certificate, issuer: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
