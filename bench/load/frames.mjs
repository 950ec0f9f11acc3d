/** WebSocket frames of 125 bytes (RFC 6455 §5.2): what the caller sends, masked with zeroes, and what comes back. */
const TEXT = Buffer.alloc(125, 'm');
export const FRAME = Buffer.concat([Buffer.from([0x81, 0x80 | TEXT.length, 0, 0, 0, 0]), TEXT]);
export const ANSWER_FRAME = Buffer.concat([Buffer.from([0x81, TEXT.length]), TEXT]);
