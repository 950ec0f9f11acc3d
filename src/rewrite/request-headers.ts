import { isForwardedHeader, pushForwarded, type ForwardedSource } from './forwarded-headers.js';
import { HOP_BY_HOP, namedByConnection } from './hop-by-hop.js';
import { isReservedHeader } from './identity-headers.js';
import type { PushFacts } from './request-facts.js';
import { foldName } from './fold.js';

export interface RewriteRules {
  /** Folded names of `identity.headers` and `forwarded.headers`, reserved like those of the presets. */
  readonly customNames: ReadonlySet<string>;
  /** Appends what `forwarded.headers` asks for; null when it asks for nothing. */
  readonly pushFacts: PushFacts | null;
  readonly underscores: 'drop' | 'reject' | 'keep';
  readonly rfc7239: boolean;
}

/** What the new header block is made of. */
export interface RewriteInput {
  readonly rawHeaders: readonly string[];
  /** Lower case. */
  readonly connectionTokens: readonly string[];
  readonly host: string;
  readonly requestId: string;
  readonly source: ForwardedSource;
}

/** How a received header is treated; decided by its name alone. */
const KEEP = 0;
const DROP = 1;
const FORWARDED_FOR = 2;
const FORWARDED = 3;
type Treatment = typeof KEEP | typeof DROP | typeof FORWARDED_FOR | typeof FORWARDED;

/** The treatments of names seen before. Bounded: names are the caller's to invent. */
const CAPACITY = 512;

/**
 * Makes the function that turns a received header block into the forwarded one: strip, then set, in that order. Order,
 * case and duplicates of what is kept stay as they were. Framing and connection headers are left to the forwarder, and so are
 * identity headers, which are the same for all requests of a connection: of received ones it has let none through.
 */
export function createRequestRewriter(rules: RewriteRules): (input: RewriteInput) => string[] {
  const treatments = new Map<string, Treatment>();
  const treatmentOf = (name: string): Treatment => {
    const known = treatments.get(name);
    if (known !== undefined) return known;
    const treatment = decide(name, rules);
    if (treatments.size < CAPACITY && name.length < 64) treatments.set(name, treatment);
    return treatment;
  };
  return (input) => {
    const headers: string[] = [];
    const received = strip(input, headers, treatmentOf);
    const { source, host, requestId } = input;
    const forwardedFor = pushForwarded(headers, source, host, { rfc7239: rules.rfc7239, received });
    headers.push('X-Request-Id', requestId);
    rules.pushFacts?.(headers, { ...source, host, requestId, forwardedFor });
    return headers;
  };
}

function strip(
  { rawHeaders, connectionTokens }: RewriteInput,
  headers: string[],
  treatmentOf: (name: string) => Treatment,
): { xForwardedFor: string | null; forwarded: string | null } {
  const received: { xForwardedFor: string | null; forwarded: string | null } = { xForwardedFor: null, forwarded: null };
  // Dropped before ours exist, so that no `Connection: X-SSL-Client-Verify` can name one of ours away.
  const named = namedByConnection(connectionTokens);
  for (let index = 0; index + 1 < rawHeaders.length; index += 2) {
    const name = rawHeaders[index] as string;
    const value = rawHeaders[index + 1] as string;
    const treatment = treatmentOf(name);
    if (treatment === KEEP) {
      if (named === null || !named.has(name.toLowerCase()) || isEssential(name)) headers.push(name, value);
    } else if (treatment === FORWARDED_FOR) received.xForwardedFor = append(received.xForwardedFor, value);
    else if (treatment === FORWARDED) received.forwarded = append(received.forwarded, value);
  }
  return received;
}

/** RFC 9110 §7.6.1: end-to-end fields must not be named. Without Host the message would mean something else. */
function isEssential(name: string): boolean {
  return name.toLowerCase() === 'host';
}

function append(before: string | null, value: string): string {
  return before === null ? value : `${before}, ${value}`;
}

/** Removed because the message is framed anew, or because its answer is ours to give. */
const REFRAMED: ReadonlySet<string> = new Set(['content-length', 'expect', 'x-request-id']);

function decide(name: string, rules: RewriteRules): Treatment {
  const lower = name.toLowerCase();
  const folded = foldName(lower);
  if (isReservedHeader(name, rules.customNames)) return DROP;
  if (HOP_BY_HOP.has(folded) || REFRAMED.has(folded)) return DROP;
  // CGI would hand it to the application as HTTP_PROXY, which HTTP clients obey (httpoxy, CVE-2016-5385).
  if (folded === 'proxy') return DROP;
  if (folded !== lower) return decideAmbiguous(lower, folded, rules);
  if (lower === 'x-forwarded-for') return FORWARDED_FOR;
  if (lower === 'forwarded') return FORWARDED;
  return isForwardedHeader(folded) ? DROP : KEEP;
}

/** Never kept as a second spelling of a header that means something to us; with `_` or `.` only on request. */
function decideAmbiguous(lower: string, folded: string, rules: RewriteRules): Treatment {
  if (isForwardedHeader(folded) || folded === 'host') return DROP;
  return rules.underscores === 'keep' || !/[_.]/.test(lower) ? KEEP : DROP;
}

/**
 * What may be forwarded of a trailer section: no header that frames, routes, identifies or authenticates
 * (RFC 9110 §6.5.1), which here means that only names nobody knows remain.
 * @param rawTrailers flat list
 */
export function rewriteTrailers(rawTrailers: readonly string[], rules: RewriteRules): string[] {
  const kept: string[] = [];
  for (let index = 0; index + 1 < rawTrailers.length; index += 2) {
    const name = rawTrailers[index] as string;
    if (decide(name, rules) !== KEEP || NO_TRAILER.test(name)) continue;
    kept.push(name, rawTrailers[index + 1] as string);
  }
  return kept;
}

const NO_TRAILER =
  /^(?:host|content-.*|authorization|cookie|set-cookie|cache-control|expires|max-forwards|range|age|date|location|vary|warning|pragma|if-.*|proxy-.*|www-.*)$/i;
