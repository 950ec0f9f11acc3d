import { isIPv4, isIPv6 } from 'node:net';
import ipaddr from 'ipaddr.js';

/** The other end of a TCP connection. */
export interface Endpoint {
  /** IPv4 in four decimal parts, IPv6 as RFC 5952 writes it; never an IPv4 address in the form of IPv6. */
  readonly address: string;
  readonly port: number;
}

/** What the first bytes of a connection say about it. */
export type ProxyHeader =
  | { readonly kind: 'incomplete' }
  /** `source` is null where the sender speaks for itself (a health check) or knows no address: the connection's own counts. */
  | { readonly kind: 'complete'; readonly length: number; readonly source: Endpoint | null }
  | { readonly kind: 'invalid'; readonly detail: string };

/** Version 1: the longest line with its CRLF. */
const LONGEST_LINE = 107;

/** Version 2: what can be announced is 64 KiB; addresses and the usual attachments need a few hundred bytes. */
const LONGEST_HEADER = 4096;

const LINE_START = Buffer.from('PROXY ');
const SIGNATURE = Buffer.from('\r\n\r\n\0\r\nQUIT\n');
const FIXED_PART = 16;

const INCOMPLETE: ProxyHeader = { kind: 'incomplete' };

/**
 * Reads the header of the PROXY protocol, version 1 or 2 (haproxy's proxy-protocol.txt, §2), by which a load balancer
 * that forwards TCP says who called it. Strict: whatever is not exactly a header is invalid, as soon as that is certain.
 * What version 2 attaches behind the addresses (TLVs, a checksum) is skipped unread: nothing here needs it, and TCP has
 * checksums of its own.
 * @param bytes all that has come so far
 */
export function parseProxyHeader(bytes: Buffer): ProxyHeader {
  if (begins(bytes, SIGNATURE)) return parseBinary(bytes);
  if (begins(bytes, LINE_START)) return parseLine(bytes);
  return invalid('the connection does not begin with a PROXY protocol header');
}

/** Whether bytes, as far as they have come, are those of a start. */
function begins(bytes: Buffer, start: Buffer): boolean {
  const length = Math.min(bytes.length, start.length);
  return bytes.subarray(0, length).equals(start.subarray(0, length));
}

function invalid(detail: string): ProxyHeader {
  return { kind: 'invalid', detail };
}

function complete(length: number, source: Endpoint | null): ProxyHeader {
  return { kind: 'complete', length, source };
}

const TCP_LINE = /^PROXY (TCP4|TCP6) ([0-9A-Fa-f:.]{2,39}) ([0-9A-Fa-f:.]{2,39}) (\d{1,5}) (\d{1,5})$/;

function parseLine(bytes: Buffer): ProxyHeader {
  const end = bytes.subarray(0, LONGEST_LINE).indexOf('\r\n');
  if (end === -1) {
    return bytes.length < LONGEST_LINE ? INCOMPLETE : invalid(`no line end within ${LONGEST_LINE} bytes`);
  }
  const length = end + 2;
  const line = bytes.toString('latin1', 0, end);
  // What stands behind UNKNOWN must be ignored, whatever it is.
  if (/^PROXY UNKNOWN(?: |$)/.test(line)) return complete(length, null);
  const [, family, source = '', destination = '', ...ports] = TCP_LINE.exec(line) ?? [];
  const isAddress = family === 'TCP4' ? isIPv4 : isIPv6;
  if (family === undefined || !isAddress(source) || !isAddress(destination) || !ports.every(isPort)) {
    return invalid('a malformed PROXY line');
  }
  return complete(length, { address: canonical(source), port: Number(ports[0]) });
}

/** Heading zeroes are not permitted: other programs read them as octal. */
function isPort(text: string): boolean {
  return Number(text) <= 65_535 && String(Number(text)) === text;
}

/** One spelling for each address, so that what counts, compares or logs by address is not deceived by another. */
function canonical(address: string): string {
  return ipaddr.process(address).toString();
}

/** Bytes of an address by family, for those that are understood over a stream. */
const ADDRESS_BYTES: Readonly<Record<number, number>> = { 1: 4, 2: 16 };
const STREAM = 1;

function parseBinary(bytes: Buffer): ProxyHeader {
  if (bytes.length < FIXED_PART) return INCOMPLETE;
  const versionAndCommand = bytes.readUInt8(12);
  if (versionAndCommand !== 0x20 && versionAndCommand !== 0x21) {
    return invalid('an unknown version or command of the PROXY protocol');
  }
  const length = FIXED_PART + bytes.readUInt16BE(14);
  if (length > LONGEST_HEADER) return invalid(`a PROXY header of more than ${LONGEST_HEADER} bytes`);
  const isLocal = versionAndCommand === 0x20;
  return isLocal ? whole(bytes, length, null) : parseAddresses(bytes, length);
}

function parseAddresses(bytes: Buffer, length: number): ProxyHeader {
  const family = bytes.readUInt8(13) >> 4;
  const transport = bytes.readUInt8(13) & 0x0f;
  if (family > 3 || transport > 2) return invalid('an unknown address family or transport in a PROXY header');
  const size = ADDRESS_BYTES[family];
  // Unix sockets, datagrams and "unspecified": valid, and as if nothing had been said.
  if (size === undefined || transport !== STREAM) return whole(bytes, length, null);
  if (length < FIXED_PART + 2 * size + 4) return invalid('a PROXY header too short for its addresses');
  return whole(bytes, length, size);
}

/** @param size bytes of the source address; null when there is none to be read */
function whole(bytes: Buffer, length: number, size: number | null): ProxyHeader {
  if (bytes.length < length) return INCOMPLETE;
  if (size === null) return complete(length, null);
  const address = ipaddr.fromByteArray([...bytes.subarray(FIXED_PART, FIXED_PART + size)]);
  return complete(length, { address: canonical(address.toString()), port: bytes.readUInt16BE(FIXED_PART + 2 * size) });
}
