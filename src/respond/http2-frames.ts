import { pairsOf } from '../rewrite/flat-headers.js';

/** Types and flags of frames (RFC 9113 §6). */
const DATA = 0x0;
const HEADERS = 0x1;
const SETTINGS = 0x4;
const GOAWAY = 0x7;
const END_STREAM = 0x1;
const END_HEADERS = 0x4;

/** The first request of a connection has this number (RFC 9113 §5.1.1), and it alone is answered here. */
const FIRST_STREAM = 1;

/** What the server side of an HTTP/2 connection says first (RFC 9113 §3.4): its settings, none of them unusual. */
export const HTTP2_GREETING = frame(SETTINGS, 0, 0, Buffer.alloc(0));

/**
 * The answer to the first request of an HTTP/2 connection, and GOAWAY. Written without a look at what the caller asked, like the page of an
 * HTTP/1.1 refusal: whoever is not let in reaches no parser.
 * @param headers flat list; body and headers must each fit into one frame of 16 KiB
 */
export function http2Refusal(status: number, headers: readonly string[], body: Buffer): Buffer {
  const block = pairsOf([':status', String(status), ...headers]).map(([name, value]) => literal(name, value));
  return Buffer.concat([
    frame(HEADERS, END_HEADERS, FIRST_STREAM, Buffer.concat(block)),
    frame(DATA, END_STREAM, FIRST_STREAM, body),
    // The last stream, and NO_ERROR.
    frame(GOAWAY, 0, 0, Buffer.from([0, 0, 0, FIRST_STREAM, 0, 0, 0, 0])),
  ]);
}

/** RFC 9113 §4.1. */
function frame(type: number, flags: number, stream: number, payload: Buffer): Buffer {
  const head = Buffer.alloc(9);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(stream, 5);
  return Buffer.concat([head, payload]);
}

/** RFC 7541 §6.2.2: a field without table and Huffman code. */
function literal(name: string, value: string): Buffer {
  return Buffer.concat([Buffer.from([0]), text(name.toLowerCase()), text(value)]);
}

/** RFC 7541 §5.2, for less than 127 bytes, which the headers of a refusal are. */
function text(written: string): Buffer {
  const bytes = Buffer.from(written, 'latin1');
  if (bytes.length > 126) throw new Error('a header of a refusal is too long');
  return Buffer.concat([Buffer.from([bytes.length]), bytes]);
}
