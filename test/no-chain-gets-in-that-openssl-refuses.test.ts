import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { connect, createServer, type SecureVersion, type Server, type TLSSocket } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call, tlsOptions } from './support/caller.js';
import { ANCHORS, DEPTH, VECTORS, type Vector } from './support/chain-vectors.js';
import { chainPem, makePki } from './support/pki.js';
import { CARELESS } from './support/refusal.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const bundle = chainPem(pki.ca, ...ANCHORS);
let application: Application;
let sidecar: Sidecar;
/** Node's own server, which has its verdict from OpenSSL and nothing from us. */
let oracle: Server;

beforeAll(async () => {
  application = await startApplication();
  const settings = { 'clientCert.depth': String(DEPTH) };
  sidecar = await startSidecar({ pki, upstream: application.url, files: { 'clientCert.ca': bundle }, settings });
  oracle = createServer({
    cert: pki.server.certPem,
    key: pki.server.keyPem,
    ca: bundle,
    ciphers: 'DEFAULT@SECLEVEL=2',
    requestCert: true,
    rejectUnauthorized: false,
  }).listen(0, '127.0.0.1');
  oracle.on('tlsClientError', () => undefined);
  await once(oracle, 'listening');
});
afterAll(async () => {
  await sidecar.stop();
  await application.stop();
  oracle.close();
});

const presenting = ({ leaf, sent }: Vector) => ({ certPem: chainPem(leaf, ...sent), keyPem: leaf.keyPem });

/** Whether OpenSSL has no complaint. */
async function openSslTakes(vector: Vector, maxVersion: SecureVersion): Promise<boolean> {
  const { port } = oracle.address() as AddressInfo;
  const caller = connect({ ...tlsOptions(sidecar, presenting(vector)), ...CARELESS, maxVersion, port });
  caller.on('error', () => undefined);
  const [socket] = (await once(oracle, 'secureConnection')) as [TLSSocket];
  socket.on('error', () => undefined);
  const taken = socket.authorized;
  socket.destroy();
  caller.destroy();
  return taken;
}

describe.each([['TLSv1.3'], ['TLSv1.2']] as const)('with %s', (maxVersion) => {
  it.each(VECTORS.map((vector) => [vector.about, vector] as const))('%s', async (_about, vector) => {
    const seen = application.seen.length;
    const { status } = await call(sidecar, { as: presenting(vector), ...CARELESS, maxVersion });
    expect(application.seen.length - seen).toBe(vector.refused === null ? 1 : 0);
    expect(status).toBe(vector.refused === null ? 200 : 400);
    expect(await openSslTakes(vector, maxVersion)).toBe(vector.refused === null);
    if (vector.refused === null) return;
    const [reason, detail] = vector.refused;
    expect(sidecar.refusals().at(-1)).toMatchObject({ reason, detail });
  });
});

it('the vectors are many, and of both kinds', () => {
  const refused = VECTORS.filter((vector) => vector.refused !== null);
  expect(refused.length).toBeGreaterThan(45);
  expect(VECTORS.length - refused.length).toBeGreaterThan(30);
  expect(new Set(VECTORS.map(({ about }) => about)).size).toBe(VECTORS.length);
});
