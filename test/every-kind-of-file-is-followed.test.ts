import { createPrivateKey, randomBytes } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { makePki, issueServer } from './support/pki.js';
import { endPrograms, programDirectory, startRun, type RunningProgram } from './support/program.js';

const pki = makePki();
/** The same key in another form: it fits, and yet the file has changed. */
const sameKey = createPrivateKey(pki.server.keyPem).export({ type: 'sec1', format: 'pem' }).toString();
const other = issueServer(pki.ca, { keys: pki.server.keys });
const good = pki.ca.crl();
const better = pki.ca.crl({ revoked: [99n] });

let application: Application;
beforeAll(async () => {
  application = await startApplication();
});
afterEach(endPrograms);
afterAll(() => application.stop());

/** What is written into which file: as it was, another good one, a bad one; and what is said of the bad one. */
const KINDS = [
  ['certificate', 'server.pem', pki.server.certPem, other.certPem, 'rubbish', /^tls\.cert: .*server\.pem/],
  ['key', 'server.key', pki.server.keyPem, sameKey, 'rubbish', /^tls\.key: .*server\.key/],
  ['bundle', 'ca.pem', pki.ca.certPem, pki.ca.certPem + pki.stranger.ca.certPem, '', /^clientCert\.ca: .*ca\.pem/],
  ['revocation list', 'list.pem', good, better, good.slice(0, 99), /^clientCert\.crl: .*list\.pem/],
  ['list of a name', 'list.pem', good, better, pki.stranger.ca.crl(), /^clientCert\.crl: .*list\.pem .*CN=TencentQQ/],
  ['ticket key', 'ticket.key', randomBytes(80), randomBytes(48), 'short', /^tls\.sessions\.ticketKeys: .*ticket\.key/],
  [
    'allow list',
    'sidecar.yaml',
    yaml('im.qq.com'),
    yaml('a'),
    'clientCert: {allow: [{cn: a}]}',
    /^clientCert\.allow \(/,
  ],
  ['log level', 'sidecar.yaml', yaml('im.qq.com'), yaml('im.qq.com', 'debug'), 'log: {level: loud}', /^log\.level \(/],
] as const;

function yaml(name: string, level = 'info'): string {
  return `clientCert: {crl: list.pem, allow: [{commonName: ${name}}]}\nlog: {level: ${level}}\n`;
}

/** How a change comes to be noticed. */
const WAYS = {
  'by looking': () => Promise.resolve(),
  'on SIGHUP': (sidecar: RunningProgram) => Promise.resolve(void sidecar.child.kill('SIGHUP')),
  'on POST /reload': (sidecar: RunningProgram) => sidecar.admin('/reload', 'POST').then(() => undefined),
};

it.each(Object.entries(WAYS))('%s: to good, to bad, and back', async (way, notice) => {
  const directory = programDirectory();
  for (const [, name, first] of KINDS) writeFileSync(join(directory, name), first);
  const sidecar = await startRun(
    application.url,
    {
      config: join(directory, 'sidecar.yaml'),
      'tls.cert': join(directory, 'server.pem'),
      'tls.key': join(directory, 'server.key'),
      'clientCert.ca': join(directory, 'ca.pem'),
      'tls.sessions.ticketKeys': join(directory, 'ticket.key'),
      'reload.interval': way === 'by looking' ? '100ms' : '1h',
    },
    pki,
  );
  const lines = (message: string): string[] =>
    sidecar
      .stdout()
      .split('\n')
      .filter((line) => line.includes(message));
  /** Writes, and resolves with the line that comes of it. */
  const change = async (name: string, content: string | Buffer, message: string): Promise<string> => {
    const before = lines(message).length;
    writeFileSync(join(directory, name), content);
    await notice(sidecar);
    await sidecar.said(new RegExp(`(?:${message}[^]*){${before + 1}}`));
    return lines(message).at(-1) ?? '';
  };
  for (const [kind, name, first, second, bad, complaint] of KINDS) {
    await change(name, second, '"msg":"reloaded"');
    const line = JSON.parse(await change(name, bad, '"msg":"reload refused')) as { detail: string };
    expect(line.detail, kind).toMatch(complaint);
    await change(name, first, '"msg":"reloaded"');
  }
});
