import { afterEach, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { begin, call, readAnswer, sendRaw } from './support/caller.js';
import { createAuthority, issueClient, issueServer, makePki, writePem, type Pki } from './support/pki.js';
import {
  asArguments,
  credentialFlags,
  endPrograms,
  startProgram,
  startRun,
  type RunningProgram,
} from './support/program.js';

const PASSPHRASE = 'correct horse battery';
const pki: Pki = makePki();
const encryptedKey = pki.server.key
  .export({ type: 'pkcs8', format: 'pem', cipher: 'aes-256-cbc', passphrase: PASSPHRASE })
  .toString();

const applications: Application[] = [];
afterEach(async () => {
  endPrograms();
  await Promise.all(applications.splice(0).map((application) => application.stop()));
});

/** Everything that must not be seen, by what it is. Each value occurs nowhere else. */
const SECRETS = {
  'the signature of the URL': 'b10a8db164e0754105b7a99be72e3fe5',
  'a token of the URL': 'tok-2718281828',
  'a password of the URL': 'pass-3141592653',
  'a credential': 'Bearer-1618033988',
  'a cookie': 'session-1414213562',
  'a body': 'body-1732050807',
  'an answer': 'answer-2236067977',
  'the passphrase': PASSPHRASE,
};

/** PEM lines of a key, without its frame. */
const pemLines = (pem: string): string[] =>
  pem.split('\n').filter((line) => line.length > 20 && !line.includes('-----'));

function found(text: string, keys: readonly string[]): string[] {
  const secrets = Object.entries(SECRETS).filter(([, secret]) => text.includes(secret));
  return [...secrets.map(([what]) => what), ...keys.flatMap(pemLines).filter((line) => text.includes(line))];
}

const query =
  `SdkAppid=888888&RequestTime=1629883332&Sign=${SECRETS['the signature of the URL']}` +
  `&token=${SECRETS['a token of the URL']}&PASSWORD=${SECRETS['a password of the URL']}`;

const headers = {
  host: 'localhost',
  authorization: SECRETS['a credential'],
  cookie: `id=${SECRETS['a cookie']}`,
  referer: `https://example.com/?${query}`,
};

/** All that an operator can see of it. */
async function everythingSaid(sidecar: RunningProgram): Promise<string> {
  const pages = ['/status', '/refusals', '/metrics', '/readyz'].map(async (path) => (await sidecar.admin(path)).body);
  const shown = await Promise.all(pages);
  sidecar.child.kill('SIGTERM');
  await sidecar.ended();
  return [sidecar.stdout(), sidecar.stderr(), ...shown].join('\n');
}

async function startTalkative(settings: Readonly<Record<string, string>>): Promise<RunningProgram> {
  const application = await startApplication(({ url }, response) => {
    if (url.startsWith('/break')) response.destroy();
    else response.end(SECRETS['an answer']);
  });
  applications.push(application);
  const { directory } = credentialFlags(pki);
  const credentials = {
    'tls.key': writePem(directory, 'encrypted.key', encryptedKey),
    'tls.keyPassphraseFile': writePem(directory, 'passphrase', PASSPHRASE),
  };
  return startRun(application.url, { 'log.level': 'trace', 'limits.body': '64', ...credentials, ...settings }, pki);
}

/** Requests that go well, and requests that go wrong at every stage. */
async function talk(sidecar: RunningProgram): Promise<void> {
  const body = SECRETS['a body'];
  const send = (path: string) => call(sidecar, { path, headers, body });
  expect((await send(`/im?${query}`)).status).toBe(200);
  expect((await send(`/break?${query}`)).status).toBe(502);
  expect((await send(`/forbidden?${query}`)).status).toBe(403);
  expect((await call(sidecar, { path: `/im?${query}`, headers, body: body.repeat(9) })).status).toBe(413);
  expect((await call(sidecar, { as: null, path: `/im?${query}`, headers, body })).status).toBe(400);
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const broken = `POST /im?${query} HTTP/1.1\r\n${lines.join('')}bad name: ${body}\r\n\r\n${body}`;
  expect(await sendRaw(sidecar, broken)).toMatch(/^HTTP\/1\.1 400/);
  const upgrade = begin(sidecar, {
    path: `/break?${query}`,
    headers: { ...headers, connection: 'upgrade', upgrade: 'x' },
  });
  upgrade.end();
  await new Promise<void>((resolve, reject) => {
    upgrade.on('response', (response) => void readAnswer(response).then(() => resolve(), reject));
    upgrade.on('error', reject);
  });
}

describe('secrets are never printed', () => {
  it.each([
    ['as JSON', {}],
    ['as nginx’s combined lines', { 'log.access': 'combined' }],
    ['for people', { 'log.pretty': 'true' }],
  ])('in anything that a running sidecar says, %s', async (_, settings) => {
    const allow = '[{"commonName":"im.qq.com","paths":["/im","/break"]}]';
    const sidecar = await startTalkative({ 'clientCert.allow': allow, ...settings });
    await talk(sidecar);
    const text = await everythingSaid(sidecar);
    expect(text).toContain('SdkAppid=888888&RequestTime=1629883332&Sign=***&token=***&PASSWORD=***');
    expect(found(text, [encryptedKey, pki.server.keyPem, pki.client.keyPem])).toEqual([]);
  });

  it('when a reload fails over a key', async () => {
    const sidecar = await startTalkative({});
    writePem(sidecar.directory, 'server.pem', issueServer(pki.ca).certPem);
    sidecar.child.kill('SIGHUP');
    await sidecar.said(/"level":"error"/);
    expect(found(await everythingSaid(sidecar), [encryptedKey, pki.server.keyPem])).toEqual([]);
  });

  it.each([
    [
      'a wrong passphrase',
      (directory: string) => ({ 'tls.keyPassphraseFile': writePem(directory, 'p', `${PASSPHRASE}!`) }),
    ],
    [
      'a passphrase file that is a key',
      (directory: string) => ({ 'tls.keyPassphraseFile': `${directory}/server.key` }),
    ],
    ['a passphrase where a file name belongs', () => ({ 'tls.keyPassphraseFile': PASSPHRASE })],
    ['a key where a file name belongs', () => ({ 'tls.key': pki.server.keyPem })],
    ['a key where the certificate belongs', (directory: string) => ({ 'tls.cert': `${directory}/server.key` })],
    ['a key where the CA belongs', (directory: string) => ({ 'clientCert.ca': `${directory}/server.key` })],
    ['a key where the settings belong', (directory: string) => ({ config: `${directory}/server.key` })],
  ])('by run or check, for %s', async (_, mistake) => {
    const { directory, flags } = credentialFlags(pki);
    const encrypted = { 'tls.key': writePem(directory, 'encrypted.key', encryptedKey), 'listen.port': '0' };
    const all = { ...flags, ...encrypted, ...mistake(directory) };
    for (const command of ['run', 'check']) {
      const program = startProgram([command, ...asArguments(all)]);
      expect((await program.ended()).code).toBe(78);
      const text = program.stdout() + program.stderr();
      expect(text).not.toBe('');
      expect(found(text, [encryptedKey, pki.server.keyPem])).toEqual([]);
    }
  });

  it('in what is said of a caller who shows a certificate', async () => {
    const sidecar = await startTalkative({});
    const stranger = issueClient(createAuthority({ subject: [['CN', 'elsewhere']] }));
    expect((await call(sidecar, { as: stranger, path: `/im?${query}`, headers })).status).toBe(400);
    const text = await everythingSaid(sidecar);
    expect(text).toContain('untrusted_issuer');
    expect(found(text, [stranger.keyPem, encryptedKey])).toEqual([]);
  });
});
