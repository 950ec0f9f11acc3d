import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { parseProxyHeader } from '../src/identify/proxy-header.js';
import { addresses, binaryHeader, bytesOf, type BinaryParts } from './support/balancer.js';

const parse = (bytes: Buffer | string) => parseProxyHeader(bytesOf(bytes));
const complete = (length: number, address?: string, port = 0) => ({
  kind: 'complete',
  length,
  source: address === undefined ? null : { address, port },
});

const LINE = 'PROXY TCP4 192.0.2.7 198.51.100.9 56324 443\r\n';
const IPV6 = [0x20, 0x01, 0x0d, 0xb8, ...Array<number>(11).fill(0), 7];
const MAPPED = [...Array<number>(10).fill(0), 0xff, 0xff, 192, 0, 2, 7];
const BINARY = binaryHeader({ rest: addresses([192, 0, 2, 7], 56_324) });

describe('a line (version 1)', () => {
  it.each([
    [LINE, '192.0.2.7', 56_324],
    ['PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n', '255.255.255.255', 65_535],
    ['PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n', '0.0.0.0', 0],
    ['PROXY TCP6 2001:DB8::0:7 2001:db8::1 1 443\r\n', '2001:db8::7', 1],
    ['PROXY TCP6 ::ffff:192.0.2.7 ::1 1 443\r\n', '192.0.2.7', 1],
    [
      `PROXY TCP6 ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`,
      `${'ffff:'.repeat(7)}ffff`,
      65_535,
    ],
  ])('%j', (line, address, port) => expect(parse(line)).toEqual(complete(line.length, address, port)));

  it.each([
    'PROXY UNKNOWN\r\n',
    'PROXY UNKNOWN ffff::1 nonsense \x00 \n 70000\r\n',
    `PROXY UNKNOWN ${'ffff:'.repeat(7)}ffff ${'ffff:'.repeat(7)}ffff 65535 65535\r\n`,
  ])('without an address: %j', (line) => expect(parse(line)).toEqual(complete(line.length)));

  it.each(
    [
      'PROXY TCP4 192.0.2.7 198.51.100.9 56324 443\n',
      'PROXY  TCP4 192.0.2.7 198.51.100.9 56324 443\r\n',
      'PROXY TCP4 192.0.2.7 198.51.100.9 56324 443 \r\n',
      'PROXY TCP4 192.0.2.7 198.51.100.9 56324\r\n',
      'PROXY TCP4 192.0.2.7 198.51.100.9 56324 443 1\r\n',
      'PROXY TCP4 192.0.2.07 198.51.100.9 56324 443\r\n',
      'PROXY TCP4 192.0.2.7 198.51.100.9 056324 443\r\n',
      'PROXY TCP4 192.0.2.7 198.51.100.9 -1 443\r\n',
      'PROXY TCP4 192.0.2.7 198.51.100.9 65536 443\r\n',
      'PROXY TCP4 192.0.2.256 198.51.100.9 1 443\r\n',
      'PROXY TCP4 192.0.2 198.51.100.9 1 443\r\n',
      'PROXY TCP4 2001:db8::7 2001:db8::1 1 443\r\n',
      'PROXY TCP4 192.0.2.7 2001:db8::1 1 443\r\n',
      'PROXY TCP6 192.0.2.7 198.51.100.9 1 443\r\n',
      'PROXY TCP6 fe80::1%eth0 ::1 1 443\r\n',
      'PROXY TCP6 1::2::3 ::1 1 443\r\n',
      'PROXY TCP6 12345::1 ::1 1 443\r\n',
      'PROXY UDP4 192.0.2.7 198.51.100.9 1 443\r\n',
      'PROXY UNKNOWNX\r\n',
      'PROXY tcp4 192.0.2.7 198.51.100.9 1 443\r\n',
      'PROXY \r\n',
    ].map((line) => [line]),
  )('malformed: %j', (line) => {
    expect(parse(line + '\r\n')).toEqual({ kind: 'invalid', detail: 'a malformed PROXY line' });
  });

  it('of more than 107 bytes', () => {
    const start = 'PROXY UNKNOWN ';
    expect(parse(`${start.padEnd(105, 'x')}\r\n`)).toEqual(complete(107));
    expect(parse(start.padEnd(106, 'x'))).toEqual({ kind: 'incomplete' });
    const tooLong = { kind: 'invalid', detail: 'no line end within 107 bytes' };
    expect(parse(`${start.padEnd(106, 'x')}\r\n`)).toEqual(tooLong);
    expect(parse(start.padEnd(107, 'x'))).toEqual(tooLong);
  });
});

