import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Duplex } from 'node:stream';
import { authorize, Permit, type AllowList } from './admit/authorize.js';
import { screen, type Problem, type ScreenedRequest, type ScreenRules } from './admit/screen.js';
import type { RequestCode } from './errors.js';
import { takeBody, type BodyLimits } from './forward/request-body.js';
import type { Tunnel } from './forward/tunnel.js';
import type { Upstream } from './forward/upstream.js';
import type { Connection } from './identify/peer-identity.js';
import type { Observer } from './observe/observer.js';
import { Passage } from './passage.js';
import type { Relay } from './respond/relay.js';
import type { ForwardedSource } from './rewrite/forwarded-headers.js';
import type { RewriteInput } from './rewrite/request-headers.js';

/** The stages, built by the composition root. */
export interface ProxyStages {
  readonly screenRules: ScreenRules;
  readonly rewriteHeaders: (input: RewriteInput) => string[];
  readonly rewriteTrailers: (rawTrailers: readonly string[]) => string[];
  readonly upstream: Upstream;
  readonly tunnel: Tunnel;
  readonly bodyLimits: BodyLimits;
  readonly observer: Observer;
}

/** One request as the listener hands it over. */
export interface Call {
  readonly connection: Connection;
  /** The allow rules that this connection's identity satisfies. */
  readonly rules: AllowList;
  readonly source: ForwardedSource;
  readonly request: IncomingMessage;
  /** Set when nothing of this connection may be forwarded any more. */
  readonly refusal: { readonly code: RequestCode; readonly detail: string } | null;
  /** Whether the connection is to end with this answer. Asked late: draining may begin meanwhile. */
  isLast(): boolean;
  /** Called once, when the caller has the whole answer or is gone. */
  done(): void;
}

/** A request under way, for whoever finds out that the rest of it cannot be read. */
export interface Underway {
  breakOff(code: RequestCode, detail: string): void;
}

export interface Proxy {
  pass(call: Call, response: ServerResponse): Underway;
  passUpgrade(call: Call, socket: Duplex, early: Buffer): void;
}

/** Builds the hallway of the house. */
export function createProxy(stages: ProxyStages): Proxy {
  return {
    pass(call, response) {
      const passage = new Passage(call, stages);
      const relay = passage.answerOn(response);
      const admitted = admit(call, passage, stages);
      if (!admitted.ok) relay.refuse(admitted.code, admitted.detail);
      else forward({ call, passage, relay, stages }, admitted);
      return passage;
    },

    passUpgrade(call, socket, early) {
      const passage = new Passage(call, stages);
      const admitted = admit(call, passage, stages);
      if (!admitted.ok) return passage.refuseOn(socket, admitted);
      // Its body and the first bytes of the tunnel are not told apart by everybody in the same way.
      if (admitted.screened.body !== 'none') return passage.refuseOn(socket, UPGRADE_WITH_BODY);
      // RFC 9110 §7.8 has it ignored, which is too late: Node's parser has already let go of the connection.
      if (passage.httpVersion !== '1.1') return passage.refuseOn(socket, UPGRADE_IN_1_0);
      const request = passage.tunnelRequest(admitted.screened, admitted.headers);
      stages.tunnel.open(admitted.permit, { request, socket, early }, passage);
    },
  };
}

interface Admitted {
  readonly ok: true;
  readonly permit: Permit;
  readonly screened: ScreenedRequest;
  /** As the application will see them. */
  readonly headers: string[];
}

/** Whether a request may go on, and as what: screen, authorise, strip and set, in this order, for every request. */
function admit(call: Call, passage: Passage, stages: ProxyStages): Admitted | Problem {
  if (call.refusal !== null) return { ok: false, ...call.refusal };
  const { identity } = call.connection;
  const screened = screen(passage.head, stages.screenRules, identity.tls.serverName);
  if (!screened.ok) return screened;
  passage.accept(screened);
  const permit = authorize(identity, call.rules, passage.asked(screened));
  if (!(permit instanceof Permit)) return { ok: false, code: permit, detail: EXPLANATIONS[permit] };
  return { ok: true, permit, screened, headers: stages.rewriteHeaders(passage.rewriteInput(screened)) };
}

interface Way {
  readonly call: Call;
  readonly passage: Passage;
  readonly relay: Relay;
  readonly stages: ProxyStages;
}

/** Sends an admitted request to the application and lets the relay answer the caller. */
function forward({ call, passage, relay, stages }: Way, { permit, screened, headers }: Admitted): void {
  takeBody(call.request, screened, stages.bodyLimits, (body) => {
    if (passage.isOver) return;
    const request = passage.forwardRequest(screened, headers, body);
    relay.attach(stages.upstream.send(permit, request, relay));
  });
}

const EXPLANATIONS = {
  not_allowed: 'no allow rule matches this caller, method and path',
  expired: 'the client certificate expired while its connection was open',
} as const;

const UPGRADE_IN_1_0: Problem = { ok: false, code: 'bad_request', detail: 'an Upgrade in HTTP/1.0' };
const UPGRADE_WITH_BODY: Problem = { ok: false, code: 'bad_request', detail: 'an Upgrade with a body' };
