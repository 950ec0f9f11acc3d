import type { Routing } from '../admit/routes.js';
import { standingsOf, type Standing } from '../admit/standing.js';
import type { Config } from '../config/config.js';
import type { Connection } from '../identify/peer-identity.js';
import type { Call, CallerTenure } from '../proxy.js';
import type { Trust } from './admission.js';
import type { Change, Judgement } from './recheck.js';

export interface TenureParts {
  readonly limits: Pick<Config['limits'], 'requestsPerConnection' | 'connectionAge'>;
  /** What is in force now. */
  readonly trust: () => Trust;
}

const DRAINING = { code: 'draining', detail: 'nothing is forwarded any more' } as const;

/** What one admitted connection may still ask for, whichever version of HTTP it speaks. */
export class Tenure implements CallerTenure {
  /** Requests so far. */
  requests = 0;
  /** Set when the caller would not be let in today. */
  private change: Change | null = null;
  /** Whether the caller has to be verified anew, so that the connection ends with its next answer. */
  private mustReconnect = false;
  /** Whether only another handshake can tell that the caller would be let in today. */
  private isUnclear = false;
  /**
   * When what the caller was verified by ends. Milliseconds since the epoch. Not that of the identity, which others share: since a
   * reload another CA may lead to it.
   */
  validUntil: number;

  /** @param handshakeTerms what only its handshake was asked, as `Trust` has it */
  constructor(
    private readonly parts: TenureParts,
    private readonly connection: Connection,
    private readonly handshakeTerms: string,
  ) {
    this.validUntil = connection.identity.validUntil;
  }

  /** Where the caller stands under each route. The lists may have been replaced since the last request. */
  standings(): readonly Standing[] {
    return standingsOf(this.connection.identity, this.parts.trust().terms);
  }

  /** By the same routes as the standings. */
  get routing(): Routing {
    return this.parts.trust().routing;
  }

  /** Why nothing of this caller is forwarded any more, or null. @param closing whether nothing of anybody is */
  refusal(closing: boolean): Call['refusal'] {
    return this.change ?? (closing ? DRAINING : null);
  }

  reconsider({ change, isUnclear, validUntil }: Judgement): void {
    this.mustReconnect = true;
    this.change = change;
    this.isUnclear = isUnclear;
    this.validUntil = validUntil;
  }

  get isOutdated(): boolean {
    return this.isUnclear || this.handshakeTerms !== this.parts.trust().handshakeTerms;
  }

  /** Whether the connection has to end with its next answer. */
  isSpent(): boolean {
    const { requestsPerConnection, connectionAge } = this.parts.limits;
    if (this.mustReconnect || this.requests >= requestsPerConnection) return true;
    return Date.now() - this.connection.openedAt >= connectionAge;
  }
}
