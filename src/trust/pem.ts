/** One block of a PEM file. */
export interface PemBlock {
  /** `CERTIFICATE`, `RSA PRIVATE KEY`, … */
  readonly label: string;
  /** The block itself, with a line end. */
  readonly pem: string;
}

const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,64})-----\r?\n[A-Za-z0-9+/=:,\-\s]*?-----END \1-----/g;

/**
 * Splits a file into its PEM blocks; text between them is ignored, as OpenSSL does.
 * @param derLabel what a file in DER is taken for; `.crt` files often are
 * @throws Error when a block has no end: a file that is just being written must not be taken for a shorter one
 */
export function pemBlocks(file: Buffer, derLabel: string): PemBlock[] {
  const text = file.toString('latin1');
  const begins = text.split('-----BEGIN ').length - 1;
  if (begins === 0 && file[0] === DER_SEQUENCE) return [fromDer(file, derLabel)];
  const blocks = [...text.matchAll(BLOCK)].map(([pem, label = '']) => ({ label, pem: `${pem}\n` }));
  if (blocks.length !== begins) throw new Error('has a PEM block that is damaged or has no end');
  return blocks;
}

const DER_SEQUENCE = 0x30;

/** The bytes of a block. */
export function derOf(block: Pick<PemBlock, 'pem'>): Buffer {
  return Buffer.from(block.pem.replace(/-----[^-]+-----/g, ''), 'base64');
}

/** Whether the block holds a private key, encrypted or not. */
export function isPrivateKey({ label }: PemBlock): boolean {
  return label.endsWith('PRIVATE KEY');
}

function fromDer(der: Buffer, label: string): PemBlock {
  const lines = der.toString('base64').match(/.{1,64}/g) ?? [];
  return { label, pem: `-----BEGIN ${label}-----\n${lines.join('\n')}\n-----END ${label}-----\n` };
}
