import { createPrivateKey, X509Certificate } from 'node:crypto';
import type { KeyObject } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';
import { asksNobody, modesOf } from '../admit/standing.js';
import type { Config } from '../config/config.js';
import { ConfigError } from '../errors.js';
import { formatRfc2253, nameOf } from '../identify/distinguished-name.js';
import { readTbsFields } from '../identify/tbs-certificate.js';
import { readCrl } from './crl.js';
import { DISK, inWords } from './files.js';
import type { FileReader } from './files.js';
import { isPrivateKey, pemBlocks } from './pem.js';
import type { PemBlock } from './pem.js';
import { createRevocationCheck } from './revocation.js';
import { cipherString, createServerContexts } from './secure-context.js';

/** One CRL block as loaded, for `check`, `/status` and the revocation facts. */
export interface LoadedCrl {
  readonly file: string;
  readonly pem: string;
  /** RFC 2253 name of the CA that signed it. */
  readonly issuer: string;
  /** Milliseconds since the epoch; null when the CRL has no nextUpdate. */
  readonly thisUpdate: number;
  readonly nextUpdate: number | null;
  readonly isDelta: boolean;
}

/** One CA certificate of the trust bundle. */
export interface LoadedCa {
  readonly file: string;
  readonly pem: string;
  readonly certificate: X509Certificate;
  /** RFC 2253. */
  readonly subject: string;
  /** What the operator calls it: the label of its file, or its subject. */
  readonly label: string;
  readonly notAfter: number;
}

/** A secret that session tickets are sealed with. */
export interface LoadedTicketKey {
  readonly file: string;
  readonly secret: Buffer;
}

/** Everything that trust is built from, read in one go, checked to fit together, immutable, and replaced whole. */
export interface Credentials {
  /** PEM chain of the server certificate, leaf first, as the file has it. */
  readonly cert: string;
  readonly key: string;
  readonly passphrase: string | null;
  readonly serverCertificate: X509Certificate;
  /** RFC 2253. */
  readonly serverSubject: string;
  readonly cas: readonly LoadedCa[];
  readonly crls: readonly LoadedCrl[];
  /** Newest first; none when the process makes up its own. */
  readonly ticketKeys: readonly LoadedTicketKey[];
}

/** What was found, as far as it could be read. */
export interface Inspection {
  /** One sentence per problem; none when there are credentials. */
  readonly problems: readonly string[];
  /** Certificates of `tls.cert` in the order of the file. */
  readonly chain: readonly X509Certificate[];
  readonly cas: readonly LoadedCa[];
  /** CAs that the bundle has already. */
  readonly copies: readonly LoadedCa[];
  readonly crls: readonly LoadedCrl[];
  readonly credentials: Credentials | null;
}

/** A block and the file it stands in. */
interface Located {
  readonly file: string;
  readonly block: PemBlock;
}

const CERTIFICATE_LABELS = ['CERTIFICATE', 'X509 CERTIFICATE'];
const CRL_LABEL = 'X509 CRL';
/** nginx's: for AES-128, and for AES-256. */
const TICKET_KEY_BYTES: readonly number[] = [48, 80];

/**
 * Reads every file that trust is built from and proves that they fit together, to the point of building what the
 * handshakes will use.
 * @param reader how files are read; default: the disk
 * @throws ConfigError with all problems at once, each naming setting and file
 */
export function loadCredentials(config: Config, reader: FileReader = DISK): Credentials {
  const { credentials, problems } = inspectCredentials(config, reader);
  if (credentials === null) throw new ConfigError(problems);
  return credentials;
}

/** As `loadCredentials`, for those who want to show what is right beside what is wrong. */
export function inspectCredentials(config: Config, reader: FileReader = DISK): Inspection {
  return new Loading(config, reader).run();
}

/** One reading. Collects problems instead of throwing, so that an operator sees all of them at once. */
class Loading {
  readonly problems: string[] = [];
  readonly copies: LoadedCa[] = [];

