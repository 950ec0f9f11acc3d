import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // Processes, not threads: tests send signals, swap TLS contexts and read process-wide state.
    pool: 'forks',
    maxWorkers: 2,
    // Long enough for a TLS handshake on a loaded two-core machine, short enough that a hang is a failure and not a wait.
    testTimeout: 20_000,
    hookTimeout: 30_000,
    teardownTimeout: 10_000,
    // Vitest gives up after one second, less than a busy machine may take for what is well; and a poll that succeeds costs no more
    // for being allowed longer.
    expect: { poll: { timeout: 5_000 } },
  },
});
