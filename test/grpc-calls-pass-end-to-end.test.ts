import { once } from 'node:events';
import * as grpc from '@grpc/grpc-js';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { recordOf } from './support/records.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const asIs = (bytes: Buffer): Buffer => bytes;

function method(name: string, requestStream: boolean, responseStream: boolean) {
  return {
    path: `/test.Echo/${name}`,
    requestStream,
    responseStream,
    requestSerialize: asIs,
    requestDeserialize: asIs,
    responseSerialize: asIs,
    responseDeserialize: asIs,
  };
}

const ECHO = {
  Unary: method('Unary', false, false),
  Join: method('Join', true, false),
  Split: method('Split', false, true),
  Talk: method('Talk', true, true),
  Forever: method('Forever', true, true),
  Never: method('Never', false, false),
};

/** What the service saw of its callers, and of their leaving. */
const seen: grpc.Metadata[] = [];
const cancelled = new Map<string, () => void>();

const service: grpc.UntypedServiceImplementation = {
  Unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
    seen.push(call.metadata);
    if (call.request.toString() === 'fail') {
      const metadata = new grpc.Metadata();
      metadata.set('why', 'because');
      return done({ code: grpc.status.FAILED_PRECONDITION, details: 'not now', metadata });
    }
    const trailer = new grpc.Metadata();
    trailer.set('length', String(call.request.length));
    done(null, call.request, trailer);
  },
  Join(call: grpc.ServerReadableStream<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
    const parts: Buffer[] = [];
    call.on('data', (part: Buffer) => parts.push(part));
    call.on('end', () => done(null, Buffer.concat(parts)));
  },
  async Split(call: grpc.ServerWritableStream<Buffer, Buffer>) {
    const [count = 0, size = 0] = call.request.toString().split('x').map(Number);
    for (let index = 0; index < count; index += 1) {
      if (!call.write(Buffer.alloc(size, index))) await once(call, 'drain');
    }
    call.end();
  },
  Talk(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
    call.on('data', (part: Buffer) => call.write(part));
    call.on('end', () => call.end());
  },
  Forever(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
    call.write(Buffer.from('begun'));
    call.on('cancelled', () => cancelled.get('Forever')?.());
  },
  Never(call: grpc.ServerUnaryCall<Buffer, Buffer>) {
    call.on('cancelled', () => cancelled.get('Never')?.());
  },
};

const untilCancelled = (name: string): Promise<void> => new Promise((resolve) => cancelled.set(name, resolve));

let server: grpc.Server;
let sidecar: Sidecar;
let client: grpc.Client;

beforeAll(async () => {
  server = new grpc.Server({ 'grpc.max_receive_message_length': -1 });
  server.addService(ECHO, service);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync('127.0.0.1:0', grpc.ServerCredentials.createInsecure(), (error, bound) => {
      if (error === null) resolve(bound);
      else reject(error);
    });
  });
  sidecar = await startSidecar({
    upstream: `http://127.0.0.1:${port}`,
    settings: { 'listen.http2': 'true', 'upstream.http2': 'true', 'limits.body': '0' },
  });
  const { pki } = sidecar;
  client = connect(pki.client);
});
afterAll(async () => {
  client.close();
  await sidecar.stop();
  server.forceShutdown();
});

function connect(as: { readonly certPem: string; readonly keyPem: string } | null): grpc.Client {
  const ca = Buffer.from(sidecar.pki.ca.certPem);
  const credentials =
    as === null
      ? grpc.credentials.createSsl(ca)
      : grpc.credentials.createSsl(ca, Buffer.from(as.keyPem), Buffer.from(as.certPem));
  return new grpc.Client(`127.0.0.1:${sidecar.port}`, credentials, {
    'grpc.ssl_target_name_override': 'localhost',
    'grpc.max_receive_message_length': -1,
  });
}

/** A unary call and all that came of it. */
function unary(message: Buffer, options: grpc.CallOptions = {}, name = 'Unary', by = client) {
  return new Promise<{ body: Buffer | undefined; error: grpc.ServiceError | null; status: grpc.StatusObject }>(
    (resolve) => {
      let answer: { error: grpc.ServiceError | null; body: Buffer | undefined } = { error: null, body: undefined };
      const metadata = new grpc.Metadata();
      metadata.set('x-ssl-client-s-dn', 'CN=forged');
      metadata.set('x-mine', 'kept');
      const done = (error: grpc.ServiceError | null, body?: Buffer): void => void (answer = { error, body });
      const call = by.makeUnaryRequest(`/test.Echo/${name}`, asIs, asIs, message, metadata, options, done);
      call.on('status', (status: grpc.StatusObject) => setImmediate(() => resolve({ ...answer, status })));
    },
  );
}

