import { setTimeout as sleep } from 'node:timers/promises';
import type { Member } from './member.js';
import { LONGEST, SESSIONS_AT_ONCE, type SharedSession } from './orders.js';

/** Sessions that began in this worker, until the primary asks for them. */
export class SessionNews {
  private fresh: (readonly [id: Buffer, session: Buffer])[] = [];
  private tell: ((sessions: readonly SharedSession[]) => void) | null = null;

  readonly add = (id: Buffer, session: Buffer): void => {
    // Else a caller with a large certificate could make the primary end us for a strange answer.
    if (!fits(id, LONGEST.id) || !fits(session, LONGEST.session)) return;
    this.fresh.push([id, session]);
    // A primary that hangs must not fill our memory. Whoever is left out resumes here, or makes a full handshake.
    if (this.fresh.length > SESSIONS_AT_ONCE) this.fresh.shift();
    this.answer();
  };

  /** Resolves as soon as there are some. */
  next(): Promise<readonly SharedSession[]> {
    return new Promise((resolve) => {
      this.tell = resolve;
      this.answer();
    });
  }

  private answer(): void {
    const { fresh, tell } = this;
    if (tell === null || fresh.length === 0) return;
    this.fresh = [];
    this.tell = null;
    tell(fresh.map(([id, session]) => ({ id: id.toString('base64'), session: session.toString('base64') })));
  }
}

function fits({ length }: Buffer, most: number): boolean {
  return length > 0 && length <= most;
}

/** Not out of Node's pool: a session that is kept would keep 8 KiB of it. */
export function bytesOf(base64: string): Buffer {
  const bytes = Buffer.alloc(Buffer.byteLength(base64, 'base64'));
  bytes.write(base64, 'base64');
  return bytes;
}

/**
 * How often one worker may tell of sessions, in milliseconds, and how many orders another may leave unanswered before it is told
 * no more: whatever callers do, the primary has time for other things, and nothing heaps up for a worker that hangs.
 */
const NEWS_INTERVAL = 20;
const FEW = 8;
/** The longest that a timer can wait, 24 days: a worker may have no such callers. Milliseconds. */
const NO_HURRY = 2_147_483_647;

/**
 * Hands the sessions that begin in one worker to the others, without a look at them, until it has ended. No handshake waits for it:
 * a caller that comes back before it is done makes a full one.
 * @param serving all workers that serve now
 */
export async function spreadSessions(from: Member, serving: () => readonly Member[]): Promise<void> {
  for (;;) {
    const sessions = await from.ask('sessions', null, NO_HURRY).catch(() => []);
    if (from.gone) return;
    const others = serving().filter((member) => member !== from && member.unanswered < FEW);
    if (sessions.length > 0) for (const other of others) void other.ask('learn', sessions).catch(() => undefined);
    await sleep(NEWS_INTERVAL);
  }
}
