import { CALLBACK } from './demo-callback.js';
import { CALLER, type DemoPorts } from './demo-files.js';
import { printable } from './printable.js';

/** Fits the narrowest common terminal. */
const WIDTH = 80;

/** A request's or answer's headers as they were on the wire: name, value, name, value. */
export type FlatHeaders = readonly string[];

/** What a caller got back. */
export interface DemoAnswer {
  /** `HTTP/1.1 200 OK` */
  readonly statusLine: string;
  readonly body: string;
}

/** Where everything is. */
export interface DemoPlace {
  readonly ports: DemoPorts;
  /** Absolute path of a file of the demo. */
  readonly path: (name: string) => string;
}

export function introduction({ ports }: DemoPlace): string[] {
  const picture = '  caller  == mutual TLS ==>  mtls-sidecar  -- plain HTTP -->  application';
  const sidecar = `127.0.0.1:${ports.listen}`.padStart(
    picture.indexOf('mtls-sidecar') + 10 + String(ports.listen).length,
  );
  return [
    'A caller, the sidecar, and an application behind it.',
    '',
    picture,
    `${sidecar.padEnd(picture.indexOf('application'))}127.0.0.1:${ports.application}`,
    '',
  ];
}

/** @param sent names that the caller sent; everything else is the sidecar's */
export function admitted(answer: DemoAnswer, seen: FlatHeaders, sent: readonly string[]): string[] {
  const own = new Set(sent.map((name) => name.toLowerCase()));
  const lines = pairs(seen).map(([name, value]) => `  ${own.has(name.toLowerCase()) ? ' ' : '+'} ${name}: ${value}`);
  return [
    'Tencent IM calls back, with a certificate of the trusted CA.',
    '',
    fit(`  > POST ${CALLBACK.target}`),
    fit(`  > ${CALLBACK.body}`),
    ...reply(answer),
    '',
    '  What the application sees (+ comes from the sidecar):',
    '',
    ...lines.map(fit),
    '',
  ];
}

/** @param reached whether the application saw anything of it, which must not happen */
export function refused(answer: DemoAnswer, reached: boolean): string[] {
  return [
    'Somebody else sends the same, without a certificate.',
    '',
    ...reply(answer),
    '',
    `  What the application sees: ${reached ? 'EVERYTHING. That is a bug.' : 'nothing.'}`,
    '',
  ];
}

/** @param seen of the first callback: a header that says who called is the one worth forging */
export function invitation({ ports, path }: DemoPlace, seen: FlatHeaders): string[] {
  const url = `https://127.0.0.1:${ports.listen}`;
  const admin = `http://127.0.0.1:${ports.admin}`;
  const [telling = ''] = pairs(seen).find(([, value]) => value === CALLER) ?? [];
  const settings = path('mtls-sidecar.yaml');
  const callback = CALLBACK.target.split('&').slice(0, 2).join('&');
  const ca = `curl --cacert ${quoted(path('ca.pem'))}`;
  const identity = [`--cert ${quoted(path('client.pem'))}`, `--key ${quoted(path('client.key'))}`];
  return [
    'Your turn. Claim in a header to be somebody else:',
    '',
    ...command([ca, ...identity, `-H '${telling}: somebody-else'`, `${url}/hello`]),
    '',
    'Send the callback:',
    '',
    ...command([ca, ...identity, `--data-binary @${quoted(path('callback.json'))}`, `'${url}${callback}'`]),
    '',
    'Leave the certificate out:',
    '',
    ...command([ca, `${url}/hello`]),
    '',
    'Look inside:',
    '',
    `  ${`${admin}/readyz`.padEnd(34)}whether the application answers`,
    `  ${`${admin}/metrics`.padEnd(34)}for Prometheus`,
    `  ${`${admin}/refusals`.padEnd(34)}who was turned away, and why`,
    `  ${settings}  the settings`,
    `  ${path('sidecar.log').padEnd(settings.length)}  the whole log`,
    '',
    'Ctrl-C ends it. Until then, what the sidecar does:',
    '',
  ];
}

function reply({ statusLine, body }: DemoAnswer): string[] {
  // A refusal is a page for people; its title says it all.
  const title = /<title>(.*?)<\/title>/.exec(body)?.[1];
  return [fit(`  < ${statusLine}`), fit(`  < ${title ?? body}`)];
}

function command(words: readonly string[]): string[] {
  return words.map((word, index) => {
    return `  ${index === 0 ? '' : '  '}${word}${index === words.length - 1 ? '' : ' \\'}`;
  });
}

/** A word for a POSIX shell. */
function quoted(word: string): string {
  return /^[\w./:@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", String.raw`'\''`)}'`;
}

type LogLine = Readonly<Record<'time' | 'msg' | 'method' | 'path' | 'status' | 'reason', string>> & {
  readonly subject: string | null;
};

/** One line about what the sidecar has just done, made of one line of its log. */
export function happening(json: string): string {
  const { time, msg, method, path, status, subject, reason } = JSON.parse(json) as LogLine;
  const at = new Date(time).toTimeString().slice(0, 8);
  if (msg === 'request') return fit(`  ${at}  ${status}      ${subject}  ${method} ${path}`);
  if (msg === 'connection refused') return fit(`  ${at}  refused  ${reason}  ${subject ?? ''}`.trimEnd());
  return fit(`  ${at}  ${msg}`);
}

/** What the application of the demo answers to anything but a callback. */
export function mirror(method: string, target: string, headers: FlatHeaders): string {
  const lines = pairs(headers).map(([name, value]) => `${name}: ${value}`);
  return ['This is the application. What reached me:', '', `${method} ${target}`, ...lines, ''].join('\n');
}

function fit(line: string): string {
  const text = printable(line);
  return text.length > WIDTH ? `${text.slice(0, WIDTH - 1)}…` : text;
}

function pairs(flat: FlatHeaders): (readonly [string, string])[] {
  return flat.flatMap((name, index) => (index % 2 === 0 ? [[name, flat[index + 1] ?? ''] as const] : []));
}
