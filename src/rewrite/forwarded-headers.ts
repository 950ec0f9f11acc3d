import ipaddr from 'ipaddr.js';

/** What one connection contributes to the forwarded-headers, made once. */
export interface ForwardedSource {
  readonly remoteAddress: string;
  readonly localPort: number;
  /** Whether the peer may tell us who called it. */
  readonly trusted: boolean;
}

/**
 * Every header by which a caller could claim another address, scheme or host, in folded form. `X-Real-IP` is nginx's
 * habit: we do not set it, and do not let a caller set it either.
 */
export function isForwardedHeader(folded: string): boolean {
  return folded.startsWith('x-forwarded') || OTHER_CLAIMS.has(folded);
}

const OTHER_CLAIMS: ReadonlySet<string> = new Set([
  'forwarded',
  'forwarded-for',
  'x-real-ip',
  'x-client-ip',
  'x-cluster-client-ip',
]);

export interface ReceivedForwarded {
  readonly xForwardedFor: string | null;
  readonly forwarded: string | null;
}

/**
 * Appends X-Forwarded-* and, if wanted, Forwarded (RFC 7239) to a flat header list. Received values are continued only
 * for a trusted peer; everybody else starts a new list.
 * @returns the value of X-Forwarded-For
 */
export function pushForwarded(
  headers: string[],
  source: ForwardedSource,
  host: string,
  options: { readonly rfc7239: boolean; readonly received: ReceivedForwarded },
): string {
  const { received } = options;
  const forwardedFor = continued(source, received.xForwardedFor, source.remoteAddress);
  headers.push(
    'X-Forwarded-For',
    forwardedFor,
    'X-Forwarded-Proto',
    'https',
    'X-Forwarded-Host',
    host,
    'X-Forwarded-Port',
    String(source.localPort),
  );
  if (options.rfc7239) headers.push('Forwarded', continued(source, received.forwarded, forwardedElement(source, host)));
  return forwardedFor;
}

function continued(source: ForwardedSource, received: string | null, own: string): string {
  return source.trusted && received !== null && received !== '' ? `${received}, ${own}` : own;
}

/** RFC 7239 §4, §6: an IPv6 address is bracketed and quoted; a host with a port is quoted. */
function forwardedElement({ remoteAddress }: ForwardedSource, host: string): string {
  const node = remoteAddress.includes(':') ? `"[${remoteAddress}]"` : remoteAddress;
  return `for=${node};host="${host.replace(/["\\]/g, '\\$&')}";proto=https`;
}

/**
 * Compiles a list of networks, such as `forwarded.trustedProxies`, into the question whether an address is in one.
 * @param ranges CIDRs or single addresses, validated at start
 */
export function compileNetworks(ranges: readonly string[]): (address: string) => boolean {
  if (ranges.length === 0) return () => false;
  const parsed = ranges.map((range) =>
    range.includes('/') ? ipaddr.parseCIDR(range) : ipaddr.parseCIDR(`${range}/${range.includes(':') ? 128 : 32}`),
  );
  return (address) => {
    if (!ipaddr.isValid(address)) return false;
    const peer = ipaddr.process(address);
    return parsed.some(([network, bits]) => network.kind() === peer.kind() && peer.match(network, bits));
  };
}
