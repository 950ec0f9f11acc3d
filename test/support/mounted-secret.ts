import { mkdirSync, renameSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { temporaryDirectory, type Pki } from './pki.js';

type Files = Readonly<Record<string, string | Buffer>>;

/** A Secret as the kubelet mounts it: names link to `..data/name`, `..data` links to a directory that changes. */
export interface MountedSecret {
  readonly path: string;
  at(name: string): string;
  /** Puts these files in place of the old ones, all at once. */
  swap(files: Files): void;
  remove(): void;
}

export function mountSecret(files: Files): MountedSecret {
  const directory = temporaryDirectory();
  const { path } = directory;
  const at = (name: string): string => join(path, name);
  let generation = 0;
  const swap = (next: Files): void => {
    const old = at(`..${generation}`);
    generation += 1;
    mkdirSync(at(`..${generation}`));
    for (const [name, content] of Object.entries(next)) writeFileSync(join(at(`..${generation}`), name), content);
    symlinkSync(`..${generation}`, at('..data_tmp'));
    renameSync(at('..data_tmp'), at('..data'));
    rmSync(old, { recursive: true, force: true });
  };
  swap(files);
  for (const name of Object.keys(files)) symlinkSync(join('..data', name), at(name));
  return { path, at, swap, remove: () => directory.remove() };
}

/** Server certificate, key and CA under the names that the manifests mount them by. */
export function credentialsOf({ ca, server }: Pick<Pki, 'ca' | 'server'>): Files {
  return { 'tls.crt': server.certPem, 'tls.key': server.keyPem, 'ca.crt': ca.certPem };
}

/** The settings that name these files. */
export function namesIn(mount: MountedSecret): Readonly<Record<string, string>> {
  return { 'tls.cert': mount.at('tls.crt'), 'tls.key': mount.at('tls.key'), 'clientCert.ca': mount.at('ca.crt') };
}