  constructor(
    private readonly config: Config,
    private readonly reader: FileReader,
  ) {}

  run(): Inspection {
    const { clientCert } = this.config;
    const chain = this.chain();
    const passphrase = this.passphrase();
    const key = this.key(passphrase);
    const cas = this.authorities();
    const crls = clientCert.crl.flatMap((path) => this.revocationLists(path));
    const ticketKeys = this.config.tls.sessions.ticketKeys.flatMap((path) => this.ticketKey(path) ?? []);
    const credentials = this.fitTogether({ chain, key, passphrase, cas, crls, ticketKeys });
    return {
      problems: this.problems,
      chain: chain.map(({ certificate }) => certificate),
      cas,
      copies: this.copies,
      crls,
      credentials: this.problems.length === 0 ? credentials : null,
    };
  }

  private fitTogether({ chain, key, passphrase, cas, crls, ticketKeys }: Parts): Credentials | null {
    const [leaf] = chain;
    if (leaf === undefined || key === null) return null;
    this.pairUp(chain, key.object);
    const cert = chain.map(({ pem }) => pem).join('');
    const serverCertificate = leaf.certificate;
    const serverSubject = subjectOf(serverCertificate);
    const server = { cert, key: key.pem, passphrase, serverCertificate, serverSubject };
    const credentials = { ...server, cas, crls, ticketKeys };
    if (this.problems.length === 0) this.prove(credentials);
    return Object.freeze(credentials);
  }

  /** The server's certificates in the order of the file. A key in the same file is none of our business here. */
  private chain(): ParsedCertificate[] {
    const path = this.config.tls.cert;
    const blocks = this.blocks('tls.cert', path, 'CERTIFICATE');
    const certificates = blocks?.filter(({ label }) => CERTIFICATE_LABELS.includes(label)) ?? [];
    if (blocks !== null && certificates.length === 0) this.complain('tls.cert', path, 'has no certificate');
    return certificates.flatMap((block, index) => this.certificate('tls.cert', path, { block, index }) ?? []);
  }

  private passphrase(): string | null {
    const path = this.config.tls.keyPassphraseFile;
    if (path === null) return null;
    const text = this.passphraseText(path)?.replace(/\r?\n$/, '') ?? null;
    if (text === '') this.complain('tls.keyPassphraseFile', path, 'is empty');
    return text;
  }

  /** What cannot be read is not repeated: it may be the passphrase, put where the name of its file belongs. */
  private passphraseText(path: string): string | null {
    try {
      return this.reader.read(path).toString('utf8');
    } catch (error) {
      return this.complain('tls.keyPassphraseFile', 'the file it names', `cannot be read: ${inWords(error)}`);
    }
  }

  private key(passphrase: string | null): ParsedKey | null {
    const path = this.config.tls.key;
    const blocks = this.blocks('tls.key', path, 'PRIVATE KEY');
    if (blocks === null) return null;
    const [block, ...more] = blocks.filter(isPrivateKey);
    if (block === undefined) return this.complain('tls.key', path, 'has no private key');
    if (more.length > 0) return this.complain('tls.key', path, 'has more than one private key');
    return this.parseKey(block, passphrase);
  }

  private parseKey(block: PemBlock, passphrase: string | null): ParsedKey | null {
    const path = this.config.tls.key;
    const encrypted = block.label.startsWith('ENCRYPTED') || block.pem.includes('ENCRYPTED');
    if (encrypted && this.config.tls.keyPassphraseFile === null) {
      return this.complain('tls.key', path, 'is encrypted: set tls.keyPassphraseFile');
    }
    // The passphrase file has its own problem already.
    if (encrypted && passphrase === null) return null;
    try {
      const object = createPrivateKey({ key: block.pem, ...(passphrase === null ? {} : { passphrase }) });
      return { pem: block.pem, object };
    } catch {
      // OpenSSL's message is left out: it says "bad decrypt" or an ASN.1 routine, and helps nobody.
      return this.complain('tls.key', path, encrypted ? 'cannot be decrypted: wrong passphrase?' : 'is damaged');
    }
  }

