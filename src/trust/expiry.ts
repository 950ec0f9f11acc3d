import type { X509Certificate } from 'node:crypto';
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
  readonly lifetime: number;
}

/**
 * Days ahead of which is warned. The last one is for the person who did not read the others. A list that is made each day, or
 * a certificate that a machine renews each hour, must not bring a warning each time: so the lifetime is part of it.
 */
const THRESHOLDS = [1, 7, 30] as const;
const DAY = 86_400_000;

/** Everything of a set of credentials that has an end. */
export function expiring({ servers, cas, crls }: Credentials): Expiring[] {
  return [
    ...servers.map(({ file, serverSubject: name, serverCertificate }) => {
      return { what: 'server certificate' as const, name, file, ...endOf(serverCertificate) };
    }),
    ...cas.map(({ subject, file, certificate }) => ({
      what: 'CA' as const,
      name: subject,
      file,
      ...endOf(certificate),
    })),
    ...crls.flatMap(({ issuer, file, thisUpdate, nextUpdate: at }) => {
      return at === null ? [] : [{ what: 'CRL' as const, name: issuer, file, at, lifetime: at - thisUpdate }];
    }),
  ];
}

function endOf({ validFrom, validTo }: X509Certificate): Pick<Expiring, 'at' | 'lifetime'> {
  const at = Date.parse(validTo);
  return { at, lifetime: at - Date.parse(validFrom) };
}

/**
 * The same of callers. Only of verified ones, for anybody can present what is about to expire; and only of those heard of within
 * a day, since a certificate that was renewed is allowed to end.
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
function thresholdOf(remaining: number, lifetime: number): number | null {
  if (remaining <= 0) return 0;
  return THRESHOLDS.find((days) => remaining <= days * DAY && days * DAY <= lifetime / 2) ?? null;
}
