import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { Agent } from 'node:https';
import type { Duplex } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { begin, readAnswer, type Answer } from './support/caller.js';
import { chainPem, issueClient, makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

/** What each preset sends about a caller with a certificate, as its dialect spells it. */
const SENT = {
  nginx: ['Verify', 'S-DN', 'I-DN', 'CN', 'Serial', 'SHA256', 'SAN', 'Not-After'].map((part) => `X-SSL-Client-${part}`),
  'ingress-nginx': ['verify', 'subject-dn', 'issuer-dn', 'cert'].map((part) => `ssl-client-${part}`),
  haproxy: [
    'X-SSL',
    ...['Verify', 'DN', 'CN'].map((part) => `X-SSL-Client-${part}`),
    'X-SSL-Issuer',
    ...['NotBefore', 'NotAfter'].map((part) => `X-SSL-Client-${part}`),
  ],
  xfcc: ['X-Forwarded-Client-Cert'],
  rfc9440: ['Client-Cert', 'Client-Cert-Chain'],
  traefik: ['X-Forwarded-Tls-Client-Cert', 'X-Forwarded-Tls-Client-Cert-Info'],
} as const;
const PRESETS = Object.keys(SENT) as (keyof typeof SENT)[];

/** The custom map of every sidecar below. */
const OWN = { 'X-Caller': 'commonName', 'Remote-User': 'subject' };

/** Sent by no preset, and reserved all the same. */
const UNSENT = [
  ...['X-SSL-Client-Cert', 'X-SSL-Client-Anything', 'ssl-client-anything', 'X-Client-Cert', 'X-Client-Cert-Chain'],
  ...[
    'Client-Certificate',
    'X-Forwarded-Client-Cert-Chain',
    'X-Forwarded-Tls-Client-Cert-Anything',
    'X-SSL-Session-ID',
  ],
];

const RESERVED = [...new Set([...Object.values(SENT).flat(), ...Object.keys(OWN), ...UNSENT])];

const CASES = [
  (name: string) => name,
  (name: string) => name.toLowerCase(),
  (name: string) => name.toUpperCase(),
  (name: string) =>
    [...name].map((letter, at) => (at % 2 === 0 ? letter.toLowerCase() : letter.toUpperCase())).join(''),
];

/** As written, with every mark that some application server reads as a hyphen, and with two of them. */
function spellings(name: string): string[] {
  const marked = ['-', '_', '.'].map((mark) => name.replaceAll('-', mark));
  const all = [...marked, name.replace('-', '_'), name.replace('-', '.')];
  return [...new Set(all.flatMap((spelling) => CASES.map((written) => written(spelling))))];
}

/** Every spelling, each twice. */
const forgeriesOf = (name: string): [string, string][] =>
  [...spellings(name), ...spellings(name)].map((spelling, at) => [spelling, `forged-${at}`]);

/** What reached the application. */
interface Arrived {
  readonly headers: readonly string[];
  readonly trailers: readonly string[];
}

/** One road by which forgeries can travel. */
type Road = (sidecar: Sidecar, forgeries: readonly [string, string][], as?: null) => Promise<Arrived>;

const agents: Agent[] = [];
let application: Application;

beforeAll(async () => {
  application = await startApplication();
  application.server.on('upgrade', ({ rawHeaders, method = '', url = '' }: IncomingMessage, socket: Duplex) => {
    application.seen.push({ method, url, rawHeaders, rawTrailers: [], body: Buffer.alloc(0) });
    socket.end('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n');
  });
});

afterAll(async () => {
  agents.forEach((agent) => agent.destroy());
  await application.stop();
});

const arrived = (): Arrived => {
  const { rawHeaders = [], rawTrailers = [] } = application.seen.at(-1) ?? {};
  return { headers: withoutRequestId(rawHeaders), trailers: rawTrailers };
};

function withoutRequestId(flat: readonly string[]): string[] {
  return flat.filter((_, index) => flat[index - (index % 2)]?.toLowerCase() !== 'x-request-id');
}

const kept = new WeakMap<Sidecar, Agent>();

/** One connection a sidecar, so that what one request taught the sidecar is there for the next. */
function agentOf(sidecar: Sidecar): Agent {
  const agent = kept.get(sidecar) ?? new Agent({ keepAlive: true, maxSockets: 1 });
  kept.set(sidecar, agent);
  agents.push(agent);
  return agent;
}

async function send(sidecar: Sidecar, headers: readonly string[], rest: object = {}): Promise<Answer> {
  const outgoing = begin(sidecar, { agent: agentOf(sidecar), headers: ['Host', 'localhost', ...headers], ...rest });
  outgoing.end();
  return readAnswer((await once(outgoing, 'response'))[0] as IncomingMessage);
}

const inHeaders: Road = async (sidecar, forgeries, as) => {
  const lonely = as === null ? { as, agent: false } : {};
  expect((await send(sidecar, forgeries.flat(), lonely)).status).toBe(200);
  return arrived();
};

const namedInConnection: Road = async (sidecar, forgeries) => {
  const names = [...new Set(forgeries.map(([name]) => name))].join(', ');
  const answer = await send(sidecar, ['Connection', `keep-alive, ${names}`, ...forgeries.flat()]);
  expect(answer.status).toBe(200);
  return arrived();
};

const inTrailers: Road = async (sidecar, forgeries) => {
  const names = ['X-Checksum', ...new Set(forgeries.map(([name]) => name))].join(', ');
  const headers = ['Host', 'localhost', 'Transfer-Encoding', 'chunked', 'Trailer', names];
  const outgoing = begin(sidecar, { agent: agentOf(sidecar), method: 'POST', headers });
  outgoing.write('body');
  outgoing.addTrailers([['X-Checksum', 'true'], ...forgeries]);
  outgoing.end();
  const answer = await readAnswer((await once(outgoing, 'response'))[0] as IncomingMessage);
  expect(answer.status).toBe(200);
  return arrived();
};

const overUpgrade: Road = async (sidecar, forgeries) => {
  const headers = ['Host', 'localhost', 'Connection', 'Upgrade', 'Upgrade', 'echo', ...forgeries.flat()];
  const outgoing = begin(sidecar, { headers });
  outgoing.end();
  const [response, socket] = (await once(outgoing, 'upgrade')) as [IncomingMessage, Duplex];
  expect(response.statusCode).toBe(101);
  socket.destroy();
  return arrived();
};

const ROADS: Readonly<Record<string, Road>> = {
  'among the headers': inHeaders,
  'named in Connection': namedInConnection,
  'in the trailers': inTrailers,
  'over Upgrade': overUpgrade,
};

/** Presets that can be on together; HAProxy's dialect contradicts nginx's. */
const CHOICES = [
  { presets: [] },
  ...PRESETS.map((preset) => ({ presets: [preset] })),
  { presets: PRESETS.filter((preset) => preset !== 'haproxy') },
];

/** The caller stands under an intermediate, so that there is a chain to tell of. */
const pki = makePki();
const middle = pki.ca.subordinate({ subject: [['CN', 'Middle CA']] });
const caller = issueClient(middle);
const chained = { ...caller, certPem: chainPem(caller, middle) };

function start(settings: Readonly<Record<string, string>>): Promise<Sidecar> {
  return startSidecar({
    pki: { ...pki, client: chained },
    upstream: application.url,
    settings: { 'identity.headers': JSON.stringify(OWN), 'limits.head': '256KiB', 'log.access': 'false', ...settings },
  });
}

/** Headers that no application could take for another spelling of each other. */
function fold(name: string): string {
  return name.toLowerCase().replace(/[^a-z0-9]/g, '-');
}

describe.each(CHOICES)('with presets $presets', ({ presets }) => {
  let sidecar: Sidecar;
  beforeAll(async () => {
    sidecar = await start({ 'identity.presets': JSON.stringify(presets) });
  });
  afterAll(() => sidecar.stop());

  it('the application gets what is ours, each once', async () => {
    const { headers } = await inHeaders(sidecar, []);
    const names = headers.filter((_, index) => index % 2 === 0);
    expect(new Set(names.map(fold)).size).toBe(names.length);
    const ours = [...presets.flatMap((preset) => SENT[preset]), ...Object.keys(OWN)];
    expect(names.filter((name) => RESERVED.map(fold).includes(fold(name))).sort()).toEqual(ours.sort());
    expect(valuesOf(headers, 'X-Caller')).toEqual(['im.qq.com']);
  });

  it.each(Object.entries(ROADS))('and nothing else changes for forgeries %s', async (_, road) => {
    const clean = await road(sidecar, []);
    for (const name of RESERVED) expect([name, await road(sidecar, forgeriesOf(name))]).toEqual([name, clean]);
  });
});

describe('with a caller who has no certificate and needs none', () => {
  it('the application hears only that there is none', async () => {
    const sidecar = await start({ 'clientCert.verify': 'optional' });
    const clean = await inHeaders(sidecar, [], null);
    expect(valuesOf(clean.headers, 'X-SSL-Client-Verify')).toEqual(['NONE']);
    expect(clean.headers.filter((name) => RESERVED.map(fold).includes(fold(name)))).toEqual(['X-SSL-Client-Verify']);
    for (const name of RESERVED) {
      expect([name, await inHeaders(sidecar, forgeriesOf(name), null)]).toEqual([name, clean]);
    }
    await sidecar.stop();
  });
});

describe('names by the thousand', () => {
  it('are all looked at, however many were seen before', async () => {
    const sidecar = await start({});
    const clean = await inHeaders(sidecar, []);
    const harmless = (at: number): [string, string][] =>
      Array.from({ length: 500 }, (_, index) => [`X-Harmless-${at}-${index}`, 'yes']);
    const hostile = (at: number): [string, string][] =>
      Array.from({ length: 500 }, (_, index) => [`X_SSL-Client.${at}-${'long'.repeat(index % 20)}-${index}`, 'forged']);
    for (const at of [1, 2, 3]) {
      expect((await inHeaders(sidecar, harmless(at))).headers.filter((value) => value === 'yes')).toHaveLength(500);
      expect(await inHeaders(sidecar, hostile(at))).toEqual(clean);
    }
    await sidecar.stop();
  });
});

describe('headers.underscores', () => {
  const ambiguous: [string, string][] = [
    ['X_Other', 'forged'],
    ['x.other', 'forged'],
  ];
  const routing = ['X_Forwarded_For', 'X-Forwarded.Proto', 'x_real_ip', 'Forwarded', 'Content_Length', 'Host_'];

  it('drop: lets none of them pass', async () => {
    const sidecar = await start({ 'headers.underscores': 'drop' });
    const clean = await inHeaders(sidecar, []);
    expect(await inHeaders(sidecar, ambiguous)).toEqual(clean);
    await sidecar.stop();
  });

  it('reject: refuses the request', async () => {
    const sidecar = await start({ 'headers.underscores': 'reject' });
    expect((await send(sidecar, [])).status).toBe(200);
    const before = application.seen.length;
    for (const [name, value] of [...ambiguous, ...forgeriesOf('X-SSL-Client-CN').filter(([n]) => /[_.]/.test(n))]) {
      expect([name, (await send(sidecar, [name, value])).status]).toEqual([name, 400]);
    }
    expect(application.seen).toHaveLength(before);
    await sidecar.stop();
  });

  it('keep: lets them pass, but never as another spelling of what is ours', async () => {
    const sidecar = await start({ 'headers.underscores': 'keep' });
    const clean = await inHeaders(sidecar, []);
    expect((await inHeaders(sidecar, ambiguous)).headers).toEqual(expect.arrayContaining(ambiguous.flat()));
    for (const road of Object.values(ROADS)) {
      const expected = await road(sidecar, []);
      for (const name of RESERVED) expect([name, await road(sidecar, forgeriesOf(name))]).toEqual([name, expected]);
    }
    const misleading = routing.slice(0, -1).map((name): [string, string] => [name, '1']);
    expect(await inHeaders(sidecar, misleading)).toEqual(clean);
    await sidecar.stop();
  });
});
