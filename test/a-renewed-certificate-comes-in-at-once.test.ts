import { constants } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import type { Identity } from './support/caller.js';
import { generateKeys, issueClient, makePki } from './support/pki.js';
import { endPrograms, startRun } from './support/program.js';
import { serialOf } from './support/workers.js';
import { sidecarForTest, type Sidecar } from './support/sidecar.js';
import { visit, type Visit } from './support/visit.js';

const pki = makePki();
const wrong = issueClient(pki.ca, { keys: generateKeys(), subject: [['CN', 'somebody.else']] });
const renewed = pki.client;
const ALLOW = '[{commonName: im.qq.com}]';

let application: Application;

beforeAll(async () => {
  application = await startApplication();
});

afterEach(endPrograms);

afterAll(() => application.stop());

async function start(yaml: string): Promise<Sidecar> {
  return sidecarForTest({ pki, upstream: application.url, yaml });
}

async function rewrite(sidecar: Sidecar, yaml: string): Promise<void> {
  writeFileSync(join(sidecar.directory, 'sidecar.yaml'), yaml);
  expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
}

/** How a session is kept, and by whom. */
const KINDS = [
  ['a ticket of TLS 1.3', { version: 'TLSv1.3' }],
  ['a ticket of TLS 1.2', { version: 'TLSv1.2' }],
  ['an id of TLS 1.2', { version: 'TLSv1.2', tls: { secureOptions: constants.SSL_OP_NO_TICKET } }],
] as const satisfies readonly (readonly [string, Visit])[];

describe.each(KINDS)('a caller with %s', (_what, kind) => {
  it.each<[string, string, Identity | null]>([
    ['a certificate that no rule allows', `clientCert: {allow: ${ALLOW}}`, wrong],
    ['one that only its serial number lets in', `clientCert: {allow: [{serial: '${serialOf(renewed)}'}]}`, wrong],
    ['no certificate, where rules ask for one', `clientCert: {verify: optional, allow: ${ALLOW}}`, null],
    [
      'an unverified one, where rules ask for more',
      `clientCert: {verify: optional-no-ca, allow: ${ALLOW}}`,
      pki.stranger.client,
    ],
  ])('who was refused for %s, is let in with another', async (_why, yaml, as) => {
    const sidecar = await start(yaml);
    const { status, session } = await visit(sidecar, { ...kind, as });
    expect(status).toBe(403);
    expect(session).toBeDefined();
    expect(await visit(sidecar, { ...kind, as: renewed, session })).toMatchObject({ status: 200, reused: false });
    expect(await visit(sidecar, { ...kind, as, session })).toMatchObject({ status: 403, reused: false });
  });

  it('who was let in for a route that asks nobody, is let in under the others', async () => {
    const open = '{path: /healthz, return: 200, verify: off}';
    const sidecar = await start(`clientCert: {allow: ${ALLOW}}\nroutes: [${open}]\n`);
    const { status, session } = await visit(sidecar, { ...kind, as: wrong });
    expect(status).toBe(403);
    expect(await visit(sidecar, { ...kind, as: renewed, session })).toMatchObject({ status: 200, reused: false });
  });

  it('who is allowed resumes its session', async () => {
    const rules = [`{allow: ${ALLOW}}`, '{allow: [{paths: [/]}]}', `{verify: optional, allow: ${ALLOW}}`];
    for (const rule of rules) {
      const sidecar = await start(`clientCert: ${rule}`);
      const { session } = await visit(sidecar, kind);
      expect(await visit(sidecar, { ...kind, session })).toMatchObject({ status: 200, reused: true });
    }
  });

  it('who is allowed by a reload resumes its session, and who is no longer cannot', async () => {
    const sidecar = await start(`clientCert: {allow: ${ALLOW}}`);
    const first = await visit(sidecar, { ...kind, as: wrong });
    await rewrite(sidecar, 'clientCert: {allow: [{commonName: somebody.else}]}');
    expect(await visit(sidecar, { ...kind, as: wrong, session: first.session })).toMatchObject({
      status: 200,
      reused: true,
    });
    await rewrite(sidecar, `clientCert: {allow: ${ALLOW}}`);
    expect(await visit(sidecar, { ...kind, as: wrong, session: first.session })).toMatchObject({
      status: 403,
      reused: false,
    });
  });
});

it('whichever of two workers a caller comes to, it gets in with its new certificate', async () => {
  const sidecar = await startRun(application.url, { workers: '2', 'clientCert.allow': ALLOW }, pki);
  for (const [, kind] of KINDS) {
    const { status, session } = await visit(sidecar, { ...kind, as: wrong });
    expect(status).toBe(403);
    for (let round = 0; round < 6; round += 1) {
      expect(await visit(sidecar, { ...kind, as: renewed, session })).toMatchObject({ status: 200, reused: false });
      expect(await visit(sidecar, { ...kind, as: wrong, session })).toMatchObject({ status: 403, reused: false });
    }
  }
});
