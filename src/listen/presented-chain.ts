import { Duplex } from 'node:stream';
import type { Socket } from 'node:net';
import type { TLSSocket } from 'node:tls';
import { onGivingUp, readPeer, startHandshake, type PeerVerification, type TlsParameters } from './tls-socket.js';

/**
 * What OpenSSL says about a chain whose key is elsewhere.
 *
 * A server verifies the caller's chain when it reads it, before the caller proves (CertificateVerify) that the key is its
 * own; and up to TLS 1.2 both travel in the clear. So a hello and a Certificate message, written by hand into a handshake
 * that never ends, get OpenSSL's own verdict from the very context that callers meet. The road not taken is a second
 * verifier of our own, which would be wrong just where somebody needs to know.
 * @param chain DER, leaf first
 * @param parameters of a context that speaks TLS 1.2
 * @throws Error when OpenSSL cannot read what was presented
 */
export async function presentChain(chain: readonly Uint8Array[], parameters: TlsParameters): Promise<PeerVerification> {
  const wire = new Duplex({ read: () => undefined, write: (_chunk, _encoding, done) => done() });
  const socket = startHandshake(wire as Socket, parameters);
  const end: End = { peer: null, failure: null };
  socket.on('error', (error: Error) => (end.failure ??= error));
  // A signature that does not fit makes OpenSSL give up where it has to wait for the next message, its verdict made.
  onGivingUp(socket, () => {
    end.peer ??= readPeer(socket);
    return true;
  });
  try {
    wire.push(Buffer.concat([records(HELLO), records(certificateMessage(chain))]));
    return await untilRead(socket, end);
  } finally {
    socket.destroy();
  }
}

/** How the handshake came to its end. */
interface End {
  peer: PeerVerification | null;
  failure: Error | null;
}

/** OpenSSL reads what it is given at once; how many turns of the event loop pass before that is Node's affair. */
const PATIENCE_TURNS = 1_000;

async function untilRead(socket: TLSSocket, end: End): Promise<PeerVerification> {
  for (let turn = 0; turn < PATIENCE_TURNS; turn += 1) {
    await new Promise((resolve) => setImmediate(resolve));
    const peer = end.peer ?? (end.failure === null ? readPeer(socket) : NOBODY);
    if (peer.leaf !== null) return peer;
    if (end.failure !== null) throw end.failure;
  }
  throw new Error('OpenSSL did not read the certificate');
}

const NOBODY: PeerVerification = { leaf: null, presented: [], error: null };

const uint16 = (value: number): Buffer => Buffer.from([value >> 8, value & 0xff]);
const uint24 = (value: number): Buffer => Buffer.concat([Buffer.from([value >> 16]), uint16(value & 0xffff)]);
const uint16s = (values: readonly number[]): Buffer => vector16(Buffer.concat(values.map(uint16)));
const vector16 = (bytes: Buffer): Buffer => Buffer.concat([uint16(bytes.length), bytes]);
const vector24 = (bytes: Uint8Array): Buffer => Buffer.concat([uint24(bytes.length), bytes]);

const TLS_1_2 = 0x0303;
const CLIENT_HELLO = 1;
const CERTIFICATE = 11;

/** Suites of every strength and kind of server key; which of them is chosen makes no difference to a chain. */
const SUITES = [0xc02c, 0xc030, 0xc02b, 0xc02f, 0xcca9, 0xcca8, 0x9f, 0x9d, 0x9c];
/** Every curve that OpenSSL has for server keys of its own accord: X25519, X448, NIST, secp256k1, Brainpool. */
const GROUPS = [29, 30, 23, 24, 25, 21, 22, 26, 27, 28];
/** ECDSA, EdDSA, RSA-PSS and PKCS #1 with SHA-512, -384, -256. */
const SIGNATURES = [0x603, 0x503, 0x403, 0x807, 0x808, 0x806, 0x805, 0x804, 0x80b, 0x80a, 0x809, 0x601, 0x501, 0x401];

const NO_SESSION = Buffer.from([0]);
const NO_COMPRESSION = Buffer.from([1, 0]);

/** RFC 5246 §7.4.1.2. Nobody computes keys here, so the random is none. */
const HELLO = message(
  CLIENT_HELLO,
  Buffer.concat([
    uint16(TLS_1_2),
    Buffer.alloc(32, 1),
    NO_SESSION,
    uint16s(SUITES),
    NO_COMPRESSION,
    vector16(Buffer.concat([extension(10, uint16s(GROUPS)), extension(13, uint16s(SIGNATURES))])),
  ]),
);

/** RFC 5246 §7.4.2. */
function certificateMessage(chain: readonly Uint8Array[]): Buffer {
  return message(CERTIFICATE, vector24(Buffer.concat(chain.map(vector24))));
}

function message(type: number, body: Buffer): Buffer {
  return Buffer.concat([Buffer.from([type]), vector24(body)]);
}

function extension(type: number, body: Buffer): Buffer {
  return Buffer.concat([uint16(type), vector16(body)]);
}

const HANDSHAKE = 22;
const LONGEST_RECORD = 16_384;

/** RFC 5246 §6.2.1: a longer message is cut. */
function records(bytes: Buffer): Buffer {
  const count = Math.ceil(bytes.length / LONGEST_RECORD);
  const parts = Array.from({ length: count }, (_, index) =>
    bytes.subarray(index * LONGEST_RECORD, (index + 1) * LONGEST_RECORD),
  );
  return Buffer.concat(parts.flatMap((part) => [Buffer.from([HANDSHAKE]), uint16(TLS_1_2), vector16(part)]));
}
