import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileAllowList, rulesFor } from '../src/admit/authorize.js';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { begin, call, readAnswer } from './support/caller.js';
import { identityOf } from './support/identity.js';
import { configured, refused } from './support/settings.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';

const HEADERS = {
  'X-Real-IP': 'remoteAddress',
  'X-Scheme': 'scheme',
  'X-Url-Host': 'host',
  'X-Port': 'serverPort',
  'X-Id': 'requestId',
  'X-Chain': 'forwardedFor',
  'X-Env': 'text:prod & more',
  'X-Debug': 'none',
};

describe('forwarded.headers', () => {
  let application: Application;
  let sidecar: Sidecar;
  beforeAll(async () => {
    application = await startApplication();
    const settings = { 'forwarded.headers': JSON.stringify(HEADERS), 'headers.underscores': 'keep' };
    sidecar = await startSidecar({ upstream: application.url, settings });
  });
  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });
  const seen = (name: string): string[] => valuesOf(application.seen.at(-1)?.rawHeaders ?? [], name);

  it('sends each fact', async () => {
    const answer = await call(sidecar, { headers: { host: 'localhost:8443', 'x-request-id': 'abc' } });
    expect(answer.status).toBe(200);
    expect(Object.keys(HEADERS).map((name) => [name, ...seen(name)])).toEqual([
      ['X-Real-IP', '127.0.0.1'],
      ['X-Scheme', 'https'],
      ['X-Url-Host', 'localhost:8443'],
      ['X-Port', String(sidecar.port)],
      ['X-Id', 'abc'],
      ['X-Chain', '127.0.0.1'],
      ['X-Env', 'prod & more'],
      ['X-Debug'],
    ]);
  });

  it('lets no caller send them, in any spelling', async () => {
    const headers = { x_real_ip: '6.6.6.6', 'X-REAL-IP': '6.6.6.6', 'x.env': 'dev', 'X-Debug': '1', X_Debug: '1' };
    await call(sidecar, { headers });
    const { rawHeaders = [] } = application.seen.at(-1) ?? {};
    expect(rawHeaders).not.toContain('6.6.6.6');
    expect(rawHeaders).not.toContain('dev');
    expect(rawHeaders.filter((text) => /^x.debug$/i.test(text))).toEqual([]);
    expect(seen('X-Real-IP')).toEqual(['127.0.0.1']);
  });

  it('nor name them away, nor send them as trailers', async () => {
    const outgoing = begin(sidecar, {
      method: 'POST',
      headers: { connection: 'close, X-Real-IP', trailer: 'X-Env', 'transfer-encoding': 'chunked' },
    });
    outgoing.addTrailers({ 'X-Env': 'dev' });
    outgoing.end('x');
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    await readAnswer(response);
    expect(seen('X-Real-IP')).toEqual(['127.0.0.1']);
    expect(application.seen.at(-1)?.rawTrailers).toEqual([]);
  });
});

describe('as a setting', () => {
  const given = (headers: Record<string, unknown>, more: Record<string, string> = {}) =>
    refused({ 'forwarded.headers': JSON.stringify(headers), ...more });

  it.each<[Record<string, unknown>, string]>([
    [{ 'X-A': 'remoteAdress' }, '"X-A" must be remoteAddress, scheme'],
    [{ 'X-A': 'text:' }, '"X-A" must be'],
    [{ 'X-A': 'text:a\r\nb' }, '"X-A" must be'],
    [{ 'X-A': 'text:é' }, '"X-A" must be'],
    [{ 'X-A': null }, '"X-A" must be'],
    [{ 'X A': 'host' }, '"X A" is no header name'],
    [{ Host: 'host' }, '"Host" has a meaning of its own'],
    [{ 'Content-Length': 'text:1' }, '"Content-Length" has a meaning of its own'],
    [{ 'X-A': 'host', x_a: 'host' }, 'is there twice'],
    [{ 'X-SSL-Client-Verify': 'text:SUCCESS' }, 'must not set X-SSL-Client-Verify: an identity header has this name'],
    [{ x_ssl_client_verify: 'none' }, 'must not set x_ssl_client_verify'],
  ])('%j is refused', (headers, message) => {
    expect(given(headers)).toEqual([expect.stringContaining(message)]);
  });

  it('may have the name of an identity header that is not sent', () => {
    expect(given({ 'X-SSL': 'text:on' })).toEqual([]);
    expect(given({ 'X-SSL': 'text:on' }, { 'identity.presets': 'haproxy' })).toHaveLength(1);
    expect(configured().forwarded.headers).toEqual({});
  });
});

describe('an allow rule for a subject', () => {
  const allows = (subject: string): boolean => {
    const identity = identityOf({
      subject: [
        ['O', 'Ten, cent'],
        ['OU', 'x'],
        ['CN', 'im.qq.com'],
      ],
    });
    return rulesFor(identity, compileAllowList([{ subject }]))?.length === 1;
  };
  it.each([
    ['CN=im.qq.com,OU=x,O=Ten\\, cent', true],
    ['CN=im.qq.com,**', true],
    ['CN=im.qq.com,*', false],
    ['CN=*,OU=x,**', true],
    ['CN=im.qq.com', false],
    ['cn=im.qq.com,**', false],
    ['**,OU=x', false],
  ])('%s', (subject, allowed) => {
    expect(allows(subject)).toBe(allowed);
  });

  it('takes a star for whole values alone', () => {
    expect(refused({ 'clientCert.allow': '[{"subject": "CN=*.qq.com"}]' })).toHaveLength(1);
    expect(configured({ 'clientCert.allow': '[{"subject": "CN=*,O=Tencent"}]' }).clientCert.allow).toHaveLength(1);
  });
});
