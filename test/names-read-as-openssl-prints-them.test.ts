import { describe, expect, test } from 'vitest';
import { attributeValues, formatOneline, formatRfc2253, readName } from '../src/identify/distinguished-name.js';
import { UnreadableCertificateError } from '../src/identify/der.js';
import { encodeName, type NameInput } from '../src/pki/names.js';

const bytes = (hex: string): Uint8Array => Buffer.from(hex, 'hex');

/**
 * Frozen output of OpenSSL 3.0.19: `openssl x509 -noout -subject -nameopt RFC2253`, and the same with `compat`, for a
 * certificate of that subject. nginx prints the first as $ssl_client_s_dn and the second as $ssl_client_s_dn_legacy.
 */
const GOLDEN: readonly (readonly [label: string, name: NameInput, rfc2253: string, oneline: string])[] = [
  [
    'an IM certificate',
    [
      ['C', 'CN'],
      ['ST', 'Guangdong'],
      ['O', 'Tencent'],
      ['CN', 'im.qq.com'],
    ],
    'CN=im.qq.com,O=Tencent,ST=Guangdong,C=CN',
    '/C=CN/ST=Guangdong/O=Tencent/CN=im.qq.com',
  ],
  ['an empty name', [], '', ''],
  [
    'an empty value',
    [
      ['O', ''],
      ['CN', 'x'],
    ],
    'CN=x,O=',
    '/O=/CN=x',
  ],
  ['an empty RDN', [{ all: [] }, ['CN', 'x']], 'CN=x', '/CN=x'],
  [
    'multi-valued RDNs, reversed inside as well',
    [
      {
        all: [
          ['CN', 'a'],
          ['OU', 'b'],
          ['O', 'c'],
        ],
      },
      {
        all: [
          ['C', 'd'],
          ['L', 'e/f+g'],
        ],
      },
    ],
    String.raw`L=e/f\+g+C=d,O=c+OU=b+CN=a`,
    String.raw`/CN=a+OU=b+O=c/C=d+L=e\/f\+g`,
  ],
  [
    'Chinese in UTF-8',
    [
      ['O', '北京公司'],
      ['CN', 'café 😀'],
    ],
    String.raw`CN=caf\C3\A9 \F0\9F\98\80,O=\E5\8C\97\E4\BA\AC\E5\85\AC\E5\8F\B8`,
    String.raw`/O=\xE5\x8C\x97\xE4\xBA\xAC\xE5\x85\xAC\xE5\x8F\xB8/CN=caf\xC3\xA9 \xF0\x9F\x98\x80`,
  ],
  ['a UTF-8 byte order mark', [['CN', '\ufeffx']], String.raw`CN=\EF\BB\BFx`, String.raw`/CN=\xEF\xBB\xBFx`],
  [
    'every special character',
    [['CN', ',+"\\<>;=/#*\'%&']],
    String.raw`CN=\,\+\"\\\<\>\;=/#*'%&`,
    String.raw`/CN=,\+"\<>;=\/#*'%&`,
  ],
  ['spaces at both ends and inside', [['CN', '  a  b  ']], String.raw`CN=\  a  b \ `, '/CN=  a  b  '],
  ['a lone space', [['CN', ' ']], String.raw`CN=\ `, '/CN= '],
  ['a hash in front', [['CN', '#abc']], String.raw`CN=\#abc`, '/CN=#abc'],
  ['a lone hash', [['CN', '#']], 'CN=#', '/CN=#'],
  ['a hash behind a space', [['CN', ' #']], String.raw`CN=\ #`, '/CN= #'],
  [
    'an attribute smuggled into a value',
    [
      ['CN', 'x,CN=admin'],
      ['O', 'y+OU=z'],
      ['OU', 'w/CN=admin'],
    ],
    String.raw`OU=w/CN=admin,O=y\+OU=z,CN=x\,CN=admin`,
    String.raw`/CN=x,CN=admin/O=y\+OU=z/OU=w\/CN=admin`,
  ],
  ['escapes typed into a value', [['CN', '\\2C\\xE5']], String.raw`CN=\\2C\\xE5`, String.raw`/CN=\2C\xE5`],
  [
    'control characters',
    [['CN', 'a\0b\r\nX-SSL-Client-Verify: SUCCESS\t\x7f\x1b[31m']],
    String.raw`CN=a\00b\0D\0AX-SSL-Client-Verify: SUCCESS\09\7F\1B[31m`,
    String.raw`/CN=a\x00b\x0D\x0AX-SSL-Client-Verify: SUCCESS\x09\x7F\x1B[31m`,
  ],
  [
    'every byte below 0x40',
    [['CN', Uint8Array.from({ length: 64 }, (_, byte) => byte), 't61']],
    String.raw`CN=\00\01\02\03\04\05\06\07\08\09\0A\0B\0C\0D\0E\0F\10\11\12\13\14\15\16\17\18\19\1A\1B\1C\1D\1E\1F !\"#$%&'()*\+\,-./0123456789:\;\<=\>?`,
    String.raw`/CN=\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0A\x0B\x0C\x0D\x0E\x0F\x10\x11\x12\x13\x14\x15\x16\x17\x18\x19\x1A\x1B\x1C\x1D\x1E\x1F !"#$%&'()*\+,-.\/0123456789:;<=>?`,
  ],
  [
    'every other byte',
    [['CN', Uint8Array.from({ length: 192 }, (_, byte) => byte + 64), 't61']],
    'CN=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\\7F\\C2\\80\\C2\\81\\C2\\82\\C2\\83\\C2\\84\\C2\\85\\C2\\86\\C2\\87\\C2\\88\\C2\\89\\C2\\8A\\C2\\8B\\C2\\8C\\C2\\8D\\C2\\8E\\C2\\8F\\C2\\90\\C2\\91\\C2\\92\\C2\\93\\C2\\94\\C2\\95\\C2\\96\\C2\\97\\C2\\98\\C2\\99\\C2\\9A\\C2\\9B\\C2\\9C\\C2\\9D\\C2\\9E\\C2\\9F\\C2\\A0\\C2\\A1\\C2\\A2\\C2\\A3\\C2\\A4\\C2\\A5\\C2\\A6\\C2\\A7\\C2\\A8\\C2\\A9\\C2\\AA\\C2\\AB\\C2\\AC\\C2\\AD\\C2\\AE\\C2\\AF\\C2\\B0\\C2\\B1\\C2\\B2\\C2\\B3\\C2\\B4\\C2\\B5\\C2\\B6\\C2\\B7\\C2\\B8\\C2\\B9\\C2\\BA\\C2\\BB\\C2\\BC\\C2\\BD\\C2\\BE\\C2\\BF\\C3\\80\\C3\\81\\C3\\82\\C3\\83\\C3\\84\\C3\\85\\C3\\86\\C3\\87\\C3\\88\\C3\\89\\C3\\8A\\C3\\8B\\C3\\8C\\C3\\8D\\C3\\8E\\C3\\8F\\C3\\90\\C3\\91\\C3\\92\\C3\\93\\C3\\94\\C3\\95\\C3\\96\\C3\\97\\C3\\98\\C3\\99\\C3\\9A\\C3\\9B\\C3\\9C\\C3\\9D\\C3\\9E\\C3\\9F\\C3\\A0\\C3\\A1\\C3\\A2\\C3\\A3\\C3\\A4\\C3\\A5\\C3\\A6\\C3\\A7\\C3\\A8\\C3\\A9\\C3\\AA\\C3\\AB\\C3\\AC\\C3\\AD\\C3\\AE\\C3\\AF\\C3\\B0\\C3\\B1\\C3\\B2\\C3\\B3\\C3\\B4\\C3\\B5\\C3\\B6\\C3\\B7\\C3\\B8\\C3\\B9\\C3\\BA\\C3\\BB\\C3\\BC\\C3\\BD\\C3\\BE\\C3\\BF',
    '/CN=@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~\\x7F\\x80\\x81\\x82\\x83\\x84\\x85\\x86\\x87\\x88\\x89\\x8A\\x8B\\x8C\\x8D\\x8E\\x8F\\x90\\x91\\x92\\x93\\x94\\x95\\x96\\x97\\x98\\x99\\x9A\\x9B\\x9C\\x9D\\x9E\\x9F\\xA0\\xA1\\xA2\\xA3\\xA4\\xA5\\xA6\\xA7\\xA8\\xA9\\xAA\\xAB\\xAC\\xAD\\xAE\\xAF\\xB0\\xB1\\xB2\\xB3\\xB4\\xB5\\xB6\\xB7\\xB8\\xB9\\xBA\\xBB\\xBC\\xBD\\xBE\\xBF\\xC0\\xC1\\xC2\\xC3\\xC4\\xC5\\xC6\\xC7\\xC8\\xC9\\xCA\\xCB\\xCC\\xCD\\xCE\\xCF\\xD0\\xD1\\xD2\\xD3\\xD4\\xD5\\xD6\\xD7\\xD8\\xD9\\xDA\\xDB\\xDC\\xDD\\xDE\\xDF\\xE0\\xE1\\xE2\\xE3\\xE4\\xE5\\xE6\\xE7\\xE8\\xE9\\xEA\\xEB\\xEC\\xED\\xEE\\xEF\\xF0\\xF1\\xF2\\xF3\\xF4\\xF5\\xF6\\xF7\\xF8\\xF9\\xFA\\xFB\\xFC\\xFD\\xFE\\xFF',
  ],
  ['T61String read as Latin-1', [['CN', 'caf\xe9', 't61']], String.raw`CN=caf\C3\A9`, String.raw`/CN=caf\xE9`],
  [
    'PrintableString with bytes it must not have',
    [['CN', 'a*\0\xff', 'printable']],
    String.raw`CN=a*\00\C3\BF`,
    String.raw`/CN=a*\x00\xFF`,
  ],
  [
    'IA5String and NumericString',
    [
      ['emailAddress', 'a@b.c', 'ia5'],
      ['serialNumber', '12 3', 'numeric'],
      ['DC', 'qq', 'ia5'],
    ],
    'DC=qq,serialNumber=12 3,emailAddress=a@b.c',
    '/emailAddress=a@b.c/serialNumber=12 3/DC=qq',
  ],
  ['BMPString', [['CN', '北A,é', 'bmp']], String.raw`CN=\E5\8C\97A\,\C3\A9`, String.raw`/CN=S\x17\x00A\x00,\x00\xE9`],
  [
    'UniversalString',
    [['CN', '北A😀 ', 'universal']],
    String.raw`CN=\E5\8C\97A\F0\9F\98\80\ `,
    String.raw`/CN=\x00\x00S\x17\x00\x00\x00A\x00\x01\xF6\x00\x00\x00\x00 `,
  ],
  ['BIT STRING', [['CN', bytes('030204f0'), 'der']], 'CN=#030204F0', String.raw`/CN=\xF0`],
  ['SEQUENCE', [['CN', bytes('3003020101'), 'der']], 'CN=#3003020101', String.raw`/CN=0\x03\x02\x01\x01`],
  ['a type that no name should have', [['CN', bytes('07024142'), 'der']], 'CN=#07024142', '/CN=AB'],
  [
    'unknown attribute types',
    [
      ['1.2.3.4', 'x,y'],
      ['2.999.1', 'a', 'bmp'],
      ['0.9.2342.19200300.100.1.999', ''],
    ],
    '0.9.2342.19200300.100.1.999=#0C00,2.999.1=#1E020061,1.2.3.4=#0C03782C79',
    String.raw`/1.2.3.4=x,y/2.999.1=\x00a/0.9.2342.19200300.100.1.999=`,
  ],
  [
    'an arc of 128 bits',
    [['2.25.329800735698586629295641978511506172918', 'x']],
    '2.25.329800735698586629295641978511506172918=#0C0178',
    '/2.25.329800735698586629295641978511506172918=x',
  ],
  [
    'an attribute type of more than 79 characters',
    [[`1.2.${'9'.repeat(90)}`, 'x']],
    '1.2.999999999999999999999999999999999999999999999999999999999999999999999999999=#0C0178',
    '/1.2.999999999999999999999999999999999999999999999999999999999999999999999999999=x',
  ],
  [
    'rarer attribute types',
    [
      ['1.3.6.1.4.1.311.60.2.1.3', 'CN'],
      ['2.5.4.97', 'VATDE-1'],
      ['2.5.4.15', 'Private'],
      ['1.2.643.100.1', '123', 'numeric'],
      ['0.9.2342.19200300.100.1.1', 'u'],
      ['0.9.2342.19200300.100.1.44', 'v'],
      ['2.5.4.98', 'CHN'],
    ],
    'c3=CHN,uid=v,UID=u,OGRN=123,businessCategory=Private,organizationIdentifier=VATDE-1,jurisdictionC=CN',
    '/jurisdictionC=CN/organizationIdentifier=VATDE-1/businessCategory=Private/OGRN=123/UID=u/uid=v/c3=CHN',
  ],
  [
    'repeated attributes',
    [
      ['DC', 'com'],
      ['DC', 'qq'],
      ['CN', 'Users'],
      ['CN', 'Ann'],
    ],
    'CN=Ann,CN=Users,DC=qq,DC=com',
    '/DC=com/DC=qq/CN=Users/CN=Ann',
  ],
];

