import { hash, type X509Certificate } from 'node:crypto';
import type { PeerCertificate } from '../identify/peer-identity.js';
import { isPathValid } from './chain.js';

/** What was found out about a verified caller, and follows from its certificate and the bundle alone. */
export interface KnownCaller {
  readonly leaf: X509Certificate;
  readonly certificate: PeerCertificate;
  /** As `pathToAnchor` found it. */
  readonly path: readonly X509Certificate[];
}

/**
 * Leaves that were verified, with their paths. A resumed session brings the leaf alone, and depth, chain headers and
 * revocation need the rest. And a caller that comes back need not be read again, which takes longer than its TLS.
 *
 * Nobody comes in for being known: OpenSSL verifies the chain and the proof of the key in each full handshake, and dates,
 * revocation and rules are asked each time. Belongs to one set of credentials and goes with it.
 */
export class KnownCallers {
  private readonly callers = new Map<string, KnownCaller>();

  /**
   * @param capacity leaves kept; the longest unseen are forgotten first, and their callers need a full handshake. Each takes some
   *   30 KiB with two intermediates, and 1.5 (nginx's headers) to 9 (those of every preset) for each of up to eight identities
   *   (`shared-identity.ts`). Where certificates live for an hour there are always as many as fit, in every process.
   */
  constructor(private readonly capacity = 1_000) {}

  /** Only whom OpenSSL has verified: strangers must not push others out. */
  remember(caller: KnownCaller): void {
    const key = caller.certificate.sha256;
    this.callers.delete(key);
    this.callers.set(key, caller);
    if (this.callers.size <= this.capacity) return;
    const oldest = this.callers.keys().next();
    if (!oldest.done) this.callers.delete(oldest.value);
  }

  /** @param der of the leaf */
  recall(der: Uint8Array): KnownCaller | null {
    return this.callers.get(hash('sha256', der, 'hex')) ?? null;
  }

  /**
   * As `recall`, for a full handshake: where an intermediate has ended, the caller may bring another for the same leaf.
   * @param now milliseconds since the epoch
   */
  recallWhole(der: Uint8Array, now: number): KnownCaller | null {
    const known = this.recall(der);
    return known !== null && isPathValid(known.path, now) ? known : null;
  }
}
