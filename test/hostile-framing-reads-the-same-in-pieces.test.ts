import { setImmediate as turn } from 'node:timers/promises';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { openRaw } from './support/caller.js';
import { matcher, readCorpus, type Case } from './support/corpus.js';
import { startRecorder, type Recorder } from './support/recorder.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { headerValues, normalForm, statusOf, WireReader, type WireMessage } from './support/wire.js';

const CORPUS = readCorpus();

/** Every case that has a body or a neighbour; of the rest, which differ in what no cut can reach, every fourth. */
function isWorthCutting({ send, closes, refused }: Case, index: number): boolean {
  // An id that is kept would stand for many requests.
  if (refused !== null || closes || send.length > 260 || send.includes('X-Request-Id')) return false;
  return !send.endsWith('\r\n\r\n') || /chunked|HTTP.*HTTP/s.test(send) || index % 4 === 0;
}

/** Where two readers differ most: each is refused by another state of the parser. */
const TRICKY = new Set([
  'CL.TE',
  'chunked and then identity',
  'a coding behind a fold',
  'two lengths',
  'a bare LF behind a size',
  'two other bytes behind a chunk',
  'a space before the colon',
  'two Hosts',
]);

let recorder: Recorder;
let sidecar: Sidecar;
let matches: ReturnType<typeof matcher>;

beforeAll(async () => {
  recorder = await startRecorder();
  sidecar = await startSidecar({ upstream: recorder.url, settings: { 'limits.requestsPerConnection': '1000000' } });
  matches = matcher(sidecar);
});

afterAll(async () => {
  await sidecar.stop();
  await recorder.stop();
});

/** Each turn is long enough for the other end to have read the piece: TLS hands on a record as it was written. */
async function sendInTwo(socket: { write(bytes: Buffer): unknown }, bytes: Buffer, at: number): Promise<void> {
  socket.write(bytes.subarray(0, at));
  await turn();
  await turn();
  socket.write(bytes.subarray(at));
}

/** Runs every job, a few at once. */
async function together<T>(jobs: readonly T[], run: (job: T) => Promise<void>): Promise<void> {
  const waiting = [...jobs];
  const lane = async (): Promise<void> => {
    for (let job = waiting.shift(); job !== undefined; job = waiting.shift()) await run(job);
  };
  await Promise.all(Array.from({ length: 8 }, lane));
}

/** Over one connection, cut at another byte each time. */
async function sendAtEveryCut(one: Case): Promise<number> {
  const bytes = Buffer.from(one.send, 'latin1');
  const methods: string[] = [];
  const answers: WireMessage[] = [];
  const reader = new WireReader({ nextMethod: () => methods.shift(), onMessage: (answer) => answers.push(answer) });
  const caller = await openRaw(sidecar);
  for (let at = 1; at < bytes.length; at += 1) {
    for (const text of one.forwarded) methods.push(text.slice(0, text.indexOf(' ')));
    const whole = new Promise<void>((resolve, reject) => {
      const look = (chunk: Buffer): void => {
        reader.push(chunk);
        if (answers.length < one.forwarded.length && reader.problem === null) return;
        caller.socket.off('data', look);
        resolve();
      };
      caller.socket.on('data', look);
      caller.socket.once('close', () => reject(new Error(`${one.name}: closed when cut at ${at}`)));
    });
    await sendInTwo(caller.socket, bytes, at);
    await whole;
    expect(reader.problem).toBe(null);
    expectAsWritten(one, answers.splice(0), at);
    caller.socket.removeAllListeners('close');
  }
  caller.socket.destroy();
  return (bytes.length - 1) * one.forwarded.length;
}

function expectAsWritten(one: Case, answers: readonly WireMessage[], at: number): void {
  answers.forEach((answer, index) => {
    const [id = ''] = headerValues(answer, 'x-request-id');
    const [message] = recorder.byId.get(id) ?? [];
    const text = message === undefined ? 'nothing' : normalForm(message);
    const expected = one.forwarded[index] ?? '';
    if (!matches(expected, text)) expect(text, `${one.name}, cut at ${at}`).toBe(expected);
  });
}

it('what is forwarded', { timeout: 120_000 }, async () => {
  const cases = CORPUS.filter(isWorthCutting);
  const before = sidecar.requests().length;
  let sent = 0;
  recorder.forget();
  await together(cases, async (one) => {
    const requests = await sendAtEveryCut(one);
    sent += requests;
  });
  await sidecar.logged(() => sidecar.requests().length >= before + sent);
  // Not one more than was sent reached the application, and the log knows each of them.
  expect(recorder.problems).toEqual([]);
  expect(recorder.received.length).toBe(sent);
  const records = sidecar.requests().slice(before);
  expect(new Set(records.map(({ requestId }) => requestId))).toEqual(new Set(recorder.byId.keys()));
  expect(records.filter(({ status, code }) => status !== 200 || code !== null)).toEqual([]);
});

it('what is refused', { timeout: 120_000 }, async () => {
  const cases = CORPUS.filter(({ name, refused }) => refused !== null && TRICKY.has(name));
  expect(cases.length).toBe(TRICKY.size);
  const jobs = cases.flatMap((one) =>
    Array.from({ length: one.send.length - 1 }, (_, index) => ({ one, at: index + 1 })),
  );
  recorder.forget();
  await together(jobs, async ({ one, at }) => {
    const methods = [...one.forwarded.map(() => 'GET'), 'GET'];
    const reader = new WireReader({ nextMethod: () => methods.shift() });
    const caller = await openRaw(sidecar);
    caller.socket.on('data', (chunk: Buffer) => reader.push(chunk));
    await sendInTwo(caller.socket, Buffer.from(`${one.send}GET /smuggled HTTP/1.1\r\nHost: b\r\n\r\n`, 'latin1'), at);
    await caller.closed();
    reader.end();
    expect(reader.problem, `${one.name}, cut at ${at}`).toBe(null);
    const statuses = reader.messages.map(statusOf);
    expect(statuses, `${one.name}, cut at ${at}`).toEqual([...one.forwarded.map(() => 200), 400]);
  });
  await recorder.settled();
  expect(recorder.problems).toEqual([]);
  const wanted = cases.reduce((sum, { forwarded, send }) => sum + forwarded.length * (send.length - 1), 0);
  expect(recorder.received.length).toBe(wanted);
});
