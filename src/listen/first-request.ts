/** What a caller says before its frames (RFC 9113 §3.4), and what each frame begins with (§4.1). Bytes. */
const PREFACE = 24;
const FRAME_HEAD = 9;
const HEADERS = 1;

/**
 * Watches for the first request on an HTTP/2 connection that is refused: an answer to a stream that is not open yet would be an
 * error. Lengths and types of frames are all that is looked at; nothing is kept, and no length can make it wait for ever, since its user does not.
 * @returns a function to be called with each chunk, that says whether a request has begun
 */
export function firstRequest(): (chunk: Buffer) => boolean {
  let skip = PREFACE;
  let head: number[] = [];
  return (chunk) => {
    let at = 0;
    while (at < chunk.length) {
      const step = Math.min(skip, chunk.length - at);
      skip -= step;
      at += step;
      if (at === chunk.length) return false;
      head.push(chunk[at++] as number);
      if (head.length < FRAME_HEAD) continue;
      const [high = 0, middle = 0, low = 0, type] = head;
      if (type === HEADERS) return true;
      skip = (high << 16) | (middle << 8) | low;
      head = [];
    }
    return false;
  };
}
