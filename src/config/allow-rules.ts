import ipaddr from 'ipaddr.js';
import { didYouMean } from './suggest.js';
import type { AllowRule } from './config.js';

type Parse = (value: unknown) => unknown;

const name = patternOf(/[.]/);
const pathPattern = patternOf(/[/]/);
// The value of an attribute may be a star: CN=*,O=Tencent.
const distinguishedName = patternOf(/,|(?<=(?:^|,)[A-Za-z]+)=/);

/** What a rule may say. */
const CONDITIONS: Readonly<Record<string, Parse>> = {
  commonName: name,
  organization: name,
  organizationalUnit: name,
  dnsName: (value) => name(value).toLowerCase(),
  uri: pathPattern,
  email: patternOf(/[.@]/),
  ipAddress,
  subject: distinguishedName,
  issuer: distinguishedName,
  spkiSha256: pin,
  certSha256: fingerprint,
  serial,
  methods,
  paths,
};

/**
 * Reads `clientCert.allow`.
 * @param raw a list of maps, as the YAML reader gives them
 * @throws Error naming every bad rule by its position (from 1) and condition
 */
export function parseAllowRules(raw: unknown): AllowRule[] {
  if (!Array.isArray(raw)) throw new Error('must be a list of rules such as [{commonName: im.qq.com}]');
  const problems: string[] = [];
  const rules = raw.map((rule: unknown, index) => parseRule(rule, `rule ${index + 1}`, problems));
  if (problems.length > 0) throw new Error(problems.join('; '));
  return rules;
}

function parseRule(raw: unknown, where: string, problems: string[]): AllowRule {
  if (!(raw instanceof Map)) {
    problems.push(`${where} must be a map of conditions`);
    return {};
  }
  const entries = [...raw].map(([key, value]: [unknown, unknown]) => parseEntry(key, value, { where, problems }));
  // An empty rule would match everybody: the opposite of what its author wanted.
  if (raw.size === 0) problems.push(`${where} needs at least one of ${Object.keys(CONDITIONS).join(', ')}`);
  return Object.fromEntries(entries);
}

function parseEntry(key: unknown, value: unknown, at: { where: string; problems: string[] }): [string, unknown] {
  const condition = String(key);
  const parse = Object.hasOwn(CONDITIONS, condition) ? CONDITIONS[condition] : undefined;
  if (parse === undefined) {
    const hint = didYouMean(condition, Object.keys(CONDITIONS));
    at.problems.push(`${at.where}: unknown condition ${JSON.stringify(condition)}${hint}`);
    return [condition, undefined];
  }
  try {
    return [condition, parse(value)];
  } catch (error) {
    at.problems.push(`${at.where}: ${condition} ${(error as Error).message}`);
    return [condition, undefined];
  }
}

function text(value: unknown): string {
  // YAML reads 12e4 as 120000 and 007 as 7: a serial number or a unit must not be changed silently.
  if (typeof value === 'number') throw new Error('must be text: put it in quotes');
  if (typeof value !== 'string' || value === '') throw new Error('must be a text that is not empty');
  return value;
}

/** A star that is part of a label is refused: `*bank.example` would also admit evilbank.example. */
function patternOf(separator: RegExp): (value: unknown) => string {
  return (value) => {
    const written = text(value);
    if (written.split(separator).every((label) => !label.includes('*') || label === '*' || label === '**'))
      return written;
    const rule = '* and ** stand for whole labels or path segments, not for parts of one';
    throw new Error(`${JSON.stringify(written)}: ${rule}`);
  };
}

function ipAddress(value: unknown): string {
  const written = text(value);
  // isValid alone takes 127.1 and 0x7f.1, which no certificate means.
  const isAddress = ipaddr.IPv4.isValidFourPartDecimal(written) || ipaddr.IPv6.isValid(written);
  if (!isAddress || written.includes('%')) throw new Error(`${JSON.stringify(written)} is no IP address`);
  const address = ipaddr.parse(written);
  // RFC 5952 section 5: an IPv4-mapped address keeps its dotted tail, as it is read from certificates.
  const isMapped = address instanceof ipaddr.IPv6 && address.isIPv4MappedAddress();
  return isMapped ? `::ffff:${address.toIPv4Address().toString()}` : address.toString();
}

function pin(value: unknown): string {
  const written = text(value);
  const digest = /^sha256:([A-Za-z0-9+/]{43}=)$/.exec(written)?.[1];
  if (digest === undefined || Buffer.from(digest, 'base64').toString('base64') !== digest) {
    throw new Error('must be sha256:<base64> of 32 bytes');
  }
  return written;
}

function fingerprint(value: unknown): string {
  const digits = text(value).replaceAll(':', '').toLowerCase();
  if (!/^[0-9a-f]{64}$/.test(digits)) throw new Error('must be 64 hexadecimal digits');
  return digits;
}

function serial(value: unknown): string {
  const digits = text(value).replaceAll(':', '').toUpperCase();
  // RFC 5280 section 4.1.2.2: at most 20 octets.
  if (!/^[0-9A-F]{1,64}$/.test(digits)) throw new Error('must be hexadecimal, as nginx prints $ssl_client_serial');
  const significant = digits.replace(/^0+/, '');
  return significant.length % 2 === 0 && significant !== '' ? significant : `0${significant || '0'}`;
}

function methods(value: unknown): string[] {
  return textList(value).map((method) => {
    if (!/^[A-Z][A-Z0-9!#$%&'*+.^_`|~-]*$/.test(method)) {
      throw new Error(`${JSON.stringify(method)} is no method: methods are upper-case words such as POST`);
    }
    return method;
  });
}

function paths(value: unknown): string[] {
  return textList(value).map((path) => {
    if (!/^\/[!-~]*$/.test(path) || /[?#]/.test(path)) {
      throw new Error(`${JSON.stringify(path)} must begin with / and be without query, space and non-ASCII characters`);
    }
    return pathPattern(path);
  });
}

function textList(value: unknown): string[] {
  if (!Array.isArray(value) || value.length === 0) throw new Error('must be a list that is not empty');
  return value.map(text);
}
