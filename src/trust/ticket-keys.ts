import { randomBytes } from 'node:crypto';
import {
  closeSync,
  fchmodSync,
  fchownSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
  type Stats,
} from 'node:fs';
import { ConfigError } from '../errors.js';
import { inWords } from './files.js';

/** nginx's sizes: for AES-128, and for AES-256. */
export const TICKET_KEY_BYTES: readonly number[] = [48, 80];

/** Ticket keys by name, in the order of `tls.sessions.ticketKeys`. Null stands for one that is missing. */
export type TicketKeySet<Key extends Buffer | null = Buffer> = ReadonlyMap<string, Key>;

/** What a rotation came to. */
export interface Rotation {
  readonly keys: TicketKeySet;
  /** Names of keys that were missing, and were made. Nothing was moved then. */
  readonly made: readonly string[];
}

/**
 * Moves keys up by one: the second becomes the first, which seals; the first becomes the third, which still opens, and so
 * on; the last one goes. The second is new.
 *
 * A new key is not the first at once, because replicas see it minutes apart: sealed with a key that another replica does
 * not have yet, a session could not be resumed there. Whoever rotates nginx's keys does it in these two steps, too.
 *
 * Where keys are missing they are made and nothing moves, for what is new must not seal; in place of the first one, the
 * second does. First and second are the same after a rotation that was cut short; then only the second is missing.
 * @param where goes in front of a name in an error
 * @throws ConfigError for keys that are none
 */
export function rotate(keys: TicketKeySet<Buffer | null>, where = ''): Rotation {
  const problems = [...keys].flatMap(([name, key]) =>
    key === null || TICKET_KEY_BYTES.includes(key.length) ? [] : [where + wrongSize(name, key)],
  );
  if (problems.length > 0) throw new ConfigError(problems);
  const names = [...keys.keys()];
  const [first = null, second = null, ...older] = keys.values();
  const seals = first ?? second;
  const next = second !== null && seals?.equals(second) === true ? null : second;
  const held = [seals, next, ...older];
  const made = names.filter((_, index) => held[index] === null);
  const moved = made.length > 0 ? held : [next, null, first, ...older.slice(0, -1)];
  return { made, keys: new Map(names.map((name, index) => [name, moved[index] ?? randomBytes(80)])) };
}

function wrongSize(name: string, key: Buffer): string {
  return `${name} has ${key.length} bytes; a ticket key is 80 or 48 random bytes`;
}

/**
 * Rotates keys in files. Each is replaced in one step. In between, and after a cut, no key is missing but the oldest: the
 * last file is written first, and what only one file holds is overwritten last.
 * @returns names of files that were missing
 * @throws ConfigError
 */
export function rotateFiles(paths: readonly string[]): readonly string[] {
  const { keys, made } = rotate(new Map(paths.map((path) => [path, readIfThere(path)])));
  const [first = '', second = '', ...older] = paths;
  for (const path of [...older.reverse(), first, second]) {
    const key = keys.get(path);
    if (key !== undefined) replace(path, key);
  }
  return made;
}

function readIfThere(path: string): Buffer | null {
  try {
    return readFileSync(path);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw new ConfigError([`${path} cannot be read: ${inWords(error)}`]);
  }
}

/** Owner and mode stay: often root rotates what the sidecar reads as somebody else. A new file is its owner's alone. */
function replace(path: string, key: Buffer): void {
  try {
    const old = statSync(path, { throwIfNoEntry: false });
    const real = old === undefined ? path : realpathSync(path);
    const draft = `${real}.new`;
    // Left behind by a cut, or a link that leads elsewhere.
    rmSync(draft, { force: true });
    write(draft, key, old);
    renameSync(draft, real);
  } catch (error) {
    throw new ConfigError([`${path} cannot be replaced: ${inWords(error)}`]);
  }
}

/**
 * Owner and mode are changed by the open file, not by its name. Whoever owns the folder can put a link there meanwhile,
 * and root would give away what that leads to.
 */
function write(draft: string, key: Buffer, like: Stats | undefined): void {
  const file = openSync(draft, 'wx', 0o600);
  try {
    writeFileSync(file, key, { flush: true });
    if (like === undefined) return;
    fchownSync(file, like.uid, like.gid);
    fchmodSync(file, like.mode & 0o777);
  } finally {
    closeSync(file);
  }
}
