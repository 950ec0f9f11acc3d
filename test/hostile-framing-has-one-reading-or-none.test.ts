import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openRaw } from './support/caller.js';
import { matcher, readCorpus, type Case } from './support/corpus.js';
import { startRecorder, type Recorder } from './support/recorder.js';
import { startSidecar, type LogLine, type Sidecar } from './support/sidecar.js';
import { connectionProblem, headerValues, methodOf, normalForm, statusOf, WireReader } from './support/wire.js';

const CORPUS = readCorpus();
const LAST = 'GET /last HTTP/1.1\r\nHost: last\r\nConnection: close\r\n\r\n';
const SMUGGLED = 'GET /smuggled HTTP/1.1\r\nHost: smuggled\r\nConnection: close\r\n\r\n';

const STATUS: Readonly<Record<string, number>> = {
  bad_request: 400,
  body_too_large: 413,
  uri_too_long: 414,
  headers_too_large: 431,
};

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

/** Whether the connection still serves a request behind those of the case. */
function staysOpen({ refused, closes }: Case): boolean {
  return refused === null && !closes;
}

describe.each([...new Set(CORPUS.map(({ file }) => file))])('%s', (file) => {
  it.each(CORPUS.filter((one) => one.file === file).map((one) => [one.name, one] as const))('%s', async (_, one) => {
    recorder.forget();
    const before = sidecar.requests().length;
    // What stands behind the case is served if the connection goes on, and never seen by anybody if it ends.
    const answers = await converse(one.send + (staysOpen(one) ? LAST : SMUGGLED), one);
    await recorder.settled();
    expectForwarded(one);
    const records = await recordsSince(before, answers.length);
    expectOneTruth(one, answers, records);
  });
});

/** What the caller got, until the sidecar ended the connection. */
async function converse(bytes: string, one: Case): Promise<{ readonly status: number; readonly id: string }[]> {
  const methods = [...one.forwarded.map((text) => text.slice(0, text.indexOf(' '))), 'GET'];
  const reader = new WireReader({ nextMethod: () => methods.shift() });
  const caller = await openRaw(sidecar);
  caller.socket.on('data', (chunk: Buffer) => reader.push(chunk));
  caller.socket.write(Buffer.from(bytes, 'latin1'));
  await caller.closed();
  reader.end();
  expect(reader.problem).toBe(null);
  return reader.messages.map((message) => {
    const [id = ''] = headerValues(message, 'x-request-id');
    // The answer of the application is the id of the request that it answers.
    if (statusOf(message) === 200 && message.framing !== 'none') expect(message.body.toString()).toBe(id);
    return { status: statusOf(message), id };
  });
}

function expectForwarded(one: Case): void {
  const { received, problems } = recorder;
  expect(problems).toEqual([]);
  const expected = staysOpen(one) ? [...one.forwarded, 'GET /last HTTP/1.1\r\nhost: last\r\n{set}\r\n'] : one.forwarded;
  const actual = received.map(({ message }) => normalForm(message));
  // The first comparison is for whoever reads a failure.
  if (actual.length !== expected.length) expect(actual).toEqual(expected);
  actual.forEach((text, index) => {
    if (!matches(expected[index] ?? '', text)) expect(text).toBe(expected[index]);
  });
  expect(received.flatMap(({ message }) => connectionProblem(message) ?? [])).toEqual([]);
}

/** The log, the application and the caller tell of the same requests. */
function expectOneTruth(
  one: Case,
  answers: readonly { status: number; id: string }[],
  records: readonly LogLine[],
): void {
  const { received } = recorder;
  const forwarded = received.map(({ id, message }) => ({
    requestId: id,
    method: methodOf(message),
    status: 200,
    code: null,
    outcome: 'ok',
    bytesIn: message.body.length,
  }));
  const { refused } = one;
  const refusal = { status: STATUS[refused ?? ''], code: refused, outcome: 'refused', bytesOut: 0 };
  expect(records).toMatchObject(refused === null ? forwarded : [...forwarded, refusal]);
  expect(answers).toEqual(records.map(({ status, requestId }) => ({ status, id: requestId })));
}

/** The caller may know a moment before the log does. */
async function recordsSince(before: number, count: number): Promise<LogLine[]> {
  if (count > 0) await sidecar.logged(() => sidecar.requests().length >= before + count);
  return sidecar.requests().slice(before);
}

it('holds hundreds of cases, each under a name of its own', () => {
  const names = CORPUS.map(({ file, name }) => `${file} ${name}`);
  expect(new Set(names).size).toBe(names.length);
  expect(names.length).toBeGreaterThan(400);
});
