import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { request as httpsRequest } from 'node:https';
import { once } from 'node:events';
import type { IncomingMessage } from 'node:http';
import { afterAll, afterEach, describe, expect, it } from 'vitest';
import { CALLBACK } from '../src/commands/demo-callback.js';
import { readAnswer, type Answer } from './support/caller.js';
import { temporaryDirectory } from './support/pki.js';
import { endPrograms, startProgram, type Program } from './support/program.js';
import { readProjectFile } from './support/source-tree.js';

const directory = temporaryDirectory();
afterEach(endPrograms);
afterAll(() => directory.remove());

/** With its own place for temporary files, and settings in the environment that are meant for another sidecar. */
const startDemo = (...argv: string[]): Program =>
  startProgram(['demo', ...argv], { TMPDIR: directory.path, MTLS_SIDECAR_CLIENT_CERT_VERIFY: 'off' });

/** A `curl` command as printed, made into its words. */
interface Curl {
  readonly url: string;
  readonly options: ReadonlyMap<string, string>;
}

function curls(text: string): Curl[] {
  const commands = text.match(/^ {2}curl (?:.*\\\n)*.*$/gm) ?? [];
  return commands.map((command) => {
    const words = [...command.replaceAll('\\\n', ' ').matchAll(/'([^']*)'|([^\s']+)/g)];
    const [, ...rest] = words.map(([, quoted, bare]) => quoted ?? bare ?? '');
    const options = new Map<string, string>();
    for (let word = rest.shift(); word?.startsWith('-') === true; word = rest.shift()) {
      options.set(word, rest.shift() ?? '');
      if (rest.length === 1) return { options, url: rest[0] ?? '' };
    }
    return { options, url: '' };
  });
}

async function runCurl({ url, options }: Curl): Promise<Answer> {
  const file = (option: string): Buffer | undefined => {
    const path = options.get(option)?.replace(/^@/, '');
    return path === undefined ? undefined : readFileSync(path);
  };
  const body = file('--data-binary');
  const [name, value] = options.get('-H')?.split(': ') ?? [];
  const [ca, cert, key] = [file('--cacert'), file('--cert'), file('--key')];
  const outgoing = httpsRequest(url, {
    agent: false,
    method: body === undefined ? 'GET' : 'POST',
    headers: name === undefined ? {} : { [name]: value },
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined || key === undefined ? {} : { cert, key }),
  });
  outgoing.end(body);
  const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
  return readAnswer(response);
}

describe('the demo shows the main job', () => {
  it('lets in the caller with a certificate and names it, refuses the one without, and cleans up', async () => {
    const demo = startDemo('--once');
    expect(await demo.ended()).toEqual({ code: 0, signal: null });
    const [first = '', second = ''] = demo.stdout().split('Somebody else');
    expect(first).toContain('  > POST /im-callback?SdkAppid=888888&CallbackCommand=C2C.Callback');
    expect(first).toContain('  < HTTP/1.1 200 OK\n  < {"ActionStatus":"OK","ErrorInfo":"","ErrorCode":0}\n');
    expect(first).toContain('  + X-SSL-Client-Verify: SUCCESS\n');
    expect(first).toContain('  + X-SSL-Client-S-DN: CN=im.qq.com,O=Tencent,C=CN\n');
    expect(second).toContain('  < HTTP/1.1 400 Bad Request\n  < 400 No required SSL certificate was sent\n');
    expect(second).toContain('What the application sees: nothing.\n');
    expect(demo.stderr()).toBe('');
    expect(readdirSync(directory.path)).toEqual([]);
  });

  it('then serves whoever pastes its curl lines, until Ctrl-C', async () => {
    const demo = startDemo();
    const [, log = ''] = await demo.said(/ {2}(\S+sidecar\.log) .*\n\nCtrl-C ends it/);
    const [forging, callback, anonymous, ...more] = curls(demo.stdout()) as [Curl, Curl, Curl];
    expect(more).toEqual([]);

    const forged = await runCurl(forging);
    expect(forging.options.get('-H')).toBe('X-SSL-Client-CN: somebody-else');
    expect(forged.status).toBe(200);
    expect(forged.body).toContain('\nX-SSL-Client-CN: im.qq.com\n');
    expect(forged.body).not.toContain('somebody-else');
    expect(await runCurl(callback)).toMatchObject({ status: 200, body: CALLBACK.answer });
    expect(await runCurl(anonymous)).toMatchObject({ status: 400 });
    await demo.said(/ 200 {6}CN=im\.qq\.com,O=Tencent,C=CN {2}GET \/hello\n[^]* refused {2}no_certificate\n/);

    const admin = [...demo.stdout().matchAll(/http:\/\/\S+\/(?:readyz|metrics|refusals)/g)].map(([url]) => url);
    expect(await Promise.all(admin.map(async (url) => (await fetch(url)).status))).toEqual([200, 200, 200]);
    expect(readFileSync(log, 'utf8')).toContain('"msg":"listening"');

    demo.child.kill('SIGINT');
    expect(await demo.ended()).toEqual({ code: 0, signal: null });
    expect(existsSync(log)).toBe(false);
    expect(readdirSync(directory.path)).toEqual([]);
  });

  it('keeps its keys to itself, and lives beside another demo', async () => {
    const first = startDemo();
    const [, home = ''] = await first.said(/ {2}(\S+)sidecar\.log /);
    const keys = readdirSync(home).filter((name) => name.endsWith('.key'));
    expect(keys).toEqual(['client.key', 'server.key']);
    expect([home, ...keys.map((name) => home + name)].map((path) => statSync(path).mode & 0o077)).toEqual([0, 0, 0]);

    const second = startDemo('--once');
    expect(await second.ended()).toEqual({ code: 0, signal: null });
    const port = (program: Program): string | undefined => /mtls-sidecar.*\n +127\S+:(\d+)/.exec(program.stdout())?.[1];
    expect(port(second)).toMatch(/^\d+$/);
    expect(port(second)).not.toBe(port(first));
  });

  it('plays a callback as it is documented', () => {
    const documented = JSON.parse(
      readProjectFile('test/fixtures/im-callbacks/C2C.CallbackBeforeSendMsg.json'),
    ) as unknown;
    expect(JSON.parse(CALLBACK.body)).toEqual(documented);
    const manifest = JSON.parse(readProjectFile('test/fixtures/im-callbacks/manifest.json'));
    const { query } = manifest.callbacks.find(
      ({ command }: { command: string }) => command === 'C2C.CallbackBeforeSendMsg',
    );
    expect(Object.fromEntries(new URL(CALLBACK.target, 'https://localhost').searchParams)).toEqual(query);
  });

  it('fits a terminal of 80 columns, but for addresses and file names', async () => {
    const demo = startDemo('--once');
    await demo.ended();
    const wide = demo
      .stdout()
      .split('\n')
      .filter((line) => line.length > 80 && !line.includes(directory.path));
    expect(wide).toEqual([]);
  });
});
