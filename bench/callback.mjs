import { readFileSync } from 'node:fs';

const FIXTURES = new URL('../test/fixtures/im-callbacks/', import.meta.url);
const COMMAND = 'C2C.CallbackBeforeSendMsg';

/** What the application answers: "let the message pass". */
export const ANSWER = '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}';

const { callbacks } = JSON.parse(readFileSync(new URL('manifest.json', FIXTURES), 'utf8'));
const { query } = callbacks.find(({ command }) => command === COMMAND);

/** The load: the callback before a one-to-one message is sent, as IM posts it. */
export const CALLBACK = {
  method: 'POST',
  path: `/im/callback?${new URLSearchParams(query)}`,
  headers: { 'User-Agent': 'im-callback', Accept: '*/*', 'Content-Type': 'application/json' },
  body: readFileSync(new URL(`${COMMAND}.json`, FIXTURES)),
};

const download = (size) => ({ method: 'GET', path: `/bytes/${size}`, headers: {}, body: null, expects: size });
const upload = (size) => ({ ...CALLBACK, path: '/im/upload', body: Buffer.alloc(size, 'u') });

/** What callers can be told to send, by name. `expects` is the length of the answer; without it it is ANSWER. */
export const REQUESTS = {
  callback: () => CALLBACK,
  '1k-down': () => download(1024),
  '64k-down': () => download(65_536),
  '16m-down': () => download(16_777_216),
  '1k-up': () => upload(1024),
  '64k-up': () => upload(65_536),
  '16m-up': () => upload(16_777_216),
};

/** The bytes of a request of HTTP/1.1. */
export function http1Bytes({ method, path, headers, body }) {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}`);
  if (body !== null) lines.push(`Content-Length: ${body.length}`);
  const head = Buffer.from([`${method} ${path} HTTP/1.1`, 'Host: localhost', ...lines, '\r\n'].join('\r\n'), 'latin1');
  return body === null ? head : Buffer.concat([head, body]);
}
