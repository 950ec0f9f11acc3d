import { randomBytes, type X509Certificate } from 'node:crypto';
import { authorize, compileAllowList, Permit, rulesFor } from './admit/authorize.js';
import { compileRoutes, type Choice } from './admit/routes.js';
import { admitUnder, isWelcome, standingsOf, type Standing } from './admit/standing.js';
import { screen, type Problem, type ScreenedRequest } from './admit/screen.js';
import { createRewriters, createScreenRules, createTrust } from './app.js';
import type { AllowRule, Config, Route } from './config/config.js';
import { configFor } from './config/routes.js';
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
  readonly request: { readonly method: string; readonly target: string; readonly host?: string } | null;
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

/** What one route says to the caller before it asks for anything. */
export interface RouteOutcome {
  /** Null for no route: what the settings say themselves. */
  readonly name: string | null;
  /** Null: it lets this caller in. */
  readonly refusal: RequestCode | null;
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
  /** The route that the request takes, and where it leads; the settings themselves when nothing is asked for. */
  readonly route: { readonly name: string | null; readonly upstream: string };
  /** Empty without routes. */
  readonly routes: readonly RouteOutcome[];
  readonly rules: readonly RuleOutcome[];
  readonly headers: readonly SeenHeader[];
  readonly omitted: readonly { readonly header: string; readonly why: string }[];
}

/**
 * Leads an absent caller through the stages that `run` has: the same context, the same verdict, the same rules, the same
 * headers. Only the proof that the caller holds the key is missing, and whatever else a handshake may fail at.
 */
export async function rehearse(config: Config, credentials: Credentials, caller: AbsentCaller): Promise<Rehearsal> {
  const trust = createTrust(
    { config: withTls12(config), credentials },
    { ticketSecret: randomBytes(32), shareSession: null },
  );
  const verdict = await verdictOf(caller, trust);
  const path = pathOf(caller, trust.policy, credentials);
  const certificate = certificateOf(caller);
  const missing = path === null ? missingIssuer(caller, trust.policy) : null;
  const course = verdict.admitted
    ? courseOf(verdict.identity, { config, caller, terms: trust.terms })
    : { ...NOWHERE, objection: atConnection(verdict.refusal.reason, verdict.refusal.detail) };
  return { certificate, path, missing, ...course, route: routeTaken(config, caller) };
}

type Course = Omit<Rehearsal, 'certificate' | 'path' | 'missing' | 'route'>;

interface Circumstance {
  readonly config: Config;
  readonly caller: AbsentCaller;
  readonly terms: Trust['terms'];
}

/** How it goes on with a caller who has come through the handshake. */
function courseOf(identity: PeerIdentity, { config, caller, terms }: Circumstance): Course {
  const standings = standingsOf(identity, terms);
  const asked = screenedOf(caller, config);
  const choice = chosen(asked, config);
  // From here on only what holds for the requests of this route.
  const own = configOf(choice, config);
  const standing = standings[choice.route];
  const seen = standing?.isIn === true ? standing.identity : identity;
  const rules = outcomes(seen, own, caller);
  const matter = { asked, choice, standings, rules, now: caller.now, validUntil: identity.validUntil };
  const objection = welcome(standings) ?? requestObjection(matter);
  return {
    objection,
    verify: seen.verify,
    routes:
      config.routes.length === 0 ? [] : standings.map((each, index) => routeOutcome(each, config.routes[index - 1])),
    rules,
    ...(objection === null ? headersFor(seen, own, caller) : NO_HEADERS),
  };
}

function routeTaken(config: Config, caller: AbsentCaller): Rehearsal['route'] {
  const choice = chosen(screenedOf(caller, config), config);
  const name = config.routes[choice.route - 1]?.name ?? null;
  return { name, upstream: configOf(choice, config).upstream.url };
}

function chosen(asked: ScreenedRequest | Problem | null, { routes }: Config): Choice {
  return asked?.ok === true ? compileRoutes(routes)(asked.host, asked.target) : SETTINGS_ALONE;
}

function configOf({ route }: Choice, config: Config): Config {
  const own = config.routes[route - 1];
  return own === undefined ? config : configFor(config, own);
}

const SETTINGS_ALONE: Choice = { route: 0, held: [0] };

