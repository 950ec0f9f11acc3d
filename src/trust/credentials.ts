import type { X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type { SecureContextOptions } from 'node:tls';
import { asksNobody, modesOf } from '../admit/standing.js';
import type { Config } from '../config/config.js';
import { ConfigError } from '../errors.js';
import { readCrl } from './crl.js';
import { altNamesOf, FileDesk, subjectOf } from './file-desk.js';
import { DISK } from './files.js';
import type { FileReader } from './files.js';
import { isPrivateKey } from './pem.js';
import type { PemBlock } from './pem.js';
import { createRevocationCheck, isForeign } from './revocation.js';
import { cipherString, createServerContexts } from './secure-context.js';
import { pairSources, readPair } from './server-pair.js';
import type { PairReading, ServerPair } from './server-pair.js';
import { TICKET_KEY_BYTES } from './ticket-keys.js';

export { altNamesOf, subjectOf };

/** One CRL block as loaded, for `check`, `/status` and the revocation facts. */
export interface LoadedCrl {
  readonly file: string;
  readonly pem: string;
  /** RFC 2253 name of the CA that signed it. */
  readonly issuer: string;
  /** Milliseconds since the epoch; null when the CRL has no nextUpdate. */
  readonly thisUpdate: number;
  readonly nextUpdate: number | null;
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
  /** The default first; never empty. */
  readonly servers: readonly [ServerPair, ...ServerPair[]];
  readonly cas: readonly LoadedCa[];
  readonly crls: readonly LoadedCrl[];
  /** Newest first; none when the process makes up its own. */
  readonly ticketKeys: readonly LoadedTicketKey[];
}

/** What was found, as far as it could be read. */
export interface Inspection {
  /** One sentence per problem; none when there are credentials. */
  readonly problems: readonly string[];
  /** Certificates that this server presents: of `tls.cert`, then of each of `tls.certificates`, in the order of the file. */
  readonly chains: readonly (readonly X509Certificate[])[];
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

/** One reading of all files. */
class Loading {
  private readonly desk: FileDesk;
  private readonly copies: LoadedCa[] = [];
  /** Null while the bundle is not known whole. */
  private bundle: readonly LoadedCa[] | null = null;

  constructor(
    private readonly config: Config,
    reader: FileReader,
  ) {
    this.desk = new FileDesk(reader);
  }

  run(): Inspection {
    const { clientCert, tls } = this.config;
    const readings = pairSources(this.config).map((source) => readPair(source, this.desk));
    const cas = this.wholeBundle();
    const crls = clientCert.crl.flatMap((path) => this.revocationLists(path));
    const ticketKeys = tls.sessions.ticketKeys.flatMap((path) => this.ticketKey(path) ?? []);
    const credentials = this.fitTogether(readings, { cas, crls, ticketKeys });
    const { problems } = this.desk;
    return {
      problems,
      chains: readings.map(({ chain }) => chain),
      cas,
      copies: this.copies,
      crls,
      credentials: problems.length === 0 ? credentials : null,
    };
  }

  private fitTogether(
    readings: readonly PairReading[],
    others: Pick<Credentials, 'cas' | 'crls' | 'ticketKeys'>,
  ): Credentials | null {
    const [first, ...more] = readings.flatMap(({ pair }) => pair ?? []);
    if (first === undefined || this.desk.problems.length > 0) return null;
    const credentials: Credentials = { servers: [first, ...more], ...others };
    this.prove(credentials);
    return Object.freeze(credentials);
  }

  /** What is left of a damaged one does not say whose a revocation list is. */
  private wholeBundle(): LoadedCa[] {
    const { problems } = this.desk;
    const before = problems.length;
    const cas = this.authorities();
    if (problems.length === before) this.bundle = cas;
    return cas;
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
    if (unique.size === 0 && !asksNobody(modesOf(this.config)) && this.desk.problems.length === 0) {
      this.desk.problems.push(`clientCert.ca: has no certificate (${ca.join(', ')})`);
    }
    return [...unique.values()];
  }

  private authoritiesBehind(path: string): LoadedCa[] {
    const label = this.config.clientCert.caLabels[path];
    const found = this.desk.expand('clientCert.ca', path).flatMap((file) => this.authoritiesOf(file));
    return label === undefined ? found : found.map((one) => ({ ...one, label }));
  }

  private authoritiesOf(file: string): LoadedCa[] {
    const blocks = this.desk.blocks('clientCert.ca', file, 'CERTIFICATE');
    if (blocks?.some(isPrivateKey)) {
      this.desk.complain(
        'clientCert.ca',
        file,
        'holds a private key; a trust bundle has no use for one: was it mixed up?',
      );
    }
    const wanted = blocks?.filter((block) => !isPrivateKey(block)) ?? [];
    if (blocks !== null && wanted.length === 0) this.desk.complain('clientCert.ca', file, 'has no certificate');
    return wanted.flatMap((block, index) => this.authority({ file, block }, index) ?? []);
  }

  private authority({ file, block }: Located, index: number): LoadedCa | null {
    if (!CERTIFICATE_LABELS.includes(block.label)) {
      // TRUSTED CERTIFICATE among them: its trust settings would silently narrow or widen what the bundle means.
      return this.desk.complain('clientCert.ca', file, `holds a ${block.label}, which is no plain certificate`);
    }
    const parsed = this.desk.certificate('clientCert.ca', file, { block, index });
    if (parsed === null) return null;
    const { certificate, pem } = parsed;
    const subject = subjectOf(certificate);
    return { file, pem, certificate, subject, label: subject, notAfter: Date.parse(certificate.validTo) };
  }

  private revocationLists(path: string): LoadedCrl[] {
    return this.desk.expand('clientCert.crl', path).flatMap((file) => {
      const blocks = this.desk.blocks('clientCert.crl', file, CRL_LABEL);
      const lists = blocks?.filter(({ label }) => label === CRL_LABEL) ?? [];
      if (blocks !== null && lists.length === 0) this.desk.complain('clientCert.crl', file, 'has no revocation list');
      return lists.flatMap((block, index) => this.revocationList({ file, block }, index) ?? []);
    });
  }

  private revocationList({ file, block }: Located, index: number): LoadedCrl | null {
    try {
      const { isDelta, ...crl } = readCrl(file, block);
      if (isDelta) return this.desk.complain('clientCert.crl', file, deltaList(crl, index));
      // Reads the entries too. Whoever judges by this list later must find it whole, and OpenSSL is not always shown it.
      createRevocationCheck([crl], 'refuse');
      return this.isForged(crl) ? this.desk.complain('clientCert.crl', file, forgedList(crl, index)) : crl;
    } catch {
      return this.desk.complain('clientCert.crl', file, `has a damaged revocation list (number ${index + 1})`);
    }
  }

  /** One that goes by the name of a CA of the bundle would keep everybody out who is under it. */
  private isForged(crl: LoadedCrl): boolean {
    const namesakes = this.bundle?.filter(({ subject }) => subject === crl.issuer) ?? [];
    return isForeign(
      crl,
      namesakes.map(({ certificate }) => certificate),
    );
  }

  /** The bytes as they are: whoever generates keys for nginx has them in this form. */
  private ticketKey(path: string): LoadedTicketKey | null {
    const setting = 'tls.sessions.ticketKeys';
    const secret = this.desk.read(setting, path);
    if (secret === null) return null;
    if (TICKET_KEY_BYTES.includes(secret.length)) return { file: path, secret };
    return this.desk.complain(setting, path, `has ${secret.length} bytes; a ticket key is 80 or 48 random bytes`);
  }

  /** Builds what the handshakes will use, because only OpenSSL knows what its security level and cipher names permit. */
  private prove(credentials: Credentials): void {
    try {
      createServerContexts(this.config, credentials);
    } catch (error) {
      const unknown = unknownToOpenSsl(this.config.tls);
      const files = credentials.servers.map(({ file }) => file).join(', ');
      const whole = `tls: OpenSSL does not take these settings with ${files}: ${(error as Error).message}`;
      this.desk.problems.push(...(unknown.length > 0 ? unknown : [whole]));
    }
  }
}

/** OpenSSL 3.0 takes it for a whole list, and as the newest of its CA for the one that counts: what its base revokes gets in. */
function deltaList({ issuer }: LoadedCrl, index: number): string {
  return `has a delta revocation list (number ${index + 1}) of ${issuer}; give the whole list`;
}

function forgedList({ issuer }: LoadedCrl, index: number): string {
  return `has a revocation list (number ${index + 1}) of ${issuer} that no CA of this name in clientCert.ca has signed`;
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
