import { randomFillSync } from 'node:crypto';

const BYTES = 16;
const LENGTH = 36;
/** As many as `randomUUID` makes of one call to the generator. */
const BATCH = 128;
const DIGITS = Buffer.from('0123456789abcdef');

const random = Buffer.allocUnsafeSlow(BYTES * BATCH);
/** What is between the dashes is written anew. */
const text = Buffer.alloc(LENGTH * BATCH, '-');
let used = BATCH;

/**
 * A random UUID (RFC 9562 §5.4) for a request that brought no id. Written as bytes, many at a time: Node's `randomUUID` puts each
 * together out of twenty strings, which left 600 bytes of garbage in the place of 56.
 */
export function newRequestId(): string {
  if (used === BATCH) refill();
  const at = used * LENGTH;
  used += 1;
  return text.toString('latin1', at, at + LENGTH);
}

function refill(): void {
  randomFillSync(random);
  for (let index = 0; index < BATCH; index += 1) write(index * BYTES, index * LENGTH);
  used = 0;
}

function write(from: number, to: number): void {
  let at = to;
  for (let index = 0; index < BYTES; index += 1) {
    const byte = marked(random[from + index] as number, index);
    if (index === 4 || index === 6 || index === 8 || index === 10) at += 1;
    text[at] = DIGITS[byte >> 4] as number;
    text[at + 1] = DIGITS[byte & 0x0f] as number;
    at += 2;
  }
}

/** With the version in the seventh byte and the variant in the ninth. */
function marked(byte: number, index: number): number {
  if (index === 6) return (byte & 0x0f) | 0x40;
  return index === 8 ? (byte & 0x3f) | 0x80 : byte;
}
