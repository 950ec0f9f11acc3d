import { generateKeyPairSync } from 'node:crypto';
import { element } from '../../src/pki/der.js';
import { subjectAltName } from '../../src/pki/extensions.js';
import {
  createAuthority,
  generateKeys,
  issueClient,
  selfSigned,
  type AltName,
  type Authority,
  type Issued,
  type NameInput,
  type Options,
  type RawExtension,
} from './pki.js';

/** A chain, and what must become of whoever presents it: null for admitted, else reason and OpenSSL's words. */
export interface Vector {
  readonly about: string;
  readonly leaf: Issued;
  /** What is sent behind the leaf. */
  readonly sent: readonly Issued[];
  readonly refused: readonly [reason: string, detail: string] | null;
}

const now = Date.now();
const HOUR = 3_600_000;
const YEAR = 365 * 24 * HOUR;
/** One pair for all whose key does not matter; callers have another one than their CAs. */
const caKeys = generateKeys();
const keys = generateKeys();
const rsa = generateKeys('rsa-2048');
const shortRsa = generateKeys('rsa-1024');
const ed25519 = generateKeys('ed25519');

const named = (name: string): NameInput => [['CN', name]];
const anchor = (name: string, options: Partial<Options> = {}): Authority =>
  createAuthority({ subject: named(name), keys: generateKeys(), notBefore: now - YEAR, ...options });
const below = (ca: Authority, name: string, options: Partial<Options> = {}): Authority =>
  ca.subordinate({ subject: named(name), keys: caKeys, ...options });
const client = (ca: Authority, options: Partial<Options> = {}): Issued => issueClient(ca, { keys, ...options });

/** RFC 5280 §4.2.1.10. A subtree is a SEQUENCE of one name, as which a subjectAltName of one name can serve. */
function nameConstraints(subtrees: {
  readonly permitted?: readonly AltName[];
  readonly excluded?: readonly AltName[];
}): RawExtension {
  const list = (tag: number, names: readonly AltName[] | undefined): Uint8Array[] =>
    names === undefined ? [] : [element(tag, ...names.map((name) => subjectAltName([name]).value))];
  const value = element(0x30, ...list(0xa0, subtrees.permitted), ...list(0xa1, subtrees.excluded));
  return { oid: '2.5.29.30', critical: true, value };
}

const UNKNOWN_CRITICAL: RawExtension = { oid: '1.3.6.1.4.1.99999.1', critical: true, value: Uint8Array.of(5, 0) };
const network = (...octets: number[]): AltName => ({ ip: Uint8Array.from(octets) });

const root = anchor('Root');
const oneBelow = anchor('One below', { basicConstraints: { ca: true, pathLength: 0 } });
const twoBelow = anchor('Two below', { basicConstraints: { ca: true, pathLength: 1 } });
const forServers = anchor('For servers', { eku: ['serverAuth'] });
const expired = anchor('Expired', { notAfter: now - HOUR });
const future = anchor('Future', { notBefore: now + HOUR, notAfter: now + YEAR });
const weak = anchor('Weak', { keys: shortRsa });
const oldHash = anchor('Old hash', { hash: 'sha1' });
const edwards = anchor('Edwards', { keys: ed25519 });
const rivest = anchor('Rivest', { keys: rsa });
const bounded = anchor('Bounded', { extensions: [nameConstraints({ permitted: [{ dns: 'qq.com' }] })] });
const stranger = anchor('Stranger');
const namesake = anchor('Root');
const nameless = anchor('Root', { keyIdentifiers: false });
const plain = anchor('Plain', { keyIdentifiers: false });

/** The trust bundle of every vector, in which each of the anchors is wrong in its own way. */
export const ANCHORS: readonly Authority[] = [
  ...[root, oneBelow, twoBelow, forServers, expired, future, weak, oldHash, edwards, rivest, bounded, plain],
];

/** More than any vector needs: depth is not what they are about. */
export const DEPTH = 6;

type Refused = Vector['refused'];
const vector = (about: string, leaf: Issued, sent: readonly Issued[] = [], refused: Refused = null): Vector => ({
  about,
  leaf,
  sent,
  refused,
});

