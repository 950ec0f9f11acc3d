import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A text that changes whenever one of these files is written, replaced, removed, or reached through another link.
 *
 * Looking is all it takes: inotify misses network file systems and is blind to what is mounted over, and a watch on a
 * file follows the old one when Kubernetes swaps the `..data` link. Time of change (ctime) is part of it, since nobody can
 * set that back; the real path and the inode tell a swapped directory.
 * @param paths files or directories
 * @param listed directories that count with the files in them, without those below
 */
export function fingerprint(paths: readonly string[], listed: readonly string[] = []): string {
  const all = [...paths.map((path) => [path, look(path)]), ...listed.map((path) => [path, look(path, 1)])];
  return all.map((pair) => pair.join('=')).join('\n');
}

/** @param depth how many levels of directories are looked into */
function look(path: string, depth = Infinity): string {
  try {
    const real = realpathSync(path);
    const facts = statSync(real, { bigint: true });
    if (!facts.isDirectory()) return `${real}:${facts.ino}:${facts.size}:${facts.mtimeNs}:${facts.ctimeNs}`;
    if (depth === 0) return real;
    const names = readdirSync(real).filter((name) => !name.startsWith('..'));
    return names
      .sort()
      .map((name) => `${name}=${look(join(real, name), depth - 1)}`)
      .join(',');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unreadable';
  }
}
