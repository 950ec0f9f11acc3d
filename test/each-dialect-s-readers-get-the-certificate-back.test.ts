import { createHash, X509Certificate } from 'node:crypto';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { chainPem, generateKeys, issueClient, makePki, type Issued, type NameInput } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

// The readers here are written from the documentation of those who invented each format, as an application has them,
// and know nothing of how this project writes it.

const pki = makePki();
const keys = generateKeys();
const lower = pki.ca.subordinate({ subject: [['O', 'Tencent'], ['CN', 'Issuing CA']] }); // prettier-ignore

interface Person {
  readonly leaf: Issued;
  readonly chain: readonly Issued[];
  /** In the order of the certificate. */
  readonly subject: NameInput;
  readonly dns: readonly string[];
  readonly uris: readonly string[];
}

function person(subject: NameInput, dns: readonly string[], uris: readonly string[], below = pki.ca): Person {
  const san = [...dns.map((name) => ({ dns: name })), ...uris.map((uri) => ({ uri }))];
  const leaf = issueClient(below, { keys, subject, san });
  return { leaf, chain: below === pki.ca ? [] : [lower], subject, dns, uris };
}

const SPIFFE = 'spiffe://example.org/ns/a/sa/b';
const PEOPLE: Readonly<Record<string, Person>> = {
  'as usual': person([['C', 'CN'], ['O', 'Tencent'], ['CN', 'im.qq.com']], ['im.qq.com', 'b.example'], []), // prettier-ignore
  'with a SPIFFE id': person([['CN', 'a']], [], [SPIFFE]),
  'with a query in its URI': person([['CN', 'a']], ['a.example'], ['https://example.org/?a=b&c=d']),
  'of two intermediates': person([['CN', 'a']], ['a.example'], [], lower),
  'with a comma, quotes and a semicolon in its name': person([['O', 'Ex"a;m, Inc.'], ['CN', 'a=b+c\\d']], ['a.example'], []), // prettier-ignore
  'with a name in UTF-8': person([['O', '腾讯'], ['CN', 'Zoë']], ['a.example'], []), // prettier-ignore
};

let application: Application;
let sidecar: Sidecar;
let haproxy: Sidecar;

beforeAll(async () => {
  application = await startApplication();
  const base = { pki, upstream: application.url };
  sidecar = await startSidecar({
    ...base,
    settings: {
      'identity.presets': 'nginx,ingress-nginx,xfcc,rfc9440,traefik',
      'identity.headers': '{"X-SSL-Client-Cert":"certPem","X-Client-DER":"traefikCert"}',
    },
  });
  haproxy = await startSidecar({ ...base, settings: { 'identity.presets': 'haproxy' } });
});

afterAll(async () => {
  await sidecar.stop();
  await haproxy.stop();
  await application.stop();
});

/** The one value of a header that the application got from a caller. */
async function sent({ leaf, chain }: Person, name: string, by = sidecar): Promise<string> {
  const as = { certPem: chainPem(leaf, ...chain), keyPem: leaf.keyPem };
  expect((await call(by, { as })).status).toBe(200);
  const values = valuesOf(application.seen.at(-1)?.rawHeaders ?? [], name);
  expect(values).toHaveLength(1);
  return values[0] ?? '';
}

const derOf = (text: string): Buffer => new X509Certificate(text).raw;
const fromBase64 = (text: string): Buffer => {
  expect(text).toMatch(/^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$/);
  return Buffer.from(text, 'base64');
};
const same = (read: Uint8Array | undefined, { certDer }: Issued): void => {
  expect(Buffer.from(read ?? []).equals(Buffer.from(certDer))).toBe(true);
};

/** nginx's documentation of $ssl_client_escaped_cert: PEM, url-encoded. PHP and Python decode a plus as a blank, too. */
const fromEscapedPem = (value: string): Buffer => derOf(decodeURIComponent(value.replaceAll('+', ' ')));

/** RFC 8941 §4.2.7: a byte sequence. */
function readByteSequence(text: string): Buffer {
  const [, base64] = /^:([A-Za-z0-9+/=]*):$/.exec(text) ?? [];
  expect(base64).toBeDefined();
  return fromBase64(base64 ?? '');
}

type XfccElement = ReadonlyMap<string, readonly string[]>;

/**
 * Envoy's documentation of x-forwarded-client-cert: elements between commas, pairs between semicolons, keys without
 * regard to case; a value in double quotes may hold any of `,;=`, and `\"` is a quote.
 */
function readXfcc(value: string): XfccElement[] {
  return splitOutsideQuotes(value, ',').map((element) => {
    const pairs = new Map<string, string[]>();
    for (const pair of splitOutsideQuotes(element, ';')) {
      const [key = '', ...rest] = pair.split('=');
      const text = rest.join('=');
      const plain = text.startsWith('"') ? text.slice(1, -1).replaceAll('\\"', '"') : text;
      pairs.set(key.toLowerCase(), [...(pairs.get(key.toLowerCase()) ?? []), plain]);
    }
    return pairs;
  });
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts = [''];
  let quoted = false;
  for (let index = 0; index < text.length; index += 1) {
    const character = text[index] ?? '';
    const isEscaped = quoted && character === '\\' && text[index + 1] === '"';
    if (character === '"') quoted = !quoted;
    if (character === separator && !quoted) parts.push('');
    else parts[parts.length - 1] += isEscaped ? text.slice(index, index + 2) : character;
    if (isEscaped) index += 1;
  }
  return parts;
}

