import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import { runCommandLine } from '../src/commands/command-line.js';
import type { Command } from '../src/commands/command.js';
import { parseArguments } from '../src/config/arguments.js';
import { ConfigError, UsageError } from '../src/errors.js';
import { makePki, temporaryDirectory, writePki } from './support/pki.js';

const dir = temporaryDirectory();
afterAll(() => dir.remove());

async function answer(argv: readonly string[], command: Command = () => Promise.resolve(0)) {
  const out: string[] = [];
  const err: string[] = [];
  const terminal = {
    out: (line: string) => void out.push(line),
    err: (line: string) => void err.push(line),
    colour: false,
  };
  const load = (): Promise<Command> => Promise.resolve(command);
  const loaders = new Proxy({}, { get: () => load }) as Parameters<typeof runCommandLine>[0]['loaders'];
  const code = await runCommandLine({ argv, version: '1.2.3', terminal, loaders });
  return { code, out, err };
}

const failing = (error: Error): Command => {
  return () => Promise.reject(error);
};

describe('the exit code', () => {
  it.each([
    ['--version', ['1.2.3']],
    ['version', ['1.2.3']],
  ])('is 0 for %s', async (word, out) => {
    expect(await answer([word])).toEqual({ code: 0, out, err: [] });
  });

  it.each([[['--help']], [['help']], [['help', 'run']], [['check', '--help']], [['run', '-h']]])(
    'is 0 for %s',
    async (argv) => {
      const { code, out, err } = await answer(argv, failing(new Error('must not be run')));
      expect([code, err]).toEqual([0, []]);
      expect(out[0]).toMatch(/^Usage: mtls-sidecar /);
    },
  );

  it('is what the command says', async () => {
    const seen: unknown[] = [];
    const command: Command = ({ argv }) => Promise.resolve(seen.push(argv) + 74);
    expect((await answer(['run', '--listen.port', '0'], command)).code).toBe(75);
    expect(seen).toEqual([['--listen.port', '0']]);
  });

  it.each([
    [[], /which command/],
    [['chekc'], /there is no command "chekc" \(did you mean check\?\)/],
    [['help', 'chekc'], /did you mean check/],
    [['toString'], /there is no command "toString"/],
    [['__proto__'], /there is no command "__proto__"/],
  ])('is 64 for %j', async (argv, message) => {
    const { code, err } = await answer(argv);
    expect(code).toBe(64);
    expect(err).toEqual([expect.stringMatching(message)]);
  });

  it('is 78 for a bad configuration, one line a problem and none of them two', async () => {
    const { code, err } = await answer(['run'], failing(new ConfigError(['a: is wrong', 'b: is\nwrong \u001b[2J'])));
    expect(code).toBe(78);
    expect(err).toEqual(['mtls-sidecar: a: is wrong', 'mtls-sidecar: b: is\\u000awrong \\u001b[2J']);
  });

  it('is 1 for what nobody expected', async () => {
    const { code, err } = await answer(['run'], failing(new TypeError('boom')));
    expect(code).toBe(1);
    expect(err[0]).toContain('internal error: TypeError: boom');
  });
});

describe('flags', () => {
  it('take their value from the next word or after =', () => {
    expect(parseArguments(['-c', 'a.yaml', '--listen.port', '1', '--clientCert.allow=[{"commonName":"a=b"}]'])).toEqual(
      {
        file: 'a.yaml',
        flags: { 'listen.port': '1', 'clientCert.allow': '[{"commonName":"a=b"}]' },
      },
    );
  });

  it('that are switches need none', () => {
    expect(parseArguments(['--tls.legacy', '--pretty', '--log.level', 'debug']).flags).toEqual({
      'tls.legacy': 'true',
      'log.pretty': 'true',
      'log.level': 'debug',
    });
    expect(parseArguments(['--tls.legacy', 'false']).flags).toEqual({ 'tls.legacy': 'false' });
  });

  it.each([
    [['--listen.prot', '1'], 'unknown flag "--listen.prot" (did you mean --listen.port?)'],
    [['--__proto__=1'], 'unknown flag "--__proto__"'],
    [['-x'], 'unknown flag "-x"'],
    [['--listen.port'], '--listen.port needs a value'],
    [['--tls.cert', '--tls.key', 'k'], '--tls.cert needs a value'],
    [['--listen.port', '1', '--listen.port=2'], '--listen.port is given twice'],
    [['--log.pretty', '--pretty'], '--log.pretty is given twice'],
    [['file.yaml'], 'unexpected argument "file.yaml"'],
  ])('%j are refused', (argv, message) => {
    expect(() => parseArguments(argv)).toThrow(UsageError);
    expect(() => parseArguments(argv)).toThrow(message);
  });
});

describe('the program', () => {
  const main = fileURLToPath(new URL('../dist/main.js', import.meta.url));
  const start = (...argv: string[]) =>
    spawnSync(process.execPath, [main, ...argv], { encoding: 'utf8', env: { PATH: process.env['PATH'] } });

  it('checks a configuration, and exits with 0 or 78', () => {
    const { cert, key, ca } = writePki(dir.path, makePki());
    const flags = [`--tls.cert=${cert}`, `--tls.key=${key}`, `--clientCert.ca=${ca}`];
    const good = start('check', ...flags);
    expect(good).toMatchObject({ status: 0, stderr: '' });
    expect(good.stdout).toMatch(/^ok +tls\.cert /m);
    const bad = start('check', ...flags.slice(0, 1), `--tls.key=${join(dir.path, 'missing.key')}`, ...flags.slice(2));
    expect(bad.status).toBe(78);
    expect(bad.stdout).toMatch(/^error +tls\.key .*missing.key cannot be read/m);
  });

  it('knows its version and says what is wrong with a command line', () => {
    expect(start('--version').stdout).toMatch(/^\d+\.\d+\.\d+/);
    const wrong = start('check', '--listen.prot', '1');
    expect(wrong.status).toBe(64);
    expect(wrong.stderr).toBe(
      'mtls-sidecar: unknown flag "--listen.prot" (did you mean --listen.port?); mtls-sidecar --help says what there is\n',
    );
  });

  it('refuses to run with a bad configuration: one line a problem, 78', () => {
    const { status, stderr } = start('run', '--listen.port', 'x');
    expect(status).toBe(78);
    expect(stderr.trim().split('\n')).toHaveLength(4);
  });
});
