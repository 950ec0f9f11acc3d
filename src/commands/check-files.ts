import type { Config } from '../config/config.js';
import { isReadableByOthers, isWritableByAll } from '../trust/files.js';
import { mountFate, type MountFate } from '../trust/mounts.js';
import { note, warning } from './findings.js';
import type { Finding } from './findings.js';

type Named = readonly [about: string, path: string];

/**
 * Findings about the files themselves: who can read and write them, and whether a change of them can be seen.
 * @param mountinfo how the mounts are read, as for `mountFate`
 */
export function checkFiles(config: Config, mountinfo?: () => string): Finding[] {
  const secrets = secretsOf(config);
  const all = [...secrets, ...othersOf(config)];
  return [
    ...secrets
      .filter(([, path]) => isReadableByOthers(path))
      .map(([about, path]) => warning(about, `${path} can be read by group or others`)),
    ...all
      .filter(([, path]) => isWritableByAll(path))
      .map(([about, path]) => warning(about, `${path} can be changed by everybody, who so decides whom to trust`)),
    ...all.flatMap(([about, path]) => mountFindings(about, path, mountFate(path, mountinfo))),
  ];
}

function secretsOf({ tls }: Config): Named[] {
  return [
    ...named(['tls.key', tls.key], ['tls.keyPassphraseFile', tls.keyPassphraseFile]),
    ...tls.certificates.flatMap(({ key, keyPassphraseFile }) => {
      return named(['tls.certificates', key], ['tls.certificates', keyPassphraseFile]);
    }),
    ...tls.sessions.ticketKeys.map((path): Named => ['tls.sessions.ticketKeys', path]),
  ];
}

function othersOf({ file, tls, clientCert }: Config): Named[] {
  return [
    ...named(['settings', file], ['tls.cert', tls.cert]),
    ...tls.certificates.map(({ cert }): Named => ['tls.certificates', cert]),
    ...clientCert.ca.map((path): Named => ['clientCert.ca', path]),
    ...clientCert.crl.map((path): Named => ['clientCert.crl', path]),
  ];
}

function named(...all: readonly (readonly [about: string, path: string | null])[]): Named[] {
  return all.flatMap(([about, path]): Named[] => (path === null ? [] : [[about, path]]));
}

function mountFindings(about: string, path: string, fate: MountFate | null): Finding[] {
  switch (fate) {
    case 'frozen':
      return [warning(about, `${path} is mounted with subPath: it NEVER CHANGES in here; mount the directory instead`)];
    case 'in-place-only':
      return [
        note(about, `${path} is a mount of its own: another file put in its place is not seen; mount the directory`),
      ];
    case null:
      return [];
  }
}
