import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config/load.js';
import { createMetrics } from '../src/observe/metrics.js';
import { startApplication, type Application } from './support/application.js';
import { call, openRaw } from './support/caller.js';
import { chainPem, createAuthority, issueClient, makePki, temporaryDirectory, writePem } from './support/pki.js';
import { configured, problemsOf, REQUIRED } from './support/settings.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const old = createAuthority({ subject: [['CN', 'Old Root']] });
const oldClient = issueClient(old);
const GET = 'GET / HTTP/1.1\r\nHost: localhost\r\n\r\n';
const NAME = 'CN=TencentQQAuthCA,O=Tencent,C=CN';

const closing: (() => unknown)[] = [];
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close();
});

async function start(yaml: string, files: Readonly<Record<string, string>>, verify = 'required'): Promise<Sidecar> {
  const directory = temporaryDirectory();
  closing.push(() => directory.remove());
  for (const [name, pem] of Object.entries(files)) writePem(directory.path, name, pem);
  const application: Application = await startApplication();
  closing.push(() => application.stop());
  const sidecar = await startSidecar({
    pki,
    upstream: application.url,
    settings: {
      'clientCert.ca': yaml.replaceAll('DIR', directory.path),
      'clientCert.verify': verify,
      'reload.interval': '1h',
    },
  });
  closing.push(() => sidecar.stop());
  return sidecar;
}

const ROLLOVER = '[{file: DIR/old.pem, label: retiring}, DIR/new.pem]';
const BOTH = { 'old.pem': old.certPem, 'new.pem': pki.ca.certPem };

/** Samples of the three metrics by CA: `connections_by_ca retiring` → value. */
async function byCa(sidecar: Sidecar): Promise<ReadonlyMap<string, number>> {
  const { body } = await sidecar.admin('/metrics');
  const samples = body.matchAll(/^mtls_sidecar_(\w*by_ca\w*)\{ca="([^"]*)",serial="[^"]*"\} (\d+)$/gm);
  return new Map([...samples].map(([, metric, ca, value]) => [`${metric} ${ca}`, Number(value)]));
}

interface CaStatus {
  readonly label: string;
  readonly subject: string;
  readonly callers: { readonly openConnections: number; readonly lastUsed: string | null } | null;
}

async function statusOf(sidecar: Sidecar): Promise<{ cas: CaStatus[]; otherCallers: object }> {
  return JSON.parse((await sidecar.admin('/status')).body);
}

const closed = (sidecar: Sidecar): Promise<unknown> => expect.poll(() => sidecar.app.connections()).toBe(0);