const PURPOSE: Refused = ['wrong_purpose', 'unsuitable certificate purpose'];
const FORGED: Refused = ['invalid', 'certificate signature failure'];
const NO_SIGNER: Refused = ['invalid', 'key usage does not include certificate signing'];
/** Of several errors OpenSSL reports the last: an intermediate that is no CA is mostly wrong in its purpose, too. */
const NO_CA: Refused = ['invalid', 'invalid CA certificate'];
const PATH: Refused = ['chain_too_long', 'path length constraint exceeded'];
const OUTSIDE: Refused = ['invalid', 'permitted subtree violation'];
const EXCLUDED: Refused = ['invalid', 'excluded subtree violation'];
const CRITICAL: Refused = ['invalid', 'unhandled critical extension'];
const EXPIRED: Refused = ['expired', 'certificate has expired'];
const NOT_YET: Refused = ['not_yet_valid', 'certificate is not yet valid'];
const UNKNOWN: Refused = ['untrusted_issuer', 'unable to verify the first certificate'];

/** A caller under an intermediate with these options. */
function through(options: Partial<Options>, leafOptions: Partial<Options> = {}): [Issued, Issued[]] {
  const ca = below(root, 'Intermediate', options);
  return [client(ca, leafOptions), [ca]];
}

const purposes = (): Vector[] => [
  vector('a leaf for clients', client(root)),
  vector('a leaf without purposes', issueBare({})),
  vector('a leaf for clients and servers', client(root, { eku: ['serverAuth', 'clientAuth'] })),
  vector('a leaf for servers', client(root, { eku: ['serverAuth'] }), [], PURPOSE),
  vector('a leaf that signs code', client(root, { eku: ['codeSigning'] }), [], PURPOSE),
  vector('a leaf that protects mail', client(root, { eku: ['emailProtection'] }), [], PURPOSE),
  vector('a leaf for an unknown purpose', client(root, { eku: ['1.3.6.1.4.1.99999.2'] }), [], PURPOSE),
  vector('a leaf for any purpose', client(root, { eku: ['any'] }), [], PURPOSE),
  vector('a leaf for any purpose and clients', client(root, { eku: ['any', 'clientAuth'] })),
  vector('an intermediate for clients', ...through({ eku: ['clientAuth'] })),
  vector('an intermediate for clients and servers', ...through({ eku: ['clientAuth', 'serverAuth'] })),
  vector('an intermediate for servers', ...through({ eku: ['serverAuth'] }), PURPOSE),
  vector('an intermediate for any purpose', ...through({ eku: ['any'] }), PURPOSE),
  vector('an anchor for servers', client(forServers), [], PURPOSE),
];

function issueBare(options: Partial<Options>): Issued {
  return root.issue({ subject: named('bare'), keys, ...options });
}

const usages = (): Vector[] => [
  vector('a leaf that signs', client(root, { keyUsage: ['digitalSignature'] })),
  vector('a leaf that agrees on keys', client(root, { keyUsage: ['keyAgreement'] })),
  vector('a leaf without usages', issueBare({ eku: ['clientAuth'] })),
  vector('a leaf that enciphers keys', client(root, { keyUsage: ['keyEncipherment'] }), [], PURPOSE),
  vector('a leaf that signs contracts only', client(root, { keyUsage: ['nonRepudiation'] }), [], PURPOSE),
  vector('a leaf that signs certificates only', client(root, { keyUsage: ['keyCertSign'] }), [], PURPOSE),
  vector('an intermediate that signs certificates', ...through({ keyUsage: ['keyCertSign'] })),
  vector('an intermediate that signs lists only', ...through({ keyUsage: ['cRLSign'] }), NO_SIGNER),
  vector('an intermediate that signs messages only', ...through({ keyUsage: ['digitalSignature'] }), NO_SIGNER),
];

