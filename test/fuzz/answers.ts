import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import type { makePki } from '../support/pki.js';
import { startRecorder, type Received, type Recorder } from '../support/recorder.js';
import { headerValues, statusOf, WireReader, type WireMessage } from '../support/wire.js';
import { startSubject, TIME_OUT, type AccessRecord, type Subject } from './subject.js';

/** What an application answers to one request. */
export interface Answer {
  /** Latin1; `{id}` is the request's. */
  readonly bytes: string;
  /** Part of the whole, 0 to 1, after which there is a pause. */
  readonly cut: number;
  /** What the application does with the connection behind it. */
  readonly then: 'stay' | 'end' | 'reset';
  readonly method: 'GET' | 'HEAD' | 'POST';
  /** Whether nothing is wrong with it, so that the caller has to get it. */
  readonly clean: boolean;
}

const WORDS = [
  ...[
    '\r',
    '\n',
    '\r\n',
    '\r\n\r\n',
    '\0',
    ' ',
    '\t',
    '\v',
    '\x7f',
    '\x80',
    '\xff',
    ':',
    ';',
    ',',
    '0',
    '00',
    '-',
    '+',
    'f',
  ],
  ...[
    'Content-Length: 3\r\n',
    'Content-Length: 99\r\n',
    'Content-Length: -1\r\n',
    'Content-Length:',
    'Connection: close\r\n',
  ],
  ...[
    'Transfer-Encoding: chunked\r\n',
    'Transfer-Encoding: gzip, chunked\r\n',
    'Transfer-Encoding: identity\r\n',
    '0\r\n\r\n',
  ],
  ...[
    'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil',
    'HTTP/1.1 100 Continue\r\n\r\n',
    'HTTP/1.1 103 Early Hints\r\n\r\n',
  ],
  ...[
    'HTTP/1.0',
    'HTTP/2.0',
    'HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n',
    '204',
    '304',
    '99',
    '000',
    '600',
  ],
  ...['X-Request-Id: forged\r\n', 'Upgrade: x\r\n', 'Trailer: X-T\r\n', 'X-T: 1\r\n', 'a'.repeat(70_000)],
];

const clean = fc
  .record({
    status: fc.constantFrom(
      '200 OK',
      '201 Created',
      '204 No Content',
      '205 Reset Content',
      '304 Not Modified',
      '404 Not Found',
      '500 Oops',
      '299 ',
    ),
    header: fc.constantFrom('', 'Set-Cookie: a=b\r\nSet-Cookie: c=d\r\n', 'X-Empty: \r\n', 'Keep-Alive: timeout=5\r\n'),
    body: fc.constantFrom('', '{id}', 'hello', 'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil', 'b'.repeat(80_000)),
    framing: fc.constantFrom('length', 'chunked', 'end'),
    method: fc.constantFrom('GET' as const, 'HEAD' as const, 'POST' as const),
    hints: fc.nat(1),
    cut: fc.double({ min: 0, max: 1, noNaN: true }),
  })
  .map(({ status, header, body, framing, method, hints, cut }): Answer => {
    const isBodiless = method === 'HEAD' || /^(?:204|304)/.test(status);
    const content = isBodiless ? '' : body;
    const chunk = content === '' ? '' : `${size(content).toString(16)}\r\n${content}\r\n`;
    const length = /^204/.test(status) ? '' : `Content-Length: ${size(body)}\r\n`;
    const head = `${hints === 1 ? 'HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n' : ''}HTTP/1.1 ${status}\r\n${header}`;
    if (framing === 'chunked' && !isBodiless)
      return {
        bytes: `${head}Transfer-Encoding: chunked\r\n\r\n${chunk}0\r\n\r\n`,
        cut,
        then: 'stay',
        method,
        clean: true,
      };
    if (framing === 'end' && !isBodiless)
      return { bytes: `${head}\r\n${content}`, cut, then: 'end', method, clean: true };
    return { bytes: `${head}${length}\r\n${content}`, cut, then: 'stay', method, clean: true };
  });

/** The placeholder has another length than what it stands for. */
function size(text: string): number {
  return text.replace('{id}', 'x'.repeat(36)).length;
}

const change = fc.record({
  at: fc.double({ min: 0, max: 1, noNaN: true }),
  what: fc.constantFrom('insert', 'remove', 'replace', 'repeat', 'cut off'),
  word: fc.constantFrom(...WORDS),
  length: fc.integer({ min: 1, max: 10 }),
});

const broken = fc
  .tuple(clean, fc.array(change, { minLength: 1, maxLength: 3 }), fc.constantFrom('stay', 'end', 'reset'))
  .map(([answer, changes, then]): Answer => {
    const bytes = changes.reduce((text, { at, what, word, length }) => {
      const from = Math.floor(at * Math.min(text.length, 300));
      if (what === 'insert') return text.slice(0, from) + word + text.slice(from);
      if (what === 'remove') return text.slice(0, from) + text.slice(from + length);
      if (what === 'replace') return text.slice(0, from) + word + text.slice(from + word.length);
      if (what === 'cut off') return text.slice(0, from);
      return text.slice(0, from + length) + text.slice(from);
    }, answer.bytes);
    return { ...answer, bytes, then: then, clean: false };
  });

