import { readFileSync, realpathSync } from 'node:fs';
import { sep } from 'node:path';

/** What the mounts of this machine mean for a file that is to be followed. */
export type MountFate =
  /** Kubernetes mounted one version of it (`subPath`): nothing that happens to the volume is ever seen here. */
  | 'frozen'
  /** The file itself is the mount: what is written into it is seen, another file put in its place is not. */
  | 'in-place-only';

/** @param mountinfo how the mounts are read (proc(5)); nothing is known where there are none */
export function mountFate(path: string, mountinfo: () => string = readMountinfo): MountFate | null {
  const real = realPath(path);
  const mount = mountOf(real, parseMounts(mountinfo()));
  if (mount === null) return null;
  // The volume's own directory of one version: the atomic writer replaces it with every change, and a bind mount of
  // something inside goes on showing the replaced one.
  if (mount.root.split('/').some((name) => /^\.\.\d{4}_\d\d_\d\d_/.test(name))) return 'frozen';
  return mount.point === real ? 'in-place-only' : null;
}

interface Mount {
  /** What of its file system is mounted. */
  readonly root: string;
  readonly point: string;
}

/** The mount that a file is seen through: the deepest, and of several in one place the last. */
function mountOf(path: string, mounts: readonly Mount[]): Mount | null {
  const above = mounts.filter(({ point }) => path === point || path.startsWith(point === sep ? sep : point + sep));
  return above.reduce<Mount | null>(
    (best, one) => (best !== null && best.point.length > one.point.length ? best : one),
    null,
  );
}

/** `36 35 98:0 /root /point options …` */
function parseMounts(text: string): Mount[] {
  return text.split('\n').flatMap((line) => {
    const [, , , root, point] = line.split(' ');
    return root === undefined || point === undefined ? [] : [{ root: unescaped(root), point: unescaped(point) }];
  });
}

/** Space, tab, line end and backslash are written in octal. */
function unescaped(field: string): string {
  return field.replace(/\\([0-7]{3})/g, (_, digits: string) => String.fromCharCode(parseInt(digits, 8)));
}

function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch {
    return path;
  }
}

function readMountinfo(): string {
  try {
    return readFileSync('/proc/self/mountinfo', 'utf8');
  } catch {
    return '';
  }
}
