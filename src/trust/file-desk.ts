import { X509Certificate } from 'node:crypto';
import { formatRfc2253, nameOf } from '../identify/distinguished-name.js';
import { readTbsFields } from '../identify/tbs-certificate.js';
import { inWords } from './files.js';
import type { FileReader } from './files.js';
import { pemBlocks } from './pem.js';
import type { PemBlock } from './pem.js';

export interface ParsedCertificate {
  readonly certificate: X509Certificate;
  readonly pem: string;
}

/** Where files are read in one go. Collects problems instead of throwing, so that an operator sees all of them at once. */
export class FileDesk {
  /** One sentence each, naming setting and file. */
  readonly problems: string[] = [];

  constructor(readonly reader: FileReader) {}

  complain(setting: string, file: string, message: string): null {
    this.problems.push(`${setting}: ${file} ${message}`);
    return null;
  }

  read(setting: string, file: string): Buffer | null {
    try {
      return this.reader.read(file);
    } catch (error) {
      return this.complain(setting, file, `cannot be read: ${inWords(error)}`);
    }
  }

  /** @param derLabel what a file in DER is taken for */
  blocks(setting: string, file: string, derLabel: string): PemBlock[] | null {
    const bytes = this.read(setting, file);
    if (bytes === null) return null;
    try {
      return pemBlocks(bytes, derLabel);
    } catch (error) {
      return this.complain(setting, file, (error as Error).message);
    }
  }

  /** @param at the block, and its place in the file from 0 */
  certificate(setting: string, file: string, at: { block: PemBlock; index: number }): ParsedCertificate | null {
    try {
      const certificate = new X509Certificate(at.block.pem);
      subjectOf(certificate);
      return { certificate, pem: at.block.pem };
    } catch {
      return this.complain(setting, file, `has a damaged certificate (number ${at.index + 1})`);
    }
  }

  /** The files behind a setting that may name a directory. */
  expand(setting: string, path: string): readonly string[] {
    try {
      const names = setting === 'clientCert.crl' ? /\.(?:pem|crt|cer|crl)$/i : /\.(?:pem|crt|cer)$/i;
      const files = this.reader.list(path, names);
      if (files?.length === 0) this.complain(setting, path, 'is a directory without .pem, .crt or .cer files');
      return files ?? [path];
    } catch (error) {
      this.complain(setting, path, `cannot be read: ${inWords(error)}`);
      return [];
    }
  }
}

/** RFC 2253 subject. @throws Error when it is malformed */
export function subjectOf(certificate: X509Certificate): string {
  const [, , , , subject] = readTbsFields(certificate.raw);
  return formatRfc2253(nameOf(subject));
}

/** The alternative names as Node prints them; null for none. Since 24.22 Node throws at an extension with an empty list, which has none. */
export function altNamesOf(certificate: X509Certificate): string | null {
  try {
    return certificate.subjectAltName || null;
  } catch {
    return null;
  }
}
