import type { Config, VerifyMode } from '../config/config.js';
import type { Fault, PeerIdentity } from '../identify/peer-identity.js';
import { authorize, Permit, rulesFor, type AllowList, type Asked } from './authorize.js';
import type { Choice } from './routes.js';
import type { Problem } from './screen.js';

/** What one route asks of a caller. */
export interface Terms {
  readonly verify: VerifyMode;
  readonly allow: AllowList;
  /** Whether it answers everybody with a refusal of its own: nothing it is meant for may be reached round it. */
  readonly isClosed: boolean;
}

/** What the settings and their routes ask of callers. A certificate is requested unless nobody is asked anything. */
export function modesOf({ clientCert, routes }: Pick<Config, 'clientCert' | 'routes'>): ReadonlySet<VerifyMode> {
  return new Set([clientCert.verify, ...routes.map((route) => route.clientCert.verify)]);
}

/** Whether nobody is asked for a certificate. */
export function asksNobody(modes: ReadonlySet<VerifyMode>): boolean {
  return modes.size === 1 && modes.has('off');
}

/** Where a caller stands under the terms of one route. Depends on the connection alone. */
export type Standing =
  | { readonly isIn: true; readonly identity: PeerIdentity; readonly rules: AllowList; readonly isClosed: boolean }
  | { readonly isIn: false; readonly problem: Problem };

/** By the terms, and gone with them: identities of known callers outlive many lists of rules. */
const judged = new WeakMap<readonly Terms[], WeakMap<PeerIdentity, readonly Standing[]>>();

/** Where a caller stands under each route, the default first. Asked for each request, and made anew when the terms are others. */
export function standingsOf(identity: PeerIdentity, terms: readonly Terms[]): readonly Standing[] {
  const standings = judgedUnder(terms);
  let own = standings.get(identity);
  if (own === undefined) {
    own = terms.map((each) => standingUnder(identity, each));
    standings.set(identity, own);
  }
  return own;
}

function judgedUnder(terms: readonly Terms[]): WeakMap<PeerIdentity, readonly Standing[]> {
  let standings = judged.get(terms);
  if (standings === undefined) {
    standings = new WeakMap();
    judged.set(terms, standings);
  }
  return standings;
}

/** Whether some request of this caller can be served at all. Otherwise it need not reach the parser to be told. */
export function isWelcome(standings: readonly Standing[]): boolean {
  return standings.some((standing) => standing.isIn && standing.rules?.length !== 0);
}

function standingUnder(identity: PeerIdentity, { verify, allow, isClosed }: Terms): Standing {
  const { fault } = identity;
  if (verify === 'off') {
    const anonymous = anonymousOf(identity);
    return { isIn: true, identity: anonymous, rules: rulesFor(anonymous, allow), isClosed };
  }
  if (fault !== null && !isPassedOver(fault, identity, verify)) {
    return { isIn: false, problem: { ok: false, code: fault.reason, detail: fault.detail } };
  }
  return { isIn: true, identity, rules: rulesFor(identity, allow), isClosed };
}

function isPassedOver(fault: Fault, identity: PeerIdentity, verify: VerifyMode): boolean {
  if (verify === 'required') return false;
  if (fault.reason === 'no_certificate') return true;
  return verify === 'optional-no-ca' && identity.verify.startsWith('FAILED:');
}

/** A caller whom nobody asked: what it proved is for other routes, and no application that trusts its word may see it. */
export function anonymousOf(identity: PeerIdentity): PeerIdentity {
  let anonymous = anonymised.get(identity);
  if (anonymous === undefined) {
    anonymous = {
      ...identity,
      verify: 'NONE',
      certificate: null,
      chain: [],
      anchorSha256: null,
      validUntil: Infinity,
    };
    anonymised.set(identity, anonymous);
  }
  return anonymous;
}

const anonymised = new WeakMap<PeerIdentity, PeerIdentity>();

/**
 * Decides about one request. Every route that its path may be read to lead to has to let it in.
 * @param isAnswered whether it gets no further than the answer of a route
 */
export function admitUnder(
  choice: Choice,
  standings: readonly Standing[],
  asked: Asked,
  isAnswered: boolean,
): Permit | Problem {
  const standing = standings[choice.route];
  if (!isAnswered && standing?.isIn === true && standing.isClosed) return CLOSED;
  if (choice.held.length > 1) {
    const problem = objectionOf(choice, standings, asked);
    if (problem !== null) return { ...problem, detail: `${problem.detail} (the path can be read in two ways)` };
  }
  return permitUnder(standings[choice.route], asked);
}

function objectionOf({ route, held }: Choice, standings: readonly Standing[], asked: Asked): Problem | null {
  for (const other of held) {
    const standing = standings[other];
    if (standing?.isIn === true && standing.isClosed && other !== route) return CLOSED;
    const permit = permitUnder(standing, asked);
    if (!(permit instanceof Permit)) return permit;
  }
  return null;
}

function permitUnder(standing: Standing | undefined, asked: Asked): Permit | Problem {
  if (standing === undefined) return CLOSED;
  if (!standing.isIn) return standing.problem;
  const permit = authorize(standing.identity, standing.rules, asked);
  return permit instanceof Permit ? permit : { ok: false, code: permit, detail: EXPLANATIONS[permit] };
}

const CLOSED: Problem = { ok: false, code: 'not_allowed', detail: 'a route refuses everybody' };

const EXPLANATIONS = {
  not_allowed: 'no allow rule matches this caller, method and path',
  expired: 'the client certificate, or a CA above it, expired while the connection was open',
} as const;
