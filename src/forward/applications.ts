import type { Config } from '../config/config.js';
import type { PoolNumbers } from './exchange.js';
import { Tunnel } from './tunnel.js';
import { Upstream } from './upstream.js';

/** Where requests go, and Upgrades. */
export interface Application {
  /** As written. */
  readonly url: string;
  readonly upstream: Upstream;
  readonly tunnel: Tunnel;
}

/** Numbers of one application at this moment. */
export interface ApplicationNumbers extends PoolNumbers {
  readonly url: string;
}

/** All applications of one process: each has one pool, however many routes lead to it with the same settings. */
export class Applications {
  private readonly known = new Map<string, Application>();

  /** @param limits of the tunnels to it */
  at(settings: Config['upstream'], limits: Pick<Config['limits'], 'tunnelIdleTimeout'>): Application {
    const { tunnelIdleTimeout } = limits;
    const key = JSON.stringify([settings, tunnelIdleTimeout]);
    const known = this.known.get(key);
    if (known !== undefined) return known;
    const upstream = new Upstream(settings);
    const application = { url: settings.url, upstream, tunnel: new Tunnel(settings, tunnelIdleTimeout) };
    this.known.set(key, application);
    return application;
  }

  /** Of all of them together. */
  total(): PoolNumbers {
    return sum(this.numbers());
  }

  /** Of each application, by its URL. */
  numbers(): ApplicationNumbers[] {
    const byUrl = new Map<string, ApplicationNumbers>();
    for (const { url, upstream } of this.known.values()) {
      if (upstream.isAnswer) continue;
      const before = byUrl.get(url);
      byUrl.set(url, { url, ...sum([upstream.numbers(), ...(before === undefined ? [] : [before])]) });
    }
    return [...byUrl.values()];
  }

  /** Tunnels under way. */
  get tunnels(): number {
    return [...this.known.values()].reduce((sum, { tunnel }) => sum + tunnel.count, 0);
  }

  /** Ends every tunnel, for the end of a drain. */
  closeTunnels(): void {
    for (const { tunnel } of this.known.values()) tunnel.closeAll();
  }

  /** Closes every connection, whatever is under way. */
  close(): void {
    for (const { upstream } of this.known.values()) upstream.close();
  }
}

function sum(all: readonly PoolNumbers[]): PoolNumbers {
  const total = (of: keyof PoolNumbers): number => all.reduce((subtotal, numbers) => subtotal + numbers[of], 0);
  return { open: total('open'), busy: total('busy'), waiting: total('waiting') };
}
