import { once } from 'node:events';
import { createServer, get, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { describe, expect, it } from 'vitest';
import { ProxyError } from '../src/errors.js';
import { Relay } from '../src/respond/relay.js';

const OPTIONS = {
  requestId: 'id',
  isLast: () => false,
  wantsJson: () => false,
  isStarting: () => false,
  expectsContinue: false,
  httpVersion: '1.1',
};

/** Relays an answer whose head Node refuses to write, then what follows it; gives what the caller and the response saw. */
async function relayed(follow: (relay: Relay) => void) {
  const errors: unknown[] = [];
  const server = createServer((_request, response: ServerResponse) => {
    response.on('error', (error) => errors.push(error));
    const relay = new Relay(response, OPTIONS);
    relay.head(200, 'OK', ['a name that is none', 'x']);
    follow(relay);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const [answer] = (await once(get({ host: '127.0.0.1', port, agent: false }), 'response')) as [IncomingMessage];
  answer.resume();
  await once(answer, 'end');
  server.close();
  await once(server, 'close');
  return { status: answer.statusCode, errors };
}

describe('a head that cannot be written becomes a refusal', () => {
  it.each([
    ['the end', (relay: Relay) => relay.end([])],
    ['pieces', (relay: Relay) => void [1, 2, 3].forEach(() => relay.data(Buffer.from('piece')))],
    ['a failure', (relay: Relay) => relay.fail(new ProxyError('upstream_closed', 'upstream', 'forward', 'gone'))],
    ['nothing', () => undefined],
  ])('also when %s follows at once', async (_what, follow) => {
    expect(await relayed(follow)).toEqual({ status: 502, errors: [] });
  });
});