  private authorities(): LoadedCa[] {
    const { ca } = this.config.clientCert;
    const unique = new Map<string, LoadedCa>();
    for (const one of ca.flatMap((path) => this.authoritiesBehind(path))) {
      const { fingerprint256 } = one.certificate;
      const known = unique.get(fingerprint256);
      if (known !== undefined) this.copies.push(one);
      // A name that was given on purpose is not lost to a copy in another file.
      if (known === undefined || known.label === known.subject) unique.set(fingerprint256, one);
    }
    // Never an empty bundle: a context without a CA would have to trust nobody, or (Node's way) everybody.
    if (unique.size === 0 && !asksNobody(modesOf(this.config)) && this.problems.length === 0) {
      this.problems.push(`clientCert.ca: has no certificate (${ca.join(', ')})`);
    }
    return [...unique.values()];
  }

  private authoritiesBehind(path: string): LoadedCa[] {
    const label = this.config.clientCert.caLabels[path];
    const found = this.expand('clientCert.ca', path).flatMap((file) => this.authoritiesOf(file));
    return label === undefined ? found : found.map((one) => ({ ...one, label }));
  }

  private authoritiesOf(file: string): LoadedCa[] {
    const blocks = this.blocks('clientCert.ca', file, 'CERTIFICATE');
    if (blocks?.some(isPrivateKey)) {
      this.complain('clientCert.ca', file, 'holds a private key; a trust bundle has no use for one: was it mixed up?');
    }
    const wanted = blocks?.filter((block) => !isPrivateKey(block)) ?? [];
    if (blocks !== null && wanted.length === 0) this.complain('clientCert.ca', file, 'has no certificate');
    return wanted.flatMap((block, index) => this.authority({ file, block }, index) ?? []);
  }

  private authority({ file, block }: Located, index: number): LoadedCa | null {
    if (!CERTIFICATE_LABELS.includes(block.label)) {
      // TRUSTED CERTIFICATE among them: its trust settings would silently narrow or widen what the bundle means.
      return this.complain('clientCert.ca', file, `holds a ${block.label}, which is no plain certificate`);
    }
    const parsed = this.certificate('clientCert.ca', file, { block, index });
    if (parsed === null) return null;
    const { certificate, pem } = parsed;
    const subject = subjectOf(certificate);
    return { file, pem, certificate, subject, label: subject, notAfter: Date.parse(certificate.validTo) };
  }

  private revocationLists(path: string): LoadedCrl[] {
    return this.expand('clientCert.crl', path).flatMap((file) => {
      const blocks = this.blocks('clientCert.crl', file, CRL_LABEL);
      const lists = blocks?.filter(({ label }) => label === CRL_LABEL) ?? [];
      if (blocks !== null && lists.length === 0) this.complain('clientCert.crl', file, 'has no revocation list');
      return lists.flatMap((block, index) => this.revocationList({ file, block }, index) ?? []);
    });
  }

  private revocationList({ file, block }: Located, index: number): LoadedCrl | null {
    try {
      const crl = readCrl(file, block);
      // Reads the entries too. Whoever judges by this list later must find it whole, and OpenSSL is not always shown it.
      createRevocationCheck([crl], 'refuse');
      return crl;
    } catch {
      return this.complain('clientCert.crl', file, `has a damaged revocation list (number ${index + 1})`);
    }
  }

  /** The bytes as they are: whoever generates keys for nginx has them in this form. */
  private ticketKey(path: string): LoadedTicketKey | null {
    const setting = 'tls.sessions.ticketKeys';
    const secret = this.read(setting, path);
    if (secret === null) return null;
    if (TICKET_KEY_BYTES.includes(secret.length)) return { file: path, secret };
    return this.complain(setting, path, `has ${secret.length} bytes; a ticket key is 80 or 48 random bytes`);
  }

