import { createPrivateKey } from 'node:crypto';
import type { KeyObject, X509Certificate } from 'node:crypto';
import type { Config, NamedCertificate } from '../config/config.js';
import { readPeerCertificate } from '../identify/peer-certificate.js';
import { altNamesOf, subjectOf } from './file-desk.js';
import type { FileDesk, ParsedCertificate } from './file-desk.js';
import { inWords } from './files.js';
import { isPrivateKey } from './pem.js';
import type { PemBlock } from './pem.js';

/** A certificate of this server, its key, and the names it is shown to. */
export interface ServerPair {
  /** The file of the certificate. */
  readonly file: string;
  /** PEM chain, leaf first, as the file has it. */
  readonly cert: string;
  readonly key: string;
  readonly passphrase: string | null;
  readonly serverCertificate: X509Certificate;
  /** RFC 2253. */
  readonly serverSubject: string;
  /** As Node prints them; null for none. */
  readonly serverAltNames: string | null;
  /** Lower case; `*.` in front of a name means whatever ends in it. */
  readonly serverNames: readonly string[];
}

/** Where a pair is read from, and how messages call it. */
export interface PairSource {
  readonly settings: { readonly cert: string; readonly key: string; readonly passphrase: string };
  readonly files: Pick<NamedCertificate, 'cert' | 'key' | 'keyPassphraseFile'>;
  /** None: those that the certificate is for. */
  readonly serverNames: readonly string[];
}

/** The pairs that the settings name, the default first. */
export function pairSources({ tls }: Config): PairSource[] {
  const settings = { cert: 'tls.cert', key: 'tls.key', passphrase: 'tls.keyPassphraseFile' };
  const others = { cert: 'tls.certificates', key: 'tls.certificates', passphrase: 'tls.certificates' };
  return [
    { settings, files: tls, serverNames: [] },
    ...tls.certificates.map((files) => ({ settings: others, files, serverNames: files.serverNames })),
  ];
}

/** What was read of one pair. */
export interface PairReading {
  /** In the order of the file. */
  readonly chain: readonly X509Certificate[];
  readonly pair: ServerPair | null;
}

/** Reads one pair. What is wrong with it is left at the desk. */
export function readPair(source: PairSource, desk: FileDesk): PairReading {
  const reading = new PairLoading(source, desk);
  return reading.run();
}

const CERTIFICATE_LABELS = ['CERTIFICATE', 'X509 CERTIFICATE'];

class PairLoading {
  constructor(
    private readonly source: PairSource,
    private readonly desk: FileDesk,
  ) {}

  run(): PairReading {
    const chain = this.chain();
    const passphrase = this.passphrase();
    const key = this.key(passphrase);
    const [leaf] = chain;
    const certificates = chain.map(({ certificate }) => certificate);
    if (leaf === undefined || key === null) return { chain: certificates, pair: null };
    this.pairUp(chain, key.object);
    const pair = {
      file: this.source.files.cert,
      cert: chain.map(({ pem }) => pem).join(''),
      key: key.pem,
      passphrase,
      serverCertificate: leaf.certificate,
      serverSubject: subjectOf(leaf.certificate),
      serverAltNames: altNamesOf(leaf.certificate),
      serverNames: this.names(leaf.certificate),
    };
    return { chain: certificates, pair };
  }

  /** The server's certificates in the order of the file. A key in the same file is none of our business here. */
  private chain(): ParsedCertificate[] {
    const { settings, files } = this.source;
    const blocks = this.desk.blocks(settings.cert, files.cert, 'CERTIFICATE');
    const certificates = blocks?.filter(({ label }) => CERTIFICATE_LABELS.includes(label)) ?? [];
    if (blocks !== null && certificates.length === 0)
      this.desk.complain(settings.cert, files.cert, 'has no certificate');
    return certificates.flatMap(
      (block, index) => this.desk.certificate(settings.cert, files.cert, { block, index }) ?? [],
    );
  }

  private names(certificate: X509Certificate): readonly string[] {
    const { serverNames, settings, files } = this.source;
    if (serverNames.length > 0) return serverNames;
    const names = certifiedNames(certificate);
    if (names.length === 0 && settings.cert === 'tls.certificates') {
      this.desk.complain(settings.cert, files.cert, 'is for no DNS name, so it needs serverNames');
    }
    return names;
  }

  private passphrase(): string | null {
    const path = this.source.files.keyPassphraseFile;
    if (path === null) return null;
    const text = this.passphraseText(path)?.replace(/\r?\n$/, '') ?? null;
    if (text === '') this.desk.complain(this.source.settings.passphrase, path, 'is empty');
    return text;
  }

  /** What cannot be read is not repeated: it may be the passphrase, put where the name of its file belongs. */
  private passphraseText(path: string): string | null {
    const { passphrase } = this.source.settings;
    try {
      return this.desk.reader.read(path).toString('utf8');
    } catch (error) {
      const what = passphrase === 'tls.certificates' ? 'a keyPassphraseFile' : 'the file it names';
      return this.desk.complain(passphrase, what, `cannot be read: ${inWords(error)}`);
    }
  }

  private key(passphrase: string | null): ParsedKey | null {
    const { settings, files } = this.source;
    const blocks = this.desk.blocks(settings.key, files.key, 'PRIVATE KEY');
    if (blocks === null) return null;
    const [block, ...more] = blocks.filter(isPrivateKey);
    if (block === undefined) return this.complainOfKey('has no private key');
    if (more.length > 0) return this.complainOfKey('has more than one private key');
    return this.parseKey(block, passphrase);
  }

  private parseKey(block: PemBlock, passphrase: string | null): ParsedKey | null {
    const { settings, files } = this.source;
    const encrypted = block.label.startsWith('ENCRYPTED') || block.pem.includes('ENCRYPTED');
    if (encrypted && files.keyPassphraseFile === null) {
      const wanted = settings.passphrase === 'tls.certificates' ? 'its keyPassphraseFile' : settings.passphrase;
      return this.complainOfKey(`is encrypted: set ${wanted}`);
    }
    // The passphrase file has its own problem already.
    if (encrypted && passphrase === null) return null;
    try {
      const object = createPrivateKey({ key: block.pem, ...(passphrase === null ? {} : { passphrase }) });
      return { pem: block.pem, object };
    } catch {
      // OpenSSL's message is left out: it says "bad decrypt" or an ASN.1 routine, and helps nobody.
      return this.complainOfKey(encrypted ? 'cannot be decrypted: wrong passphrase?' : 'is damaged');
    }
  }

  /** Certificate and key must belong together: a pair caught half-way through its replacement does not. */
  private pairUp(chain: readonly ParsedCertificate[], key: KeyObject): void {
    const position = chain.findIndex(({ certificate }) => certificate.checkPrivateKey(key));
    if (position === 0) return;
    const hint = position > 0 ? `: number ${position + 1} of the file does, and must stand first` : '';
    this.complainOfKey(`does not belong to the first certificate of ${this.source.files.cert}${hint}`);
  }

  private complainOfKey(message: string): null {
    return this.desk.complain(this.source.settings.key, this.source.files.key, message);
  }
}

interface ParsedKey {
  readonly pem: string;
  readonly object: KeyObject;
}

function certifiedNames(certificate: X509Certificate): string[] {
  try {
    const { subjectAltNames } = readPeerCertificate(certificate.raw);
    return subjectAltNames.flatMap(({ type, value }) => (type === 'dns' ? [value.toLowerCase()] : []));
  } catch {
    // OpenSSL reads certificates that we do not. It can still be shown to whoever asks for no particular name.
    return [];
  }
}
