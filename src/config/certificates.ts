import { didYouMean } from './suggest.js';

/** One entry of `tls.certificates` as it is written, file names as given. */
export interface CertificateEntry {
  readonly cert: string;
  readonly key: string;
  readonly keyPassphraseFile: string | null;
  readonly serverNames: readonly string[];
}

/** How the parts of an entry are read. */
export interface EntryFormats {
  /** @throws Error */
  readonly fileName: (raw: unknown) => string;
  readonly isHostName: (text: string) => boolean;
}

const KEYS = ['cert', 'key', 'keyPassphraseFile', 'serverNames'];

/**
 * Reads `tls.certificates`.
 * @param raw a list of maps, as the YAML reader gives them
 * @throws Error naming every bad entry by its position (from 1)
 */
export function parseCertificates(raw: unknown, formats: EntryFormats): CertificateEntry[] {
  if (!Array.isArray(raw)) throw new Error('must be a list such as [{cert: b.pem, key: b.key}]');
  const problems: string[] = [];
  const entries = raw.flatMap((entry: unknown, index): CertificateEntry[] => {
    try {
      return [parseEntry(entry, formats)];
    } catch (error) {
      problems.push(`number ${index + 1} ${(error as Error).message}`);
      return [];
    }
  });
  const names = entries.flatMap(({ serverNames }) => serverNames);
  const repeated = names.find((name, index) => names.indexOf(name) !== index);
  // Whichever was meant, the other one would never be shown.
  if (repeated !== undefined) problems.push(`${JSON.stringify(repeated)} is there twice`);
  if (problems.length > 0) throw new Error(problems.join('; '));
  return entries;
}

function parseEntry(raw: unknown, formats: EntryFormats): CertificateEntry {
  if (!(raw instanceof Map)) throw new Error(`must be a map of ${KEYS.join(', ')}`);
  const unknown = [...raw.keys()].map(String).find((key) => !KEYS.includes(key));
  if (unknown !== undefined)
    throw new Error(`has the unknown key ${JSON.stringify(unknown)}${didYouMean(unknown, KEYS)}`);
  const file = (key: string): string => {
    if (!raw.has(key)) throw new Error(`needs ${key}`);
    try {
      return formats.fileName(raw.get(key));
    } catch (error) {
      throw new Error(`${key} ${(error as Error).message}`, { cause: error });
    }
  };
  return {
    cert: file('cert'),
    key: file('key'),
    keyPassphraseFile: raw.has('keyPassphraseFile') ? file('keyPassphraseFile') : null,
    serverNames: raw.has('serverNames') ? names(raw.get('serverNames'), formats) : [],
  };
}

function names(raw: unknown, { isHostName }: EntryFormats): string[] {
  if (!Array.isArray(raw) || raw.length === 0) throw new Error('serverNames must be a list of host names');
  return raw.map((name: unknown) => {
    const isName = typeof name === 'string' && isHostName(name.replace(/^\*\./, ''));
    if (!isName)
      throw new Error(
        `serverNames must be host names such as a.example.com or *.example.com; ${JSON.stringify(name)} is none`,
      );
    return name.toLowerCase();
  });
}
