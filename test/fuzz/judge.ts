import { setImmediate as turn } from 'node:timers/promises';
import type { TLSSocket } from 'node:tls';
import type { Recorder } from '../support/recorder.js';
import { headerValues, methodOf, statusOf, WireReader, type WireMessage } from '../support/wire.js';
import type { Conversation } from './inputs.js';
import { readStream, type Reading } from './reference.js';
import { TIME_OUT, type AccessRecord, type Subject } from './subject.js';

/** How long an answer may be waited for before it counts as a hang. Milliseconds. */
const PATIENCE = 20_000;
const LAST = 'GET /last HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n';

/** What the application and the sidecar's log say of one conversation. */
interface Told {
  /** Whether the caller left with a request half said, and with it perhaps an answer that was on its way. */
  readonly left: boolean;
  readonly answers: readonly WireMessage[];
  readonly records: readonly AccessRecord[];
  readonly problem: string | null;
}

/**
 * Has one conversation with the sidecar and compares what everybody heard of it.
 * @returns what is wrong, one sentence each
 */
export async function judge(subject: Subject, recorder: Recorder, talk: Conversation): Promise<string[]> {
  const bytes = talk.inputs.map((input) => input.bytes).join('') + LAST;
  const reading = readStream(bytes);
  const socket = await subject.open();
  const port = socket.localPort ?? 0;
  const told = await converse(subject, socket, { bytes, reading, cuts: talk.cuts, port });
  if (told.problem?.startsWith(TIME_OUT) === true) return [told.problem];
  const wrong = told.problem === null ? [] : [told.problem];
  wrong.push(...compareAnswers(told));
  const forwarded = told.records.flatMap((record) => {
    const messages = recorder.byId.get(record.requestId) ?? [];
    recorder.byId.delete(record.requestId);
    wrong.push(...compareForwarded(record, messages));
    return messages;
  });
  wrong.push(...compareReading(forwarded, reading));
  wrong.push(...mustHaveServed(talk, told.records));
  return wrong;
}

async function converse(
  subject: Subject,
  socket: TLSSocket,
  { bytes, reading, cuts, port }: { bytes: string; reading: Reading; cuts: readonly number[]; port: number },
): Promise<Told> {
  const { stoppedAtHead } = reading;
  const methods = [...reading.requests.map(({ method }) => method), stoppedAtHead ? 'HEAD' : 'GET'];
  let ended = (): void => undefined;
  const reader = new WireReader({
    nextMethod: () => methods.shift() ?? 'GET',
    // A body that is not whole would be waited for until its deadline.
    onMessage: () => reading.stop === 'partial' && reader.messages.length >= reading.requests.length && socket.end(),
  });
  const closed = new Promise<boolean>((resolve) => {
    const timer = setTimeout(() => resolve(false), PATIENCE);
    ended = (): void => (clearTimeout(timer), resolve(true));
  });
  socket.once('close', ended);
  socket.on('data', (chunk: Buffer) => reader.push(chunk));
  await sendInPieces(socket, Buffer.from(bytes, 'latin1'), cuts);
  if (reading.stop === 'partial' && reading.requests.length === 0) socket.end();
  const inTime = await closed;
  socket.destroy();
  reader.end();
  const answers = reader.messages.filter((message) => statusOf(message) >= 200);
  const records = await subject.records(port, answers.length);
  const hang = inTime ? lateRecords(records, answers) : `${TIME_OUT}: no end of the conversation`;
  const left = reading.stop === 'partial';
  return { left, answers, records, problem: hang ?? (left || stoppedAtHead ? null : reader.problem) };
}

function lateRecords({ length: came }: readonly unknown[], { length: due }: readonly unknown[]): string | null {
  return came < due ? `${TIME_OUT}: ${came} records of ${due} answers` : null;
}

async function sendInPieces(socket: TLSSocket, bytes: Buffer, cuts: readonly number[]): Promise<void> {
  const places = cuts.map((cut) => Math.floor(cut * bytes.length)).sort((one, other) => one - other);
  let from = 0;
  for (const to of [...places, bytes.length]) {
    if (to === from || !socket.writable) continue;
    socket.write(bytes.subarray(from, to));
    from = to;
    await turn();
  }
}

