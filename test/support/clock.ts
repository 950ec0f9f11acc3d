import { vi } from 'vitest';

const MINUTE = 60_000;

/** Puts the clock forward, and nothing else: timers run as ever. `vi.useRealTimers()` puts it back. */
export function pass(minutes: number): void {
  vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + minutes * MINUTE });
}
