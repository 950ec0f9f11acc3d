import { once } from 'node:events';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { begin2, call2, openHttp2 } from './support/http2.js';
import { block, FLAGS, frame, openFrames, request, TYPES, uint32, type FrameCaller } from './support/http2-frames.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const ENHANCE_YOUR_CALM = 11;
const WHOLE = FLAGS.endStream | FLAGS.endHeaders;

let application: Application;
let sidecar: Sidecar;
let attacker: FrameCaller;

beforeAll(async () => {
  application = await startApplication((seen, response) => {
    if (seen.url !== '/never') response.end('ok');
  });
  sidecar = await startSidecar({
    upstream: application.url,
    settings: { 'listen.http2': 'true', 'limits.streams': '10', 'upstream.maxConnections': '1000' },
  });
});
afterEach(async () => {
  attacker.socket.destroy();
  // Whatever an attacker does, an honest caller is served.
  const session = await openHttp2(sidecar);
  expect((await call2(session)).status).toBe(200);
  session.destroy();
});
afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

const range = (length: number): number[] => Array.from({ length }, (_, index) => index);
const odd = (index: number): number => index * 2 + 1;

describe('floods end with their connection', () => {
  it('of requests that are reset at once (CVE-2023-44487)', async () => {
    attacker = await openFrames(sidecar);
    const head = block(request('/never'));
    const before = application.seen.length;
    attacker.send(
      ...range(5_000).flatMap((index) => [
        frame('headers', WHOLE, odd(index), head),
        frame('reset', 0, odd(index), uint32(8)),
      ]),
    );
    await attacker.ended();
    expect(application.seen.length - before).toBeLessThan(1_000);
    const line = await sidecar.logged(({ msg }) => msg === 'an HTTP/2 connection was ended');
    expect(line['detail']).toMatch(/too many requests given up/);
    expect(line['subject']).toBe('CN=im.qq.com,O=Tencent,C=CN');
  });

  it('of requests that the caller makes us reset (CVE-2025-8671)', async () => {
    attacker = await openFrames(sidecar);
    const head = block(request('/never'));
    attacker.send(
      ...range(3_000).flatMap((index) => [
        frame('headers', WHOLE, odd(index), head),
        // A window that grows by nothing is an error of the stream.
        frame('windowUpdate', 0, odd(index), uint32(0)),
      ]),
    );
    await attacker.ended();
    expect(application.seen.filter(({ url }) => url === '/never').length).toBeLessThan(2_000);
  });

  it('of CONTINUATION frames (CVE-2024-27316)', async () => {
    attacker = await openFrames(sidecar);
    attacker.send(frame('headers', FLAGS.endStream, 1, block(request('/'))));
    const more = block([['x-more', 'x'.repeat(1_000)]]);
    attacker.send(...range(1_000).map(() => frame('continuation', 0, 1, more)));
    await attacker.ended();
  });

  it('of SETTINGS', async () => {
    attacker = await openFrames(sidecar);
    attacker.send(...range(20_000).map(() => frame('settings', 0, 0)));
    await attacker.ended();
  });

  it('of PING', async () => {
    attacker = await openFrames(sidecar);
    attacker.send(...range(20_000).map(() => frame('ping', 0, 0, Buffer.alloc(8))));
    await attacker.ended();
  });

  it('of empty DATA frames (CVE-2019-9518)', async () => {
    attacker = await openFrames(sidecar);
    const head = block([[':method', 'POST'], ...request('/').slice(1)]);
    attacker.send(frame('headers', FLAGS.endHeaders, 1, head), ...range(20_000).map(() => frame('data', 0, 1)));
    await attacker.ended();
  });

  it('of streams beyond limits.streams', async () => {
    attacker = await openFrames(sidecar);
    const head = block(request('/never'));
    attacker.send(...range(500).map((index) => frame('headers', WHOLE, odd(index), head)));
    await attacker.ended();
  });
});

