import type { Duplex, Readable } from 'node:stream';
import { Permit } from './admit/authorize.js';
import { heldBy, type Choice, type Choose, type Routing } from './admit/routes.js';
import { oversized, screen, type Problem, type ScreenedRequest, type ScreenRules } from './admit/screen.js';
import { admitUnder, type Standing } from './admit/standing.js';
import type { RequestCode } from './errors.js';
import { takeBody, type BodyLimits } from './forward/request-body.js';
import type { Tunnel } from './forward/tunnel.js';
import type { Upstream } from './forward/upstream.js';
import type { Connection } from './identify/peer-identity.js';
import type { Observer } from './observe/observer.js';
import { Passage } from './passage.js';
import type { Outgoing, Relay } from './respond/relay.js';
import type { ForwardedSource } from './rewrite/forwarded-headers.js';
import type { RewriteInput } from './rewrite/request-headers.js';

/** The stages, built by the composition root. */
export interface ProxyStages {
  readonly screenRules: ScreenRules;
  /** Where a request goes. Who may ask is for the routes of the settings in force, which each call brings along. */
  readonly choose: Choose;
  /** By the number of the route, the default first. */
  readonly ways: readonly [Way, ...Way[]];
  readonly observer: Observer;
  /** For requests whose caller has sent none that is fit to be kept. */
  readonly newRequestId: () => string;
}

/** The stages behind the choice: how the requests of one route go on. */
export interface Way {
  /** Name of the route; null for the default. */
  readonly name: string | null;
  /** The target as the application gets it. */
  readonly rewriteTarget: (target: string) => string;
  readonly rewriteHeaders: (input: RewriteInput) => string[];
  readonly rewriteTrailers: (rawTrailers: readonly string[]) => string[];
  readonly upstream: Upstream;
  readonly tunnel: Tunnel;
  readonly bodyLimits: BodyLimits;
  /** Folded names of the headers that it sets, or takes away from callers. */
  readonly ownHeaders: ReadonlySet<string>;
}

/** What is read of a request: Node's IncomingMessage, or one stream of HTTP/2. */
export interface Incoming {
  readonly method?: string | undefined;
  readonly url?: string | undefined;
  readonly httpVersion: string;
  readonly rawHeaders: readonly string[];
  /** Whole once the body has ended. */
  readonly rawTrailers: readonly string[];
  /** Whether all of it has been received. */
  readonly complete: boolean;
  /** Whether a body follows, where the headers do not say it: HTTP/2 has a flag for it. */
  readonly hasBody?: boolean;
}

/** One request as the listener hands it over. */
export interface Call {
  readonly connection: Connection;
  /** Where this connection's caller stands under each route, the default first. */
  readonly standings: readonly Standing[];
  /** By the same routes. */
  readonly routing: Routing;
  readonly tenure: CallerTenure;
  readonly source: ForwardedSource;
  readonly request: Incoming;
  /** The bytes of its body. */
  readonly body: Readable;
  /** Set when nothing of this connection may be forwarded any more. */
  readonly refusal: { readonly code: RequestCode; readonly detail: string } | null;
  /** Whether the connection is to end with this answer. Asked late: draining may begin meanwhile. */
  isLast(): boolean;
  /** Called once, when the caller has the whole answer or is gone. */
  done(): void;
}

/** How long what was found out about the caller of a connection holds. A reload may change it. */
export interface CallerTenure {
  /** When the first of its certificate and the CAs above it ends. Milliseconds since the epoch. */
  readonly validUntil: number;
  /** Whether settings or CRLs have changed that a handshake alone is asked about: nobody knows whether it would end well today. */
  readonly isOutdated: boolean;
}

/** A request under way, for whoever finds out that the rest of it cannot be read. */
export interface Underway {
  breakOff(code: RequestCode, detail: string): void;
}

export interface Proxy {
  pass(call: Call, response: Outgoing): Underway;
  /** @returns null when it was refused */
  passUpgrade(call: Call, socket: Duplex, early: Buffer): MayStay | null;
}

/** Whether a tunnel that is open would be let in by what is in force today. A tunnel has no next request to be asked by. */
export type MayStay = (today: Today) => boolean;

/** @see Asked */
export interface Today extends Pick<Call, 'standings' | 'routing'> {
  readonly hasEnded: boolean;
}

/** Builds the hallway of the house. */
export function createProxy(stages: ProxyStages): Proxy {
  return {
    pass(call, response) {
      const passage = new Passage(call, stages);
      const relay = passage.answerOn(response);
      const admitted = admit(call, passage, stages);
      if (!admitted.ok) relay.refuse(admitted.code, admitted.detail);
      else forward({ call, passage, relay }, admitted);
      return passage;
    },

    passUpgrade(call, socket, early) {
      const passage = new Passage(call, stages);
      const admitted = admitUpgrade(call, passage, stages);
      if (!admitted.ok) {
        passage.refuseOn(socket, admitted);
        return null;
      }
      const { permit, way, screened } = admitted;
      way.tunnel.open(permit, { request: passage.tunnelRequest(admitted), socket, early }, passage);
      return (today) => permitFor(today, way, screened, today.hasEnded) instanceof Permit;
    },
  };
}

