import { once } from 'node:events';
import { IncomingMessage } from 'node:http';
import { createServer, type AddressInfo, type Server } from 'node:net';
import { queryObjects } from 'node:v8';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { standingsOf, type Terms } from '../src/admit/standing.js';
import type { PeerIdentity } from '../src/identify/peer-identity.js';
import { Admission } from '../src/listen/admission.js';
import { sharedIdentity } from '../src/listen/shared-identity.js';
import { Tenure } from '../src/listen/tenure.js';
import { openRaw, type RawCaller } from './support/caller.js';
import { identityOf } from './support/identity.js';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const COUNT = { format: 'count' } as const;
const LARGE = 30_000_000;

/** Without Node's HTTP, whose objects are counted here. */
async function startBareApplication(): Promise<Server> {
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    socket.on('data', (chunk) => {
      const body = chunk.includes('/unread') ? Buffer.alloc(LARGE) : Buffer.from('ok');
      socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n`);
      socket.write(body);
    });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

describe('after an answer to a request with a body', () => {
  let application: Server;
  let sidecar: Sidecar;
  const callers: RawCaller[] = [];

  beforeAll(async () => {
    application = await startBareApplication();
    const { port } = application.address() as AddressInfo;
    const settings = { 'limits.bodyIdleTimeout': '300ms' };
    sidecar = await startSidecar({ upstream: `http://127.0.0.1:${port}`, settings });
    for (let count = 0; count < 5; count += 1) callers.push(await openRaw(sidecar));
    for (const { socket } of callers) {
      socket.write('POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody');
    }
    await Promise.all(callers.map((caller) => caller.receive(/ok$/)));
  });

  afterAll(async () => {
    for (const { socket } of callers) socket.destroy();
    await sidecar.stop();
    application.close();
  });

  it('nothing is left of the handshake', async () => {
    await expect.poll(() => queryObjects(Admission, COUNT)).toBe(0);
    expect(sidecar.app.connections()).toBe(callers.length);
  });

  it('nothing is left of the request', async () => {
    await expect.poll(() => queryObjects(IncomingMessage, COUNT)).toBe(0);
    expect(sidecar.app.connections()).toBe(callers.length);
  });

  it('a caller that asks again, and does not read, is noticed as ever', async () => {
    const [caller] = callers;
    caller?.socket.pause();
    caller?.socket.write('GET /unread HTTP/1.1\r\nHost: localhost\r\n\r\n');
    expect(await recordOf(sidecar, '/unread')).toMatchObject({ status: 200, outcome: 'caller_aborted' });
    await expect.poll(() => sidecar.app.connections()).toBe(callers.length - 1);
  });

  it('nothing is left of callers that have gone, at rest or right behind their answers', async () => {
    const hasty = await openRaw(sidecar);
    hasty.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n');
    await hasty.receive(/ok$/);
    for (const { socket } of [hasty, ...callers]) socket.destroy();
    await expect.poll(() => queryObjects(Tenure, COUNT)).toBe(0);
  });
});

describe('connections share what is known of their caller', () => {
  const one = identityOf({});
  const of = (change: Partial<PeerIdentity>): PeerIdentity => ({ ...one, tls: { ...one.tls }, ...change });

  it('where all of it is the same', () => {
    expect(sharedIdentity(one)).toBe(one);
    expect(sharedIdentity(of({ chain: one.chain.map((issuer) => Uint8Array.from(issuer)) }))).toBe(one);
  });

  it('but of one caller no more than a few are kept, however many names it asks for', () => {
    const askingFor = (serverName: string) => of({ tls: { ...one.tls, serverName } });
    const first = sharedIdentity(askingFor('0.example'));
    for (let name = 1; name < 100; name += 1) sharedIdentity(askingFor(`${name}.example`));
    expect(sharedIdentity(askingFor('99.example'))).toBe(sharedIdentity(askingFor('99.example')));
    expect(sharedIdentity(askingFor('0.example'))).not.toBe(first);
  });

  it('and with them no rules that were in force when they were last asked for', () => {
    class OldTerms extends Array<Terms> {}
    const terms: Terms = { verify: 'required', allow: null, isClosed: false };
    expect(standingsOf(one, OldTerms.of(terms))).toMatchObject([{ isIn: true }]);
    expect(queryObjects(OldTerms, COUNT)).toBe(0);
  });

  it.each<[string, Partial<PeerIdentity>]>([
    ['verdict', { verify: 'NONE' }],
    ['chain', { chain: [...one.chain, Uint8Array.of(0)] }],
    ['trust anchor', { anchorSha256: '00' }],
    ['version', { tls: { ...one.tls, version: 'TLSv1.1' } }],
    ['cipher', { tls: { ...one.tls, cipher: 'another' } }],
    ['server name', { tls: { ...one.tls, serverName: 'another' } }],
    ['resumption', { tls: { ...one.tls, sessionReused: !one.tls.sessionReused } }],
    ['fault', { fault: { reason: 'expired', detail: '' } }],
  ])('but not where the %s is another', (_, change) => {
    sharedIdentity(one);
    const other = of(change);
    expect(sharedIdentity(other)).toBe(other);
    expect(sharedIdentity(of({}))).toBe(one);
  });
});