describe('callers are counted under the CA at the end of their chain', () => {
  it('which shows when the last caller of the retiring one has gone', async () => {
    const sidecar = await start(ROLLOVER, BOTH);
    expect((await statusOf(sidecar)).cas).toMatchObject([
      { label: 'retiring', subject: 'CN=Old Root', callers: { openConnections: 0, connections: 0, lastUsed: null } },
      { label: NAME, subject: NAME, callers: { openConnections: 0, connections: 0, requests: 0, lastUsed: null } },
    ]);
    const caller = await openRaw(sidecar, { as: oldClient });
    caller.socket.write(GET);
    await caller.receive(/ok$/);
    await sidecar.logged(({ msg }) => msg === 'request');
    await call(sidecar);
    await call(sidecar);
    await expect.poll(() => sidecar.app.connections()).toBe(1);
    const busy = await byCa(sidecar);
    expect(busy.get('connections_by_ca retiring')).toBe(1);
    expect(busy.get('admitted_connections_by_ca_total retiring')).toBe(1);
    expect(busy.get('requests_by_ca_total retiring')).toBe(1);
    expect(busy.get(`connections_by_ca ${NAME}`)).toBe(0);
    expect(busy.get(`admitted_connections_by_ca_total ${NAME}`)).toBe(2);
    expect(busy.get(`requests_by_ca_total ${NAME}`)).toBe(2);
    caller.socket.destroy();
    await closed(sidecar);
    expect((await byCa(sidecar)).get('connections_by_ca retiring')).toBe(0);
    const { cas } = await statusOf(sidecar);
    expect(cas[0]?.callers).toMatchObject({ openConnections: 0, connections: 1, requests: 1 });
    expect(Date.parse(cas[0]?.callers?.lastUsed ?? '')).toBeGreaterThan(Date.now() - 60_000);
  });

  it('also when their session is resumed', async () => {
    const sidecar = await start(ROLLOVER, BOTH);
    const options = { as: oldClient, minVersion: 'TLSv1.2', maxVersion: 'TLSv1.2' } as const;
    const first = await openRaw(sidecar, options);
    const session = first.socket.getSession();
    first.socket.destroy();
    const second = await openRaw(sidecar, { ...options, ...(session === undefined ? {} : { session }) });
    expect(second.socket.isSessionReused()).toBe(true);
    second.socket.write(GET);
    await second.receive(/ok$/);
    second.socket.destroy();
    await closed(sidecar);
    expect((await byCa(sidecar)).get('admitted_connections_by_ca_total retiring')).toBe(2);
  });

  it('not under an intermediate, whether they bring it or the bundle has it', async () => {
    const middle = old.subordinate({ subject: [['CN', 'Middle']] });
    const client = issueClient(middle);
    const sidecar = await start(ROLLOVER, { ...BOTH, 'old.pem': chainPem(old, middle) });
    await call(sidecar, { as: { ...client, certPem: chainPem(client, middle) } });
    await call(sidecar, { as: client });
    expect((await byCa(sidecar)).get('admitted_connections_by_ca_total retiring')).toBe(2);
    const { cas } = await statusOf(sidecar);
    expect(cas.map(({ subject, callers }) => [subject, callers === null])).toEqual([
      ['CN=Old Root', false],
      ['CN=Middle', true],
      [NAME, false],
    ]);
  });

  it('apart from those whom no CA vouches for', async () => {
    const sidecar = await start(ROLLOVER, BOTH, 'optional-no-ca');
    await call(sidecar, { as: pki.stranger.client });
    await call(sidecar, { as: null });
    const samples = await byCa(sidecar);
    expect(samples.get('admitted_connections_by_ca_total other')).toBe(2);
    expect(samples.get(`admitted_connections_by_ca_total ${NAME}`)).toBe(0);
    expect((await statusOf(sidecar)).otherCallers).toMatchObject({ connections: 2, requests: 2 });
  });
});

describe('the series are those of the bundle in force', () => {
  it('from the start, and after a reload', async () => {
    const directory = temporaryDirectory();
    closing.push(() => directory.remove());
    const file = writePem(directory.path, 'both.pem', chainPem(old, pki.ca));
    const sidecar = await start(`[${file}]`, {});
    const first = await openRaw(sidecar, { as: oldClient });
    expect([...(await byCa(sidecar)).keys()].filter((name) => name.startsWith('connections'))).toEqual([
      'connections_by_ca CN=Old Root',
      `connections_by_ca ${NAME}`,
      'connections_by_ca other',
    ]);
    writeFileSync(file, pki.ca.certPem);
    expect((await sidecar.admin('/reload', 'POST')).status).toBe(200);
    const samples = await byCa(sidecar);
    expect([...samples.keys()].some((name) => name.includes('Old Root'))).toBe(false);
    expect(samples.get('connections_by_ca other')).toBe(1);
    first.socket.destroy();
    await closed(sidecar);
    expect((await byCa(sidecar)).get('connections_by_ca other')).toBe(0);
  });

  it('tell a renewed CA of the same name from the old one', async () => {
    const renewed = createAuthority({ subject: [['CN', 'Old Root']] });
    const sidecar = await start('[DIR/both.pem]', { 'both.pem': chainPem(old, renewed, pki.ca) });
    await call(sidecar, { as: issueClient(renewed) });
    const { body } = await sidecar.admin('/metrics');
    const samples = body.match(/^mtls_sidecar_requests_by_ca_total\{ca="CN=Old Root",serial="[0-9A-F]+"\} \d$/gm) ?? [];
    expect(samples.map((line) => line.at(-1)).sort()).toEqual(['0', '1']);
  });

  it('and of two with one name and one number, one that counts both', async () => {
    const use = {
      ca: 'twin',
      serial: '01',
      sha256: 'aa',
      openConnections: 1,
      connections: 2,
      requests: 3,
      lastUsed: 1,
    };
    const metrics = createMetrics({
      version: '1',
      pool: () => ({ open: 0, busy: 0, waiting: 0 }),
      credentials: () => null,
      anchors: () => [use, { ...use, sha256: 'bb' }],
      draining: () => false,
      droppedLines: () => 0,
      processMetrics: false,
    });
    const text = await metrics.render();
    expect(text).toContain('connections_by_ca{ca="twin",serial="01"} 2');
    expect(text).toContain('requests_by_ca_total{ca="twin",serial="01"} 6');
  });
});