const constraints = (): Vector[] => [
  vector('an intermediate', ...through({})),
  vector('an intermediate that is no CA', ...through({ basicConstraints: { ca: false } }), PURPOSE),
  vector(
    'an intermediate that does not say so',
    ...through({ basicConstraints: null, keyUsage: ['digitalSignature'] }),
    NO_SIGNER,
  ),
  vector('an intermediate that only may sign', ...through({ basicConstraints: null }), NO_CA),
  vector('a leaf without basic constraints', client(root, { basicConstraints: null })),
  vector('a leaf that is a CA', client(root, { basicConstraints: { ca: true } })),
  vector('the key of a leaf as an issuer', ...leafAsIssuer(), PURPOSE),
  vector('an anchor as the caller', { ...root }, [], PURPOSE),
  vector('an intermediate as the caller', below(root, 'Intermediate'), [], PURPOSE),
];

function leafAsIssuer(): [Issued, Issued[]] {
  const middle = below(root, 'Middle', {
    basicConstraints: { ca: false },
    keyUsage: ['digitalSignature', 'keyCertSign'],
  });
  return [client(middle), [middle]];
}

const lengths = (): Vector[] => [
  vector('no intermediate where none may be', client(oneBelow)),
  vector('one intermediate where none may be', ...deep(oneBelow, 1), PATH),
  vector('one intermediate where one may be', ...deep(twoBelow, 1)),
  vector('two intermediates where one may be', ...deep(twoBelow, 2), PATH),
  vector('four intermediates where nobody counts', ...deep(root, 4)),
  vector('a leaf under an intermediate that may have no other', ...deep(root, 1, 0)),
  vector('an intermediate under one that may have no other', ...deep(root, 2, 0), PATH),
  vector('two below one that may have one other', ...deep(root, 3, 1), PATH),
  vector('a new key of an anchor that may have no intermediate', ...rollover(oneBelow, 'One below')),
  vector('a new key of an anchor, by name alone', ...rolloverByName(), FORGED),
];

/** @param limit path length of the uppermost intermediate */
function deep(top: Authority, count: number, limit?: number): [Issued, Issued[]] {
  const chain: Authority[] = [];
  let ca = top;
  for (let index = 0; index < count; index += 1) {
    const basic = index === 0 && limit !== undefined ? { basicConstraints: { ca: true, pathLength: limit } } : {};
    ca = below(ca, `Intermediate ${index}`, { keys: generateKeys(), ...basic });
    chain.unshift(ca);
  }
  return [client(ca), chain];
}

function rollover(ca: Authority, name: string): [Issued, Issued[]] {
  const fresh = below(ca, name);
  return [client(fresh), [fresh]];
}

function rolloverByName(): [Issued, Issued[]] {
  const fresh = below(plain, 'Plain', { keyIdentifiers: false });
  return [client(fresh, { keyIdentifiers: false }), [fresh]];
}

interface Names {
  readonly permitted?: readonly AltName[];
  readonly excluded?: readonly AltName[];
}

/** A caller of these names under an intermediate that may speak for those. */
function within(names: Names, san: readonly AltName[], subject?: NameInput): [Issued, Issued[]] {
  return through({ extensions: [nameConstraints(names)] }, { san, ...(subject === undefined ? {} : { subject }) });
}

const ORGANIZATION: NameInput = [
  ['C', 'CN'],
  ['O', 'Tencent'],
];

