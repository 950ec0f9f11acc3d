import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import type { ServerResponse } from 'node:http';
import { createSecureContext, type SecureContext } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { startApplication, type Application, type Seen } from './support/application.js';
import type { Identity } from './support/caller.js';
import { exchange, type Exchange, type WireAnswer } from './support/exchange.js';
import { oddCallers } from './support/odd-callers.js';
import { issueServer, writePem } from './support/pki.js';
import { endPrograms, programDirectory, startProgram, type Program } from './support/program.js';
import { NGINX, startNginx, type RealNginx } from './support/real-nginx.js';
import { CARELESS } from './support/refusal.js';
import { readProjectFile } from './support/source-tree.js';
import { wireRequests } from './support/wire-requests.js';

/** What one side did with a connection, in the words of both. */
interface Observation {
  /** OpenSSL's words about the certificate, `none sent`, or nothing. */
  readonly complaint: string;
  readonly answers: readonly string[];
  readonly headers: readonly string[];
  /** Requests that the application got. */
  readonly seen: readonly string[];
  /** Their headers. */
  readonly sent: readonly string[];
}

/** One intended difference, the same in all its cases. */
interface Difference {
  readonly why: string;
  readonly field: keyof Observation;
  readonly cases: readonly string[];
  readonly nginx: unknown;
  readonly ours: unknown;
}

const DIFFERENCES = parse(readProjectFile('test/fixtures/differences-from-nginx.yaml')) as readonly Difference[];

/** What callers of every kind are tried with. */
const MODES: Readonly<Record<string, string>> = {
  on: 'ssl_verify_client on;',
  optional: 'ssl_verify_client optional;',
  optional_no_ca: 'ssl_verify_client optional_no_ca; ssl_verify_depth 2;',
  crl: 'ssl_verify_client on; ssl_verify_depth 3; ssl_crl crl.pem;',
};

const REDIRECT = 'ssl_verify_client on; error_page 497 =301 https://$host$request_uri;';

const IDENTITY: Readonly<Record<string, string>> = {
  'X-Verify': '$ssl_client_verify',
  'X-DN': '$ssl_client_s_dn',
  'X-DN-Legacy': '$ssl_client_s_dn_legacy',
  'X-Issuer': '$ssl_client_i_dn',
  'X-Serial': '$ssl_client_serial',
  'X-Fingerprint': '$ssl_client_fingerprint',
  'X-Certificate': '$ssl_client_escaped_cert',
  'X-From': '$ssl_client_v_start',
  'X-Until': '$ssl_client_v_end',
  'X-Days': '$ssl_client_v_remain',
  'X-Protocol': '$ssl_protocol',
  'X-Cipher': '$ssl_cipher',
  'X-Name': '$ssl_server_name',
  'X-Reused': '$ssl_session_reused',
  'X-Forwarded-For': '$remote_addr',
  'X-Forwarded-Proto': '$scheme',
  'X-Real-IP': '$remote_addr',
  'X-Env': 'prod',
};

function http(mode: string, port: number, application: Application): string {
  const headers = Object.entries(IDENTITY).map(([name, value]) => `proxy_set_header ${name} ${value};`);
  return `
  access_log off;
  # The default is seconds, for callers that were refused and send nothing more.
  lingering_timeout 100ms;
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_certificate server.pem;
    ssl_certificate_key server.key;
    ssl_client_certificate ca.pem;
    ${MODES[mode] ?? REDIRECT}
    client_max_body_size 1k;
    location / {
      proxy_pass ${application.url};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header Connection "";
      ${headers.join('\n      ')}
    }
  }`;
}

const SHARED = 'proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;';

