import { randomBytes, type X509Certificate } from 'node:crypto';
import { authorize, compileAllowList, rulesFor } from './admit/authorize.js';
import { screen } from './admit/screen.js';
import { createRules, createTrust } from './app.js';
import type { AllowRule, Config } from './config/config.js';
import type { ConnectionReason, RequestCode } from './errors.js';
import { readPeerCertificate } from './identify/peer-certificate.js';
import type { PeerCertificate, PeerIdentity } from './identify/peer-identity.js';
import type { Trust } from './listen/admission.js';
import { pathToAnchor } from './listen/chain.js';
import { presentChain } from './listen/presented-chain.js';
import type { PeerVerification, TlsParameters } from './listen/tls-socket.js';
import { judge, type Policy, type Verdict } from './listen/verdict.js';
import { explainHandshakeError } from './listen/verify-errors.js';
import { statusOf, connectionRefusal } from './respond/refuse.js';
import { createIdentityHeaders } from './rewrite/identity-headers.js';
import { subjectOf, type Credentials } from './trust/credentials.js';

/** A caller who is not here: the certificates it would present, and what it would ask for. */
export interface AbsentCaller {
  /** Leaf first. Never empty. */
  readonly chain: readonly X509Certificate[];
  /** Null asks about the connection alone. */
  readonly request: { readonly method: string; readonly target: string } | null;
  /** Milliseconds since the epoch. */
  readonly now: number;
}

/** Why not. `stage` says whether the connection would be refused, or this request of it. */
export interface Objection {
  readonly stage: 'connection' | 'request';
  readonly reason: ConnectionReason | RequestCode;
  readonly detail: string;
  /** What the caller would see. */
  readonly status: number;
}

/** One certificate on the way from the leaf to the anchor. */
export interface Step {
  /** RFC 2253. */
  readonly subject: string;
  /** File of the bundle, or null for one that the caller brings. */
  readonly file: string | null;
}

/** Neither the caller nor the bundle has this issuer. */
export interface MissingIssuer {
  /** RFC 2253. */
  readonly subject: string;
  /** Somebody of this name is there, with another key: a renewed CA, or an impostor. */
  readonly hasNamesake: boolean;
}

/** A rule of `clientCert.allow` and what it says about the caller. */
export interface RuleOutcome {
  /** As in the settings, from 1. */
  readonly number: number;
  readonly rule: AllowRule;
  readonly matches: boolean;
  /** Conditions that do not hold. */
  readonly failing: readonly string[];
}

/** A header as the application would see it. */
export interface SeenHeader {
  readonly name: string;
  /** Null when it is hidden. */
  readonly value: string | null;
  /** It depends on the connection, or is a text out of the settings, which may be a password for the application. */
  readonly hidden: 'connection' | 'forwarded.headers' | null;
}

/** What would become of the caller. */
export interface Rehearsal {
  /** Null: admitted. */
  readonly objection: Objection | null;
  /** As headers say it; null when refused. */
  readonly verify: PeerIdentity['verify'] | null;
  readonly certificate: PeerCertificate | null;
  /** From the leaf's issuer to the anchor; null when no CA of the bundle can be reached. */
  readonly path: readonly Step[] | null;
  /** The issuer at which the search for a CA of the bundle ends. */
  readonly missing: MissingIssuer | null;
  readonly rules: readonly RuleOutcome[];
  readonly headers: readonly SeenHeader[];
  readonly omitted: readonly { readonly header: string; readonly why: string }[];
}

/**
 * Leads an absent caller through the stages that `run` has: the same context, the same verdict, the same rules, the same
 * headers. Only the proof that the caller holds the key is missing, and whatever else a handshake may fail at.
 */
export async function rehearse(config: Config, credentials: Credentials, caller: AbsentCaller): Promise<Rehearsal> {
  const trust = createTrust({ config: withTls12(config), credentials }, randomBytes(32));
  const verdict = await verdictOf(caller, trust);
  const identity = verdict.admitted ? verdict.identity : null;
  const rules = identity === null ? [] : outcomes(identity, config, caller);
  const objection = objectionTo(verdict) ?? requestObjection(identity, { config, caller, rules });
  const { headers, omitted } =
    identity === null || objection !== null ? NO_HEADERS : headersFor(identity, config, caller);
  const path = pathOf(caller, trust.policy, credentials);
  return {
    objection,
    verify: identity?.verify ?? null,
    certificate: certificateOf(caller),
    path,
    missing: path === null ? missingIssuer(caller, trust.policy) : null,
    rules,
    headers,
    omitted,
  };
}