describe('a label', () => {
  const caOf = (text: string) => configured({ 'clientCert.ca': text }).clientCert;

  it('can be given to a file, among files without', () => {
    const expected = { ca: ['/old.pem', '/new.pem'], caLabels: { '/old.pem': 'retiring' } };
    expect(caOf('[{file: /old.pem, label: retiring}, /new.pem]')).toMatchObject(expected);
    expect(caOf('[{"file":"/old.pem","label":"retiring"},{"file":"/new.pem"}]')).toMatchObject(expected);
    expect(caOf('/old.pem,/new.pem')).toMatchObject({ ca: expected.ca, caLabels: {} });
    const env = { MTLS_SIDECAR_CLIENT_CERT_CA: '[{file: /old.pem, label: retiring}, /new.pem]' };
    const { 'clientCert.ca': _ca, ...flags } = REQUIRED;
    expect(loadConfig({ env, flags }).clientCert).toMatchObject(expected);
  });

  it('can be given in the settings file, whose directory names are relative to', () => {
    const directory = temporaryDirectory();
    closing.push(() => directory.remove());
    const { 'clientCert.ca': _ca, ...flags } = REQUIRED;
    const load = (yaml: string) =>
      loadConfig({ env: {}, flags, file: writePem(directory.path, 'sidecar.yaml', yaml) }).clientCert;
    const path = join(directory.path, 'old.pem');
    const expected = { ca: [path], caLabels: { [path]: 'retiring' } };
    expect(load('clientCert:\n  ca:\n    - file: old.pem\n      label: retiring\n')).toMatchObject(expected);
    expect(load('clientCert:\n  ca: {file: old.pem, label: retiring}\n')).toMatchObject(expected);
    expect(load('clientCert:\n  ca: old.pem\n')).toMatchObject({ ca: [path], caLabels: {} });
  });

  it.each([
    ['[{file: /a.pem, label: "a\\"b"}]', /label must be 1 to 64 letters/],
    ['[{file: /a.pem, label: ""}]', /label must be 1 to 64 letters/],
    [`[{file: /a.pem, label: ${'x'.repeat(65)}}]`, /label must be 1 to 64 letters/],
    ['[{file: /a.pem, label: 2019}]', /put it in quotes/],
    ['[{file: /a.pem, name: x}]', /"name" is unknown/],
    ['[{label: x}]', /must be a file name/],
    ['[{file: /a.pem, label: x}, /a.pem]', /"\/a\.pem" has two labels/],
    ['[]', /must be a file, a list of files, or a directory/],
  ])('%s is refused', (text, problem) => {
    const problems = problemsOf(() => caOf(text));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toMatch(problem);
    expect(problems[0]).toMatch(/^clientCert\.ca \(flag/);
  });

  it('stays when another file holds a copy', async () => {
    const copies = { ...BOTH, 'new.pem': chainPem(pki.ca, old) };
    for (const order of [ROLLOVER, '[DIR/new.pem, {file: DIR/old.pem, label: retiring}]']) {
      const sidecar = await start(order, copies);
      const labels = (await statusOf(sidecar)).cas.map(({ label }) => label);
      expect(labels.sort()).toEqual([NAME, 'retiring']);
    }
  });

  it('may be changed while callers are connected, who keep their connections', async () => {
    const directory = temporaryDirectory();
    closing.push(() => directory.remove());
    const file = writePem(directory.path, 'old.pem', old.certPem);
    const application = await startApplication();
    closing.push(() => application.stop());
    const settings = { 'reload.interval': '1h', 'clientCert.ca': `[{file: ${file}, label: before}]` };
    const sidecar = await startSidecar({ pki, upstream: application.url, settings });
    closing.push(() => sidecar.stop());
    const caller = await openRaw(sidecar, { as: oldClient });
    caller.socket.write(GET);
    await caller.receive(/ok$/);
    settings['clientCert.ca'] = `[{file: ${file}, label: after}]`;
    expect((await sidecar.admin('/reload', 'POST')).body).toContain('read anew');
    caller.socket.write(GET);
    expect(await caller.receive(/ok[^]*ok$/)).not.toMatch(/connection: close/i);
    await sidecar.logged((line) => line.msg === 'request' && sidecar.requests().length === 2);
    expect((await byCa(sidecar)).get('requests_by_ca_total after')).toBe(2);
    expect((await byCa(sidecar)).get('requests_by_ca_total before')).toBeUndefined();
    caller.socket.destroy();
  });
});