function routeOutcome(standing: Standing, route: Route | undefined): RouteOutcome {
  const name = route?.name ?? null;
  if (!standing.isIn) return { name, refusal: standing.problem.code };
  return { name, refusal: standing.rules?.length === 0 ? 'not_allowed' : null };
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

/** A verdict, or what a handshake fails at before there is one. */
type Outcome =
  | Verdict
  | { readonly admitted: false; readonly refusal: { readonly reason: ConnectionReason; readonly detail: string } };

async function verdictOf(caller: AbsentCaller, { tls, policy }: Trust): Promise<Outcome> {
  let peer: PeerVerification;
  try {
    peer = await presented(caller, tls);
  } catch (error) {
    const { reason, message } = error as Error & { reason?: string };
    const refusal = { reason: explainHandshakeError(error as Error), detail: reason ?? message };
    return { admitted: false, refusal };
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

/** Null when some route is for this caller. */
function welcome(standings: readonly Standing[]): Objection | null {
  return isWelcome(standings) ? null : atConnection('not_allowed', 'no allow rule matches this caller');
}

function atConnection(reason: ConnectionReason, detail: string): Objection {
  // Behind `HTTP/1.1 `. Only respond/refuse knows the number.
  const status = Number(connectionRefusal(reason).toString('latin1', 9, 12));
  return { stage: 'connection', reason, detail, status };
}

interface Matter {
  readonly asked: ScreenedRequest | Problem | null;
  readonly choice: Choice;
  readonly standings: readonly Standing[];
  readonly rules: readonly RuleOutcome[];
  readonly now: number;
  readonly validUntil: number;
}

function requestObjection({ asked, choice, standings, rules, now, validUntil }: Matter): Objection | null {
  if (asked === null) return standingObjection(standings[choice.route]);
  if (!asked.ok) return atRequest(asked.code, asked.detail);
  // The request goes where the route leads: nothing has been reloaded here.
  const { method, target } = asked;
  const permit = admitUnder(choice, standings, { method, target, hasEnded: now > validUntil }, true);
  if (permit instanceof Permit) return null;
  const who = rules.filter(({ failing }) => !failing.some(isAboutCaller)).map(({ number }) => number);
  if (permit.code === 'expired') return atRequest('expired', 'certificate has expired');
  const isForOthers = permit.code === 'not_allowed' && choice.held.length === 1 && who.length > 0;
  return atRequest(permit.code, isForOthers ? `rule ${who.join(', ')} is for other requests` : permit.detail);
}

/** Somebody may be let in for other routes alone. */
function standingObjection(standing: Standing | undefined): Objection | null {
  if (standing === undefined || (standing.isIn && standing.rules?.length !== 0)) return null;
  if (!standing.isIn) return atRequest(standing.problem.code, standing.problem.detail);
  return atRequest('not_allowed', 'no allow rule matches this caller');
}

function screenedOf({ request }: AbsentCaller, config: Config): ScreenedRequest | Problem | null {
  return request === null ? null : screen(headOf(config, request), createScreenRules(config), null);
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

function holds(rule: AllowRule, identity: PeerIdentity, { request }: AbsentCaller): boolean {
  const list = rulesFor(identity, compileAllowList([rule]));
  if (list?.length === 0) return false;
  return request === null || authorize(identity, list, { ...request, hasEnded: false }) !== 'not_allowed';
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
const NOWHERE = { verify: null, routes: [], rules: [], ...NO_HEADERS } as const;

function headersFor(identity: PeerIdentity, config: Config, { now }: AbsentCaller): Headers {
  const omitted = new Map<string, string>();
  const identityHeaders = createIdentityHeaders({
    ...config.identity,
    onOmitted: (header, _attribute, why) => omitted.set(header, why),
  });
  const { rewriteHeaders } = createRewriters(config);
  const seenUnder = ({ tls, remoteAddress, port, text }: Circumstances): string[] => [
    ...rewriteHeaders({
      rawHeaders: ['Host', text],
      connectionTokens: [],
      host: text,
      requestId: text,
      source: { remoteAddress, localPort: config.listen.port === 0 ? port : config.listen.port, trusted: false },
    }),
    ...identityHeaders({ ...identity, tls }, now),
  ];
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

function headOf({ listen }: Config, { method, target, host }: NonNullable<AbsentCaller['request']>) {
  return {
    method,
    target,
    httpVersion: '1.1',
    rawHeaders: ['Host', host ?? listen.serverNames[0]?.replace(/^\*/, 'any') ?? 'localhost'],
  };
}