const conversation = fc.array(fc.oneof({ weight: 3, arbitrary: clean }, { weight: 2, arbitrary: broken }), {
  minLength: 1,
  maxLength: 30,
  size: 'max',
});

/** Callers at one time, each over connections of its own. */
const TOGETHER = 24;
const PATIENCE = 20_000;

/** When an application gives up a connection on which it has said something broken: long after the next request. Milliseconds. */
const TIRED = 40;

export interface AnswerFuzz {
  readonly subject: Subject;
  readonly property: fc.IAsyncProperty<[Answer[][]]>;
  attempt(talks: readonly (readonly Answer[])[]): Promise<string[]>;
  inputs(): number;
  stop(): Promise<void>;
}

/** An application that answers anything at all, against what the caller and the log say they got. */
export async function startAnswerFuzz(pki: ReturnType<typeof makePki>): Promise<AnswerFuzz> {
  const plans = new Map<string, Answer>();
  const recorder = await startRecorder((received, socket) => give(plans, received, socket));
  const settings = { 'upstream.headTimeout': '5s', 'upstream.idleTimeout': '5s' };
  const subject = await startSubject(pki, recorder.url, settings);
  let inputs = 0;
  const attempt = async (talks: readonly (readonly Answer[])[]): Promise<string[]> => {
    for (const talk of talks) inputs += talk.length;
    plans.clear();
    const stage = { subject, recorder, plans, late: talks.flat().some(hasLateBytes) };
    const wrong = await Promise.all(talks.map((talk, index) => converse(stage, talk, index)));
    const problems = recorder.problems.splice(0);
    recorder.forget();
    return [...wrong.flat(), ...problems, ...(subject.dead() ? ['the sidecar ended'] : [])];
  };
  const talks = fc.array(conversation, { minLength: 1, maxLength: TOGETHER, size: 'max' });
  const property = fc.asyncProperty(talks, async (chosen) => {
    const wrong = await attempt(chosen);
    if (wrong.length > 0) throw new Error(wrong.join('\n'));
  });
  const stop = async (): Promise<void> => {
    await subject.stop();
    await recorder.stop();
  };
  return { subject, property, attempt, inputs: () => inputs, stop };
}

function give(plans: ReadonlyMap<string, Answer>, { id, message }: Received, socket: Socket): void {
  const plan = plans.get(message.line.split(' ')[1] ?? '');
  if (plan === undefined) {
    socket.write(`HTTP/1.1 200 OK\r\nContent-Length: ${id.length}\r\n\r\n${id}`, 'latin1');
    return;
  }
  const bytes = Buffer.from(plan.bytes.replaceAll('{id}', id), 'latin1');
  const at = cutOf(plan, bytes);
  if (at > 0) socket.write(bytes.subarray(0, at));
  setImmediate(() => {
    socket.write(bytes.subarray(at));
    if (plan.then === 'end') socket.end();
    if (plan.then === 'reset') socket.resetAndDestroy();
    if (plan.then === 'stay' && !plan.clean) setTimeout(() => socket.end(), TIRED);
  });
}

function cutOf({ cut }: Answer, bytes: Buffer): number {
  return Math.floor(cut * bytes.length);
}

/** Whether the first part is an answer by itself, and more is sent behind it. */
function hasLateBytes(answer: Answer): boolean {
  const bytes = Buffer.from(answer.bytes.replaceAll('{id}', randomUUID()), 'latin1');
  const reader = new WireReader({ nextMethod: () => answer.method });
  reader.push(bytes.subarray(0, cutOf(answer, bytes)));
  return !answer.clean && reader.messages.some((message) => statusOf(message) >= 200);
}

interface Stage {
  readonly subject: Subject;
  readonly recorder: Recorder;
  readonly plans: Map<string, Answer>;
  /** Some connection may get bytes behind an answer when it carries the next request already, and nobody can tell. */
  readonly late: boolean;
}

/** One request after the other over one connection, a new one when it ends; an honest answer behind each that is odd. */
async function converse(stage: Stage, talk: readonly Answer[], lane: number): Promise<string[]> {
  const { subject, plans } = stage;
  const wrong: string[] = [];
  let line: Line | null = null;
  for (const [index, answer] of talk.entries()) {
    plans.set(`/${lane}/${index}`, answer);
    for (const plan of answer.clean ? [answer] : [answer, HONEST]) {
      line ??= new Line(await subject.open());
      const target = plan === HONEST ? `/honest/${lane}/${index}` : `/${lane}/${index}`;
      line.asked.push({ plan, target, got: await line.ask(plan.method, target) });
      if (!line.isClosed) continue;
      wrong.push(...(await review(stage, line)));
      line = null;
    }
  }
  if (line !== null) wrong.push(...(await review(stage, line)));
  line?.socket.destroy();
  return wrong;
}

