import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, describe, expect, it } from 'vitest';
import { rotateTicketKeys } from '../src/commands/rotate-ticket-keys.js';
import { ConfigError, UsageError } from '../src/errors.js';
import { startApplication } from './support/application.js';
import { call } from './support/caller.js';
import { mountSecret } from './support/mounted-secret.js';
import { makePki, temporaryDirectory, type Pki } from './support/pki.js';
import { endPrograms, startProgram } from './support/program.js';
import { startSidecar, type LogLine, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const NAMES = ['current.key', 'next.key', 'previous.key'] as const;
const version = 'TLSv1.3';
const isReload = ({ msg }: LogLine): boolean => msg === 'reloaded';
let pki: Pki;
const closing: (() => unknown)[] = [];

beforeAll(() => {
  pki = makePki();
});
afterEach(async () => {
  endPrograms();
  for (const close of closing.splice(0).reverse()) await close();
});

/** A folder of keys: `A`, `B`, `C` for keys that differ, a dot for a file that is not there. */
function keysIn(letters: string): {
  readonly paths: readonly string[];
  readonly folder: string;
  readonly spelt: () => string;
} {
  const directory = temporaryDirectory();
  closing.push(() => directory.remove());
  const known = new Map<string, string>();
  const paths = [...letters].map((letter, index) => {
    const path = join(directory.path, NAMES[index] ?? `older-${index}.key`);
    const key = Buffer.alloc(80, letter);
    known.set(key.toString('hex'), letter);
    if (letter !== '.') writeFileSync(path, key, { mode: 0o600 });
    return path;
  });
  // What no letter stands for is new.
  const spelt = (): string => paths.map((path) => known.get(readFileSync(path).toString('hex')) ?? '*').join('');
  return { paths, folder: directory.path, spelt };
}

async function rotate(...argv: readonly string[]): Promise<string> {
  const said: string[] = [];
  const say = (line: string): unknown => said.push(line);
  expect(await rotateTicketKeys({ argv, terminal: { out: say, err: say, colour: false } })).toBe(0);
  return said.join('\n');
}

describe('two replicas that see a rotation at different times', { timeout: 20_000 }, () => {
  /** Keys of its own, as a Secret that is mounted: `take` brings those of the source. */
  async function replica(upstream: string, source: readonly string[]) {
    const current = () => Object.fromEntries(NAMES.map((name, index) => [name, readFileSync(source[index] ?? '')]));
    const mount = mountSecret(current());
    closing.push(() => mount.remove());
    const paths = NAMES.map((name) => mount.at(name));
    const settings = { 'tls.sessions.ticketKeys': paths.join(','), 'reload.interval': '100ms' };
    const sidecar = await startSidecar({ pki, upstream, settings });
    closing.push(() => sidecar.stop());
    const take = async (): Promise<void> => {
      const reloads = sidecar.log.filter(isReload).length;
      mount.swap(current());
      await sidecar.logged((line) => isReload(line) && sidecar.log.filter(isReload).length > reloads);
    };
    return { sidecar, take };
  }

  /** Callers who call without a pause until `finish`, each time over a new connection. */
  function keepCalling(sidecars: readonly Sidecar[]): { finish(): Promise<readonly number[]> } {
    let done = false;
    const statuses: number[] = [];
    const callers = sidecars.map(async (sidecar) => {
      while (!done) statuses.push((await call(sidecar)).status);
    });
    return {
      finish: async () => {
        done = true;
        await Promise.all(callers);
        return statuses;
      },
    };
  }

  const resumes = async (sidecar: Sidecar, session: Buffer | undefined): Promise<void> =>
    expect(await visit(sidecar, { version, session })).toMatchObject({ status: 200, reused: true });

  it('resume whatever the other began, before, meanwhile and after, and fail nobody', async () => {
    const application = await startApplication();
    closing.push(() => application.stop());
    const { paths } = keysIn('ABC');
    const one = await replica(application.url, paths);
    const other = await replica(application.url, paths);
    const load = keepCalling([one.sidecar, other.sidecar]);
    const begin = async ({ sidecar }: typeof one) => (await visit(sidecar, { version })).session;
    const both = async (): Promise<void> => {
      const [here, there] = [await begin(one), await begin(other)];
      for (const { sidecar } of [one, other]) for (const session of [here, there]) await resumes(sidecar, session);
    };
    for (let rotations = 0; rotations < 2; rotations += 1) {
      const before = [await begin(one), await begin(other)];
      await rotate(...paths);
      await one.take();
      await both();
      await other.take();
      await both();
      for (const { sidecar } of [one, other]) for (const session of before) await resumes(sidecar, session);
    }
    expect(new Set(await load.finish())).toEqual(new Set([200]));
  });

  it('which a key that seals at once would not let them', async () => {
    const application = await startApplication();
    closing.push(() => application.stop());
    const { paths } = keysIn('ABC');
    const [one, other] = [await replica(application.url, paths), await replica(application.url, paths)];
    writeFileSync(paths[0] ?? '', randomBytes(80));
    await one.take();
    const { session } = await visit(one.sidecar, { version });
    expect(await visit(other.sidecar, { version, session })).toMatchObject({ status: 200, reused: false });
  });

  it('and both follow the files that the command rotates, under load', async () => {
    const application = await startApplication();
    closing.push(() => application.stop());
    const { paths, folder } = keysIn('ABC');
    const settings = { 'tls.sessions.ticketKeys': paths.join(','), 'reload.interval': '100ms' };
    const sidecars: Sidecar[] = [];
    for (let count = 0; count < 2; count += 1) {
      const sidecar = await startSidecar({ pki, upstream: application.url, settings });
      closing.push(() => sidecar.stop());
      sidecars.push(sidecar);
    }
    const load = keepCalling(sidecars);
    const sessions = await Promise.all(sidecars.map(async (one) => (await visit(one, { version })).session));
    const program = startProgram(['rotate-ticket-keys', ...paths]);
    expect(await program.ended()).toEqual({ code: 0, signal: null });
    expect([program.stdout(), program.stderr()]).toEqual([`rotated ${paths.join(', ')}\n`, '']);
    for (const sidecar of sidecars) for (const session of sessions) await resumes(sidecar, session);
    expect(new Set(await load.finish())).toEqual(new Set([200]));
    for (const { log } of sidecars) expect(log.filter(({ msg }) => msg.startsWith('reload refused'))).toEqual([]);
    expect(readdirSync(folder).sort()).toEqual([...NAMES].sort());
  });
});

describe('keys in files', () => {
  it.each([
    ['the second seals, the first still opens, the last goes', 'ABC', 'B*A', /^rotated /],
    ['as many are kept as there are names', 'ABCDE', 'B*ACD', /^rotated /],
    ['all are made where there is none', '...', '***', /^made .*current\.key, .*next\.key, .*previous\.key;/],
    ['a missing one is made and nothing moves', 'A.C', 'A*C', /^made \S+next\.key; rotated nothing yet$/],
    ['where the first is missing, the next one seals, for all know it', '.BC', 'B*C', /^made \S+next\.key;/],
    ['an older one that is missing is made, too', 'ABC.', 'ABC*', /^made \S+older-3\.key;/],
    ['a rotation that was cut short is finished', 'BBA', 'B*A', /^made \S+next\.key;/],
  ])('%s', async (_what, before, after, said) => {
    const { paths, spelt } = keysIn(before);
    expect(await rotate(...paths)).toMatch(said);
    expect(spelt()).toBe(after);
    const made = paths.filter((_, index) => after[index] === '*').map((path) => readFileSync(path));
    expect(made.map(({ length }) => length)).toEqual(made.map(() => 80));
    expect(new Set(made.map((key) => key.toString('hex'))).size).toBe(made.length);
  });

  it('a new file is for its owner alone, an old one keeps its mode', async () => {
    const { paths } = keysIn('AB.');
    await rotate(...paths);
    expect(paths.map((path) => statSync(path).mode & 0o777)).toEqual([0o600, 0o600, 0o600]);
    const folder = temporaryDirectory();
    closing.push(() => folder.remove());
    const wide = NAMES.map((name) => join(folder.path, name));
    for (const path of wide) writeFileSync(path, randomBytes(48), { mode: 0o640 });
    await rotate(...wide);
    expect(wide.map((path) => statSync(path).mode & 0o777)).toEqual([0o640, 0o640, 0o640]);
  });

  it.runIf(process.getuid?.() === 0)('root leaves them to whom they belong', async () => {
    const { paths } = keysIn('ABC');
    for (const path of paths) chownSync(path, 65532, 65532);
    await rotate(...paths);
    expect(paths.map((path) => [statSync(path).uid, statSync(path).gid])).toEqual(paths.map(() => [65532, 65532]));
  });

  it.runIf(process.getuid?.() === 0)(
    'root gives nothing away that the owner of the folder puts in between',
    async () => {
      const { paths, folder } = keysIn('ABC');
      const directory = temporaryDirectory();
      closing.push(() => directory.remove());
      const victim = join(directory.path, 'victim');
      writeFileSync(victim, 'secret', { mode: 0o600 });
      for (const path of [folder, ...paths]) chownSync(path, 65532, 65532);
      const draft = `${paths[2] ?? ''}.new`;
      const swap = `const { symlinkSync, unlinkSync } = require('node:fs');
      process.setgid(65532), process.setuid(65532), console.log('ready');
      for (const end = Date.now() + 5000; Date.now() < end; ) {
        try { unlinkSync(${JSON.stringify(draft)}); symlinkSync(${JSON.stringify(victim)}, ${JSON.stringify(draft)}); break; } catch {}
      }`;
      const owner = spawn(process.execPath, ['-e', swap], { stdio: ['ignore', 'pipe', 'inherit'] });
      closing.push(() => owner.kill('SIGKILL'));
      await once(owner.stdout, 'data');
      // The draft can be gone when it is to be renamed; whoever owns the folder may keep keys from being rotated.
      await rotate(...paths).catch((error: unknown) => expect(error).toBeInstanceOf(ConfigError));
      const { uid, mode } = statSync(victim);
      expect([uid, mode & 0o777]).toEqual([0, 0o600]);
    },
  );

  it('a file behind a link is replaced, not the link, and a draft that was left behind is not followed', async () => {
    const { paths, folder, spelt } = keysIn('ABC');
    const elsewhere = join(folder, 'elsewhere');
    mkdirSync(elsewhere);
    const links = NAMES.map((name) => join(elsewhere, name));
    links.forEach((link, index) => symlinkSync(paths[index] ?? '', link));
    const victim = join(folder, 'victim');
    symlinkSync(victim, `${paths[0] ?? ''}.new`);
    await rotate(...links);
    expect(spelt()).toBe('B*A');
    expect(existsSync(victim)).toBe(false);
  });

  it('what is no key is not rotated into place', async () => {
    const { paths, spelt } = keysIn('ABC');
    writeFileSync(paths[1] ?? '', 'secret\n');
    const before = spelt();
    const refusal = await rotate(...paths).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(ConfigError);
    expect((refusal as Error).message).toBe(`${paths[1] ?? ''} has 7 bytes; a ticket key is 80 or 48 random bytes`);
    expect(spelt()).toBe(before);
  });

  it('a folder that is not there, or a folder in place of a file, is named', async () => {
    const { paths, folder } = keysIn('AB');
    const nowhere = join(folder, 'nowhere', 'previous.key');
    await expect(rotate(...paths, nowhere)).rejects.toThrow(`${nowhere} cannot be replaced: no such file or directory`);
    await expect(rotate(...paths, folder)).rejects.toThrow(
      `${folder} cannot be read: illegal operation on a directory`,
    );
  });

  it.each([
    [[], /three names or more/],
    [['a', 'b'], /three names or more/],
    [['a', 'b', 'a'], /a name twice/],
    [['a', 'b', 'c', '--keep', '5'], /no option --keep/],
    [['a', 'b', 'c', '--account', '/x'], /go with --secret/],
  ])('%j is no way to call it', async (argv, message) => {
    const refusal = await rotate(...argv).catch((error: unknown) => error);
    expect(refusal).toBeInstanceOf(UsageError);
    expect((refusal as Error).message).toMatch(message);
  });
});