describe('a binary header (version 2)', () => {
  it.each([
    ['IPv4', [192, 0, 2, 7], 0x11, '192.0.2.7'],
    ['IPv6', IPV6, 0x21, '2001:db8::7'],
    ['IPv4 in IPv6', MAPPED, 0x21, '192.0.2.7'],
  ])('%s', (_, source, family, address) => {
    const rest = addresses(source, 56_324);
    expect(parse(binaryHeader({ family, rest }))).toEqual(complete(16 + rest.length, address, 56_324));
  });

  it('with attachments, which are skipped: a checksum that is wrong, lengths that are none', () => {
    const rest = Buffer.concat([
      addresses([192, 0, 2, 7], 1),
      Buffer.from('030004deadbeef', 'hex'),
      Buffer.from('04ffff', 'hex'),
    ]);
    expect(parse(binaryHeader({ rest }))).toEqual(complete(16 + rest.length, '192.0.2.7', 1));
  });

  it.each<[string, BinaryParts]>([
    ['a health check (LOCAL)', { command: 0x20, family: 0 }],
    ['LOCAL, whatever family it names', { command: 0x20, family: 0xff, rest: Buffer.alloc(7) }],
    ['an unspecified family', { family: 0x00 }],
    ['an unspecified family with attachments', { family: 0x00, rest: Buffer.alloc(99) }],
    ['an unspecified transport', { family: 0x10, rest: Buffer.alloc(12) }],
    ['datagrams', { family: 0x12, rest: Buffer.alloc(12) }],
    ['a Unix socket', { family: 0x31, rest: Buffer.alloc(216) }],
  ])('without an address: %s', (_, parts) => {
    expect(parse(binaryHeader(parts))).toEqual(complete(16 + (parts.rest?.length ?? 0)));
  });

  it.each([
    ['version 1', { command: 0x11 }, /version or command/],
    ['version 3', { command: 0x31 }, /version or command/],
    ['an unknown command', { command: 0x22 }, /version or command/],
    ['an unknown family', { family: 0x41, rest: Buffer.alloc(216) }, /family or transport/],
    ['an unknown transport', { family: 0x13, rest: Buffer.alloc(12) }, /family or transport/],
    ['less than IPv4 needs', { family: 0x11, rest: Buffer.alloc(11) }, /too short/],
    ['less than IPv6 needs', { family: 0x21, rest: Buffer.alloc(35) }, /too short/],
    ['a length past every use', { rest: Buffer.alloc(0), length: 4081 }, /more than 4096 bytes/],
    ['a length past every use, of a health check', { command: 0x20, length: 65_535 }, /more than 4096 bytes/],
  ])('malformed: %s', (_, parts, detail) => {
    expect(parse(binaryHeader(parts))).toEqual({ kind: 'invalid', detail: expect.stringMatching(detail) as string });
  });
});

describe('any header', () => {
  it.each([
    ['version 1', bytesOf(LINE)],
    ['version 2', BINARY],
  ])('is awaited byte by byte, and what follows it is not looked at: %s', (_, header) => {
    for (let length = 0; length < header.length; length += 1) {
      expect(parse(header.subarray(0, length))).toEqual({ kind: 'incomplete' });
    }
    const alone = parse(header);
    expect(parse(Buffer.concat([header, Buffer.from('PROXY UNKNOWN\r\n\x16\x03')]))).toEqual(alone);
    expect(alone).toEqual(complete(header.length, '192.0.2.7', 56_324));
  });

  it.each([
    ['a ClientHello', '\x16'],
    ['HTTP', 'PUT / HTTP/1.1\r\n'],
    ['another word', 'PROXYX'],
    ['another signature', '\r\n\r\n\0\r\nQUIT\r'],
  ])('is told from %s at once', (_, bytes) => {
    expect(parse(bytes)).toEqual({
      kind: 'invalid',
      detail: 'the connection does not begin with a PROXY protocol header',
    });
  });

  it('is one that could have been sent, whatever comes', () => {
    const start = fc.constantFrom(
      '',
      'PROXY ',
      'PROXY TCP4 ',
      '\r\n\r\n\0\r\nQUIT\n',
      '\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c',
    );
    fc.assert(
      fc.property(start, fc.uint8Array({ maxLength: 200 }), (first, rest) => {
        const bytes = Buffer.concat([Buffer.from(first, 'latin1'), rest]);
        const header = parse(bytes);
        if (header.kind !== 'complete') return true;
        expect(header.length).toBeLessThanOrEqual(bytes.length);
        return header.source === null || /^[0-9a-f.:]+$/.test(header.source.address);
      }),
    );
  });
});
