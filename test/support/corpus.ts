import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { readPeerCertificate } from '../../src/identify/peer-certificate.js';
import type { Sidecar } from './sidecar.js';

/** One hostile, or merely odd, input and what has to become of it. */
export interface Case {
  readonly file: string;
  readonly name: string;
  readonly why: string;
  /** Latin1. */
  readonly send: string;
  /** What the application must get, in the normal form of `wire.ts`, with `{set}` in place of what we set. */
  readonly forwarded: readonly string[];
  /** Code of the refusal that ends the connection behind these; null for none. */
  readonly refused: string | null;
  /** Whether the connection ends without a refusal, too. */
  readonly closes: boolean;
}

const DIRECTORY = new URL('../corpus/', import.meta.url);

/** All cases of `test/corpus`; its README says how they are written. */
export function readCorpus(): Case[] {
  const files = readdirSync(DIRECTORY).filter((name) => name.endsWith('.txt'));
  return files.flatMap((file) => {
    const [, ...blocks] = readFileSync(new URL(file, DIRECTORY), 'utf8').split(/^== /m);
    return blocks.map((block) => readCase(file, block));
  });
}

function readCase(file: string, block: string): Case {
  const [name = '', ...lines] = block.split('\n');
  const marked = (mark: string) => lines.filter((line) => line.startsWith(mark)).map((line) => line.slice(mark.length));
  const send = marked('> ').map(unescape).join('');
  const [refused = null] = marked('refused ');
  const known = /^(?:[>=] .*|refused \w+|closes|)$/;
  const why = lines.filter((line) => !known.test(line)).join(' ');
  const forwarded = marked('= ').map(unescape);
  if (send === '' || why === '' || (forwarded.length === 0 && refused === null)) throw new Error(`${file}: ${name}`);
  return { file, name, why, send, forwarded, refused, closes: lines.includes('closes') };
}

const ESCAPES: Readonly<Record<string, string>> = { r: '\r', n: '\n', t: '\t', '0': '\0', '\\': '\\' };

/** Backslash escapes of C, and `{3*abc}` for abcabcabc. */
function unescape(text: string): string {
  const plain = text.replace(/\\(?:x([0-9a-f]{2})|(.))/g, (_, hex?: string, letter = '') => {
    const character = hex === undefined ? ESCAPES[letter] : String.fromCharCode(parseInt(hex, 16));
    if (character === undefined) throw new Error(`no escape: \\${letter} in ${text}`);
    return character;
  });
  return plain.replace(/\{(\d+)\*([^}]+)\}/g, (_, count: string, what: string) => what.repeat(Number(count)));
}

const UUID = '[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}';

/** Makes the function that says whether a message, in its normal form, is the expected one. */
export function matcher({ port, pki }: Sidecar): (expected: string, actual: string) => boolean {
  const { certDer, serial } = pki.client;
  const { notAfter } = readPeerCertificate(certDer);
  const set = (host: string, id: string): readonly string[] => [
    'X-Forwarded-For: 127.0.0.1',
    'X-Forwarded-Proto: https',
    `X-Forwarded-Host: ${host}`,
    `X-Forwarded-Port: ${port}`,
    `X-Request-Id: ${id}`,
    'X-SSL-Client-Verify: SUCCESS',
    'X-SSL-Client-S-DN: CN=im.qq.com,O=Tencent,C=CN',
    'X-SSL-Client-I-DN: CN=TencentQQAuthCA,O=Tencent,C=CN',
    'X-SSL-Client-CN: im.qq.com',
    `X-SSL-Client-Serial: ${hexOf(serial)}`,
    `X-SSL-Client-SHA256: ${createHash('sha256').update(certDer).digest('hex')}`,
    'X-SSL-Client-SAN: DNS:im.qq.com',
    `X-SSL-Client-Not-After: ${asOpenssl(notAfter)}`,
  ];
  return (expected, actual) => {
    const [, host = ''] = /^host: (.*)\r$/m.exec(expected) ?? [];
    const [, id] = /\{set:([^}]+)\}/.exec(expected) ?? [];
    const [found = ''] = new RegExp(`(?<=^X-Request-Id: )${UUID}(?=\\r$)`, 'm').exec(actual) ?? [];
    const block = set(host, id ?? found).map((line) => `${line}\r\n`);
    return actual === expected.replace(/\{set(?::[^}]+)?\}/, () => block.join(''));
  };
}

function hexOf(serial: bigint): string {
  const hex = serial.toString(16).toUpperCase();
  return hex.length % 2 === 0 ? hex : `0${hex}`;
}

/** `Nov  5 14:22:46 2026 GMT`, the day in two places. */
function asOpenssl(milliseconds: number): string {
  const [, day, month, year, time] = new Date(milliseconds).toUTCString().split(' ');
  return `${month} ${String(Number(day)).padStart(2)} ${time} ${year} GMT`;
}