  /** Certificate and key must belong together: a pair caught half-way through its replacement does not. */
  private pairUp(chain: readonly ParsedCertificate[], key: KeyObject): void {
    const position = chain.findIndex(({ certificate }) => certificate.checkPrivateKey(key));
    if (position === 0) return;
    const hint = position > 0 ? `: number ${position + 1} of the file does, and must stand first` : '';
    this.complain(
      'tls.key',
      this.config.tls.key,
      `does not belong to the first certificate of ${this.config.tls.cert}${hint}`,
    );
  }

  /** Builds what the handshakes will use, because only OpenSSL knows what its security level and cipher names permit. */
  private prove(credentials: Credentials): void {
    try {
      createServerContexts(this.config, credentials);
    } catch (error) {
      const unknown = unknownToOpenSsl(this.config.tls);
      const whole = `tls: OpenSSL does not take these settings with ${this.config.tls.cert}: ${(error as Error).message}`;
      this.problems.push(...(unknown.length > 0 ? unknown : [whole]));
    }
  }

  private certificate(setting: string, file: string, at: { block: PemBlock; index: number }): ParsedCertificate | null {
    try {
      const certificate = new X509Certificate(at.block.pem);
      subjectOf(certificate);
      return { certificate, pem: at.block.pem };
    } catch {
      return this.complain(setting, file, `has a damaged certificate (number ${at.index + 1})`);
    }
  }

  /** The files behind a setting that may name a directory. */
  private expand(setting: string, path: string): readonly string[] {
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

  private blocks(setting: string, file: string, derLabel: string): PemBlock[] | null {
    const bytes = this.read(setting, file);
    if (bytes === null) return null;
    try {
      return pemBlocks(bytes, derLabel);
    } catch (error) {
      return this.complain(setting, file, (error as Error).message);
    }
  }

  private read(setting: string, file: string): Buffer | null {
    try {
      return this.reader.read(file);
    } catch (error) {
      return this.complain(setting, file, `cannot be read: ${inWords(error)}`);
    }
  }

  private complain(setting: string, file: string, message: string): null {
    this.problems.push(`${setting}: ${file} ${message}`);
    return null;
  }
}

interface Parts {
  readonly chain: readonly ParsedCertificate[];
  readonly key: ParsedKey | null;
  readonly passphrase: string | null;
  readonly cas: readonly LoadedCa[];
  readonly crls: readonly LoadedCrl[];
  readonly ticketKeys: readonly LoadedTicketKey[];
}

interface ParsedKey {
  readonly pem: string;
  readonly object: KeyObject;
}

interface ParsedCertificate {
  readonly certificate: X509Certificate;
  readonly pem: string;
}

/** Asks OpenSSL about each list alone, for its words about the whole do not say which setting it means. */
function unknownToOpenSsl(tls: Config['tls']): string[] {
  const { ciphers, curves } = tls;
  const problems: string[] = [];
  if (ciphers !== null && !isTaken({ ciphers: cipherString(tls) })) {
    const allowed = `must name ciphers up to TLS 1.2 that OpenSSL has at security level ${tls.securityLevel}`;
    problems.push(`tls.ciphers: ${JSON.stringify(ciphers)} leaves none: ${allowed}, such as ECDHE+AESGCM:!aNULL`);
  }
  if (curves !== null && !isTaken({ ecdhCurve: curves })) {
    const allowed = 'must be a list of groups that OpenSSL has, such as X25519:P-256';
    problems.push(`tls.curves: ${JSON.stringify(curves)} has an unknown one: ${allowed}`);
  }
  return problems;
}

function isTaken(options: SecureContextOptions): boolean {
  try {
    createSecureContext(options);
    return true;
  } catch {
    return false;
  }
}

/** RFC 2253 subject. @throws Error when it is malformed */
export function subjectOf(certificate: X509Certificate): string {
  const [, , , , subject] = readTbsFields(certificate.raw);
  return formatRfc2253(nameOf(subject));
}
