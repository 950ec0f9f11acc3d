import { onTestFinished } from 'vitest';

/** Repeats an action until the returned function is called, or at the latest until the test is over, however it ends. */
export function repeat(milliseconds: number, action: () => void): () => void {
  const timer = setInterval(action, milliseconds);
  const stop = (): void => clearInterval(timer);
  onTestFinished(stop);
  return stop;
}
