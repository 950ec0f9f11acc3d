import { readdirSync, realpathSync, statSync } from 'node:fs';
import { join } from 'node:path';

/**
 * A text that changes whenever one of these files is written, replaced, removed, or reached through another link.
 *
 * Looking is all it takes: inotify misses network file systems and is blind to what is mounted over, and a watch on a
 * file follows the old one when Kubernetes swaps the `..data` link. Time of change (ctime) is part of it, since nobody can
 * set that back; the real path and the inode tell a swapped directory.
 * @param paths files or directories
 */
export function fingerprint(paths: readonly string[]): string {
  return paths.map((path) => `${path}=${look(path)}`).join('\n');
}

function look(path: string): string {
  try {
    const real = realpathSync(path);
    const facts = statSync(real, { bigint: true });
    if (!facts.isDirectory()) return `${real}:${facts.ino}:${facts.size}:${facts.mtimeNs}:${facts.ctimeNs}`;
    const names = readdirSync(real).filter((name) => !name.startsWith('..'));
    return names
      .sort()
      .map((name) => `${name}=${look(join(real, name))}`)
      .join(',');
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? 'unreadable';
  }
}
