import type { LoadedCa } from '../trust/credentials.js';

/** How much a CA is used by callers. */
export interface Use {
  openConnections: number;
  /** Admitted connections ever. */
  connections: number;
  requests: number;
  /** Milliseconds since the epoch; 0 for never. */
  lastUsed: number;
}

const UNUSED: Readonly<Use> = { openConnections: 0, connections: 0, requests: 0, lastUsed: 0 };

/** The use of one trust anchor in force. */
export interface AnchorUse extends Readonly<Use> {
  /** The label of its file, or its subject. */
  readonly ca: string;
  readonly serial: string;
  /** Lower-case hex; null for {@link OTHER}. */
  readonly sha256: string | null;
}

/** Connections under no CA of the present bundle: not verified, or admitted before their CA was removed. */
export const OTHER = 'other';

/**
 * Counts by trust anchor, so that an operator sees when a retiring CA is no longer used. Anchors come from files alone,
 * so that callers cannot add any.
 */
export class Anchors {
  readonly #uses = new Map<string | null, Use>();

  /** The counts of an anchor, to be added to; null is for callers who were not verified. */
  of(sha256: string | null): Use {
    const known = this.#uses.get(sha256);
    if (known !== undefined) return known;
    const use = { ...UNUSED };
    this.#uses.set(sha256, use);
    return use;
  }

  /**
   * One entry for each anchor in force, used or not, and one for the rest. Intermediates of the bundle are none: whoever comes
   * by them is counted under the root.
   */
  list(cas: readonly LoadedCa[]): AnchorUse[] {
    const anchors = cas.filter(isAnchor).map((ca) => this.#described(ca));
    const known = new Set(anchors.map(({ sha256 }) => sha256));
    const rest = [...this.#uses].filter(([sha256]) => sha256 === null || !known.has(sha256));
    return [...anchors, { ca: OTHER, serial: '', sha256: null, ...sum(rest.map(([, use]) => use)) }];
  }

  #described(ca: LoadedCa): AnchorUse {
    const sha256 = sha256Of(ca);
    const use = this.#uses.get(sha256) ?? UNUSED;
    return { ca: ca.label, serial: ca.certificate.serialNumber, sha256, ...use };
  }
}

export function sha256Of({ certificate }: LoadedCa): string {
  return certificate.fingerprint256.replaceAll(':', '').toLowerCase();
}

/** Whether chains can end here: with OpenSSL as with us only at a self-signed certificate. */
function isAnchor({ certificate }: LoadedCa): boolean {
  return certificate.checkIssued(certificate);
}

/** Adds counts up. */
export function sum(uses: readonly Readonly<Use>[]): Use {
  const total = { ...UNUSED };
  for (const { openConnections, connections, requests, lastUsed } of uses) {
    total.openConnections += openConnections;
    total.connections += connections;
    total.requests += requests;
    total.lastUsed = Math.max(total.lastUsed, lastUsed);
  }
  return total;
}

/** The uses that several processes counted, of the same anchors in force. */
export function mergeAnchors(lists: readonly (readonly AnchorUse[])[]): AnchorUse[] {
  const byAnchor = new Map<string | null, AnchorUse>();
  for (const use of lists.flat()) {
    const known = byAnchor.get(use.sha256);
    byAnchor.set(use.sha256, known === undefined ? use : { ...known, ...sum([known, use]) });
  }
  return [...byAnchor.values()];
}
