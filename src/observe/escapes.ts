import { armour } from './text.js';

/** How nginx's `log_format` can be told to write what callers sent. */
export type Escape = 'default' | 'json' | 'none';

const NGINX_ESCAPES = /["\\]|[^ -~]/;
const EVERY_NGINX_ESCAPE = new RegExp(NGINX_ESCAPES, 'g');

/** nginx's `escape=default` (ngx_http_log_escape): `"`, `\`, and bytes below 32 or above 126 as `\xXX`. */
export function nginxEscape(text: string): string {
  return NGINX_ESCAPES.test(text) ? text.replace(EVERY_NGINX_ESCAPE, hexEscape) : text;
}

/** A value that is there, as the chosen way writes it. */
export const ESCAPES: Readonly<Record<Escape, (text: string) => string>> = {
  default: nginxEscape,
  // nginx writes bytes above 126 as they are. What is no UTF-8, and what ends a line or steers a terminal, is escaped.
  json: (text) => (NGINX_ESCAPES.test(text) ? armour(JSON.stringify(readable(text)).slice(1, -1)) : text),
  // nginx writes everything as it is. A control character is still never written: it could pass for another line.
  none: (text) => readable(text).replace(/[\p{Cc}\p{Zl}\p{Zp}]/gu, hexEscape),
};

/** What an absent value is written as. */
export const ABSENT: Readonly<Record<Escape, string>> = { default: '-', json: '', none: '' };

function hexEscape(char: string): string {
  // Node reads header bytes as Latin-1, so a character is the byte that was on the wire.
  return `\\x${(char.charCodeAt(0) & 0xff).toString(16).toUpperCase().padStart(2, '0')}`;
}

/** Header bytes as the text they most likely are. */
function readable(text: string): string {
  return Buffer.from(text, 'latin1').toString('utf8');
}
