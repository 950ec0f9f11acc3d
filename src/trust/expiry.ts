import type { Credentials } from './credentials.js';

/** Something that stops working on a date. */
export interface Expiring {
  readonly what: 'server certificate' | 'CA' | 'CRL';
  /** Subject, or issuer of a CRL: RFC 2253. */
  readonly name: string;
  readonly file: string;
  /** Milliseconds since the epoch. */
  readonly at: number;
}

/** Days ahead of which is warned. The last one is for the person who did not read the others. */
const THRESHOLDS = [1, 7, 30] as const;
const DAY = 86_400_000;

/** Everything of a set of credentials that has an end. */
export function expiring(credentials: Credentials, certFile: string): Expiring[] {
  const { serverCertificate, serverSubject, cas, crls } = credentials;
  return [
    { what: 'server certificate', name: serverSubject, file: certFile, at: Date.parse(serverCertificate.validTo) },
    ...cas.map(({ subject, file, notAfter }) => ({ what: 'CA' as const, name: subject, file, at: notAfter })),
    ...crls.flatMap(({ issuer, file, nextUpdate }) => {
      return nextUpdate === null ? [] : [{ what: 'CRL' as const, name: issuer, file, at: nextUpdate }];
    }),
  ];
}

/** Says each thing once a threshold, however often it is asked. */
export class ExpiryWatch {
  private readonly warned = new Map<string, number>();

  /** @returns what has come closer than a threshold since the last time; `days` 0 means it has expired */
  news(items: readonly Expiring[], now: number): { readonly item: Expiring; readonly days: number }[] {
    return items.flatMap((item) => {
      const days = thresholdOf(item.at - now);
      const key = `${item.what} ${item.name} ${item.at}`;
      if (days === null || days >= (this.warned.get(key) ?? Infinity)) return [];
      this.warned.set(key, days);
      return [{ item, days }];
    });
  }
}

/** The closest threshold that has been passed, 0 for the end itself, null for none. */
function thresholdOf(remaining: number): number | null {
  if (remaining <= 0) return 0;
  return THRESHOLDS.find((days) => remaining <= days * DAY) ?? null;
}
