import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { TLSSocket, connect } from 'node:tls';
import type { ConnectionOptions, SecureContext } from 'node:tls';
import { afterAll, describe, expect, it } from 'vitest';
import type { Config } from '../src/config/config.js';
import { loadCredentials } from '../src/trust/credentials.js';
import { createServerContexts } from '../src/trust/secure-context.js';
import { configured } from './support/settings.js';
import { makePki, temporaryDirectory, writePki } from './support/pki.js';

const dir = temporaryDirectory();
afterAll(() => dir.remove());
const pki = makePki();
const files = writePki(dir.path, pki);
const FILES = { 'tls.cert': files.cert, 'tls.key': files.key, 'clientCert.ca': files.ca };

const settings = (flags: Readonly<Record<string, string>> = {}): Config => configured({ ...FILES, ...flags });
const secret = randomBytes(32);
const contextOf = (config: Config): SecureContext =>
  createServerContexts(config, loadCredentials(config), secret).resuming;

/** What one handshake came to. The server says a word, so that a TLS 1.3 caller has its ticket by then. */
async function handshake(context: SecureContext, options: ConnectionOptions = {}) {
  const server = createServer((raw) => {
    const socket = new TLSSocket(raw, {
      isServer: true,
      secureContext: context,
      requestCert: true,
      rejectUnauthorized: false,
    });
    socket.on('error', () => raw.destroy()).on('secure', () => socket.end('.'));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const identity = { cert: pki.client.certPem, key: pki.client.keyPem, ca: pki.ca.certPem };
  const caller = connect({ port, host: '127.0.0.1', ...identity, ...options });
  let session: Buffer | undefined;
  caller.on('session', (ticket: Buffer) => (session = ticket));
  try {
    await once(caller, 'secureConnect');
    const facts = { version: caller.getProtocol(), cipher: caller.getCipher().name, reused: caller.isSessionReused() };
    caller.resume();
    await once(caller, 'close');
    return { ...facts, session };
  } finally {
    caller.destroy();
    server.close();
  }
}

describe('a handshake', () => {
  it('ends in TLS 1.3 by default, and in TLS 1.2 with those who know no more', async () => {
    const context = contextOf(settings());
    expect((await handshake(context)).version).toBe('TLSv1.3');
    expect((await handshake(context, { maxVersion: 'TLSv1.2' })).version).toBe('TLSv1.2');
  });

  it('takes only the versions that are set', async () => {
    await expect(
      handshake(contextOf(settings({ 'tls.minVersion': 'TLSv1.3' })), { maxVersion: 'TLSv1.2' }),
    ).rejects.toThrow();
    expect((await handshake(contextOf(settings({ 'tls.maxVersion': 'TLSv1.2' })))).version).toBe('TLSv1.2');
  });

  it('takes TLS 1.0 only under legacy', async () => {
    const old: ConnectionOptions = { minVersion: 'TLSv1', maxVersion: 'TLSv1', ciphers: 'DEFAULT:@SECLEVEL=0' };
    await expect(handshake(contextOf(settings()), old)).rejects.toThrow();
    const legacy = contextOf(settings({ 'tls.legacy': 'true', 'tls.minVersion': 'TLSv1' }));
    expect((await handshake(legacy, old)).version).toBe('TLSv1');
  });

  it('uses the ciphers that are set up to TLS 1.2, and keeps TLS 1.3 possible', async () => {
    const context = contextOf(settings({ 'tls.ciphers': 'ECDHE-ECDSA-AES256-GCM-SHA384' }));
    expect((await handshake(context, { maxVersion: 'TLSv1.2' })).cipher).toBe('ECDHE-ECDSA-AES256-GCM-SHA384');
    expect((await handshake(context)).version).toBe('TLSv1.3');
  });
});

describe('a session', () => {
  it.each(['TLSv1.2', 'TLSv1.3'] as const)(
    'is resumed with %s when that is on, and not when it is off',
    async (version) => {
      const options: ConnectionOptions = { minVersion: version, maxVersion: version };
      const on = contextOf(settings());
      const { session } = await handshake(on, options);
      expect((await handshake(on, { ...options, session: session as Buffer })).reused).toBe(true);
      const off = contextOf(settings({ 'tls.sessions.resumption': 'false' }));
      const first = await handshake(off, options);
      const again = await handshake(
        off,
        first.session === undefined ? options : { ...options, session: first.session },
      );
      expect(again.reused).toBe(false);
    },
  );

  it('is not resumed under another trust, not even by who shares the secret of its tickets', async () => {
    const { session } = await handshake(contextOf(settings()));
    expect((await handshake(contextOf(settings()), { session: session as Buffer })).reused).toBe(true);
    const changed = contextOf(settings({ 'clientCert.depth': '2' }));
    expect((await handshake(changed, { session: session as Buffer })).reused).toBe(false);
  });
});
