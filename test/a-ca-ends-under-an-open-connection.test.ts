import { writeFileSync } from 'node:fs';
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { openRaw, type Identity } from './support/caller.js';
import { pass } from './support/clock.js';
import { call2, openHttp2 } from './support/http2.js';
import {
  CA_SUBJECT,
  type Authority,
  chainPem,
  createAuthority,
  generateKeys,
  issueClient,
  makePki,
} from './support/pki.js';
import { sidecarForTest, type Sidecar } from './support/sidecar.js';
import { visit } from './support/visit.js';

const MINUTE = 60_000;
const pki = makePki();
const keys = generateKeys();
const soon = Date.now() + 10 * MINUTE;
const ending = createAuthority({ subject: CA_SUBJECT, keys, notAfter: soon });
const renewed = createAuthority({ subject: CA_SUBJECT, keys });
const client = issueClient(ending, { keys: generateKeys() });
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle']], notAfter: soon });
const leaf = issueClient(middle, { keys: generateKeys() });
const below: Identity = { certPem: chainPem(leaf, middle), keyPem: leaf.keyPem };
const alone: Identity = { certPem: leaf.certPem, keyPem: leaf.keyPem };
const REQUEST = 'GET /im HTTP/1.1\r\nHost: localhost\r\n\r\n';
const SERVED = /^(?:HTTP\/1\.1 200 [^]*?\r\n\r\nok)+$/;

let application: Application;

beforeAll(async () => {
  application = await startApplication();
});

afterEach(() => {
  vi.useRealTimers();
});

afterAll(() => application.stop());

/** @param bundle what callers are verified by */
function start(bundle: string, settings: Readonly<Record<string, string>> = {}): Promise<Sidecar> {
  const given = { 'reload.interval': '1h', ...settings };
  return sidecarForTest({
    pki: { ...pki, client },
    upstream: application.url,
    settings: given,
    yaml: '{}',
    ...of(bundle),
  });
}

const of = (bundle: string) => ({ files: { 'clientCert.ca': bundle } });

/** An open connection with one request served, on which `ask` sends another. */
async function openServed(sidecar: Sidecar, options: Parameters<typeof openRaw>[1] = {}) {
  const caller = await openRaw(sidecar, { ca: pki.ca.certPem, ...options });
  const ask = async (): Promise<string> => {
    const before = caller.received().length;
    caller.socket.write(REQUEST);
    return (await caller.receive(new RegExp(`^[^]{${before}}HTTP/1\\.1 [^]*(?:ok|</html>\\s*)$`))).slice(before);
  };
  expect(await ask()).toMatch(SERVED);
  return { ...caller, ask };
}

describe('once it has ended', () => {
  it.each([
    ['a root of the bundle', client, ending.certPem],
    ['an intermediate of the bundle', alone, pki.ca.certPem + middle.certPem],
    ['an intermediate that the caller presented', below, pki.ca.certPem],
  ])('the next request is refused and the connection ends: %s', async (_which, as, bundle) => {
    const sidecar = await start(bundle);
    const caller = await openServed(sidecar, { as });
    pass(9);
    expect(await caller.ask()).toMatch(SERVED);
    const before = application.seen.length;
    pass(2);
    const refusal = await caller.ask();
    expect(refusal).toMatch(/^HTTP\/1\.1 400 [^]*\r\nConnection: close\r\n[^]*400 The SSL certificate error/i);
    await caller.closed();
    expect(application.seen.length).toBe(before);
    expect(sidecar.requests().at(-1)).toMatchObject({ status: 400, code: 'expired', outcome: 'refused' });
  });

  it.each(['TLSv1.2', 'TLSv1.3'] as const)('so it is where the session was resumed (%s)', async (version) => {
    const sidecar = await start(pki.ca.certPem);
    const tls = { ca: pki.ca.certPem };
    const { session } = await visit(sidecar, { as: below, version, tls });
    const caller = await openServed(sidecar, {
      as: below,
      session: session as Buffer,
      minVersion: version,
      maxVersion: version,
    });
    expect(caller.socket.isSessionReused()).toBe(true);
    pass(11);
    expect(await caller.ask()).toMatch(/^HTTP\/1\.1 400 /);
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'expired' });
  });

  it('an HTTP/2 connection is told to close with the refusal', async () => {
    const sidecar = await start(ending.certPem, { 'listen.http2': 'true' });
    const session = await openHttp2(sidecar, { tls: { ca: pki.ca.certPem } });
    expect((await call2(session)).status).toBe(200);
    const goaway = new Promise((resolve) => session.once('goaway', resolve));
    pass(11);
    expect((await call2(session)).status).toBe(400);
    await goaway;
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'expired' });
  });

  it('a route that asks nobody is still served', async () => {
    const routes = 'routes: [{path: /im, verify: off}]\n';
    const options = { pki: { ...pki, client }, upstream: application.url, yaml: routes, ...of(ending.certPem) };
    const caller = await openServed(await sidecarForTest(options));
    pass(11);
    expect(await caller.ask()).toMatch(SERVED);
  });
});

describe('a renewed CA with the same key', () => {
  async function bring(sidecar: Sidecar): Promise<void> {
    writeFileSync(`${sidecar.directory}/clientCert.ca.pem`, renewed.certPem);
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
  }

  const [old, fresh] = [soon, soon + 100 * MINUTE].map((notAfter) =>
    pki.ca.subordinate({ subject: [['CN', 'Renewed']], keys, notAfter }),
  ) as [Authority, Authority];
  const under = issueClient(old);

  it.each([
    ['a root', client, ending.certPem + renewed.certPem],
    ['a root, the old one behind it', client, renewed.certPem + ending.certPem],
    ['an intermediate', under, pki.ca.certPem + old.certPem + fresh.certPem],
  ])('that stands in the bundle already leaves all as it is: %s', async (_which, as, bundle) => {
    const caller = await openServed(await start(bundle), { as });
    pass(11);
    const answer = await caller.ask();
    expect(answer).toMatch(SERVED);
    expect(answer).not.toMatch(/^Connection: close/im);
  });

  it.each([
    ['before the end', [5, 6]],
    ['after it', [11, 0]],
  ] as const)('that a reload brings %s has open connections judged anew', async (_when, [earlier, later]) => {
    const sidecar = await start(ending.certPem);
    const caller = await openServed(sidecar);
    pass(earlier);
    await bring(sidecar);
    pass(later);
    const answer = await caller.ask();
    expect(answer).toMatch(SERVED);
    expect(answer).toMatch(/^Connection: close/im);
  });

  it('that a reload does not bring leaves the reason what it is', async () => {
    const sidecar = await start(ending.certPem);
    const caller = await openServed(sidecar);
    pass(11);
    writeFileSync(`${sidecar.directory}/clientCert.ca.pem`, ending.certPem + pki.ca.certPem);
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    expect(await caller.ask()).toMatch(/^HTTP\/1\.1 400 /);
    expect(sidecar.requests().at(-1)).toMatchObject({ code: 'expired' });
  });
});
