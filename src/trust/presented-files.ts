import { createPrivateKey, X509Certificate } from 'node:crypto';
import { ConfigError } from '../errors.js';
import { DISK, inWords } from './files.js';
import { isPrivateKey, pemBlocks, type PemBlock } from './pem.js';

/**
 * The certificates of a file that a caller would present, in its order. A key in the same file is none of our business.
 * @param about the flag, for messages
 * @throws ConfigError
 */
export function readCertificates(about: string, path: string): X509Certificate[] {
  const blocks = blocksOf(about, path, 'CERTIFICATE').filter(({ label }) => /^(?:X509 )?CERTIFICATE$/.test(label));
  if (blocks.length === 0) throw complaint(about, path, 'has no certificate');
  return blocks.map(({ pem }, index) => {
    try {
      return new X509Certificate(pem);
    } catch {
      throw complaint(about, path, `has a damaged certificate (number ${index + 1})`);
    }
  });
}

/**
 * The PEM of a caller's private key. It is never part of a message.
 * @throws ConfigError, also when the key does not belong to the certificate
 */
export function readPrivateKey(about: string, path: string, certificate: X509Certificate): string {
  const [block, ...more] = blocksOf(about, path, 'PRIVATE KEY').filter(isPrivateKey);
  if (block === undefined) throw complaint(about, path, 'has no private key');
  if (more.length > 0) throw complaint(about, path, 'has more than one private key');
  if (block.pem.includes('ENCRYPTED')) throw complaint(about, path, 'is encrypted: give a file that is not');
  if (!belongs(block, certificate)) throw complaint(about, path, 'does not belong to the certificate of --client');
  return block.pem;
}

function belongs({ pem }: PemBlock, certificate: X509Certificate): boolean {
  try {
    return certificate.checkPrivateKey(createPrivateKey(pem));
  } catch {
    return false;
  }
}

function blocksOf(about: string, path: string, derLabel: string): PemBlock[] {
  try {
    return pemBlocks(DISK.read(path), derLabel);
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    throw complaint(about, path, code === undefined ? message : `cannot be read: ${inWords(error)}`);
  }
}

function complaint(about: string, path: string, message: string): ConfigError {
  return new ConfigError([`${about}: ${path} ${message}`]);
}
