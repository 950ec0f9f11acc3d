import { readFileSync } from 'node:fs';

const FIXTURES = new URL('../test/fixtures/im-callbacks/', import.meta.url);
const COMMAND = 'C2C.CallbackBeforeSendMsg';

/** What the application answers: "let the message pass". */
export const ANSWER = '{"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}';

/** The load: the callback before a one-to-one message is sent, as IM posts it. */
export function callbackRequest() {
  const { callbacks } = JSON.parse(readFileSync(new URL('manifest.json', FIXTURES), 'utf8'));
  const { query } = callbacks.find(({ command }) => command === COMMAND);
  const body = readFileSync(new URL(`${COMMAND}.json`, FIXTURES));
  const head = [
    `POST /im/callback?${new URLSearchParams(query)} HTTP/1.1`,
    'Host: localhost',
    'User-Agent: im-callback',
    'Accept: */*',
    'Content-Type: application/json',
    `Content-Length: ${body.length}`,
    '\r\n',
  ].join('\r\n');
  return Buffer.concat([Buffer.from(head, 'latin1'), body]);
}
