import { isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Says which refusals of one address are worth a line. */
export interface Pacing {
  /** @returns the number of lines withheld from this address since its last one, or null when this one is withheld too */
  take(address: string): number | null;
  /** What was withheld from each address since its last line; forgets it, so that nothing is told twice. */
  summary(): Withheld[];
}

/** Lines that were not written. */
export interface Withheld {
  /** Of an IPv6 address the network that its owner has at least: `2001:db8::/64`. */
  readonly address: string;
  readonly withheld: number;
}

export interface PacingOptions {
  /** Lines an address may have at once. */
  readonly burst: number;
  /** Lines a second it may have in the long run. */
  readonly perSecond: number;
  /** Addresses remembered; the one that was silent longest is forgotten first. */
  readonly addresses: number;
  /** Milliseconds since the epoch. */
  readonly now: () => number;
  /** Told when an address is forgotten whose last lines were withheld. */
  readonly forgotten: (withheld: Withheld) => void;
}

interface Bucket {
  tokens: number;
  filledAt: number;
  withheld: number;
}

/**
 * A token bucket per address. A misconfigured caller that reconnects in a loop, or an attacker, would otherwise fill
 * the disk with refusals and bury the one that matters. The metrics still count every one.
 */
export function createPacing(options: PacingOptions): Pacing {
  const buckets = new Map<string, Bucket>();
  const take = (from: string) => {
    const address = payer(from);
    const bucket = refill(buckets.get(address), options);
    // Taken out and put back: a Map keeps insertion order, so its first entry is the one silent longest.
    buckets.delete(address);
    buckets.set(address, bucket);
    if (buckets.size > options.addresses) forgetOldest(buckets, options);
    return spend(bucket);
  };
  return { take, summary: () => summarise(buckets) };
}

/** Whoever has an IPv6 address has a network of 2⁶⁴ of them, and would else have as many allowances. */
function payer(address: string): string {
  if (!isIPv6(address)) return address;
  const network = ipaddr.IPv6.parse(address).parts.slice(0, 4);
  return `${network.map((group) => group.toString(16)).join(':')}::/64`;
}

function summarise(buckets: ReadonlyMap<string, Bucket>): Withheld[] {
  const busy = [...buckets].filter(([, { withheld }]) => withheld > 0);
  return busy.map(([address, bucket]) => {
    const { withheld } = bucket;
    bucket.withheld = 0;
    return { address, withheld };
  });
}

function refill(bucket: Bucket | undefined, { burst, perSecond, now }: PacingOptions): Bucket {
  const filledAt = now();
  if (bucket === undefined) return { tokens: burst, filledAt, withheld: 0 };
  const gained = (Math.max(0, filledAt - bucket.filledAt) / 1000) * perSecond;
  return { tokens: Math.min(burst, bucket.tokens + gained), filledAt, withheld: bucket.withheld };
}

function spend(bucket: Bucket): number | null {
  if (bucket.tokens < 1) {
    bucket.withheld += 1;
    return null;
  }
  const { withheld } = bucket;
  bucket.tokens -= 1;
  bucket.withheld = 0;
  return withheld;
}

function forgetOldest(buckets: Map<string, Bucket>, options: PacingOptions): void {
  for (const [address, { withheld }] of buckets) {
    buckets.delete(address);
    if (withheld > 0) options.forgotten({ address, withheld });
    return;
  }
}
