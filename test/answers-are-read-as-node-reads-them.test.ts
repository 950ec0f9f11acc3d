import fc from 'fast-check';
import { Agent, request, type IncomingMessage } from 'node:http';
import { Duplex } from 'node:stream';
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { AnswerParser } from '../src/forward/answer-parser.js';
import type { AnswerHead } from '../src/forward/answer-head.js';
import { answers, piecesOf, type GeneratedAnswer } from './support/answers.js';

/** More of them, with another seed: `ANSWERS=200000 npx vitest run test/answers-are-read-as-node-reads-them.test.ts`. */
const RUNS = Number(process.env['ANSWERS'] ?? 5_000);
const SEED = process.env['ANSWERS'] === undefined ? 20_261_124 : Date.now() % 2 ** 31;

interface Reading {
  /** Null: more has to come. */
  outcome: 'answer' | 'error' | null;
  interim: number[];
  status: number;
  reason: string;
  headers: readonly string[];
  body: string;
  trailers: readonly string[];
  /** Whether the connection could carry another request. */
  reusable: boolean;
}

function blank(): Reading {
  return { outcome: null, interim: [], status: 0, reason: '', headers: [], body: '', trailers: [], reusable: false };
}

/** @returns what our parser makes of it, and how many of the bytes it took */
function readByUs(answer: GeneratedAnswer): Reading & { readonly taken: number } {
  const reading = blank();
  const pieces: Buffer[] = [];
  let head: AnswerHead | null = null;
  const parser = new AnswerParser();
  parser.expect(answer.method, {
    information: (status) => void reading.interim.push(status),
    head: (found) => (head = found),
    data(chunk, from, to) {
      pieces.push(Buffer.from(chunk.subarray(from, to)));
      // Full at every third piece, so that reading goes on in the middle of what has come.
      return pieces.length % 3 !== 0;
    },
  });
  const taken = feed(parser, piecesOf(answer), reading);
  if (reading.outcome === null && answer.ends) reading.outcome = parser.finish() ? 'answer' : 'error';
  if (reading.outcome !== 'answer') return { ...reading, taken };
  const { status, reason, headers, keepAlive } = head as unknown as AnswerHead;
  const body = Buffer.concat(pieces).toString('latin1');
  const reusable = keepAlive && taken === answer.bytes.length && !answer.ends;
  return { ...reading, status, reason, headers, body, trailers: parser.trailers, reusable, taken };
}

function feed(parser: AnswerParser, pieces: readonly Buffer[], reading: Reading): number {
  let taken = 0;
  try {
    for (const piece of pieces) {
      for (let at = 0; at < piece.length && !parser.isOver;) {
        const count = parser.read(piece.subarray(at));
        at += count;
        taken += count;
      }
      if (parser.isOver) reading.outcome = 'answer';
      if (parser.isOver) break;
    }
  } catch {
    reading.outcome = 'error';
  }
  return taken;
}

/** A connection in memory. */
class Line extends Duplex {
  override _read(): void {}
  override _write(_chunk: Buffer, _encoding: string, done: () => void): void {
    done();
  }
  setKeepAlive(): void {}
  setNoDelay(): void {}
  setTimeout(): void {}
  ref(): void {}
  unref(): void {}
}

class LineAgent extends Agent {
  readonly line = new Line();
  constructor() {
    super({ keepAlive: true });
  }
  override createConnection(): Line {
    return this.line;
  }
}

async function readByNode(method: string, bytes: string, ends: boolean): Promise<Reading> {
  const reading = blank();
  const agent = new LineAgent();
  const outgoing = request({ agent, method, host: 'a', maxHeaderSize: 1_000_000 });
  let over = false;
  const finish = (outcome: Reading['outcome']): void => {
    reading.outcome ??= outcome;
    over = true;
  };
  outgoing.on('error', () => finish('error'));
  outgoing.on('upgrade', () => finish('error'));
  outgoing.on('information', ({ statusCode }) => void reading.interim.push(statusCode));
  outgoing.on('response', (response) => collect(response, reading, finish));
  outgoing.end();
  await turn();
  agent.line.push(Buffer.from(bytes, 'latin1'));
  if (ends) agent.line.push(null);
  for (let turns = 0; turns < 4 && !over; turns += 1) await turn();
  await turn();
  reading.reusable = Object.values(agent.freeSockets).flat().length > 0 && !agent.line.destroyed;
  agent.line.destroy();
  agent.destroy();
  return reading;
}

function collect(response: IncomingMessage, reading: Reading, finish: (outcome: 'answer' | 'error') => void): void {
  reading.status = response.statusCode ?? 0;
  reading.reason = response.statusMessage ?? '';
  reading.headers = response.rawHeaders;
  response.setEncoding('latin1');
  response.on('data', (text: string) => (reading.body += text));
  response.on('error', () => finish('error'));
  response.on('end', () => {
    reading.trailers = response.rawTrailers;
    finish(response.complete ? 'answer' : 'error');
  });
}

/** What we take for an answer, Node has to take for the same one when it gets the same bytes. */
async function compare(answer: GeneratedAnswer, counts: Map<string, number>): Promise<void> {
  const { taken, reusable, ...ours } = readByUs(answer);
  counts.set(String(ours.outcome), (counts.get(String(ours.outcome)) ?? 0) + 1);
  if (answer.wellFormed) expect(ours.outcome).not.toBe('error');
  if (ours.outcome === 'error') return;
  const bytes = ours.outcome === 'answer' ? answer.bytes.slice(0, taken) : answer.bytes;
  const { reusable: reusableToNode, ...node } = await readByNode(answer.method, bytes, answer.ends);
  if (ours.outcome === null) {
    expect(node.outcome).not.toBe('answer');
    return;
  }
  counts.set(`reusable: ${reusable}`, (counts.get(`reusable: ${reusable}`) ?? 0) + 1);
  expect(ours).toEqual(node);
  if (reusable) expect(reusableToNode).toBe(true);
}

it(`or more strictly, in ${RUNS} answers of every shape`, { timeout: 60_000 + RUNS * 5 }, async () => {
  const counts = new Map<string, number>();
  const property = fc.asyncProperty(answers, (answer) => compare(answer, counts));
  await fc.assert(property, { numRuns: RUNS, seed: SEED });
  if (process.env['ANSWERS'] !== undefined) console.log(SEED, counts);
  // That the comparison compared anything.
  expect(counts.get('answer')).toBeGreaterThan(RUNS / 10);
  expect(counts.get('error')).toBeGreaterThan(RUNS / 10);
  expect(counts.get('reusable: true')).toBeGreaterThan(RUNS / 50);
});
