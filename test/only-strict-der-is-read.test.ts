import { X509Certificate } from 'node:crypto';
import { rootCertificates } from 'node:tls';
import { Constructed, fromBER, type AsnType } from 'asn1js';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { readDer, UnreadableCertificateError, type DerElement } from '../src/identify/der.js';
import { readPeerCertificate } from '../src/identify/peer-certificate.js';
import { element, sequence } from '../src/pki/der.js';
import { CA_SUBJECT, createAuthority, issueClient } from './support/pki.js';

const bytes = (hex: string): Uint8Array => Buffer.from(hex.replaceAll(' ', ''), 'hex');

const ca = createAuthority({ subject: CA_SUBJECT });
const OPTIONS = {
  subject: [
    ['O', '北京'],
    {
      all: [
        ['CN', 'im.qq.com'],
        ['OU', 'x'.repeat(300)],
      ],
    },
  ],
  san: [
    { dns: 'im.qq.com' },
    { ip: '2001:db8::1' },
    { directoryName: [['CN', 'a']] },
    { otherName: '1.3.6.1.4.1.311.20.2.3', value: element(12, bytes('61')) },
  ],
} as const;
const client = issueClient(ca, OPTIONS);
const roots = rootCertificates.map((pem) => new X509Certificate(pem));

/** Everything that can be reached, each element by its bytes. */
function walk(parent: DerElement): string[] {
  const below = (parent.tag & 0x20) === 0 ? [] : parent.children.flatMap(walk);
  return [hex(parent.bytes), ...below];
}

/** The same of asn1js's own tree, which it decodes with every value in it. */
function libraryTree(block: AsnType): string[] {
  const below =
    block instanceof Constructed ? block.valueBlock.value.flatMap((child) => libraryTree(child as AsnType)) : [];
  return [hex(block.valueBeforeDecodeView), ...below];
}

describe('real certificates', () => {
  test('are read, all that Node knows', () => {
    expect(roots.length).toBeGreaterThan(50);
    for (const root of roots) {
      const ours = readPeerCertificate(root.raw);
      expect(ours.serial).toBe(serialOf(root));
      expect([ours.notBefore, ours.notAfter]).toEqual([Date.parse(root.validFrom), Date.parse(root.validTo)]);
      expect(ours.commonNames).toEqual([root.toLegacyObject().subject.CN ?? []].flat());
    }
  });

  test('in the elements that the library sees in them', () => {
    for (const der of [client.certDer, ...roots.map(({ raw }) => raw)]) {
      expect(walk(readDer(der))).toEqual(libraryTree(fromBER(der, { parseEmbedded: false }).result));
    }
  });
});

describe('an encoding that DER does not have is refused', () => {
  test.each([
    ['nothing', ''],
    ['a tag alone', '30'],
    ['a tag of several bytes', '1f1f00'],
    ['a private tag of several bytes', 'ff8101 00'],
    ['the end of an indefinite length', '0000'],
    ['the same with content', '0001ff'],
    ['an indefinite length', '30800000'],
    ['a reserved length', '30ff00'],
    ['a length of nine octets', `0489${'00'.repeat(8)}01ff`],
    ['a length that no number holds', `0488${'ff'.repeat(8)}`],
    ['a length cut short', '3082ff'],
    ['the long form for a short length', '048101ff'],
    ['a padded length', `04820080${'ff'.repeat(128)}`],
    ['a padded length of 256', `0483000100${'ff'.repeat(256)}`],
    ['an element cut short', '0402ff'],
    ['bytes behind the element', '0401ff00'],
    ['a primitive sequence', '1000'],
    ['a primitive set', '1100'],
    ['a text in pieces', '2c030c0161'],
    ['an octet string in pieces', '24030401ff'],
    ['a bit string in pieces', '2304030200ff'],
    ['a constructed number', '2203020101'],
    ['a constructed truth', '21030101ff'],
    ['a constructed identifier', '2603060155'],
  ])('%s', (_label, hexText) => {
    expect(() => readDer(bytes(hexText))).toThrow(UnreadableCertificateError);
  });

  test.each([
    ['a child that reaches beyond its parent', '3003 0402 ff'],
    ['a child that is cut short', '3002 3005'],
    ['a grandchild that reaches beyond its parent', '3007 3003 0402 ff 0500'],
    ['half a child', '3003 0500 05'],
    ['an indefinite length behind a neighbour of the length that would fit', '3008 0402ffff 0480ffff'],
  ])('%s', (_label, hexText) => {
    expect(() => walk(readDer(bytes(hexText)))).toThrow(UnreadableCertificateError);
  });

  test('a primitive element has nothing inside', () => {
    expect(() => readDer(bytes('04020500')).children).toThrow(UnreadableCertificateError);
  });
});

describe('what DER has is read', () => {
  test.each([0, 1, 127, 128, 255, 256, 257, 65_535, 65_536, 65_792])('a length of %i', (length) => {
    const content = Buffer.alloc(length, 0x30);
    const { tag, content: read } = readDer(element(4, content));
    expect(tag).toBe(4);
    expect(content.equals(read)).toBe(true);
    expect(readDer(sequence(element(4, content))).children).toHaveLength(1);
  });

  test('many elements in a row, whose length the library finds odd', () => {
    const list = readDer(sequence(Buffer.concat(Array.from({ length: 300 }, () => element(4, Buffer.alloc(256))))));
    expect(list.children).toHaveLength(300);
    expect(list.children.every(({ content }) => content.length === 256)).toBe(true);
  });
});

