import type { X509Certificate } from 'node:crypto';

/**
 * Leaves that were verified in a full handshake, with their paths. A resumed session brings the leaf alone, and depth,
 * chain headers and revocation need the rest. Belongs to one set of credentials and goes with it.
 */
export class KnownPaths {
  private readonly paths = new Map<string, readonly X509Certificate[]>();

  /** @param capacity leaves kept; the longest unseen are forgotten first, and their callers need a full handshake. */
  constructor(private readonly capacity = 10_000) {}

  remember(leaf: X509Certificate, path: readonly X509Certificate[]): void {
    const key = leaf.fingerprint256;
    this.paths.delete(key);
    this.paths.set(key, path);
    if (this.paths.size <= this.capacity) return;
    const oldest = this.paths.keys().next();
    if (!oldest.done) this.paths.delete(oldest.value);
  }

  recall(leaf: X509Certificate): readonly X509Certificate[] | null {
    return this.paths.get(leaf.fingerprint256) ?? null;
  }
}
