import fc from 'fast-check';
import { startRecorder, type Recorder } from '../support/recorder.js';
import type { makePki } from '../support/pki.js';
import { conversation, type Conversation } from './inputs.js';
import { judge } from './judge.js';
import { startSubject, TIME_OUT, type Subject } from './subject.js';

/** Conversations at one time. */
const TOGETHER = 16;

export interface RequestFuzz {
  readonly subject: Subject;
  readonly property: fc.IAsyncProperty<[Conversation[]]>;
  /** Tries one set of conversations, for the replay of what was found. */
  attempt(talks: readonly Conversation[]): Promise<string[]>;
  /** Requests, and what should not be one, sent through a socket so far. */
  inputs(): number;
  stop(): Promise<void>;
}

/** Callers that say anything at all, against the application's and the log's word. */
export async function startRequestFuzz(pki: ReturnType<typeof makePki>): Promise<RequestFuzz> {
  const recorder = await startRecorder();
  const subject = await startSubject(pki, recorder.url);
  let inputs = 0;
  const attempt = async (talks: readonly Conversation[]): Promise<string[]> => {
    recorder.problems.length = 0;
    for (const talk of talks) inputs += talk.inputs.length + 1;
    const wrong = (await Promise.all(talks.map((talk) => judge(subject, recorder, talk)))).flat();
    await recorder.settled();
    const late = wrong.filter((sentence) => sentence.startsWith(TIME_OUT));
    if (late.length > 0) {
      // A record that has not come would make a smuggled request of an honest one.
      recorder.forget();
      return late;
    }
    return [...wrong, ...recorder.problems, ...unclaimed(recorder), ...(subject.dead() ? ['the sidecar ended'] : [])];
  };
  const property = fc.asyncProperty(
    fc.array(conversation, { minLength: 1, maxLength: TOGETHER, size: 'max' }),
    async (talks) => {
      const wrong = await attempt(talks);
      if (wrong.length > 0) throw new Error(wrong.join('\n'));
    },
  );
  const stop = async (): Promise<void> => {
    await subject.stop();
    await recorder.stop();
  };
  return { subject, property, attempt, inputs: () => inputs, stop };
}

/** What arrived and is in nobody's record: smuggled. */
function unclaimed(recorder: Recorder): string[] {
  const left = [...recorder.byId.values()].flat().map(({ line }) => `${line} arrived, and no record tells of it`);
  recorder.forget();
  return left;
}
