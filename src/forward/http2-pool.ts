import type { Config } from '../config/config.js';
import { Http2Connection, type Http2ConnectionOwner } from './http2-connection.js';

/** Whoever sends requests over the pool. */
export interface Http2PoolUser {
  /** The application has accepted a connection. */
  markReached(): void;
  /** There may be room for a request that waits. */
  startWaiting(): void;
}

/**
 * The HTTP/2 connections to the application: as few as have room for what is under way, and at most `upstream.maxConnections`. When all of
 * these are about to end (GOAWAY, no answer to a PING) there is one more, or a stream that lasts would keep every request out; of those that end in good
 * order as many as have requests under way, which `limits` bound.
 */
export class Http2Pool implements Http2ConnectionOwner {
  private readonly connections = new Set<Http2Connection>();

  constructor(
    private readonly settings: Config['upstream'],
    private readonly user: Http2PoolUser,
  ) {}

  /** Connections that the application has accepted. */
  get open(): number {
    return [...this.connections].filter(({ isConnected }) => isConnected).length;
  }

  /** Those of them that carry a request. */
  get busy(): number {
    return [...this.connections].filter(({ isConnected, streams }) => isConnected && streams > 0).length;
  }

  /** Whether a request can begin. What waits does so in our queue: nghttp2's keeps even what was given up until its turn. */
  get hasRoom(): boolean {
    return this.withRoom() !== null || this.mayOpen();
  }

  /** A connection for one more request. To be asked for only where there is room. */
  take(): Http2Connection {
    const found = this.withRoom();
    if (found !== null) return found;
    const connection = new Http2Connection(this.settings, this);
    this.connections.add(connection);
    return connection;
  }

  private withRoom(): Http2Connection | null {
    for (const connection of this.connections) if (connection.hasRoom) return connection;
    return null;
  }

  private mayOpen(): boolean {
    if (this.connections.size < this.settings.maxConnections) return true;
    const all = [...this.connections];
    if (all.some(({ isUsable }) => isUsable)) return false;
    // For what breaks it gives way once: the next may break as well.
    return all.filter(({ isDoubtful }) => isDoubtful).length <= this.settings.maxConnections;
  }

  opened(): void {
    this.user.markReached();
  }

  roomMade(): void {
    this.user.startWaiting();
  }

  closed(connection: Http2Connection): void {
    this.connections.delete(connection);
    this.user.startWaiting();
  }

  /** Ends every connection, whatever is under way. */
  close(error: Error): void {
    for (const connection of [...this.connections]) connection.destroy(error);
  }
}