describe('what is too much is refused', () => {
  it('a header block that grows out of a few bytes', async () => {
    attacker = await openFrames(sidecar);
    // 4,000 bytes in the table, and then one byte for each time that they are meant: 16 MB out of 4 KB.
    const entry = block([['x-bomb', 'x'.repeat(3_900)]], true);
    const bomb = Buffer.concat([block(request('/bomb')), entry, Buffer.alloc(4_000, 0xbe)]);
    attacker.send(frame('settings', FLAGS.ack, 0), frame('headers', WHOLE, 1, bomb));
    const reset = await attacker.frame((type, stream) => type === TYPES.reset && stream === 1);
    expect(reset.readUInt32BE(0)).toBe(ENHANCE_YOUR_CALM);
    expect(application.seen.some(({ url }) => url === '/bomb')).toBe(false);
  });

  it('more requests at once than limits.streams, which is announced', async () => {
    attacker = await openFrames(sidecar);
    const settings = await attacker.frame((type, _stream, payload) => type === TYPES.settings && payload.length > 0);
    const MAX_CONCURRENT_STREAMS = 3;
    const announced = range(settings.length / 6).map((index) => settings.subarray(index * 6));
    expect(announced.find((entry) => entry.readUInt16BE(0) === MAX_CONCURRENT_STREAMS)?.readUInt32BE(2)).toBe(10);
    const head = block(request('/never'));
    attacker.send(...range(11).map((index) => frame('headers', WHOLE, odd(index), head)));
    const reset = await attacker.frame((type, stream) => type === TYPES.reset && stream === odd(10));
    const REFUSED_STREAM = 7;
    expect(reset.readUInt32BE(0)).toBe(REFUSED_STREAM);
  });

  it('bytes that are no HTTP/2', async () => {
    attacker = await openFrames(sidecar);
    attacker.send(Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n'));
    const goaway = await attacker.frame((type) => type === TYPES.goaway);
    const FRAME_SIZE_ERROR = 6;
    expect(goaway.readUInt32BE(4)).toBe(FRAME_SIZE_ERROR);
  });

  it('headers that belong to a connection of HTTP/1.1', async () => {
    for (const [name, value] of [
      ['connection', 'x-ssl-client-verify'],
      ['transfer-encoding', 'chunked'],
      ['te', 'gzip'],
      ['upgrade', 'websocket'],
      ['X-Upper', 'case'],
      [':path', '/again'],
    ] as const) {
      attacker = await openFrames(sidecar);
      attacker.send(frame('headers', WHOLE, 1, block(request('/smuggled', [[name, value]]))));
      await attacker.frame((type, stream) => type === TYPES.reset && stream === 1);
      attacker.socket.destroy();
    }
    expect(application.seen.filter(({ url }) => url.startsWith('/smuggled'))).toEqual([]);
  });

  it('a field whose bytes would be another in HTTP/1.1', async () => {
    for (const [name, value] of [
      ['x-inject', 'a\r\nx-forged: yes'],
      ['x-inject\r\nx-forged', 'yes'],
      ['x-forged ', 'yes'],
      ['x-nul', 'a\0x-forged\0yes'],
    ] as const) {
      attacker = await openFrames(sidecar);
      attacker.send(frame('headers', WHOLE, 1, block(request('/injected', [[name, value]]))));
      // Node's parser resets the stream or drops the field.
      await attacker.frame((type, stream) => [TYPES.reset, TYPES.headers].includes(type as 1) && stream === 1);
      attacker.socket.destroy();
    }
    const arrived = application.seen.filter(({ url }) => url === '/injected');
    expect(JSON.stringify(arrived.map(({ rawHeaders }) => rawHeaders))).not.toMatch(/forged|nul|inject/);
  });

  it('a body of another length than announced', async () => {
    attacker = await openFrames(sidecar);
    const head = block([[':method', 'POST'], ...request('/short', [['content-length', '10']]).slice(1)]);
    attacker.send(frame('headers', FLAGS.endHeaders, 1, head), frame('data', FLAGS.endStream, 1, Buffer.from('short')));
    await attacker.frame((type, stream) => type === TYPES.reset && stream === 1);
    expect(application.seen.some(({ url }) => url === '/short')).toBe(false);
  });
});

it('a caller that gives up a request now and then is left alone', async () => {
  attacker = await openFrames(sidecar);
  const session = await openHttp2(sidecar);
  for (let round = 0; round < 20; round += 1) {
    const stream = begin2(session, { ':path': '/never' });
    setImmediate(() => stream.close(8));
    await once(stream, 'close');
  }
  expect((await call2(session)).status).toBe(200);
  session.destroy();
});
