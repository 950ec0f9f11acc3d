import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { startApplication } from './support/application.js';
import { openRaw } from './support/caller.js';
import { about } from './support/lists.js';
import { CA_SUBJECT, createAuthority, issueClient, issueServer, type Pki } from './support/pki.js';
import { sidecarForTest } from './support/sidecar.js';

const ca = createAuthority({ subject: CA_SUBJECT });
const stranger = createAuthority({ subject: [['CN', 'Other']] });
const pki: Pki = {
  ca,
  server: issueServer(ca),
  client: issueClient(ca),
  stranger: { ca: stranger, client: issueClient(stranger) },
};

/** Basic constraints with bytes behind them, which OpenSSL forgives. */
const odd = issueClient(ca, {
  basicConstraints: null,
  extensions: [{ oid: '2.5.29.19', critical: false, value: Uint8Array.of(0x30, 0x00, 0x05, 0x00) }],
});

const GET = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';

it('at a reload: it is refused, and the others are judged as ever', async () => {
  const application = await startApplication();
  const lists = (revoked: readonly bigint[]): string =>
    ca.crl({ revoked, extensions: [about('users')] }) + ca.crl({ extensions: [about('authorities')] });
  const files = { 'clientCert.crl': lists([]) };
  const settings = { 'reload.interval': '1h' };
  const sidecar = await sidecarForTest({ pki, upstream: application.url, files, settings });
  const callers = [await openRaw(sidecar, { as: odd }), await openRaw(sidecar)];
  for (const caller of callers) {
    caller.socket.write(GET);
    await caller.receive(/ok$/);
  }
  writeFileSync(join(sidecar.directory, 'clientCert.crl.pem'), lists([pki.client.serial]));
  expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
  for (const caller of callers) {
    caller.socket.write(GET);
    await caller.receive(/ok[^]*HTTP\/1\.1 400 /);
  }
  expect(sidecar.requests().slice(-2)).toMatchObject([{ code: 'invalid' }, { code: 'revoked' }]);
  await application.stop();
});
