import { readFileSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { getSystemErrorMap } from 'node:util';

/** How credentials reach the disk. Tests and a watcher that wants one consistent look hand in their own. */
export interface FileReader {
  /** @throws NodeJS.ErrnoException */
  read(path: string): Buffer;
  /** Full names of the files of a directory whose names match, sorted; null when `path` is no directory. @throws */
  list(path: string, names: RegExp): readonly string[] | null;
}

export const DISK: FileReader = {
  read: (path) => readFileSync(path),
  list(path, wanted) {
    if (!statSync(path).isDirectory()) return null;
    const names = readdirSync(path).filter((name) => wanted.test(name) && !name.startsWith('..'));
    // Kubernetes keeps the real files below `..data` and links to them: follow links, skip what begins with `..`.
    const paths = names.sort().map((name) => join(path, name));
    return paths.filter((file) => statSync(file).isFile());
  },
};

/** Whether group or others may read the file. False where the question has no answer. */
export function isReadableByOthers(path: string): boolean {
  try {
    return (statSync(path).mode & 0o044) !== 0;
  } catch {
    return false;
  }
}

/** Whether everybody may write the file, and so decide what it says. False where the question has no answer. */
export function isWritableByAll(path: string): boolean {
  const found = statSync(path, { throwIfNoEntry: false });
  // A directory with the sticky bit, such as /tmp, lets nobody replace the files of others.
  return found !== undefined && (found.mode & 0o002) !== 0 && (found.mode & 0o1000) === 0;
}

/** Whether there is a directory of this name. */
export function isDirectory(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() ?? false;
}

/** What went wrong with a file, in words: `no such file or directory`. */
export function inWords(error: unknown): string {
  const { errno, code, message } = error as NodeJS.ErrnoException;
  return getSystemErrorMap().get(errno ?? 0)?.[1] ?? code ?? message;
}