describe('unary calls', () => {
  it('come back with their trailers, and the service knows who called', async () => {
    const { body, status } = await unary(Buffer.from('hello'));
    expect(body?.toString()).toBe('hello');
    expect(status).toMatchObject({ code: grpc.status.OK });
    expect(status.metadata.get('length')).toEqual(['5']);
    const metadata = seen.at(-1) as grpc.Metadata;
    expect(metadata.get('x-ssl-client-s-dn')).toEqual(['CN=im.qq.com,O=Tencent,C=CN']);
    expect(metadata.get('x-ssl-client-verify')).toEqual(['SUCCESS']);
    expect(metadata.get('x-mine')).toEqual(['kept']);
    expect(await recordOf(sidecar, '/test.Echo/Unary')).toMatchObject({
      status: 200,
      httpVersion: '2.0',
      outcome: 'ok',
    });
  });

  it('fail with the status that the service gives', async () => {
    const { error } = await unary(Buffer.from('fail'));
    expect(error).toMatchObject({ code: grpc.status.FAILED_PRECONDITION, details: 'not now' });
    expect(error?.metadata.get('why')).toEqual(['because']);
  });

  it('carry large messages', async () => {
    const large = Buffer.alloc(16 * 1024 ** 2, 'x');
    const { body } = await unary(large);
    expect(body?.equals(large)).toBe(true);
  });

  it('many at once, over few connections', async () => {
    const messages = Array.from({ length: 250 }, (_, index) => Buffer.from(`${index}`));
    const answers = await Promise.all(messages.map((message) => unary(message)));
    expect(answers.map(({ body }) => body?.toString())).toEqual(messages.map(String));
    const idle = await sidecar.metric('mtls_sidecar_upstream_connections{state="idle"}');
    expect(idle).toBeGreaterThan(0);
    expect(idle).toBeLessThan(5);
  });

  it('end at their deadline, and the service hears of it', async () => {
    const heard = untilCancelled('Never');
    const { error } = await unary(Buffer.from('x'), { deadline: Date.now() + 300 }, 'Never');
    expect(error?.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    await heard;
    expect(await recordOf(sidecar, '/test.Echo/Never')).toMatchObject({ outcome: 'caller_aborted' });
  });
});

it('a stream of requests has one answer', async () => {
  const answer = new Promise<Buffer | undefined>((resolve, reject) => {
    const call = client.makeClientStreamRequest<Buffer, Buffer>('/test.Echo/Join', asIs, asIs, (error, body) =>
      error === null ? resolve(body) : reject(error),
    );
    for (let index = 0; index < 100; index += 1) call.write(Buffer.alloc(10_000, index));
    call.end();
  });
  expect((await answer)?.length).toBe(1_000_000);
});

it('one request has a stream of answers, which waits for a slow reader', async () => {
  const call = client.makeServerStreamRequest<Buffer, Buffer>('/test.Echo/Split', asIs, asIs, Buffer.from('64x100000'));
  let received = 0;
  for await (const part of call) {
    received += (part as Buffer).length;
    if (received === 1_000_000) await new Promise((resolve) => setTimeout(resolve, 100));
  }
  expect(received).toBe(6_400_000);
});

it('both sides stream, in turn', async () => {
  const call = client.makeBidiStreamRequest<Buffer, Buffer>('/test.Echo/Talk', asIs, asIs);
  for (const word of ['one', 'two', 'three']) {
    call.write(Buffer.from(word));
    const [echo] = (await once(call, 'data')) as [Buffer];
    expect(echo.toString()).toBe(word);
  }
  const status = once(call, 'status');
  call.end();
  call.resume();
  expect((await status)[0]).toMatchObject({ code: grpc.status.OK });
});

it('a caller that cancels a stream ends it at the service', async () => {
  const heard = untilCancelled('Forever');
  const call = client.makeBidiStreamRequest<Buffer, Buffer>('/test.Echo/Forever', asIs, asIs);
  call.on('error', () => undefined);
  await once(call, 'data');
  call.cancel();
  await heard;
});

it('a caller that may not come in is told so, and does not hang', async () => {
  const stranger = connect(null);
  const { error } = await unary(Buffer.from('x'), {}, 'Unary', stranger);
  expect(error?.code).toBe(grpc.status.INTERNAL);
  expect(error?.details).toContain('400');
  stranger.close();
});

it('a service that is not there is UNAVAILABLE', async () => {
  const lonely = await startSidecar({
    pki: sidecar.pki,
    settings: { 'listen.http2': 'true', 'upstream.http2': 'true' },
  });
  const caller = new grpc.Client(
    `127.0.0.1:${lonely.port}`,
    grpc.credentials.createSsl(
      Buffer.from(lonely.pki.ca.certPem),
      Buffer.from(lonely.pki.client.keyPem),
      Buffer.from(lonely.pki.client.certPem),
    ),
    { 'grpc.ssl_target_name_override': 'localhost' },
  );
  const { error } = await unary(Buffer.from('x'), {}, 'Unary', caller);
  expect(error?.code).toBe(grpc.status.UNAVAILABLE);
  caller.close();
  await lonely.stop();
});