/** Two servers of one address, with locations. */
function twoServers(_mode: string, port: number, application: Application): string {
  const pass = `proxy_pass ${application.url};`;
  const server = (lines: string): string => `
  server {
    listen 127.0.0.1:${port} ssl;
    ssl_certificate server.pem;
    ssl_certificate_key server.key;
    ssl_client_certificate ca.pem;
    ${lines}
  }`;
  return `
  access_log off;
  lingering_timeout 100ms;
  ${SHARED}
  ${server(`server_name localhost; ssl_verify_client on;
    location / { ${pass} }
    location /hidden { deny all; }
    location = /204 { return 200 here; }
    location /writes/ { limit_except POST { deny all; } ${pass} }`)}
  ${server(`server_name b.example; ssl_verify_client optional;
    location / { ${pass} client_max_body_size 4; }
    location /moved/ { return 301 https://b.example$request_uri; }
    location /known/ { if ($ssl_client_verify != SUCCESS) { return 403; } ${pass} }
    location /v1/ { proxy_pass ${application.url}/v2/; }`)}
  ${server(`server_name *.d.example; ssl_verify_client on;
    location / { return 302 https://localhost/d$request_uri; }
    location /app { ${pass} }`)}`;
}

/** Both sides of one configuration, each with an application of its own. */
interface Pair {
  readonly nginx: RealNginx;
  readonly ours: Program & { readonly port: number };
  readonly behindNginx: Application;
  readonly behindOurs: Application;
}

const people = oddCallers();
const server = issueServer(people.ca);
const honest = people.callers.find(({ name }) => name === 'valid')?.as ?? null;

async function startPair(mode: string, write = http): Promise<Pair> {
  const directory = join(programDirectory(), mode);
  mkdirSync(directory);
  writePem(directory, 'server.pem', server.certPem);
  writePem(directory, 'server.key', server.keyPem);
  writePem(directory, 'ca.pem', people.ca.certPem);
  writePem(directory, 'crl.pem', people.crls);
  const [behindNginx, behindOurs] = [await startApplication(answer), await startApplication(answer)];
  const nginx = await startNginx(directory, (port) => write(mode, port, behindNginx));
  const flags = ['--listen.port=0', '--admin.port=0', `--upstream.url=${behindOurs.url}`];
  const program = startProgram(['run', '--nginx-conf', nginx.file, ...flags]);
  const [, port] = await program.said(/"port":(\d+),"adminPort":(\d+)/);
  return { nginx, ours: { ...program, port: Number(port) }, behindNginx, behindOurs };
}

const ANSWERS: Readonly<Record<string, (response: ServerResponse) => void>> = {
  '/204': (response) => void response.writeHead(204).end(),
  '/304': (response) => void response.writeHead(304, { etag: '"x"' }).end(),
  '/404': (response) => void response.writeHead(404).end('not here'),
  '/500': (response) => void response.writeHead(500).end('broken'),
  '/301': (response) => void response.writeHead(301, { location: 'https://localhost/elsewhere' }).end(),
  '/cookies': (response) => void response.writeHead(200, { 'set-cookie': ['a=1', 'b=2'] }).end('ok'),
  '/close': (response) => void response.writeHead(200, { connection: 'close' }).end('ok'),
  '/odd-status': (response) => void response.writeHead(299, 'Odd').end('ok'),
  '/empty': (response) => void response.writeHead(200, { 'content-length': 0 }).end(),
  '/types': (response) => void response.writeHead(200, { 'content-type': 'text/x', 'x-a': ['1', '2'] }).end('ok'),
  '/chunked': (response) => {
    response.write('one ');
    response.end('two');
  },
};

function answer({ method, url, body }: Seen, response: ServerResponse): void {
  response.setHeader('X-Application', 'yes');
  const known = ANSWERS[url];
  if (known !== undefined) known(response);
  else response.end(`${method} ${url} ${body.length}`);
}

/** Headers of one connection, not of the message: each side writes its own (RFC 9110 §7.6.1). */
const HOP_BY_HOP = new Set(['connection', 'keep-alive', 'transfer-encoding', 'content-length']);
/** Set by us always and by nginx where it is told to; the page for those who come from nginx says so. */
const OURS_ALWAYS = new Set(['x-request-id', 'x-forwarded-host', 'x-forwarded-port']);
const OF_A_SERVER = new Set(['date', 'server', ...HOP_BY_HOP, ...OURS_ALWAYS]);

function wordsOf({ status, headers, body }: WireAnswer): string {
  const isApplications = headers.some(([name]) => name === 'x-application');
  const title = /<title>(.*)<\/title>/.exec(body)?.[1];
  return isApplications || title === undefined ? `${status} ${body}`.trim() : title;
}

/** Of the application, and where a redirect leads; what a page of our own looks like is our own affair. */
function headersOf({ headers }: WireAnswer): string[] {
  const isApplications = headers.some(([name]) => name === 'x-application');
  return headers
    .filter(([name]) => (isApplications ? !OF_A_SERVER.has(name) : name === 'location'))
    .map(([name, value]) => `${name}: ${value}`)
    .sort();
}

function sentOf({ rawHeaders }: Seen): string[] {
  const names = rawHeaders.filter((_, index) => index % 2 === 0).map((name) => name.toLowerCase());
  return names
    .map((name, index) => [name, rawHeaders[index * 2 + 1] ?? ''] as const)
    .filter(([name]) => !HOP_BY_HOP.has(name) && !OURS_ALWAYS.has(name))
    .map(([name, value]) => `${name}: ${value}`)
    .sort();
}

const TITLE_OF_CERTIFICATES = /The SSL certificate error|No required SSL certificate was sent/;

function observe({ answers, rest }: Exchange, complaint: string, seen: readonly Seen[]): Observation {
  return {
    complaint,
    answers: answers === null ? ['no handshake'] : [...answers.map(wordsOf), ...(rest === '' ? [] : [rest])],
    headers: (answers ?? []).flatMap(headersOf),
    seen: seen.map(({ method, url, body }) => `${method} ${url} ${body.toString('latin1')}`.trim()),
    sent: seen.flatMap(sentOf),
  };
}

interface Asking {
  readonly bytes: string;
  readonly as: Identity | null;
  readonly plain?: boolean;
  readonly head?: boolean;
  /** What the handshake asks for. */
  readonly servername?: string;
  /** Whether answers alone are compared: what is refused by a route has no record of its connection. */
  readonly answersOnly?: boolean;
}

/** Made once for each caller: that takes longer than a handshake. */
const contexts = new Map<Identity | null, SecureContext>();

function contextOf(as: Identity | null): SecureContext {
  const caller = as === null ? {} : { cert: as.certPem, key: as.keyPem };
  const context = contexts.get(as) ?? createSecureContext({ ...CARELESS, ...caller, ca: people.ca.certPem });
  contexts.set(as, context);
  return context;
}

function ask(
  { bytes, as, plain = false, head = false, servername = 'localhost' }: Asking,
  port: number,
): Promise<Exchange> {
  const tls = plain ? null : { servername, checkServerIdentity: () => undefined, secureContext: contextOf(as) };
  return exchange({ tls, port, bytes, head });
}

async function askNginx({ nginx, behindNginx }: Pair, asking: Asking): Promise<Observation> {
  const before = behindNginx.seen.length;
  nginx.complaints();
  const done = await ask(asking, nginx.port);
  const log = nginx.complaints();
  const complaint =
    / verify error: \(\d+:(.*?)\) while/.exec(log)?.[1] ?? (/sent no required SSL/.test(log) ? 'none sent' : '');
  const all = observe(done, complaint, behindNginx.seen.slice(before));
  return asking.answersOnly === true ? { ...all, complaint: '', sent: [] } : all;
}

async function askOurs({ ours, behindOurs }: Pair, asking: Asking): Promise<Observation> {
  const before = behindOurs.seen.length;
  const done = await ask(asking, ours.port);
  const isRefused =
    asking.answersOnly !== true && done.answers?.some((one) => TITLE_OF_CERTIFICATES.test(one.body)) === true;
  const record = new RegExp(`"reason":"(\\w+)","detail":"([^"]*)","peer":"127.0.0.1:${done.localPort}"`);
  const [, reason, detail = ''] = isRefused ? await ours.said(record) : [];
  const all = observe(done, reason === 'no_certificate' ? 'none sent' : detail, behindOurs.seen.slice(before));
  return asking.answersOnly === true ? { ...all, sent: [] } : all;
}

const SITE_REQUESTS = [
  'GET /',
  'GET /hidden/x',
  'GET /204',
  'GET /writes/x',
  'POST /writes/x + abc',
  'POST /x + 12345',
  'GET /moved/x?y=z',
  'GET /known/x',
  'GET /v1/x',
];

/** In the handshake and in Host. */
const SITE_NAMES = [
  ['localhost', 'localhost'],
  ['b.example', 'b.example'],
  ['localhost', 'b.example'],
  ['b.example', 'localhost'],
] as const;

/** Cases that differ, by field. */
const found = new Map<string, { readonly nginx: unknown; readonly ours: unknown }>();
const known: ReadonlyMap<string, Difference> = new Map(
  DIFFERENCES.flatMap((one) => one.cases.map((name) => [`${one.field} of ${name}`, one] as const)),
);

/** Where the answers differ, so does what the application saw; that is no difference of its own. */
function compare(name: string, nginx: Observation, ours: Observation): void {
  const fields = (Object.keys(nginx) as (keyof Observation)[]).filter((field) => !isEqual(nginx[field], ours[field]));
  for (const field of fields.includes('answers') ? (['answers'] as const) : fields) {
    found.set(`${field} of ${name}`, {
      nginx: without(nginx[field], ours[field]),
      ours: without(ours[field], nginx[field]),
    });
  }
}

function isEqual(one: unknown, other: unknown): boolean {
  return JSON.stringify(one) === JSON.stringify(other);
}

/** Of two lists of headers what only the first has; other values are whole. */
function without(one: Observation[keyof Observation], other: Observation[keyof Observation]): unknown {
  return typeof one === 'string' || typeof other === 'string' ? one : one.filter((line) => !other.includes(line));
}

function asFound(listed: Difference | undefined): unknown {
  return listed === undefined ? 'not listed' : { nginx: listed.nginx, ours: listed.ours };
}

async function askBoth(pair: Pair, cases: readonly (Asking & { readonly name: string })[]): Promise<void> {
  const [nginx, ours] = await Promise.all([
    inTurn(cases, (one) => askNginx(pair, one)),
    inTurn(cases, (one) => askOurs(pair, one)),
  ]);
  cases.forEach(({ name }, index) => compare(name, nginx[index] as Observation, ours[index] as Observation));
}

async function inTurn<T, R>(all: readonly T[], act: (one: T) => Promise<R>): Promise<R[]> {
  const results: R[] = [];
  for (const one of all) results.push(await act(one));
  return results;
}

// Hundreds of connections to each side: seconds, and more of them on a busy machine.
describe.skipIf(NGINX === undefined)('side by side with nginx', { timeout: 60_000 }, () => {
  const pairs = new Map<string, Pair>();
  const pairOf = (mode: string): Pair => pairs.get(mode) as Pair;

  beforeAll(async () => {
    for (const mode of [...Object.keys(MODES), 'redirect']) pairs.set(mode, await startPair(mode));
    pairs.set('servers', await startPair('servers', twoServers));
  });

  afterAll(async () => {
    for (const { nginx, behindNginx, behindOurs } of pairs.values()) {
      await nginx.stop();
      await Promise.all([behindNginx.stop(), behindOurs.stop()]);
    }
    endPrograms();
  });

  it.each(Object.keys(MODES))('callers of every kind, ssl_verify_client %s', async (mode) => {
    const bytes = 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n';
    await askBoth(
      pairOf(mode),
      people.callers.map(({ name, as }) => ({ name: `${mode}: ${name}`, bytes, as })),
    );
  });

  it('requests of every kind', async () => {
    await askBoth(
      pairOf('on'),
      wireRequests().map((one) => ({ ...one, as: honest })),
    );
  });

  it('plain HTTP, with error_page 497', async () => {
    const plain = wireRequests().filter((one) => one.plain === true);
    await askBoth(
      pairOf('redirect'),
      plain.map((one) => ({ ...one, name: `redirected ${one.name}`, as: null })),
    );
  });

  it('two servers with locations', async () => {
    const stranger = people.callers.find(({ name }) => name === 'under another CA')?.as ?? null;
    const site = (who: string, as: Identity | null, [servername, host]: readonly string[], line: string) => {
      const [head = '', body = ''] = line.split(' + ');
      const length = body === '' ? '' : `Content-Length: ${body.length}\r\n`;
      const bytes = `${head} HTTP/1.1\r\nHost: ${host}\r\n${length}Connection: close\r\n\r\n${body}`;
      const name = `two servers: ${who}, ${servername} and ${host}, ${line}`;
      return { name, bytes, as, ...(servername === undefined ? {} : { servername }), answersOnly: true };
    };
    const cases = SITE_NAMES.flatMap((names) => [
      ...SITE_REQUESTS.flatMap((line) => [site('honest', honest, names, line), site('nobody', null, names, line)]),
      site('stranger', stranger, names, 'GET /'),
    ]);
    cases.push(site('honest', honest, ['c.example', 'c.example'], 'GET /'));
    for (const name of ['x.d.example', 'x.y.d.example', 'd.example']) {
      cases.push(...['GET /', 'GET /app/x'].map((line) => site('honest', honest, [name, name], line)));
    }
    await askBoth(pairOf('servers'), cases);
  });

  it('nothing differs but what is listed with its reason', () => {
    const listed = [...found.keys()].map((name) => [name, asFound(known.get(name))]);
    expect(Object.fromEntries(found)).toEqual(Object.fromEntries(listed));
  });

  it('and what is listed differs', () => {
    expect([...known.keys()].filter((name) => !found.has(name))).toEqual([]);
    expect(DIFFERENCES.filter(({ why }) => why.length < 9)).toEqual([]);
  });
});
