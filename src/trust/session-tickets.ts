import { createDecipheriv, createHmac, hkdfSync, randomFillSync, timingSafeEqual } from 'node:crypto';
import type { SecureContext } from 'node:tls';
import { readSession, type SessionFacts } from '../identify/session.js';

/** One key in the form that Node's callback wants. */
interface TicketKey {
  /** In the clear at the front of each ticket. */
  readonly name: Buffer;
  readonly hmac: Buffer;
  readonly aes: Buffer;
}

const NAME_BYTES = 16;
const HMAC_BYTES = 32;
const AES_BYTES = 16;
const IV_BYTES = 16;
const MAC_BYTES = 32;

/**
 * Seals sessions into tickets, and opens them (RFC 5077 §4, as OpenSSL has it: name, IV, AES-128-CBC, HMAC-SHA-256 over
 * all of it).
 *
 * Each key is mixed with the trust settings (RFC 5869), so that a ticket from under other settings cannot even be
 * opened, whoever shares the secret. The first key seals, all open; what an older one opened is sealed anew.
 */
export class SessionTickets {
  private readonly keys: readonly TicketKey[];
  private readonly newest: TicketKey;

  /**
   * @param secrets newest first; at least one
   * @param digest names the trust settings
   */
  constructor(secrets: readonly Buffer[], digest: string) {
    const [newest, ...older] = secrets.map((secret) => deriveKey(secret, digest));
    if (newest === undefined) throw new Error('no ticket key');
    this.newest = newest;
    this.keys = [newest, ...older];
  }

  /**
   * Makes a context use these keys.
   *
   * Node's documented `ticketKeys` is one key, and renews nothing. Behind it is this callback, which Node's own tests use
   * and no documentation names; where it is missing there are no tickets at all, rather than tickets under keys that
   * nobody chose.
   * @param opens false for a context whose callers get tickets but cannot use one
   * @throws Error when this Node has no such callback
   */
  useIn(context: SecureContext, opens: boolean): void {
    const internals = context.context as TicketInternals;
    if (typeof internals.enableTicketKeyCallback !== 'function') {
      throw new Error('this version of Node cannot be given ticket keys: set tls.sessions.resumption to false');
    }
    internals.enableTicketKeyCallback();
    internals.onticketkeycallback = (name, _iv, seals) => {
      if (seals) return answer(SEAL_OR_OPEN, this.newest, freshIv());
      const key = opens ? this.keyFor(name) : undefined;
      if (key === undefined) return answer(IGNORE, this.newest);
      return answer(key === this.newest ? SEAL_OR_OPEN : OPEN_AND_RENEW, key);
    };
  }

  /** @returns null for a ticket that these keys did not seal */
  open(ticket: Buffer): SessionFacts | null {
    const end = ticket.length - MAC_BYTES;
    const key = end > NAME_BYTES + IV_BYTES ? this.keyFor(ticket.subarray(0, NAME_BYTES)) : undefined;
    if (key === undefined) return null;
    const mac = createHmac('sha256', key.hmac).update(ticket.subarray(0, end)).digest();
    if (!timingSafeEqual(mac, ticket.subarray(end))) return null;
    const iv = ticket.subarray(NAME_BYTES, NAME_BYTES + IV_BYTES);
    const decipher = createDecipheriv('aes-128-cbc', key.aes, iv);
    return readSession(Buffer.concat([decipher.update(ticket.subarray(NAME_BYTES + IV_BYTES, end)), decipher.final()]));
  }

  private keyFor(name: Buffer): TicketKey | undefined {
    return this.keys.find((key) => key.name.equals(name));
  }
}

/** Node reads all five, even where the number says that none is needed. */
type Answer = [verdict: number, hmac: Buffer, aes: Buffer, name: Buffer, iv: Buffer];

/** The part of a context that Node does not document. The callback must not throw: Node would end the process. */
interface TicketInternals {
  enableTicketKeyCallback?(): void;
  onticketkeycallback?: (name: Buffer, iv: Buffer, seals: boolean) => Answer;
}

/** What SSL_CTX_set_tlsext_ticket_key_cb(3) wants to hear. */
const IGNORE = 0;
const SEAL_OR_OPEN = 1;
const OPEN_AND_RENEW = 2;

function answer(verdict: number, { hmac, aes, name }: TicketKey, iv: Buffer = NO_IV): Answer {
  return [verdict, hmac, aes, name, iv];
}

const NO_IV = Buffer.alloc(IV_BYTES);

/** To ask for sixteen bytes takes as long as to ask for thousands. */
const random = Buffer.alloc(256 * IV_BYTES);
let used = random.length;

/** Never the same bytes twice, and Node has copied them before the next are asked for. */
function freshIv(): Buffer {
  if (used === random.length) {
    randomFillSync(random);
    used = 0;
  }
  used += IV_BYTES;
  return random.subarray(used - IV_BYTES, used);
}

function deriveKey(secret: Buffer, digest: string): TicketKey {
  const length = NAME_BYTES + HMAC_BYTES + AES_BYTES;
  const bytes = Buffer.from(hkdfSync('sha256', secret, '', `session tickets ${digest}`, length));
  return {
    name: bytes.subarray(0, NAME_BYTES),
    hmac: bytes.subarray(NAME_BYTES, NAME_BYTES + HMAC_BYTES),
    aes: bytes.subarray(NAME_BYTES + HMAC_BYTES),
  };
}
