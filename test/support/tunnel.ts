import { startRawApplication, type RawApplication } from './application.js';
import { openRaw, type RawCaller, type Reachable } from './caller.js';

/** The head of an Upgrade, as the application below takes it. */
export const upgradeTo = (path: string): string =>
  `GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`;

/** An application that says everything once more, over tunnels. */
export function startEcho(): Promise<RawApplication> {
  return startRawApplication((socket) => {
    socket.once('data', () => {
      socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
      socket.on('data', (chunk) => socket.write(chunk));
    });
  });
}

/** A caller with an open tunnel. @param options as of `openRaw` */
export async function openTunnel(
  sidecar: Reachable,
  path = '/',
  options: Parameters<typeof openRaw>[1] = {},
): Promise<RawCaller> {
  const caller = await openRaw(sidecar, options);
  caller.socket.write(upgradeTo(path));
  await caller.receive(/^HTTP\/1\.1 101 [^]*\r\n\r\n$/);
  return caller;
}

let words = 0;

/** Rejects when the tunnel has ended. */
export async function echoes(caller: RawCaller): Promise<void> {
  const word = `word-${(words += 1)}.`;
  caller.socket.write(word);
  await caller.receive(new RegExp(`${word}$`));
}