/** The caller's answers are those that the log tells of, in this order. */
function compareAnswers({ left, answers, records }: Told): string[] {
  const heard = answers.map((answer) => `${statusOf(answer)} ${headerValues(answer, 'x-request-id').join()}`);
  const logged = records.filter(({ outcome }) => outcome !== 'caller_aborted').map((r) => `${r.status} ${r.requestId}`);
  const wrong = heard.filter((line, index) => logged[index] !== line && !records.some(isAborted));
  if (wrong.length > 0 || (logged.length > heard.length && !left))
    return [`heard ${heard.join('; ')}, logged ${logged.join('; ')}`];
  return answers
    .filter((answer) => statusOf(answer) === 200 && answer.framing === 'length')
    .filter((answer) => answer.body.toString() !== headerValues(answer, 'x-request-id').join())
    .map(() => 'an answer to another request');
}

function isAborted({ outcome }: AccessRecord): boolean {
  return outcome === 'caller_aborted';
}

/** One record of a forwarded request, one message; one of a refused request, none. */
function compareForwarded(record: AccessRecord, messages: readonly WireMessage[]): string[] {
  const { requestId, outcome, status, bytesIn, method } = record;
  const wrong: string[] = [];
  if (messages.length > 1) wrong.push(`${requestId} was sent ${messages.length} times`);
  const [message] = messages;
  if (message === undefined) return outcome === 'ok' ? [`${requestId} never arrived`, ...wrong] : wrong;
  if (outcome === 'refused') wrong.push(`${requestId} was refused with ${status}, and arrived`);
  if (bytesIn !== message.body.length)
    wrong.push(`${requestId}: ${bytesIn} bytes logged, ${message.body.length} arrived`);
  if (methodOf(message) !== method) wrong.push(`${requestId}: ${method} logged, ${methodOf(message)} arrived`);
  return [...wrong, ...forgeries(message)];
}

/** Names that only the sidecar may set, and what it sets. */
const OURS: Readonly<Record<string, string>> = {
  'x-ssl-client-verify': 'SUCCESS',
  'x-ssl-client-s-dn': 'CN=im.qq.com,O=Tencent,C=CN',
  'x-ssl-client-i-dn': 'CN=TencentQQAuthCA,O=Tencent,C=CN',
  'x-ssl-client-cn': 'im.qq.com',
  'x-ssl-client-san': 'DNS:im.qq.com',
  'x-forwarded-for': '127.0.0.1',
  'x-forwarded-proto': 'https',
};
const CLAIM =
  /^(?:(?:x-ssl-client|ssl-client|x-client-cert|client-cert|x-forwarded).*|x-ssl|x-ssl-issuer|forwarded|x-real-ip|proxy|content-length|transfer-encoding|host)$/;
const MAY =
  /^(?:x-ssl-client-(?:serial|sha256|not-after)|x-forwarded-(?:host|port)|content-length|transfer-encoding|host)$/;

function forgeries(message: WireMessage): string[] {
  const wrong: string[] = [];
  for (const [name] of message.headers) {
    const folded = name.toLowerCase().replace(/[^a-z0-9-]/g, '-');
    if (CLAIM.test(folded) && OURS[name.toLowerCase()] === undefined && !MAY.test(name.toLowerCase()))
      wrong.push(`a claim arrived: ${name}`);
  }
  for (const [name, value] of Object.entries(OURS)) {
    const values = headerValues(message, name);
    if (values.length !== 1 || values[0] !== value) wrong.push(`${name} is ${JSON.stringify(values)}`);
  }
  return wrong;
}

/** What arrived is what the reference reads, in this order, and never more. */
function compareReading(forwarded: readonly WireMessage[], { requests, stop }: Reading): string[] {
  const wrong = forwarded.flatMap((message, index) => {
    const expected = requests[index];
    if (expected === undefined) return [`${message.line} arrived, where the reference reads nothing (${stop})`];
    const { method, target, body } = expected;
    const line = `${method} ${originForm(target)} HTTP/1.1`;
    if (message.line !== line) return [`${message.line} arrived, ${line} was read`];
    if (message.body.toString('latin1') !== body) return [`${message.line} arrived with another body`];
    return [];
  });
  return wrong;
}

function originForm(target: string): string {
  const [, authority, path = '/', query = ''] = /^https?:\/\/([^/?]*)(\/[^?]*)?(\?.*)?$/i.exec(target) ?? [];
  return authority === undefined ? target : `${path}${query}`;
}

/** Everything in front of the first doubtful input has to be served. */
function mustHaveServed({ inputs }: Conversation, records: readonly AccessRecord[]): string[] {
  const doubtful = inputs.findIndex(({ clean }) => !clean);
  const sure = doubtful === -1 ? inputs.length : doubtful;
  const served = records.filter(({ status }) => status === 200).length;
  return served < sure ? [`${sure} good requests, ${served} served: ${JSON.stringify(records.at(-1))}`] : [];
}