/** TLS 1.3 would hide the certificate from us. No setting that decides about a chain is touched. */
function withTls12(config: Config): Config {
  const tls: Config['tls'] = {
    ...config.tls,
    minVersion: 'TLSv1.2',
    maxVersion: 'TLSv1.2',
    ciphers: null,
    curves: null,
  };
  return { ...config, tls };
}

async function verdictOf(caller: AbsentCaller, { tls, policy }: Trust): Promise<Verdict> {
  let peer: PeerVerification;
  try {
    peer = await presented(caller, tls);
  } catch (error) {
    const { reason, message } = error as Error & { reason?: string };
    const refusal = { reason: explainHandshakeError(error as Error), detail: reason ?? message };
    return { admitted: false, refusal, certificate: null };
  }
  return judge({ peer, tls: ONE.tls, now: caller.now }, policy);
}

function presented({ chain }: AbsentCaller, parameters: TlsParameters): Promise<PeerVerification> {
  if (!parameters.requestCert) return Promise.resolve({ leaf: null, presented: [], error: null });
  return presentChain(
    chain.map(({ raw }) => raw),
    parameters,
  );
}

function certificateOf({ chain: [leaf] }: AbsentCaller): PeerCertificate | null {
  try {
    return leaf === undefined ? null : readPeerCertificate(leaf.raw);
  } catch {
    return null;
  }
}

function pathOf({ chain, now }: AbsentCaller, { anchors }: Policy, { cas }: Credentials): Step[] | null {
  const [leaf, ...presentedIssuers] = chain;
  if (leaf === undefined) return null;
  const path = pathToAnchor(leaf, { presented: presentedIssuers, anchors, now });
  return (
    path?.map((issuer) => ({
      subject: subjectOf(issuer),
      file: cas.find(({ certificate }) => certificate.raw.equals(issuer.raw))?.file ?? null,
    })) ?? null
  );
}

function missingIssuer({ chain }: AbsentCaller, { anchors }: Policy): MissingIssuer | null {
  const known = [...chain.slice(1), ...anchors];
  const seen = new Set<X509Certificate>();
  for (let current = chain[0]; current !== undefined && !seen.has(current);) {
    const subject = current;
    seen.add(subject);
    // Nobody is missing above a self-signed certificate: it is the one that the bundle lacks.
    if (subject.checkIssued(subject)) return null;
    current = known.find((issuer) => subject.checkIssued(issuer) && subject.verify(issuer.publicKey));
    if (current === undefined) {
      return { subject: issuerOf(subject), hasNamesake: known.some((issuer) => issuer.subject === subject.issuer) };
    }
  }
  return null;
}

function issuerOf({ raw, issuer }: X509Certificate): string {
  try {
    return readPeerCertificate(raw).issuer;
  } catch {
    return issuer;
  }
}

function objectionTo(verdict: Verdict): Objection | null {
  return verdict.admitted ? null : atConnection(verdict.refusal.reason, verdict.refusal.detail);
}

function atConnection(reason: ConnectionReason, detail: string): Objection {
  // Behind `HTTP/1.1 `. Only respond/refuse knows the number.
  const status = Number(connectionRefusal(reason).toString('latin1', 9, 12));
  return { stage: 'connection', reason, detail, status };
}

interface Matter {
  readonly config: Config;
  readonly caller: AbsentCaller;
  readonly rules: readonly RuleOutcome[];
}

