/** Cheaper to leave to the collector. Bytes. */
const SMALL = 4_096;

/** ArrayBuffer since Node 22. */
type Transferable = ArrayBuffer & { transfer?(length: number): ArrayBuffer };

/**
 * Gives the memory of a piece of a body back at once, and not when V8 next looks for garbage. To be called when nobody needs its
 * bytes any more: whoever still holds the piece finds it empty.
 *
 * Node copies each piece that its parser reads into a buffer of its own, which V8 counts as its memory: every twenty megabytes of
 * uploads made it mark the whole heap. A piece that shares its memory with others (Node's pool,
 * the frames of one read of HTTP/2) is left alone; one that is all of a read shares it with nobody.
 */
export function giveBack(piece: Buffer): void {
  const { buffer } = piece;
  if (piece.length < SMALL || piece.length !== buffer.byteLength || !(buffer instanceof ArrayBuffer)) return;
  detach(buffer);
}

const detach = 'transfer' in ArrayBuffer.prototype ? detachByTransfer : detachByPort();

function detachByTransfer(buffer: Transferable): void {
  buffer.transfer?.(0);
}

/** Node 20 has no word for it, but what is sent leaves its sender, also where nobody receives it. */
function detachByPort(): (buffer: ArrayBuffer) => void {
  const { port1 } = new MessageChannel();
  port1.close();
  return (buffer) => port1.postMessage(null, [buffer]);
}
