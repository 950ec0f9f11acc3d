import { isIPv6 } from 'node:net';

/**
 * Longest text kept from a certificate or a peer in a log field or in `/refusals`, in UTF-16 units. A hostile
 * certificate may carry a name of many kilobytes, and one refusal must not cost more memory than a few of these.
 */
export const LONGEST_TEXT = 512;

/** Cuts hostile text to {@link LONGEST_TEXT}; an ellipsis shows that something is missing. */
export function clip(text: string): string {
  return text.length <= LONGEST_TEXT ? text : `${text.slice(0, LONGEST_TEXT)}…`;
}

const NOT_PLAIN = /[^ !#-[\]-~]/;
// JSON.stringify leaves these alone, yet a terminal obeys C1 controls and many a line reader (Python's splitlines,
// JavaScript before ES2019) ends a line at U+0085, U+2028 or U+2029. A header byte 0x85 arrives here as U+0085.
const UNSAFE_IN_JSON = /[\u007f-\u009f\u2028\u2029]/;
const EVERY_UNSAFE_IN_JSON = new RegExp(UNSAFE_IN_JSON, 'g');

/** A JSON string literal, pure of anything that could end a line or steer a terminal. */
export function jsonString(text: string): string {
  return `"${jsonText(text)}"`;
}

/** As {@link jsonString}, without its quotes: where they are part of the text around it, two strings fewer are made. */
export function jsonText(text: string): string {
  return NOT_PLAIN.test(text) ? armour(JSON.stringify(text)).slice(1, -1) : text;
}

/** As {@link jsonString}, with `null` for an absent value. */
export function jsonStringOrNull(text: string | null): string {
  return text === null ? 'null' : jsonString(text);
}

/** Escapes, in JSON already made by somebody else, what JSON allows raw but a log line must not contain. */
export function armour(json: string): string {
  if (!UNSAFE_IN_JSON.test(json)) return json;
  return json.replace(EVERY_UNSAFE_IN_JSON, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);
}

/** How the thousandths of a number are written: `''`, `.001`, `.01`. Looked up: V8 takes 0.1 µs to write a fraction, each time. */
const THOUSANDTHS = Array.from({ length: 1000 }, (_, thousandths) => String(thousandths / 1000).slice(1));

/** A JSON number with at most three decimals; `null` for what JSON cannot say. */
export function jsonNumber(value: number | null): string {
  if (value === null || !Number.isFinite(value)) return 'null';
  if (Number.isInteger(value)) return String(value);
  const rounded = Math.round(value * 1000);
  if (rounded < 0 || rounded > LARGEST_LOOKED_UP) return String(rounded / 1000);
  const whole = Math.floor(rounded / 1000);
  return String(whole) + (THOUSANDTHS[rounded - whole * 1000] ?? '');
}

/** In thousandths. Far below 2 ** 53, so that each of them is exact. */
const LARGEST_LOOKED_UP = 1e12;

/** `192.0.2.1:443`, `[2001:db8::1]:443`. */
export function peerAddress(address: string, port: number): string {
  return isIPv6(address) ? `[${address}]:${port}` : `${address}:${port}`;
}
