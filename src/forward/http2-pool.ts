import type { Config } from '../config/config.js';
import { Http2Connection, type Http2ConnectionOwner } from './http2-connection.js';

/** The HTTP/2 connections to the application, at most `upstream.maxConnections`: as few as have room for what is under way. */
export class Http2Pool implements Http2ConnectionOwner {
  private readonly connections = new Set<Http2Connection>();

  /** @param onOpened called when the application has accepted a connection */
  constructor(
    private readonly settings: Config['upstream'],
    private readonly onOpened: () => void,
  ) {}

  /** Connections that the application has accepted. */
  get open(): number {
    return [...this.connections].filter(({ isConnected }) => isConnected).length;
  }

  /** Those of them that carry a request. */
  get busy(): number {
    return [...this.connections].filter(({ isConnected, streams }) => isConnected && streams > 0).length;
  }

  /** A connection for one more request. Without room on any, the least busy, where it waits for its turn. */
  take(): Http2Connection {
    let leastBusy: Http2Connection | null = null;
    for (const connection of this.connections) {
      if (connection.hasRoom) return connection;
      if (connection.isUsable && connection.streams < (leastBusy?.streams ?? Infinity)) leastBusy = connection;
    }
    if (leastBusy !== null && this.connections.size >= this.settings.maxConnections) return leastBusy;
    const connection = new Http2Connection(this.settings, this);
    this.connections.add(connection);
    return connection;
  }

  opened(): void {
    this.onOpened();
  }

  closed(connection: Http2Connection): void {
    this.connections.delete(connection);
  }

  /** Ends every connection, whatever is under way. */
  close(error: Error): void {
    for (const connection of [...this.connections]) connection.destroy(error);
  }
}