const names = (): Vector[] => [
  vector('a permitted DNS name', ...within({ permitted: [{ dns: 'qq.com' }] }, [{ dns: 'im.qq.com' }])),
  vector(
    'a DNS name outside',
    ...within({ permitted: [{ dns: 'qq.com' }] }, [{ dns: 'im.qq.com.evil.example' }]),
    OUTSIDE,
  ),
  vector('a DNS name that ends alike', ...within({ permitted: [{ dns: 'qq.com' }] }, [{ dns: 'evilqq.com' }]), OUTSIDE),
  vector(
    'one DNS name of two outside',
    ...within({ permitted: [{ dns: 'qq.com' }] }, [{ dns: 'im.qq.com' }, { dns: 'a.example' }]),
    OUTSIDE,
  ),
  vector('an excluded DNS name', ...within({ excluded: [{ dns: 'qq.com' }] }, [{ dns: 'im.qq.com' }]), EXCLUDED),
  vector('a DNS name beside the excluded', ...within({ excluded: [{ dns: 'qq.com' }] }, [{ dns: 'a.example' }])),
  vector(
    'permitted and excluded',
    ...within({ permitted: [{ dns: 'qq.com' }], excluded: [{ dns: 'im.qq.com' }] }, [{ dns: 'im.qq.com' }]),
    EXCLUDED,
  ),
  vector(
    'a kind of name that is not constrained',
    ...within({ permitted: [{ dns: 'qq.com' }] }, [{ uri: 'https://a.example/' }], [['O', 'Somebody']]),
  ),
  vector(
    'a common name that reads as a DNS name outside',
    ...through(
      { extensions: [nameConstraints({ permitted: [{ dns: 'qq.com' }] })] },
      { san: [{ email: 'a@b.example' }], subject: [['CN', 'a.example']] },
    ),
    OUTSIDE,
  ),
  vector('a permitted mail domain', ...within({ permitted: [{ email: 'qq.com' }] }, [{ email: 'im@qq.com' }])),
  vector(
    'a mail domain outside',
    ...within({ permitted: [{ email: 'qq.com' }] }, [{ email: 'im@qq.example' }]),
    OUTSIDE,
  ),
  vector('a permitted URI', ...within({ permitted: [{ uri: '.qq.com' }] }, [{ uri: 'https://im.qq.com/x' }])),
  vector(
    'a URI outside',
    ...within({ permitted: [{ uri: '.qq.com' }] }, [{ uri: 'https://im.example/.qq.com' }]),
    OUTSIDE,
  ),
  vector('a permitted address', ...within({ permitted: [network(10, 0, 0, 0, 255, 0, 0, 0)] }, [{ ip: '10.1.2.3' }])),
  vector(
    'an address outside',
    ...within({ permitted: [network(10, 0, 0, 0, 255, 0, 0, 0)] }, [{ ip: '11.1.2.3' }]),
    OUTSIDE,
  ),
  vector(
    'an excluded address',
    ...within({ excluded: [network(10, 0, 0, 0, 255, 0, 0, 0)] }, [{ ip: '10.1.2.3' }]),
    EXCLUDED,
  ),
  vector(
    'a permitted subject',
    ...within({ permitted: [{ directoryName: ORGANIZATION }] }, [], [...ORGANIZATION, ['CN', 'im']]),
  ),
  vector(
    'a subject outside',
    ...within(
      { permitted: [{ directoryName: ORGANIZATION }] },
      [],
      [
        ['O', 'Tencent'],
        ['CN', 'im'],
      ],
    ),
    OUTSIDE,
  ),
  vector(
    'an excluded subject',
    ...within({ excluded: [{ directoryName: ORGANIZATION }] }, [], [...ORGANIZATION, ['CN', 'im']]),
    EXCLUDED,
  ),
  vector(
    'a constraint that nobody understands',
    ...within({ permitted: [{ registeredId: '1.2.3' }] }, [{ registeredId: '1.2.3.4' }]),
    ['invalid', 'unsupported name constraint type'],
  ),
  vector('a name within an anchor', client(bounded)),
  vector('a name outside an anchor', client(bounded, { san: [{ dns: 'a.example' }] }), [], OUTSIDE),
  vector('a name outside an anchor, two below', ...belowBounded(), OUTSIDE),
];

function belowBounded(): [Issued, Issued[]] {
  const ca = below(bounded, 'Intermediate', { extensions: [nameConstraints({ permitted: [{ dns: 'a.example' }] })] });
  return [client(ca, { san: [{ dns: 'a.example' }] }), [ca]];
}

const extensions = (): Vector[] => [
  vector(
    'a critical extension that nobody understands',
    client(root, { extensions: [UNKNOWN_CRITICAL] }),
    [],
    CRITICAL,
  ),
  vector('the same, not critical', client(root, { extensions: [{ ...UNKNOWN_CRITICAL, critical: false }] })),
  vector('an intermediate with such an extension', ...through({ extensions: [UNKNOWN_CRITICAL] }), CRITICAL),
];

