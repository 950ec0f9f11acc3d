import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readClientHello } from '../src/listen/client-hello.js';
import { startApplication, type Application } from './support/application.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

let application: Application;
let sidecar: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({
    upstream: application.url,
    settings: { 'tls.handshakeTimeout': '1s', 'log.level': 'debug' },
  });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const uint16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const vector16 = (bytes: Buffer): Buffer => Buffer.concat([uint16(bytes.length), bytes]);
const extension = (type: number, bytes: Buffer): Buffer => Buffer.concat([uint16(type), vector16(bytes)]);
const identity = (ticket: Buffer): Buffer => Buffer.concat([vector16(ticket), Buffer.alloc(4, 9)]);

/** A ClientHello with these extensions; null for none at all. */
function hello(extensions: Buffer | null, sessionId = Buffer.alloc(0)): Buffer {
  const body = Buffer.concat([
    uint16(0x0303),
    Buffer.alloc(32, 1),
    Buffer.from([sessionId.length]),
    sessionId,
    vector16(uint16(0x1301)),
    Buffer.from([1, 0]),
    ...(extensions === null ? [] : [vector16(extensions)]),
  ]);
  const message = Buffer.concat([Buffer.from([1, 0]), uint16(body.length), body]);
  return record(message);
}

/** A list of server names, and one of its entries. */
const names = (...entries: Buffer[]): Buffer => extension(0, vector16(Buffer.concat(entries)));
const entry = (name: string, type = 0): Buffer => Buffer.concat([Buffer.from([type]), vector16(Buffer.from(name))]);

const record = (message: Buffer): Buffer => Buffer.concat([Buffer.from([22, 3, 1]), vector16(message)]);

const TICKET = Buffer.alloc(200, 5);
const VERSIONS = extension(43, Buffer.from([2, 3, 4]));

describe('a hello', () => {
  it.each([
    ['without extensions', hello(null), { tickets: [], withoutTickets: true }],
    ['with a session id', hello(extension(1, TICKET), Buffer.alloc(32, 1)), { tickets: [], withoutTickets: true }],
    ['with a name', hello(names(entry('A.test'))), { serverName: 'A.test', tickets: [], withoutTickets: true }],
    ['that would like a ticket', hello(extension(35, Buffer.alloc(0))), { tickets: [], withoutTickets: false }],
    ['with a ticket', hello(extension(35, TICKET)), { tickets: [TICKET], withoutTickets: false }],
    ['of TLS 1.3', hello(VERSIONS), { tickets: [], withoutTickets: false }],
    [
      'of TLS 1.3 with two tickets',
      hello(Buffer.concat([VERSIONS, extension(41, vector16(Buffer.concat([identity(TICKET), identity(VERSIONS)])))])),
      { tickets: [TICKET, VERSIONS], withoutTickets: false },
    ],
  ])('%s is understood', (_what, bytes, found) => {
    const expected = { serverName: null, ...found };
    expect(readClientHello(bytes)).toEqual(expected);
    expect(readClientHello(Buffer.concat([bytes, Buffer.from('more')]))).toEqual(expected);
    for (let length = 0; length < bytes.length; length += 1) {
      expect(readClientHello(bytes.subarray(0, length))).toBe('incomplete');
    }
  });

  it.each([
    ['plain HTTP', Buffer.from('GET / HTTP/1.1\r\n\r\n')],
    ['another record', Buffer.from([21, 3, 1, 0, 2, 1, 0])],
    ['another message', record(Buffer.from([2, 0, 0, 0]))],
    ['SSL 2', Buffer.from([22, 2, 0, 0, 4, 1, 0, 0, 0])],
    ['a record without an end', Buffer.from([22, 3, 1, 0x40, 0x01])],
    ['an empty record', Buffer.from([22, 3, 1, 0, 0])],
    ['a message in two records', record(hello(null).subarray(5, 20))],
    ['an extension that is longer than all of them', hello(Buffer.from([0, 35, 0, 9, 1]))],
    ['an extension that is there twice', hello(Buffer.concat([extension(35, TICKET), extension(35, VERSIONS)]))],
    ['no name in its list', hello(names())],
    ['an empty name', hello(names(entry('')))],
    ['two names', hello(names(entry('a.test'), entry('b.test')))],
    ['a name of another kind', hello(names(entry('a.test', 1)))],
    ['a name that is too long', hello(names(entry('a'.repeat(256))))],
    ['a name with a NUL', hello(names(entry('a.test\0.b.test')))],
    ['a name with a line end', hello(names(entry('a.test\r\n')))],
    ['a name that is not ASCII', hello(names(entry('ä.test')))],
    ['a name longer than its list', hello(extension(0, vector16(Buffer.from([0, 0, 9, 97]))))],
    ['something behind the list of names', hello(extension(0, Buffer.concat([vector16(entry('a.test')), TICKET])))],
    ['an identity without its age', hello(extension(41, vector16(vector16(TICKET))))],
  ])('there is nothing to learn from %s', (_what, bytes) => {
    expect(readClientHello(bytes)).toBeNull();
  });

  it('of any bytes does no harm', () => {
    const spoilt = fc.tuple(fc.nat(), fc.nat(255)).map(([at, value]) => {
      const bytes = Buffer.concat([hello(Buffer.concat([VERSIONS, extension(41, vector16(identity(TICKET)))]))]);
      bytes[at % bytes.length] = value;
      return bytes;
    });
    const any = fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes));
    const framed = any.map((bytes) => record(Buffer.concat([Buffer.from([1, 0]), vector16(bytes)])));
    fc.assert(
      fc.property(fc.oneof(spoilt, any, framed), (bytes) => {
        const found = readClientHello(bytes);
        if (found === null || found === 'incomplete') return;
        for (const ticket of found.tickets) expect(bytes.includes(ticket)).toBe(true);
      }),
      { numRuns: 2_000 },
    );
  });
});

