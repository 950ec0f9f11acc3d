import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';
import { ATTRIBUTES } from './config.js';
import { parseAllowRules } from './allow-rules.js';
import { parseCertificates } from './certificates.js';
import { parseRoutes } from './routes.js';
import { parseTemplate } from '../nginx/log-template.js';
import { TOKEN } from '../rewrite/field-grammar.js';
import { ALLOWED_FACTS, isFact } from '../rewrite/request-facts.js';
import { SETTINGS } from './schema.js';
import { didYouMean } from './suggest.js';
import { ALLOWED, parseUpstream } from './upstream.js';
import { parseStructure } from './yaml-source.js';

/** The parts of a setting that its format may look at. */
export interface FormatOptions {
  readonly default: unknown;
  readonly choices?: readonly string[];
  /** Smallest number, duration in milliseconds or size in bytes. */
  readonly min?: number;
  readonly max?: number;
}

/** How one kind of setting is written. */
export interface Format {
  /** For people: what may be written. */
  allowed(options: FormatOptions): string;
  /** The value as the program uses it. @throws Error with a sentence that says what is allowed */
  parse(raw: unknown, options: FormatOptions): unknown;
  /** How the text of an environment variable or flag becomes what a file would have held. Default: as it is. */
  fromText?(text: string): unknown;
}

