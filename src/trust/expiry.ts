import type { SeenCaller } from '../observe/callers.js';
import type { Credentials } from './credentials.js';

/** Something that stops working on a date. */
export interface Expiring {
  readonly what: 'server certificate' | 'CA' | 'CRL' | 'client certificate';
  /** Subject, or issuer of a CRL: RFC 2253. */
  readonly name: string;
  /** Null for what came over the network. */
  readonly file: string | null;
  /** Milliseconds since the epoch. */
  readonly at: number;
  /** Milliseconds from beginning to end; thresholds further ahead than half of it say nothing. */
  readonly lifetime?: number;
}

/** Days ahead of which is warned. The last one is for the person who did not read the others. */
const THRESHOLDS = [1, 7, 30] as const;
const DAY = 86_400_000;

/** Everything of a set of credentials that has an end. */
export function expiring({ servers, cas, crls }: Credentials): Expiring[] {
  return [
    ...servers.map(({ file, serverSubject, serverCertificate }) => {
      return {
        what: 'server certificate' as const,
        name: serverSubject,
        file,
        at: Date.parse(serverCertificate.validTo),
      };
    }),
    ...cas.map(({ subject, file, notAfter }) => ({ what: 'CA' as const, name: subject, file, at: notAfter })),
    ...crls.flatMap(({ issuer, file, nextUpdate }) => {
      return nextUpdate === null ? [] : [{ what: 'CRL' as const, name: issuer, file, at: nextUpdate }];
    }),
  ];
}

/**
 * The same of callers. Only of verified ones, for anybody can present what is about to expire; and only of those heard of within
 * a day, since a certificate that was renewed is allowed to end. Some are renewed each hour by machines, so their lifetime is
 * part of it.
 */
export function expiringCallers(callers: readonly SeenCaller[], now: number): Expiring[] {
  return callers
    .filter(({ verified, lastSeen }) => verified && Date.parse(lastSeen) > now - DAY)
    .filter(({ notAfter }) => Date.parse(notAfter) > now)
    .map(({ subject, notBefore, notAfter }) => {
      const at = Date.parse(notAfter);
      return { what: 'client certificate', name: subject, file: null, at, lifetime: at - Date.parse(notBefore) };
    });
}

/** Says each thing once a threshold, however often it is asked. */
export class ExpiryWatch {
  private warned = new Map<string, number>();

  /** @returns what has come closer than a threshold since the last time; `days` 0 means it has expired */
  news(items: readonly Expiring[], now: number): { readonly item: Expiring; readonly days: number }[] {
    const before = this.warned;
    // Anew each time, so that it holds no more than what is there.
    this.warned = new Map();
    return items.flatMap((item) => {
      const days = thresholdOf(item.at - now, item.lifetime);
      const key = `${item.what} ${item.name} ${item.at}`;
      const warned = Math.min(before.get(key) ?? Infinity, this.warned.get(key) ?? Infinity);
      this.warned.set(key, Math.min(warned, days ?? Infinity));
      return days === null || days >= warned ? [] : [{ item, days }];
    });
  }
}

/** The closest threshold that has been passed, 0 for the end itself, null for none. */
function thresholdOf(remaining: number, lifetime = Infinity): number | null {
  if (remaining <= 0) return 0;
  return THRESHOLDS.find((days) => remaining <= days * DAY && days * DAY <= lifetime / 2) ?? null;
}
