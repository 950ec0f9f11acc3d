import {
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  selfSigned,
  type Authority,
  type Issued,
  type Options,
} from './pki.js';
import type { Identity } from './caller.js';

export interface OddCaller {
  readonly name: string;
  /** Null for a caller without a certificate. */
  readonly as: Identity | null;
}

export interface OddCallers {
  readonly ca: Authority;
  /** CRLs of the root and of the intermediates, as one file. */
  readonly crls: string;
  readonly callers: readonly OddCaller[];
}

const DAY = 86_400_000;
const keys = generateKeys();
const elsewhere = { ca: createAuthority({ subject: [['CN', 'Another CA']] }) };

/** A CA and callers of every kind that a CA, or somebody who is none, could send. */
export function oddCallers(): OddCallers {
  const ca = createAuthority({
    subject: [
      ['C', 'CN'],
      ['O', 'Tencent'],
      ['CN', 'TencentQQAuthCA'],
    ],
  });
  const lower = ca.subordinate({
    subject: [
      ['O', 'Tencent'],
      ['CN', 'Issuing CA'],
    ],
  });
  const lowest = lower.subordinate({
    subject: [
      ['O', 'Tencent'],
      ['CN', 'Issuing CA 2'],
    ],
  });
  const deep = lowest.subordinate({
    subject: [
      ['O', 'Tencent'],
      ['CN', 'Issuing CA 3'],
    ],
  });
  const revoked = issueClient(ca, { keys });
  const one = (options: Partial<Options> = {}, issuer: Authority = ca) => issueClient(issuer, { keys, ...options });
  const callers: [string, Issued | null, ...Issued[]][] = [
    ['no certificate', null],
    ...underTheRoot(ca, one),
    ...strangers(ca),
    ...chains({ ca, lower, lowest, deep, one }),
    ['revoked', revoked],
  ];
  const revocations = [{ serial: revoked.serial }];
  return {
    ca,
    crls: [ca.crl({ revoked: revocations }), lower.crl(), lowest.crl(), deep.crl()].join(''),
    callers: callers.map(([name, leaf, ...chain]) => ({
      name,
      as: leaf === null ? null : { certPem: chainPem(leaf, ...chain), keyPem: leaf.keyPem },
    })),
  };
}

type Make = (options?: Partial<Options>, issuer?: Authority) => Issued;

function underTheRoot(ca: Authority, one: Make): [string, Issued][] {
  const now = Date.now();
  return [
    ['valid', one()],
    ['expired', one({ notBefore: now - 9 * DAY, notAfter: now - DAY })],
    ['not yet valid', one({ notBefore: now + DAY, notAfter: now + 9 * DAY })],
    ['for servers', one({ eku: ['serverAuth'] })],
    ['for any purpose', one({ eku: ['any'] })],
    ['for no purpose in particular', one({ eku: undefined } as unknown as Partial<Options>)],
    ['for code and clients', one({ eku: ['codeSigning', 'clientAuth'] })],
    ['whose key may not sign', one({ keyUsage: ['keyEncipherment'] })],
    ['version 1 of X.509, nearly', one({ basicConstraints: null, keyIdentifiers: false })],
    ['a CA', one({ basicConstraints: { ca: true }, keyUsage: ['keyCertSign'] })],
    ['a CA for clients', one({ basicConstraints: { ca: true }, keyUsage: ['keyCertSign', 'digitalSignature'] })],
    ['the root itself', ca],
    ['signed with SHA-1', one({ hash: 'sha1' })],
    ['RSA of 1024 bits', one({ keys: generateKeys('rsa-1024') })],
    ['RSA of 2048 bits', one({ keys: generateKeys('rsa-2048') })],
    ['Ed25519', one({ keys: generateKeys('ed25519') })],
    [
      'an unknown critical extension',
      one({ extensions: [{ oid: '1.2.3.4', critical: true, value: Uint8Array.of(5, 0) }] }),
    ],
    ['an unknown extension', one({ extensions: [{ oid: '1.2.3.4', value: Uint8Array.of(5, 0) }] })],
    ['a small serial number', one({ serial: 1n })],
    ['a long serial number', one({ serial: 2n ** 158n + 1n })],
    [
      'named in UTF-8',
      one({
        subject: [
          ['O', '腾讯'],
          ['CN', 'Zoë <im>'],
        ],
      }),
    ],
    [
      'named with what has to be escaped',
      one({
        subject: [
          ['O', ' a,b+c"d\\e<f>g;h=i#j '],
          ['CN', '#x'],
        ],
      }),
    ],
    [
      'named with control characters',
      one({
        subject: [
          ['O', 'a\r\nX-Admin: 1'],
          ['CN', 'b\tc\x7f'],
        ],
      }),
    ],
    [
      'named with several values at once',
      one({
        subject: [
          ['O', 'x'],
          {
            all: [
              ['OU', 'a'],
              ['CN', 'b'],
            ],
          },
        ],
      }),
    ],
    [
      'named in the order of nobody',
      one({
        subject: [
          ['CN', 'a'],
          ['C', 'CN'],
          ['CN', 'b'],
          ['O', 'x'],
        ],
      }),
    ],
    [
      'named in old encodings',
      one({
        subject: [
          ['O', 'ä', 't61'],
          ['OU', 'ü', 'bmp'],
          ['L', 'ö', 'universal'],
          ['CN', 'x', 'printable'],
        ],
      }),
    ],
    [
      'named by rare attributes',
      one({
        subject: [
          ['DC', 'org', 'ia5'],
          ['UID', 'u'],
          ['emailAddress', 'a@b', 'ia5'],
          ['serialNumber', '7', 'printable'],
          ['1.2.3.4.5', 'v'],
        ],
      }),
    ],
    ['named at length', one({ subject: [['CN', 'x'.repeat(900)]] })],
    ['without a name', one({ subject: [] })],
  ];
}