/** setTimeout takes a longer delay for 1 ms, so a "very long" timeout would fire at once. */
const LONGEST_TIMER = 2 ** 31 - 1;
const MILLISECONDS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };
const BYTES: Readonly<Record<string, number>> = { '': 1, KiB: 1024, MiB: 1024 ** 2, GiB: 1024 ** 3 };
const HOST_NAME =
  /^(?=.{1,253}$)[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?(?:\.[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?)*$/i;

/** Headers that frame or route a request (RFC 9110, RFC 9112): an identity in one of them would break the exchange. */
const HEADERS_NOT_FOR_IDENTITY = new Set([
  ...['connection', 'keep-alive', 'proxy-connection', 'proxy-authenticate', 'proxy-authorization', 'te', 'trailer'],
  ...['transfer-encoding', 'upgrade', 'http2-settings', 'host', 'expect', 'date', 'max-forwards', 'range'],
  ...['forwarded', 'x-forwarded-for', 'x-forwarded-proto', 'x-forwarded-host', 'x-forwarded-port', 'x-request-id'],
]);

const count: Format = {
  allowed: ({ min = 0, max = Number.MAX_SAFE_INTEGER }) =>
    max === Number.MAX_SAFE_INTEGER ? `a whole number of at least ${min}` : `a whole number from ${min} to ${max}`,
  parse(raw, options) {
    const value = typeof raw === 'string' && /^\d{1,15}$/.test(raw) ? Number(raw) : raw;
    const isWhole = typeof value === 'number' && Number.isSafeInteger(value);
    if (!isWhole || value < (options.min ?? 0) || value > (options.max ?? Infinity)) refuse(this, options);
    return value;
  },
};

const workers: Format = {
  allowed: (options) => `${count.allowed(options)}, or auto`,
  parse(raw, options) {
    return raw === 'auto' ? raw : attempt(() => count.parse(raw, options), this, options);
  },
};

const portOrOff: Format = {
  allowed: () => 'a port from 0 to 65535 (0 picks a free one), or off',
  parse(raw, options) {
    // YAML 1.1 tools write off as false.
    if (raw === 'off' || raw === false) return null;
    return attempt(() => count.parse(raw, { ...options, min: 0, max: 65535 }), this, options);
  },
};

const duration: Format = {
  allowed: ({ min = 1 }) => `a duration such as 500ms, 10s, 5m or 1h${shortest(min)}`,
  parse(raw, options) {
    const value = raw === 0 || raw === '0' ? 0 : measured(raw, /^(\d{1,9})(ms|s|m|h)$/, MILLISECONDS);
    if (value === null || value < (options.min ?? 1)) return refuse(this, options);
    if (value > LONGEST_TIMER) throw new Error('must be at most 24 days');
    return value;
  },
};

const size: Format = {
  allowed: ({ min = 0 }) =>
    `a size such as 512 (bytes), 16KiB or 1MiB${min === 0 ? '; 0 = no limit' : `, at least ${min} bytes`}`,
  parse(raw, options) {
    const value = measured(raw, /^(\d{1,12})(|KiB|MiB|GiB)$/, BYTES);
    if (value === null || value < (options.min ?? 0) || value > (options.max ?? Number.MAX_SAFE_INTEGER)) {
      return refuse(this, options);
    }
    return value;
  },
};

const onOff: Format = {
  allowed: () => 'true or false',
  parse(raw, options) {
    if (raw === true || raw === 'true') return true;
    return raw === false || raw === 'false' ? false : refuse(this, options);
  },
};

const choice: Format = {
  allowed: ({ choices = [] }) => `one of ${choices.join(', ')}`,
  parse(raw, options) {
    // YAML reads a bare true as a boolean; the choices are words.
    if (typeof raw === 'string' && options.choices?.includes(raw)) return raw;
    // `verify: off` is the word off in YAML 1.2, but tools that speak YAML 1.1 write it as false.
    if (raw === false && options.choices?.includes('off')) return 'off';
    return refuse(this, options);
  },
};

const accessLog: Format = {
  allowed: () => 'true, false or combined',
  parse(raw, options) {
    return raw === 'combined' ? raw : attempt(() => onOff.parse(raw, options), this, options);
  },
};

const bindHost: Format = {
  allowed: () => 'an IP address or host name',
  parse(raw, options) {
    return typeof raw === 'string' && (isIP(raw) !== 0 || HOST_NAME.test(raw)) ? raw : refuse(this, options);
  },
};

const file: Format = {
  allowed: () => 'a file name',
  parse: (raw) => fileName(raw),
};

const files: Format = {
  allowed: () => 'a file, a list of files, or a directory',
  fromText: listFromText,
  parse(raw, options) {
    const list = (Array.isArray(raw) ? raw : [raw]).map(fileName);
    return list.length > 0 ? list : refuse(this, options);
  },
};

const certificates: Format = {
  allowed: () =>
    'a list of {cert: b.pem, key: b.key}, if need be with keyPassphraseFile and serverNames: [b.example.com, "*.b.example.com"]',
  fromText: parseStructure,
  parse: (raw) => parseCertificates(raw, { fileName, isHostName: (text) => HOST_NAME.test(text) }),
};

/** As `files`, where the order says something. */
const fileList: Format = {
  allowed: () => 'a file or a list of files',
  fromText: listFromText,
  parse(raw, options) {
    const list = (Array.isArray(raw) ? raw : [raw]).map(fileName);
    if (unique(list).length < list.length) throw new Error('names a file twice');
    return list.length > 0 ? list : refuse(this, options);
  },
};

/** A file or directory of CAs, with the name that an operator gave them. */
export interface CaSource {
  readonly file: string;
  readonly label: string | null;
}

const caFiles: Format = {
  allowed: () =>
    'a file, a list of files, or a directory; a file with a name for its CAs is {file: old.pem, label: retiring}',
  fromText: listFromText,
  parse(raw, options): CaSource[] {
    const list = (Array.isArray(raw) ? raw : [raw]).map((item: unknown) => caSource(item));
    const torn = list.find((one) => list.some((other) => other.file === one.file && other.label !== one.label));
    if (torn !== undefined) throw new Error(`${quote(torn.file)} has two labels`);
    return list.length > 0 ? list : refuse(this, options);
  },
};

const hostNames: Format = {
  allowed: () => 'a list of host names such as a.example.com or *.example.com',
  fromText: listFromText,
  parse(raw, options) {
    return each(raw, this, options).map((name) => {
      if (!HOST_NAME.test(name.replace(/^\*\./, '')))
        throw new Error(`must be ${this.allowed(options)}; ${quote(name)} is none`);
      return name.toLowerCase();
    });
  },
};

const choices: Format = {
  allowed: ({ choices: known = [] }) => `a list of ${known.join(', ')}`,
  fromText: listFromText,
  parse(raw, options) {
    const known = options.choices ?? [];
    return unique(each(raw, this, options)).map((name) => {
      if (known.includes(name)) return name;
      throw new Error(`must be ${this.allowed(options)}; ${quote(name)} is unknown${didYouMean(name, known)}`);
    });
  },
};

const networks: Format = {
  allowed: () => 'a list of IP addresses and CIDR blocks such as 10.0.0.0/8',
  fromText: listFromText,
  parse(raw, options) {
    return each(raw, this, options).map((network) => {
      if (isNetwork(network)) return network;
      throw new Error(`must be ${this.allowed(options)}; ${quote(network)} is none`);
    });
  },
};

const cipherList = opensslList('ECDHE+AESGCM:!aNULL');
const curveList = opensslList('X25519:P-256');

const upstream: Format = {
  allowed: () => ALLOWED,
  parse(raw, options) {
    if (typeof raw !== 'string') return refuse(this, options);
    parseUpstream(raw);
    return raw;
  },
};

const identityHeaders: Format = {
  allowed: () => `a map of header names to attributes (${ATTRIBUTES.join(', ')})`,
  fromText: parseStructure,
  parse(raw, options) {
    if (!(raw instanceof Map)) return refuse(this, options);
    const problems: string[] = [];
    const entries = [...raw].map(([name, attribute]: [unknown, unknown]): [string, string] => {
      problems.push(...headerProblems(name, attribute));
      return [String(name), String(attribute)];
    });
    problems.push(...repeatedNames(entries));
    if (problems.length > 0) throw new Error(problems.join('; '));
    // fromEntries defines own properties, so a header named __proto__ stays a header and sets no prototype.
    return Object.fromEntries(entries);
  },
};

const factHeaders: Format = {
  allowed: () => `a map of header names to ${ALLOWED_FACTS}`,
  fromText: parseStructure,
  parse(raw, options) {
    if (!(raw instanceof Map)) return refuse(this, options);
    const entries = [...raw].map(([name, fact]: [unknown, unknown]): [string, string] => [String(name), String(fact)]);
    const problems = entries.flatMap(([name, fact]) => [
      ...nameProblems(name),
      ...(isFact(fact) ? [] : [`${quote(name)} must be ${ALLOWED_FACTS}`]),
    ]);
    problems.push(...repeatedNames(entries));
    if (problems.length > 0) throw new Error(problems.join('; '));
    return Object.fromEntries(entries);
  },
};

const fileNames: Format = {
  allowed: () => 'a list of file names without directories',
  fromText: listFromText,
  parse(raw, options) {
    return unique(each(raw, this, options)).map((name) => {
      if (name !== '' && !/^\.|[/\\\0]/.test(name)) return name;
      throw new Error(`must be ${this.allowed(options)}; ${quote(name)} is none`);
    });
  },
};

const logTemplate: Format = {
  allowed: () => 'a text with variables such as $remote_addr and $http_referer',
  parse(raw, options) {
    // A line end would let one request write two lines.
    if (typeof raw !== 'string' || raw === '' || /[\r\n\0]/.test(raw)) return refuse(this, options);
    parseTemplate(raw);
    return raw;
  },
};

const allowRules: Format = {
  allowed: () => 'a list of rules such as [{commonName: im.qq.com, methods: [POST]}]',
  fromText: parseStructure,
  parse: (raw) => parseAllowRules(raw),
};

const routes: Format = {
  allowed: () => 'a list of routes such as [{path: /healthz, verify: off, return: 200}]',
  fromText: parseStructure,
  parse: (raw) => parseRoutes(raw, { hosts: (value) => hostNames.parse(value, NO_OPTIONS), setting: parseSetting }),
};

const NO_OPTIONS: FormatOptions = { default: null };

function parseSetting(name: string, value: unknown): unknown {
  const setting = SETTINGS.get(name);
  if (setting === undefined) throw new Error('is unknown');
  const format: Format = FORMATS[setting.format];
  return format.parse(value, setting);
}

/** A name that is fixed for a later version. To take it and do nothing could leave open what its user believes shut. */
const unavailable: Format = {
  allowed: (options) => `${JSON.stringify(plain(options.default))} (anything else is not available in this version)`,
  fromText: (text) => (/^[[{]/.test(text) ? parseStructure(text) : text),
  parse(raw, options) {
    const wanted = JSON.stringify(plain(options.default));
    // A variable or flag gives the text of a number or truth value.
    const isText = typeof raw === 'string' && raw === wanted;
    if (isText || JSON.stringify(plain(raw)) === wanted) return options.default;
    throw new Error(`is not available in this version: leave it out (or ${wanted})`);
  },
};

/** Every format by the name that the schema uses. None is a built-in name of convict: those coerce text loosely. */
export const FORMATS = {
  'whole-number': count,
  workers,
  'port-or-off': portOrOff,
  duration,
  size,
  'on-off': onOff,
  choice,
  'access-log': accessLog,
  'bind-host': bindHost,
  file,
  files,
  'file-list': fileList,
  certificates,
  'ca-files': caFiles,
  'host-names': hostNames,
  choices,
  networks,
  'cipher-list': cipherList,
  'curve-list': curveList,
  upstream,
  'identity-headers': identityHeaders,
  'fact-headers': factHeaders,
  'file-names': fileNames,
  'log-template': logTemplate,
  'allow-rules': allowRules,
  routes,
  unavailable,
} as const satisfies Record<string, Format>;
export type FormatName = keyof typeof FORMATS;

function refuse(format: Format, options: FormatOptions): never {
  throw new Error(`must be ${format.allowed(options)}`);
}

function shortest(min: number): string {
  if (min === 0) return ', or 0';
  if (min === 1) return ', more than 0';
  return `, at least ${min % 1_000 === 0 ? `${min / 1_000}s` : `${min}ms`}`;
}

/** Whether OpenSSL knows what is in it, only OpenSSL can say; that is asked with the certificate. */
function opensslList(example: string): Format {
  return {
    allowed: () => `a list in OpenSSL's form, such as ${example}`,
    parse(raw, options) {
      return typeof raw === 'string' && /^[A-Za-z0-9_.:+!@=,?*/-]+$/.test(raw) ? raw : refuse(this, options);
    },
  };
}

function attempt(parse: () => unknown, format: Format, options: FormatOptions): unknown {
  try {
    return parse();
  } catch {
    return refuse(format, options);
  }
}

function measured(raw: unknown, form: RegExp, units: Readonly<Record<string, number>>): number | null {
  const [, digits, unit] = form.exec(typeof raw === 'number' ? String(raw) : typeof raw === 'string' ? raw : '') ?? [];
  return digits === undefined ? null : Number(digits) * (units[unit ?? ''] ?? NaN);
}

function each(raw: unknown, format: Format, options: FormatOptions): string[] {
  if (!Array.isArray(raw) || raw.some((item) => typeof item !== 'string')) return refuse(format, options);
  return raw as string[];
}

function listFromText(text: string): unknown {
  return text.startsWith('[') ? parseStructure(text) : text.split(',').map((item) => item.trim());
}

function fileName(raw: unknown): string {
  // Somebody who pastes the PEM text itself must not find the private key repeated in an error message.
  if (typeof raw === 'string' && raw.includes('-----BEGIN'))
    throw new Error('must be the name of a file, not its text');
  if (typeof raw !== 'string' || raw === '' || /[\0\n\r]/.test(raw)) throw new Error('must be a file name');
  return raw;
}

function caSource(raw: unknown): CaSource {
  if (!(raw instanceof Map)) return { file: fileName(raw), label: null };
  const unknown = [...raw.keys()].map(String).filter((key) => key !== 'file' && key !== 'label');
  if (unknown.length > 0) throw new Error(`must be files, or {file, label}; ${quote(unknown[0])} is unknown`);
  return { file: fileName(raw.get('file')), label: raw.has('label') ? caLabel(raw.get('label')) : null };
}

/** It becomes the value of a metric label, which people type into queries. */
function caLabel(raw: unknown): string {
  if (typeof raw === 'number') throw new Error('label must be text: put it in quotes');
  if (typeof raw === 'string' && /^[A-Za-z0-9](?:[A-Za-z0-9 ._-]{0,62}[A-Za-z0-9._-])?$/.test(raw)) return raw;
  throw new Error('label must be 1 to 64 letters, digits, spaces, dots, underscores and hyphens');
}

function isNetwork(text: string): boolean {
  const [address = '', ...rest] = text.split('/');
  // ipaddr.js also takes 10.1 and octal forms, which other tools read as other addresses.
  if (!ipaddr.IPv4.isValidFourPartDecimal(address) && (!ipaddr.IPv6.isValid(address) || address.includes('%')))
    return false;
  return rest.length === 0 || ipaddr.isValidCIDR(text);
}

/** CGI and its children read Content_Length as Content-Length. */
function fold(header: string): string {
  return header.toLowerCase().replace(/[^a-z0-9]/g, '-');
}

function repeatedNames(entries: readonly (readonly [string, string])[]): string[] {
  const folded = entries.map(([name]) => fold(name));
  const repeated = entries.filter((_, index) => folded.indexOf(folded[index] ?? '') !== index);
  return repeated.map(([name]) => `${quote(name)} is there twice (case, _ and . make no difference)`);
}

function nameProblems(name: unknown): string[] {
  if (typeof name !== 'string' || !TOKEN.test(name)) return [`${quote(name)} is no header name`];
  const hasMeaning = HEADERS_NOT_FOR_IDENTITY.has(fold(name)) || fold(name).startsWith('content-');
  return hasMeaning ? [`${quote(name)} has a meaning of its own and cannot carry an identity`] : [];
}

function headerProblems(name: unknown, attribute: unknown): string[] {
  const problems = nameProblems(name);
  if (!(ATTRIBUTES as readonly unknown[]).includes(attribute)) {
    const hint = didYouMean(String(attribute), ATTRIBUTES) || `: it is one of ${ATTRIBUTES.join(', ')}`;
    problems.push(`${quote(name)} has the unknown attribute ${quote(attribute)}${hint}`);
  }
  return problems;
}

function unique(list: readonly string[]): string[] {
  return [...new Set(list)];
}

function quote(value: unknown): string {
  return JSON.stringify(value) ?? String(value);
}

/** Maps as objects, so that JSON shows them. */
function plain(value: unknown): unknown {
  return value instanceof Map ? Object.fromEntries(value) : value;
}