/** A request that may go on, and as what. */
export interface Admitted {
  readonly ok: true;
  readonly permit: Permit;
  readonly way: Way;
  readonly screened: ScreenedRequest;
  readonly bodyLimits: BodyLimits;
  /** As the application will see them, and behind them those that say who called. */
  readonly headers: readonly string[];
  readonly identityHeaders: readonly string[];
}

/** Whether a request may go on, and as what: screen, choose, authorise, strip and set, in this order, for every request. */
function admit(call: Call, passage: Passage, stages: ProxyStages): Admitted | Problem {
  if (call.refusal !== null) return { ok: false, ...call.refusal };
  const screened = screen(passage.head, stages.screenRules, call.connection.identity.tls.serverName);
  if (!screened.ok) return screened;
  const { way, others } = waysOf(stages.choose(screened.host, screened.target), stages);
  passage.accept(screened, way, others);
  const permit = permitFor(call, way, screened, passage.hasEnded);
  if (!(permit instanceof Permit)) return permit;
  const bodyLimits = strictest(way, others);
  const problem = oversized(screened, bodyLimits.maxBody);
  if (problem !== null) return problem;
  const headers = way.rewriteHeaders(passage.rewriteInput(screened));
  return { ok: true, permit, way, screened, bodyLimits, headers, identityHeaders: passage.identityHeaders(permit) };
}

function admitUpgrade(call: Call, passage: Passage, stages: ProxyStages): Admitted | Problem {
  const admitted = admit(call, passage, stages);
  if (!admitted.ok) return admitted;
  // Its body and the first bytes of the tunnel are not told apart by everybody in the same way.
  if (admitted.screened.body !== 'none') return UPGRADE_WITH_BODY;
  // Any other request is followed by the end of its connection. A tunnel has no answer that could say so.
  if (call.tenure.isOutdated && admitted.permit.identity.certificate !== null) return UPGRADE_UNVERIFIED;
  // RFC 9110 §7.8 has it ignored, which is too late: Node's parser has already let go of the connection.
  return passage.httpVersion === '1.1' ? admitted : UPGRADE_IN_1_0;
}

/** The way of a request, and those that it may be read to take: what these keep from an application is kept from it. */
function waysOf(
  { route, held }: Choice,
  { ways }: ProxyStages,
): { readonly way: Way; readonly others: readonly Way[] } {
  const way = ways[route] ?? ways[0];
  if (held.length === 1) return { way, others: NO_WAYS };
  return { way, others: held.flatMap((number) => (number === route ? [] : (ways[number] ?? []))) };
}

const NO_WAYS: readonly Way[] = [];

/**
 * Since the start routes may have come, gone or moved. Who may ask is decided by those of today, and where they lead a
 * request another way than it goes, by what holds today for that way as well.
 */
function permitFor(
  { standings, routing }: Pick<Call, 'standings' | 'routing'>,
  way: Way,
  screened: ScreenedRequest,
  hasEnded: boolean,
): Permit | Problem {
  const choice = heldBy(routing.choose(screened.host, screened.target), routing.numberOf(way.name));
  // In origin form, whatever form the target had.
  const { method, target } = screened;
  return admitUnder(choice, standings, { method, target, hasEnded }, way.upstream.isAnswer);
}

function strictest(way: Way, others: readonly Way[]): BodyLimits {
  if (others.length === 0) return way.bodyLimits;
  const limited = [way, ...others].map(({ bodyLimits }) => bodyLimits.maxBody).filter((maxBody) => maxBody > 0);
  return { ...way.bodyLimits, maxBody: limited.length === 0 ? 0 : Math.min(...limited) };
}

interface Exchanging {
  readonly call: Call;
  readonly passage: Passage;
  readonly relay: Relay;
}

/** Sends an admitted request to the application and lets the relay answer the caller. */
function forward({ call, passage, relay }: Exchanging, admitted: Admitted): void {
  const { screened, bodyLimits, way, permit } = admitted;
  const { request, body: bytes } = call;
  takeBody({ bytes, framing: screened, request }, bodyLimits, (body) => {
    // Its body may have proved unreadable already, in the packet of its head.
    if (passage.isOver || relay.outcome === 'refused') return;
    const forwarded = passage.forwardRequest(admitted, body);
    relay.attach(way.upstream.send(permit, forwarded, relay));
  });
}

const UPGRADE_IN_1_0: Problem = { ok: false, code: 'bad_request', detail: 'an Upgrade in HTTP/1.0' };
/** RFC 9110 §15.5.20: the caller may ask again over another connection. */
const UPGRADE_UNVERIFIED: Problem = {
  ok: false,
  code: 'misdirected',
  detail: 'an Upgrade on a connection from before a change of verification settings or CRLs',
};
const UPGRADE_WITH_BODY: Problem = { ok: false, code: 'bad_request', detail: 'an Upgrade with a body' };
