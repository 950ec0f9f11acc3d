import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';

/**
 * Existing paths that an absolute pattern of glob(3) matches (`*`, `?`, `[…]`), sorted.
 * @param visit told of each directory whose names were looked through
 */
export function glob(pattern: string, visit: (directory: string) => void = () => undefined): string[] {
  const parts = pattern.split('/').filter((part) => part !== '');
  return parts
    .reduce<string[]>((found, part) => found.flatMap((directory) => matching(directory, part, visit)), ['/'])
    .sort();
}

function matching(directory: string, part: string, visit: (directory: string) => void): string[] {
  if (!/[*?[]/.test(part)) {
    const path = join(directory, part);
    return existsSync(path) ? [path] : [];
  }
  visit(directory);
  const expression = toExpression(part);
  return namesIn(directory)
    .filter((name) => expression.test(name))
    .map((name) => join(directory, name));
}

function namesIn(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch {
    // As glob(3): what cannot be read holds nothing that matches.
    return [];
  }
}

/** A leading dot has to be written: `*` does not match `.swp` files. */
function toExpression(part: string): RegExp {
  const body = part.replace(/\[(!?)(\]?[^\]]*)\]|\*|\?|[^*?[]|\[/g, (piece: string, not?: string, set?: string) => {
    if (piece === '*') return '.*';
    if (piece === '?') return '.';
    if (set !== undefined) return `[${not === '!' ? '^' : ''}${set.replace(/[\\\]^]/g, '\\$&')}]`;
    return piece.replace(/[\\^$.*+?()[\]{}|/]/, '\\$&');
  });
  return new RegExp(`^${part.startsWith('.') ? '' : '(?!\\.)'}${body}$`, 's');
}
