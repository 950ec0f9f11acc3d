import { createHash } from 'node:crypto';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import type { TLSSocket } from 'node:tls';
import { expect } from 'vitest';
import { readPeerCertificate } from '../../src/identify/peer-certificate.js';
import type { Application } from './application.js';
import { begin, readAnswer, type Answer, type CallOptions } from './caller.js';
import type { Issued } from './pki.js';
import type { LogLine, Sidecar } from './sidecar.js';

/** Names of the usual certificates, as logs and headers print them. */
export const CLIENT_NAME = 'CN=im.qq.com,O=Tencent,C=CN';
export const CA_NAME = 'CN=TencentQQAuthCA,O=Tencent,C=CN';

/** A caller's own OpenSSL would not present what the sidecar is meant to refuse. */
export const CARELESS = { ciphers: 'DEFAULT@SECLEVEL=0' } as const;

const TITLES: Readonly<Record<string, string>> = {
  no_certificate: '400 No required SSL certificate was sent',
  not_allowed: '403 Forbidden',
  overloaded: '503 Service Temporarily Unavailable',
};
const CERTIFICATE_ERROR = '400 The SSL certificate error';

export interface Refused {
  readonly reason: string;
  /** OpenSSL's words, or ours. */
  readonly detail: string | RegExp;
  /** What was presented; null for nothing, or nothing readable. */
  readonly certificate: Issued | null;
  /** Default: `CLIENT_NAME` and `CA_NAME`. */
  readonly subject?: string;
  readonly issuer?: string;
}

/**
 * Sends one request that must be refused together with its connection: nginx's page, one record with everything in it,
 * one count, no HTTP read, and nothing for the application to see.
 */
export async function expectRefused(
  at: { readonly sidecar: Sidecar; readonly application: Application },
  options: CallOptions,
  expected: Refused,
): Promise<Answer> {
  const { sidecar, application } = at;
  const before = await tally(sidecar, application, expected.reason);
  const { answer, peer, tlsVersion } = await ask(sidecar, options);
  const title = TITLES[expected.reason] ?? CERTIFICATE_ERROR;
  expect(answer.status).toBe(Number(title.slice(0, 3)));
  expect(answer.body).toContain(`<title>${title}</title>`);
  expect(answer.headers.connection).toBe('close');
  const record = sidecar.refusals().at(-1);
  expect(record).toMatchObject({ level: 'warn', reason: expected.reason, peer, tlsVersion, ...factsOf(expected) });
  expectDetail(record, expected.detail);
  const after = await tally(sidecar, application, expected.reason);
  expect(after).toEqual({ ...before, refused: before.refused + 1, records: before.records + 1 });
  return answer;
}

/** The names of a certificate that is not called as usual. */
export function namesOf({ certDer }: Issued): Pick<Refused, 'subject' | 'issuer'> {
  const { subject, issuer } = readPeerCertificate(certDer);
  return { subject, issuer };
}

/** A refusal of a certificate under the usual names. */
export function refusedAs(reason: string, detail: string | RegExp, certificate: Issued | null): Refused {
  return { reason, detail, certificate };
}

async function ask(sidecar: Sidecar, options: CallOptions) {
  const outgoing = begin(sidecar, options);
  let peer = '';
  let tlsVersion: string | null = null;
  outgoing.on('socket', (socket) =>
    socket.once('secureConnect', () => {
      peer = `127.0.0.1:${socket.localPort}`;
      tlsVersion = (socket as TLSSocket).getProtocol();
    }),
  );
  outgoing.end(options.body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  return { answer: await readAnswer(response), peer, tlsVersion };
}

async function tally(sidecar: Sidecar, application: Application, reason: string) {
  return {
    refused: await sidecar.metric(`mtls_sidecar_handshakes_total{result="refused",reason="${reason}"}`),
    admitted: await sidecar.metric('mtls_sidecar_handshakes_total{result="admitted",reason="none"}'),
    records: sidecar.refusals().length,
    requests: sidecar.requests().length,
    seen: application.seen.length,
  };
}

function factsOf({ certificate, subject = CLIENT_NAME, issuer = CA_NAME }: Refused) {
  if (certificate === null) return { subject: null, issuer: null, serial: null, sha256: null };
  const hex = certificate.serial.toString(16).toUpperCase();
  return {
    subject,
    issuer,
    serial: hex.length % 2 === 0 ? hex : `0${hex}`,
    sha256: createHash('sha256').update(certificate.certDer).digest('hex'),
  };
}

function expectDetail(record: LogLine | undefined, detail: string | RegExp): void {
  if (typeof detail === 'string') expect(record?.['detail']).toBe(detail);
  else expect(record?.['detail']).toMatch(detail);
}