function strangers(ca: Authority): [string, Issued][] {
  const namesake = createAuthority({
    subject: [
      ['C', 'CN'],
      ['O', 'Tencent'],
      ['CN', 'TencentQQAuthCA'],
    ],
  });
  const subject = [['CN', 'im.qq.com']] as const;
  const leaf = issueClient(ca, { keys });
  return [
    ['under another CA', issueClient(elsewhere.ca, { keys })],
    ['under another CA of the same name', issueClient(namesake, { keys })],
    ['signed by another CA of the same name', issueClient(namesake, { keys, keyIdentifiers: false })],
    ['signed by itself', selfSigned({ subject: [...subject], eku: ['clientAuth'], keys })],
    ['signed by itself, a CA', createAuthority({ subject: [...subject], keys })],
    ['signed by itself, long ago', selfSigned({ subject: [...subject], keys, notBefore: 0, notAfter: DAY })],
    ['issued by a caller', authorityOf(leaf).issue({ subject: [...subject], keys })],
  ];
}

/** What a leaf can do with its key, although it must not. */
function authorityOf({ keys: own }: Issued): Authority {
  return createAuthority({
    subject: [
      ['C', 'CN'],
      ['O', 'Tencent'],
      ['CN', 'im.qq.com'],
    ],
    keys: own,
  });
}

function chains(all: {
  readonly ca: Authority;
  readonly lower: Authority;
  readonly lowest: Authority;
  readonly deep: Authority;
  readonly one: Make;
}): [string, Issued, ...Issued[]][] {
  const { ca, lower, lowest, deep, one } = all;
  const old = ca.subordinate({ subject: [['CN', 'Old CA']], notBefore: 0, notAfter: DAY });
  const narrow = ca.subordinate({ subject: [['CN', 'Narrow CA']], basicConstraints: { ca: true, pathLength: 0 } });
  const tooLow = narrow.subordinate({ subject: [['CN', 'Too low CA']] });
  const weak = ca.subordinate({ subject: [['CN', 'Weak CA']], hash: 'sha1' });
  const leaf = one();
  return [
    ['one intermediate', one({}, lower), lower],
    ['one intermediate, missing', one({}, lower)],
    ['one intermediate, and the root', one({}, lower), lower, ca],
    ['two intermediates', one({}, lowest), lowest, lower],
    ['two intermediates in the wrong order', one({}, lowest), lower, lowest],
    ['two intermediates, the upper one missing', one({}, lowest), lowest],
    ['three intermediates', one({}, deep), deep, lowest, lower],
    ['a certificate too many', one(), lower],
    ['the root besides', one(), ca],
    ['another root besides', issueClient(elsewhere.ca, { keys }), elsewhere.ca],
    ['an intermediate that has expired', one({}, old), old],
    ['an intermediate below one that permits none', one({}, tooLow), tooLow, narrow],
    ['an intermediate signed with SHA-1', one({}, weak), weak],
    [
      'an intermediate that is no CA',
      authorityOf(leaf).issue({ subject: [['CN', 'x']], keys, eku: ['clientAuth'] }),
      leaf,
    ],
  ];
}