describe('a connection', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)('whose hello comes byte by byte is resumed with %s', async (version) => {
    const { session } = await visit(sidecar, { version });
    const slow = createServer((near) => {
      const far = connect(sidecar.port, '127.0.0.1');
      far.setNoDelay(true).pipe(near);
      near.on('error', () => far.destroy()).on('end', () => far.end());
      let last = Promise.resolve();
      near.on('data', (chunk: Buffer) => {
        for (const byte of chunk) {
          last = last.then(() => new Promise((sent) => far.write(Buffer.from([byte]), () => setImmediate(sent))));
        }
      });
    }).listen(0, '127.0.0.1');
    await once(slow, 'listening');
    const { port } = slow.address() as AddressInfo;
    const through = { port, pki: sidecar.pki };
    expect(await visit(through, { version, session })).toMatchObject({ status: 200, reused: true });
    slow.close();
  });

  it('that stops within its hello ends at the deadline', async () => {
    const socket = connect(sidecar.port, '127.0.0.1');
    socket.write(hello(VERSIONS).subarray(0, 30));
    await once(socket.resume(), 'close');
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason: 'handshake_timeout' });
  });

  it('that is closed within its hello is one that was given up', async () => {
    const socket = connect(sidecar.port, '127.0.0.1');
    socket.end(hello(VERSIONS).subarray(0, 30));
    await once(socket.resume(), 'close');
    await sidecar.logged(({ reason }) => reason === 'handshake_aborted');
  });

  it('with a malformed hello gets its alert from OpenSSL', async () => {
    const before = sidecar.refusals().length;
    const socket = connect(sidecar.port, '127.0.0.1');
    socket.write(hello(Buffer.concat([extension(35, TICKET), extension(35, VERSIONS)])));
    const [alert] = (await once(socket, 'data')) as [Buffer];
    expect(alert[0]).toBe(21);
    socket.destroy();
    expect(sidecar.refusals()).toHaveLength(before + 1);
  });
});
