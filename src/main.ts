#!/usr/bin/env node
import { createRequire } from 'node:module';
import { runCommandLine } from './commands/command-line.js';

// http-proxy uses util._extend. Its users cannot change that, and a warning in the log of a proxy frightens them.
process.noDeprecation = true;

// Whoever reads the output may stop (`| head`): that ends the reading, not the program.
process.stdout.on('error', () => undefined);

const { version } = createRequire(import.meta.url)('../package.json') as { version: string };

process.exit(
  await runCommandLine({
    argv: process.argv.slice(2),
    version,
    loaders: {
      run: async () => (await import('./commands/run.js')).run,
      check: async () => (await import('./commands/check.js')).check,
      explain: async () => (await import('./commands/explain.js')).explain,
      probe: async () => (await import('./commands/probe.js')).probe,
      drain: async () => (await import('./commands/drain.js')).drain,
      'rotate-ticket-keys': async () => (await import('./commands/rotate-ticket-keys.js')).rotateTicketKeys,
      import: async () => (await import('./commands/import.js')).importCommand,
      demo: async () => (await import('./commands/demo.js')).demo,
    },
    terminal: {
      out: (line) => process.stdout.write(`${line}\n`),
      err: (line) => process.stderr.write(`${line}\n`),
      // hasColors exists on terminals alone, and knows NO_COLOR.
      colour: process.stdout.isTTY && process.stdout.hasColors(),
    },
  }),
);