/** A reader of its own, by X.690, as simple as can be: what it refuses must be refused. */
function oracle(der: Uint8Array): string[] | null {
  const { 0: tag = 0, 1: first = 0xff } = der;
  const count = first < 0x80 ? 0 : first & 0x7f;
  const digits = hex(der.subarray(2, 2 + count));
  const length = count === 0 ? first : Number(`0x${digits}`);
  const short = count === 0 || (count < 5 && !digits.startsWith('00') && length > 0x7f);
  if (der.length < 2 || (tag & 0x1f) === 0x1f || !short || der.length !== 2 + count + length) return null;
  if ((tag & 0x20) === 0) return [hex(der)];
  const found = [hex(der)];
  for (let rest = der.subarray(2 + count); rest.length > 0;) {
    const size = sizeOf(rest);
    const below = oracle(rest.subarray(0, size));
    if (below === null) return null;
    found.push(...below);
    rest = rest.subarray(size);
  }
  return found;
}

function sizeOf(der: Uint8Array): number {
  const first = der[1] ?? 0;
  const count = first < 0x80 ? 0 : first & 0x7f;
  return 2 + count + (count === 0 ? first : Number(`0x0${hex(der.subarray(2, 2 + count))}`));
}

describe('damaged certificates', () => {
  /** Changes that keep much of the structure: bytes replaced, dropped and doubled. */
  const damage = fc.array(
    fc.record({
      at: fc.nat(client.certDer.length - 1),
      drop: fc.nat(2),
      insert: fc.array(fc.nat(255), { maxLength: 2 }),
    }),
    { minLength: 1, maxLength: 2 },
  );

  function damaged(changes: readonly { at: number; drop: number; insert: number[] }[]): Uint8Array {
    let der = Buffer.from(client.certDer);
    for (const { at, drop, insert } of changes) {
      der = Buffer.concat([der.subarray(0, at), Uint8Array.from(insert), der.subarray(at + drop)]);
    }
    return der;
  }

  test('are read as another reader reads them, or refused', () => {
    let agreed = 0;
    fc.assert(
      fc.property(damage, (changes) => {
        const der = damaged(changes);
        const ours = orNull(() => walk(readDer(der)));
        if (ours === null) return;
        agreed += 1;
        expect(ours).toEqual(oracle(der));
      }),
      { numRuns: 3000 },
    );
    expect(agreed).toBeGreaterThan(100);
  });

  test('have the serial number and the end that OpenSSL sees, if both read them', () => {
    let agreed = 0;
    fc.assert(
      fc.property(damage, (changes) => {
        const der = damaged(changes);
        const ours = orNull(() => readPeerCertificate(der));
        const theirs = openssl(der);
        if (ours === null || theirs === null) return;
        agreed += 1;
        expect(ours.serial).toBe(serialOf(theirs));
        expect(new Date(ours.notAfter).getTime()).toBe(Date.parse(theirs.validTo));
      }),
      { numRuns: 3000 },
    );
    expect(agreed).toBeGreaterThan(100);
  });
});

/** 100 KB is what OpenSSL takes from a caller. An ASN.1 library that decodes all values needs seconds for some of these. */
describe('a hostile certificate costs little', () => {
  const SIZE = 100_000;
  const fill = (text: string): Uint8Array => Buffer.alloc(SIZE, bytes(text));
  const nested = Array.from({ length: 5_000 }).reduce<Uint8Array>((inner) => sequence(inner), bytes('0500'));

  test.each([
    ['a truth value', element(1, fill('00'))],
    ['a number', element(2, fill('7f'))],
    ['an identifier of many arcs', element(6, fill('01'))],
    ['an identifier of one arc', element(6, fill('ff'), bytes('7f'))],
    ['a text', element(12, fill('c3'))],
    ['wide text', element(28, fill('00'))],
    ['a time', element(24, fill('31'))],
    ['many small elements', element(0x30, fill('0500'))],
    ['deep nesting', nested],
  ])('%s', (_label, value) => {
    const { certDer } = issueClient(ca, {
      keys: client.keys,
      subject: [
        ['CN', sequence(value), 'der'],
        ['O', value, 'der'],
        ['CN', 'im.qq.com'],
      ],
      san: [
        { otherName: '1.2.3', value },
        { otherName: '1.2.3', value: sequence(value) },
      ],
    });
    const before = process.cpuUsage();
    orNull(() => readPeerCertificate(certDer).subjectLegacy);
    // Of this process alone, in microseconds: a busy machine must not fail this.
    expect(process.cpuUsage(before).user).toBeLessThan(1_000_000);
  });
});

/** nginx prints zero with two digits, Node with one. */
function serialOf({ serialNumber }: X509Certificate): string {
  return serialNumber === '0' ? '00' : serialNumber;
}

function openssl(der: Uint8Array): X509Certificate | null {
  try {
    return new X509Certificate(der);
  } catch {
    return null;
  }
}

function hex(part: Uint8Array): string {
  return Buffer.from(part).toString('hex');
}

function orNull<T>(read: () => T): T | null {
  try {
    return read();
  } catch (error) {
    if (error instanceof UnreadableCertificateError) return null;
    throw error;
  }
}