const times = (): Vector[] => [
  vector('a leaf whose time has just come', client(root, { notBefore: now - 1_000 })),
  vector('a leaf whose time has just gone', client(root, { notAfter: now - 1_000 }), [], EXPIRED),
  vector('a leaf whose time is to come', client(root, { notBefore: now + HOUR }), [], NOT_YET),
  vector(
    'a leaf that ends before it begins',
    client(root, { notBefore: now - HOUR, notAfter: now - 2 * HOUR }),
    [],
    EXPIRED,
  ),
  vector('a leaf until the year 2090', client(root, { notAfter: now + 64 * YEAR })),
  vector('a leaf from the year 1960', client(root, { notBefore: Date.UTC(1960, 0) })),
  vector('a leaf that outlives its issuer', ...through({ notAfter: now + HOUR }, { notAfter: now + YEAR })),
  vector('an intermediate whose time has gone', ...through({ notAfter: now - 1_000 }), EXPIRED),
  vector('an intermediate whose time is to come', ...through({ notBefore: now + HOUR }), NOT_YET),
  vector('an anchor whose time has gone', client(expired), [], EXPIRED),
  vector('an anchor whose time is to come', client(future), [], NOT_YET),
];

const WEAK_LEAF: Refused = ['weak_signature', 'EE certificate key too weak'];
const WEAK_CA: Refused = ['weak_signature', 'CA certificate key too weak'];
const WEAK_HASH: Refused = ['weak_signature', 'CA signature digest algorithm too weak'];

const strengths = (): Vector[] => [
  vector('a leaf with RSA 2048', client(root, { keys: rsa })),
  vector('a leaf with RSA 1024', client(root, { keys: shortRsa }), [], WEAK_LEAF),
  vector('a leaf with P-384', client(root, { keys: generateKeyPairSync('ec', { namedCurve: 'P-384' }) })),
  vector('a leaf with P-521', client(root, { keys: generateKeyPairSync('ec', { namedCurve: 'P-521' }) })),
  vector('a leaf with Ed25519', client(root, { keys: ed25519 })),
  vector('a leaf signed with SHA-1', client(root, { hash: 'sha1' }), [], WEAK_HASH),
  vector('an intermediate with RSA 1024', ...through({ keys: shortRsa }), WEAK_CA),
  vector('an intermediate signed with SHA-1', ...through({ hash: 'sha1' }), WEAK_HASH),
  vector('an anchor with RSA 1024', client(weak), [], WEAK_CA),
  vector('an anchor signed with SHA-1 by itself', client(oldHash)),
  vector('an anchor with Ed25519', client(edwards)),
  vector('an anchor with RSA 2048', client(rivest)),
];

const issuers = (): Vector[] => [
  vector('an issuer that nobody knows', client(stranger), [], UNKNOWN),
  vector(
    'an issuer that nobody knows, sent along',
    client(stranger),
    [stranger],
    ['self_signed', 'self-signed certificate in certificate chain'],
  ),
  vector(
    'a leaf of its own',
    selfSigned({ subject: named('self'), keys }),
    [],
    ['self_signed', 'self-signed certificate'],
  ),
  vector('a namesake of an anchor', client(namesake), [], UNKNOWN),
  vector('a namesake without identifiers', client(nameless, { keyIdentifiers: false }), [], FORGED),
  vector('a signature with one bit changed', tampered(client(root)), [], FORGED),
  vector('an intermediate that is not sent', through({})[0], [], UNKNOWN),
  vector('somebody else sent along', client(root), [stranger]),
  vector('the same intermediate twice', ...twice()),
];

function twice(): [Issued, Issued[]] {
  const [leaf, [ca]] = through({});
  return [leaf, ca === undefined ? [] : [ca, ca]];
}

/** The last byte of a certificate is the last of its signature. */
function tampered(issued: Issued): Issued {
  const certDer = Uint8Array.from(issued.certDer);
  certDer[certDer.length - 1] = (certDer.at(-1) ?? 0) ^ 1;
  const lines =
    Buffer.from(certDer)
      .toString('base64')
      .match(/.{1,64}/g) ?? [];
  return {
    ...issued,
    certDer,
    certPem: `-----BEGIN CERTIFICATE-----\n${lines.join('\n')}\n-----END CERTIFICATE-----\n`,
  };
}

export const VECTORS: readonly Vector[] = [
  ...[purposes, usages, constraints, lengths, names, extensions, times, strengths, issuers].flatMap((make) => make()),
];