describe('names read as OpenSSL and nginx print them', () => {
  test.each(GOLDEN)('%s', (_label, input, rfc2253, oneline) => {
    const name = readName(encodeName(input));
    expect(formatRfc2253(name)).toBe(rfc2253);
    expect(formatOneline(name)).toBe(oneline);
  });
});

describe('values for rules are decoded, in certificate order', () => {
  test('each string type', () => {
    const name = readName(
      encodeName([
        ['CN', '北京'],
        ['CN', '北京', 'bmp'],
        ['CN', '北😀', 'universal'],
        ['CN', 'caf\xe9', 't61'],
        ['O', 'not a CN'],
        ['CN', bytes('030204f0'), 'der'],
        ['CN', 'a,b\0', 'printable'],
      ]),
    );
    expect(attributeValues(name, 'CN')).toEqual(['北京', '北京', '北😀', 'café', 'a,b\0']);
  });
});

describe('a name that OpenSSL refuses, or that has two readings, is unreadable', () => {
  test.each<[string, NameInput]>([
    ['UTF-8 cut short', [['CN', bytes('e58c'), 'utf8']]],
    ['overlong UTF-8', [['CN', bytes('c0af'), 'utf8']]],
    ['half a BMPString character', [['CN', bytes('004100'), 'bmp']]],
    ['a surrogate in a BMPString', [['CN', '😀', 'bmp']]],
    ['a code point beyond Unicode', [['CN', bytes('00110000'), 'universal']]],
    ['three bytes of a UniversalString', [['CN', bytes('000041'), 'universal']]],
    ['a padded length', [['CN', bytes('0c810141'), 'der']]],
    ['an indefinite length', [['CN', bytes('2c800c01410000'), 'der']]],
    ['two values for one attribute', [['CN', bytes('0c01410c0142'), 'der']]],
    ['no value', [['CN', bytes(''), 'der']]],
  ])('%s', (_label, input) => {
    expect(() => readName(encodeName(input))).toThrow(UnreadableCertificateError);
  });

  test.each([
    ['no sequence', '3100'],
    ['an RDN that is no set', '3002 3000'],
    ['bytes behind the name', '3000 00'],
    ['a padded arc', '300d 310b 3009 0604 55048003 0c0141'],
    ['an unfinished arc', '300c 310a 3008 0603 550483 0c0141'],
    ['an empty attribute type', '3009 3107 3005 0600 0c0141'],
  ])('%s', (_label, hex) => {
    expect(() => readName(bytes(hex.replaceAll(' ', '')))).toThrow(UnreadableCertificateError);
  });

  test('an attribute type so long that printing it would take quadratic time', () => {
    const oid = Buffer.concat([Uint8Array.of(0x2a), Buffer.alloc(60_000, 0xff), Uint8Array.of(0x7f)]);
    const wrap = (tag: number, content: Uint8Array): Buffer =>
      Buffer.concat([Uint8Array.of(tag, 0x82, content.length >> 8, content.length & 0xff), content]);
    const pair = wrap(0x30, Buffer.concat([wrap(0x06, oid), bytes('0c0141')]));
    expect(() => readName(wrap(0x30, wrap(0x31, pair)))).toThrow(UnreadableCertificateError);
  });
});