function requestObjection(identity: PeerIdentity | null, { config, caller, rules }: Matter): Objection | null {
  if (identity === null) return null;
  const list = rulesFor(identity, compileAllowList(config.clientCert.allow));
  if (list?.length === 0) return atConnection('not_allowed', 'no allow rule matches this caller');
  if (caller.request === null) return null;
  const screened = screen(headOf(config, caller.request), createRules(config).screenRules, null);
  if (!screened.ok) return atRequest(screened.code, screened.detail);
  const permit = authorize(identity, list, { ...caller.request, target: screened.target, now: caller.now });
  if (typeof permit !== 'string') return null;
  const who = rules.filter(({ failing }) => !failing.some(isAboutCaller)).map(({ number }) => number);
  const detail = permit === 'expired' ? 'certificate has expired' : `rule ${who.join(', ')} is for other requests`;
  return atRequest(permit, detail);
}

function atRequest(reason: RequestCode, detail: string): Objection {
  return { stage: 'request', reason, detail, status: statusOf(reason) };
}

const isAboutCaller = (condition: string): boolean => condition !== 'methods' && condition !== 'paths';

/** Asks about each condition alone, so that an operator sees which one it is. */
function outcomes(identity: PeerIdentity, { clientCert }: Config, caller: AbsentCaller): RuleOutcome[] {
  return clientCert.allow.map((rule, index) => {
    const conditions = Object.entries(rule) as [keyof AllowRule, never][];
    const failing = conditions
      .filter(([name, wanted]) => !holds({ [name]: wanted }, identity, caller))
      .map(([name]) => name);
    return { number: index + 1, rule, matches: failing.length === 0, failing };
  });
}

function holds(rule: AllowRule, identity: PeerIdentity, { request, now }: AbsentCaller): boolean {
  const list = rulesFor(identity, compileAllowList([rule]));
  if (list?.length === 0) return false;
  return request === null || authorize(identity, list, { ...request, now }) !== 'not_allowed';
}

/** What depends on the connection, in two versions: where the headers differ, only the real one can say. */
const ONE = {
  tls: { version: 'TLSv1.3', cipher: 'one', serverName: 'one', sessionReused: false },
  remoteAddress: '192.0.2.1',
  port: 1,
  text: 'one',
} as const;
const OTHER = {
  tls: { version: 'TLSv1.2', cipher: 'other', serverName: 'other', sessionReused: true },
  remoteAddress: '192.0.2.2',
  port: 2,
  text: 'other',
} as const;
type Circumstances = typeof ONE | typeof OTHER;

type Headers = Pick<Rehearsal, 'headers' | 'omitted'>;
const NO_HEADERS: Headers = { headers: [], omitted: [] };

function headersFor(identity: PeerIdentity, config: Config, { now }: AbsentCaller): Headers {
  const omitted = new Map<string, string>();
  const identityHeaders = createIdentityHeaders({
    ...config.identity,
    onOmitted: (header, _attribute, why) => omitted.set(header, why),
  });
  const { rewriteHeaders } = createRules(config);
  const seenUnder = ({ tls, remoteAddress, port, text }: Circumstances): string[] =>
    rewriteHeaders({
      rawHeaders: ['Host', text],
      connectionTokens: [],
      host: text,
      requestId: text,
      source: { remoteAddress, localPort: config.listen.port === 0 ? port : config.listen.port, trusted: false },
      identityHeaders: identityHeaders({ ...identity, tls }, now),
    });
  const headers = agreement(seenUnder(ONE), seenUnder(OTHER), textHeaders(config));
  return { headers, omitted: [...omitted].map(([header, why]) => ({ header, why })) };
}

function agreement(one: readonly string[], other: readonly string[], texts: ReadonlySet<string>): SeenHeader[] {
  return one.flatMap((name, index): SeenHeader[] => {
    if (index % 2 === 1) return [];
    const value = one[index + 1] ?? '';
    if (texts.has(name.toLowerCase())) return [{ name, value: null, hidden: 'forwarded.headers' }];
    if (value !== other[index + 1]) return [{ name, value: null, hidden: 'connection' }];
    return [{ name, value, hidden: null }];
  });
}

function textHeaders({ forwarded }: Config): ReadonlySet<string> {
  const texts = Object.entries(forwarded.headers).filter(([, fact]) => fact.startsWith('text:'));
  return new Set(texts.map(([name]) => name.toLowerCase()));
}

function headOf({ listen }: Config, { method, target }: { readonly method: string; readonly target: string }) {
  return { method, target, httpVersion: '1.1', rawHeaders: ['Host', listen.serverNames[0] ?? 'localhost'] };
}