/** RFC 2253 §4 (RFC 4514 §3): type=value pairs between commas, most specific first; `\` before a character or two digits. */
function readDistinguishedName(text: string): [string, string][] {
  return (text.match(/(?:\\[0-9A-Fa-f]{2}|\\.|[^,\\])+/g) ?? []).map((pair) => {
    const [type = '', ...rest] = pair.split('=');
    const bytes = rest.join('=').replace(/\\([0-9A-Fa-f]{2})|\\(.)/g, (_, hex?: string, plain?: string) => {
      return hex === undefined ? (plain ?? '') : String.fromCharCode(parseInt(hex, 16));
    });
    return [type, Buffer.from(bytes, 'latin1').toString('utf8')];
  });
}

const attributesOf = ({ subject }: Person) => subject.map((attribute) => (attribute as [string, string]).slice(0, 2));

/** Traefik's documentation of PassTLSClientCert, `info`: escaped for a query; fields between semicolons, in quotes. */
function readTraefikInfo(value: string): ReadonlyMap<string, string> {
  const text = decodeURIComponent(value.replaceAll('+', ' '));
  return new Map(
    [...text.matchAll(/(?:^|;)(\w+)="([^"]*)"/g)].map(([, key = '', inner = '']) => [key, inner] as const),
  );
}

describe.each(Object.entries(PEOPLE))('a caller %s', (_, who) => {
  it('nginx: escaped PEM, and RFC 2253', async () => {
    same(fromEscapedPem(await sent(who, 'X-SSL-Client-Cert')), who.leaf);
    expect(readDistinguishedName(await sent(who, 'X-SSL-Client-S-DN')).reverse()).toEqual(attributesOf(who));
    expect(BigInt(`0x${await sent(who, 'X-SSL-Client-Serial')}`)).toBe(who.leaf.serial);
  });

  it('ingress-nginx: escaped PEM, and the verdict', async () => {
    same(fromEscapedPem(await sent(who, 'ssl-client-cert')), who.leaf);
    expect(await sent(who, 'ssl-client-verify')).toBe('SUCCESS');
    expect(readDistinguishedName(await sent(who, 'ssl-client-subject-dn')).reverse()).toEqual(attributesOf(who));
  });

  it('Envoy: its digest, names and subject', async () => {
    const elements = readXfcc(await sent(who, 'X-Forwarded-Client-Cert'));
    expect(elements).toHaveLength(1);
    const element = elements[0] as XfccElement;
    expect(element.get('hash')).toEqual([createHash('sha256').update(who.leaf.certDer).digest('hex')]);
    expect(element.get('dns') ?? []).toEqual(who.dns);
    expect(element.get('uri') ?? []).toEqual(who.uris);
    expect(readDistinguishedName(element.get('subject')?.[0] ?? '').reverse()).toEqual(attributesOf(who));
  });

  it('RFC 9440: the leaf and its issuers as byte sequences', async () => {
    same(readByteSequence(await sent(who, 'Client-Cert')), who.leaf);
    const headers = application.seen.at(-1)?.rawHeaders ?? [];
    const chain = valuesOf(headers, 'Client-Cert-Chain').flatMap((value) => value.split(/\s*,\s*/));
    expect(chain).toHaveLength(who.chain.length);
    chain.forEach((text, index) => same(readByteSequence(text), who.chain[index] as Issued));
  });

  it('Traefik: base64 without armour, and the info', async () => {
    const certificates = (await sent(who, 'X-Forwarded-Tls-Client-Cert')).split(',');
    same(fromBase64(certificates[0] ?? ''), who.leaf);
    const info = readTraefikInfo(await sent(who, 'X-Forwarded-Tls-Client-Cert-Info'));
    expect(BigInt(info.get('SerialNumber') ?? 0)).toBe(who.leaf.serial);
    const { validFrom, validTo } = new X509Certificate(who.leaf.certPem);
    expect(Number(info.get('NB')) * 1000).toBe(Date.parse(validFrom));
    expect(Number(info.get('NA')) * 1000).toBe(Date.parse(validTo));
    expect((info.get('SAN') ?? '').split(',')).toEqual([...who.dns, ...who.uris]);
    const [, commonName = ''] = /(?:^|,)CN=([^,]*)$/.exec(info.get('Subject') ?? '') ?? [];
    // Marks that would end a field are escaped once more inside.
    expect(['CN', decodeURIComponent(commonName)]).toEqual(attributesOf(who).at(-1));
  });

  it('HAProxy: base64 of ssl_c_der, and the verdict as a number', async () => {
    same(fromBase64(await sent(who, 'X-Client-DER')), who.leaf);
    expect(await sent(who, 'X-SSL-Client-Verify', haproxy)).toBe('0');
    const [, ...parts] = (await sent(who, 'X-SSL-Client-DN', haproxy)).split(/\/(?=[A-Za-z]+=)/);
    expect(parts.map((part) => part.split('=')[0])).toEqual(attributesOf(who).map(([type]) => type));
    // The documentation's %[ssl_c_notafter]: YYMMDDhhmmss and a Z.
    const end = (await sent(who, 'X-SSL-Client-NotAfter', haproxy)).replace(
      /^(..)(..)(..)(..)(..)(..)Z$/,
      '20$1-$2-$3T$4:$5:$6Z',
    );
    expect(Date.parse(end)).toBe(Date.parse(new X509Certificate(who.leaf.certPem).validTo));
  });
});
