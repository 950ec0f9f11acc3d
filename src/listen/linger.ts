import type { Duplex } from 'node:stream';

/** nginx's `lingering_close`: how long, and how much, is still read from a caller whom we have nothing more to say to. */
const LINGER_MS = 2_000;

/**
 * Ends a connection so that the caller can read our last words. Closing a socket with unread bytes in it makes the
 * kernel send a reset, which lets the caller drop an answer that has already arrived.
 * @param last what is still to be written
 */
export function endLingering(socket: Duplex, last?: Buffer): void {
  socket.on('error', () => socket.destroy());
  if (socket.destroyed) return;
  const timer = setTimeout(() => socket.destroy(), LINGER_MS);
  socket.once('close', () => clearTimeout(timer));
  if (last === undefined) socket.end();
  else socket.end(last);
  socket.resume();
}
