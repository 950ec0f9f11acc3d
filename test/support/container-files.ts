import { parse } from 'yaml';
import { readProjectFile } from './source-tree.js';

/** The instructions of the Dockerfile in order, continuation lines joined, comments left out. */
export function dockerfile(): readonly { readonly name: string; readonly value: string }[] {
  const lines = readProjectFile('Dockerfile')
    .split('\n')
    .filter((line) => !line.startsWith('#'))
    .join('\n')
    .replace(/\\\n/g, ' ')
    .split('\n')
    .filter((line) => line.trim() !== '');
  return lines.map((line) => {
    const [, name = '', value = ''] = /^(\w+)\s+(.*)$/.exec(line) ?? [];
    return { name, value: value.replace(/\s+/g, ' ') };
  });
}

/** The values of one kind of instruction. */
export function instructions(name: string): string[] {
  return dockerfile().flatMap((line) => (line.name === name ? [line.value] : []));
}

/** The words of an instruction in exec form, which may follow options (`HEALTHCHECK --interval=… CMD […]`). */
export function execForm(value: string): string[] {
  return JSON.parse(value.slice(value.indexOf('['))) as string[];
}

/** Where the image starts: its entry point and what it does by default. */
export function imageCommand(): { readonly entrypoint: string[]; readonly command: string[] } {
  const [entrypoint = '[]'] = instructions('ENTRYPOINT');
  const [command = '[]'] = instructions('CMD');
  return { entrypoint: execForm(entrypoint), command: execForm(command) };
}

export interface ComposeService {
  readonly image?: string;
  readonly entrypoint?: readonly string[];
  readonly command?: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
  readonly ports?: readonly string[];
  readonly networks?: readonly string[];
  readonly network_mode?: string;
  readonly volumes?: readonly string[];
  readonly depends_on?: readonly string[];
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean };
  readonly restart?: string;
  readonly stop_grace_period?: string;
  readonly read_only?: boolean;
  readonly cap_drop?: readonly string[];
  readonly security_opt?: readonly string[];
}

export interface ComposeFile {
  readonly services: Readonly<Record<'app' | 'sidecar', ComposeService>> & { readonly net?: ComposeService };
  readonly networks?: Readonly<Record<string, { readonly internal?: boolean }>>;
}

/** A compose file as Compose reads it; `!reset` takes away what an earlier file gave, so it reads as nothing. */
export function composeFile(path: string): ComposeFile {
  const reset = { tag: '!reset', collection: 'seq' as const, resolve: () => undefined };
  return parse(readProjectFile(path), { customTags: [reset] }) as ComposeFile;
}
