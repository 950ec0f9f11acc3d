import type { Config } from '../config/config.js';
import type { PeerCertificate } from '../identify/peer-identity.js';
import type { Rehearsal, RuleOutcome, SeenHeader } from '../rehearsal.js';
import type { CallOutcome, CallStep, Question } from './explain-call.js';
import { date } from './findings.js';

/** What `explain --json` prints without `--url`. Names stay; new ones may come. */
export function rehearsalAsJson(rehearsal: Rehearsal, { clientCert }: Config): unknown {
  const { objection, verify, certificate, path, missing, route, routes, rules, headers, omitted } = rehearsal;
  return {
    admitted: objection === null,
    stage: objection?.stage ?? null,
    reason: objection?.reason ?? null,
    detail: objection?.detail ?? null,
    status: objection?.status ?? null,
    verify,
    certificate: certificate === null ? null : factsOf(certificate),
    path,
    intermediates: path === null ? null : intermediatesOf(path),
    intermediatesAllowed: clientCert.depth,
    missingIssuer: missing,
    route: route.name,
    upstream: route.upstream,
    routes,
    rules,
    headers,
    omitted,
  };
}

/** The same for people, line by line. */
export function rehearsalAsText(rehearsal: Rehearsal, config: Config): string[] {
  const { objection, verify, certificate } = rehearsal;
  const verdict =
    objection === null
      ? 'ADMITTED'
      : `REFUSED  ${objection.reason}: ${objection.detail} (the ${objection.stage} gets status ${objection.status})`;
  return [
    verdict,
    ...(certificate === null ? ['  certificate cannot be read'] : certificateLines(certificate)),
    ...(verify === null ? [] : [`  verify      ${verify}`]),
    ...pathLines(rehearsal, config),
    ...routeLines(rehearsal),
    ...ruleLines(rehearsal, config),
    ...headerLines(rehearsal),
    '',
    `By OpenSSL ${process.versions.openssl}, with the settings and files that run would use now. Nobody proved to hold the key:`,
    'explain --url asks a running sidecar.',
  ];
}

function factsOf({ subject, issuer, serial, sha256, notBefore, notAfter }: PeerCertificate) {
  return { subject, issuer, serial, sha256, notBefore: iso(notBefore), notAfter: iso(notAfter) };
}

const iso = (milliseconds: number): string => new Date(milliseconds).toISOString();

function certificateLines({ subject, issuer, serial, sha256, notBefore, notAfter }: PeerCertificate): string[] {
  return [
    `  subject     ${subject}`,
    `  issuer      ${issuer}`,
    `  serial      ${serial}`,
    `  sha256      ${sha256}`,
    `  valid       ${date(notBefore)} to ${date(notAfter)}`,
  ];
}

/** Everything but the anchor. */
function intermediatesOf(path: readonly unknown[]): number {
  return Math.max(0, path.length - 1);
}

function pathLines({ path, missing, routes }: Rehearsal, { clientCert }: Config): string[] {
  if (clientCert.verify === 'off' && routes.length === 0)
    return ['  chain       is not asked for: clientCert.verify is off'];
  if (path !== null) {
    const steps = path.map(({ subject, file }) => `    ${subject}  (${file ?? 'brought by the caller'})`);
    const count = `${intermediatesOf(path)} intermediates, clientCert.depth allows ${clientCert.depth}`;
    return [`  chain       ${count}`, ...steps];
  }
  if (missing === null) return ['  chain       leads to no CA of clientCert.ca'];
  const namesake = missing.hasNamesake ? '; a certificate of that name is there, but it did not sign this one' : '';
  return [`  chain       ends: neither the caller nor clientCert.ca has ${missing.subject}${namesake}`];
}

/** Which route the request takes, and what the others would say. */
function routeLines({ route, routes }: Rehearsal): string[] {
  if (routes.length === 0) return [];
  return [
    `  route       ${route.name ?? 'none'}, to ${route.upstream}`,
    ...routes.map(
      ({ name, refusal }) =>
        `    ${name ?? '(no route)'}  ${refusal === null ? 'lets this caller in' : `refuses: ${refusal}`}`,
    ),
  ];
}

function ruleLines({ rules, verify, route }: Rehearsal, { clientCert, routes }: Config): string[] {
  const own = routes.find(({ name }) => name === route.name)?.clientCert ?? clientCert;
  if (own.verify === 'off') return ['  allow       everybody: nobody is asked for a certificate'];
  if (own.allow.length === 0) return ['  allow       no rules: every certificate under the CA'];
  if (verify === null && rules.length === 0) return [];
  return rules.map((outcome) => `  rule ${String(outcome.number).padEnd(6)} ${ruleWords(outcome)}`);
}

function ruleWords({ rule, matches, failing }: RuleOutcome): string {
  return `${JSON.stringify(rule)} ${matches ? 'MATCHES' : `does not match: ${failing.join(', ')}`}`;
}

function headerLines({ headers, omitted }: Rehearsal): string[] {
  if (headers.length === 0) return [];
  return [
    '  headers     that the application sees besides the others of the caller:',
    ...headers.map((header) => `    ${header.name}: ${valueWords(header)}`),
    ...omitted.map(({ header, why }) => `    ${header} is left out: ${why}`),
  ];
}

function valueWords({ value, hidden }: SeenHeader): string {
  return value ?? (hidden === 'connection' ? '(depends on the connection)' : '(the text of forwarded.headers)');
}

/** What `explain --url --json` prints. */
export function callAsJson({ admitted, step, reason, detail, status, tls }: CallOutcome): unknown {
  return { admitted, step, reason, detail, status, tls };
}

const STEPS: readonly (readonly [CallStep, string])[] = [
  ['dns', 'name'],
  ['tcp', 'connection'],
  ['tls', 'TLS handshake'],
  ['server_certificate', 'server certificate'],
  ['answer', 'answer'],
];

/** The same for people: each step that went well, and the last one. */
export function callAsText(outcome: CallOutcome, { host, port }: Question): string[] {
  const { admitted, step, reason, detail, tls } = outcome;
  const last = STEPS.findIndex(([name]) => name === step);
  const because = reason === null ? detail : `${reason}: ${detail}`;
  return [
    `${admitted ? 'ADMITTED' : 'REFUSED'}  ${because}`,
    `  asked       ${host} port ${port}`,
    ...STEPS.slice(0, last).map(([, words]) => `  ok          ${words}`),
    `  ${(admitted ? 'ok' : 'FAILED').padEnd(11)} ${STEPS[last]?.[1] ?? step}`,
    ...(tls === null ? [] : [`  tls         ${tls.version}, ${tls.cipher}`]),
  ];
}