/** What the application says when it was told nothing. */
const HONEST: Answer = {
  bytes: 'HTTP/1.1 200 OK\r\nContent-Length: 36\r\n\r\n{id}',
  cut: 0,
  then: 'stay',
  method: 'GET',
  clean: true,
};

async function review({ subject, late }: Stage, { asked, port }: Line): Promise<string[]> {
  const records = await subject.records(port, asked.length);
  return asked.flatMap(({ plan, target, got }, index) =>
    compare(plan, got, records[index], late).map((sentence) => `${target}: ${sentence}`),
  );
}

interface Got {
  /** The answer, when it came whole. */
  readonly message: WireMessage | null;
  readonly problem: string | null;
  readonly closed: boolean;
}

class Line {
  readonly port: number;
  readonly asked: { readonly plan: Answer; readonly target: string; readonly got: Got }[] = [];
  private method = 'GET';
  private readonly reader = new WireReader({ nextMethod: () => this.method });
  isClosed = false;
  private look = (): void => undefined;

  constructor(readonly socket: TLSSocket) {
    this.port = socket.localPort ?? 0;
    socket.on('data', (chunk: Buffer) => {
      this.reader.push(chunk);
      this.look();
    });
    socket.once('close', () => {
      this.isClosed = true;
      this.reader.end();
      this.look();
    });
  }

  async ask(method: string, target: string): Promise<Got> {
    this.method = method;
    this.reader.messages.length = 0;
    const body = method === 'POST' ? 'Content-Length: 2\r\n\r\nhi' : '\r\n';
    this.socket.write(`${method} ${target} HTTP/1.1\r\nHost: a\r\n${body}`);
    const inTime = await new Promise<boolean>((resolve) => {
      const timer = setTimeout(() => resolve(false), PATIENCE);
      this.look = () => {
        if (!this.isClosed && this.whole() === null && this.reader.problem === null) return;
        clearTimeout(timer);
        resolve(true);
      };
      this.look();
    });
    const message = this.whole();
    // An answer that says close is followed by the end, and by nothing else.
    if (message !== null && headerValues(message, 'connection').join() === 'close') await this.end();
    const problem = inTime ? this.reader.problem : `${TIME_OUT}: no answer`;
    return { message, problem, closed: this.isClosed };
  }

  private whole(): WireMessage | null {
    return this.reader.messages.find((message) => statusOf(message) >= 200) ?? null;
  }

  private async end(): Promise<void> {
    if (!this.isClosed) await new Promise((resolve) => this.socket.once('close', resolve));
  }
}

/** The caller got a whole answer or a broken connection, and the log says which. */
function compare(
  answer: Answer,
  { message, problem, closed }: Got,
  record: AccessRecord | undefined,
  late: boolean,
): string[] {
  if (record === undefined) return [`${TIME_OUT}: no record`];
  const { status, outcome, bytesOut, code } = record;
  const said = `logged ${status} ${outcome} ${bytesOut}`;
  if (message === null) {
    const isCut = closed && outcome === 'upstream_aborted' && !answer.clean;
    return isCut ? [] : [`cut (${String(problem)}), ${said}`];
  }
  const wrong: string[] = [];
  if (problem !== null) wrong.push(`unreadable: ${problem}`);
  if (statusOf(message) !== status) wrong.push(`got ${message.line}, ${said}`);
  if (outcome === 'ok' && code === null && message.body.length !== bytesOut)
    wrong.push(`got ${message.body.length} bytes, ${said}`);
  if (outcome !== (code === null ? 'ok' : 'refused')) wrong.push(`whole, ${said}`);
  if (headerValues(message, 'x-request-id').join() !== record.requestId) wrong.push('not its request id');
  // A kept connection that ends just now takes a POST along, which must not be sent twice.
  const isRace = (answer.method === 'POST' && code === 'upstream_closed') || (late && code === 'upstream_protocol');
  if (answer.clean && !isRace) wrong.push(...compareClean(answer, message, record));
  return wrong;
}

function compareClean(answer: Answer, message: WireMessage, { requestId }: AccessRecord): string[] {
  const reader = new WireReader({ nextMethod: () => answer.method });
  reader.push(Buffer.from(answer.bytes.replaceAll('{id}', requestId), 'latin1'));
  reader.end();
  const expected = reader.messages.find((candidate) => statusOf(candidate) >= 200);
  if (expected === undefined) return [`the answer was none: ${String(reader.problem)}`];
  if (statusOf(expected) !== statusOf(message)) return [`got ${message.line} for ${expected.line}`];
  const body = statusOf(expected) === 205 ? Buffer.alloc(0) : expected.body;
  return body.equals(message.body) ? [] : ['another body'];
}
