import type { Socket } from 'node:net';

/** The code of the error that a connection is destroyed with when it has to make room. */
export const CROWDED_OUT = 'ERR_CROWDED_OUT';

/**
 * The connections that have not been let in: in the handshake, or refused and on their way out. They have room of their
 * own, so that no number of them keeps a caller with a good certificate outside: when it is full the oldest has to go,
 * of the address that has most. An honest handshake is over long before its turn to go has come.
 */
export class Hallway {
  /** In the order of arrival. */
  private readonly addresses = new Map<Socket, string>();
  private readonly counts = new Map<string, number>();

  constructor(private readonly room: number) {}

  /** Whoever lets it enter says when it is gone. */
  enter(raw: Socket, address: string): void {
    this.addresses.set(raw, address);
    this.count(address);
    if (this.addresses.size > this.room) this.crowdOut();
  }

  /** It counts for another address from here on, at its old place in the order. */
  move(raw: Socket, address: string): void {
    const before = this.addresses.get(raw);
    if (before === undefined) return;
    this.addresses.set(raw, address);
    this.discount(before);
    this.count(address);
  }

  /** It is let in, or gone. */
  leave(raw: Socket): void {
    const address = this.addresses.get(raw);
    if (address === undefined) return;
    this.addresses.delete(raw);
    this.discount(address);
  }

  private count(address: string): void {
    this.counts.set(address, (this.counts.get(address) ?? 0) + 1);
  }

  private discount(address: string): void {
    const left = (this.counts.get(address) ?? 0) - 1;
    if (left > 0) this.counts.set(address, left);
    else this.counts.delete(address);
  }

  private crowdOut(): void {
    const greediest = [...this.counts].reduce((most, next) => (next[1] > most[1] ? next : most))[0];
    for (const [raw, address] of this.addresses) {
      if (address !== greediest) continue;
      this.leave(raw);
      const detail = `more than ${this.room} handshakes and refusals at once`;
      raw.destroy(Object.assign(new Error(detail), { code: CROWDED_OUT }));
      return;
    }
  }
}
