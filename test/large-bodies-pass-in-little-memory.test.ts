import { spawn, type ChildProcess } from 'node:child_process';
import { createHash, type Hash } from 'node:crypto';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import { request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { makePki, temporaryDirectory, writePki } from './support/pki.js';
import { repeat } from './support/repeat.js';
import { ROOT } from './support/source-tree.js';

const MIB = 1_048_576;
const SIZE = 100 * MIB;
const PROGRAM = join(ROOT, 'dist', 'main.js');

/** 100 MiB whose every block differs, made as it is read, hashed on the way. */
function pattern(hash: Hash): Readable {
  let sent = 0;
  return new Readable({
    highWaterMark: 65_536,
    read() {
      if (sent === SIZE) return void this.push(null);
      const block = Buffer.alloc(65_536, (sent / 65_536) % 251);
      block.writeUInt32BE(sent, 0);
      sent += block.length;
      hash.update(block);
      this.push(block);
    },
  });
}

// What counts is the memory of the sidecar alone, so it has to be a process of its own: the built program.
describe.runIf(existsSync(PROGRAM) && existsSync('/proc/self/status'))('100 MiB', () => {
  const pki = makePki();
  const directory = temporaryDirectory();
  let application: Server;
  let sidecar: ChildProcess;
  let port: number;
  let answer: (request: IncomingMessage, response: ServerResponse) => void;

  beforeAll(async () => {
    application = createServer((request, response) => answer(request, response));
    application.listen(0, '127.0.0.1');
    await once(application, 'listening');
    const paths = writePki(directory.path, pki);
    const { port: upstream } = application.address() as AddressInfo;
    const settings = {
      'listen.host': '127.0.0.1',
      'listen.port': '0',
      'admin.port': 'off',
      'tls.cert': paths.cert,
      'tls.key': paths.key,
      'clientCert.ca': paths.ca,
      'upstream.url': `http://127.0.0.1:${upstream}`,
      'limits.body': '0',
    };
    const flags = Object.entries(settings).flatMap(([name, value]) => [`--${name}`, value]);
    sidecar = spawn(process.execPath, [PROGRAM, 'run', ...flags], { stdio: ['ignore', 'pipe', 'inherit'] });
    port = await listeningPort(sidecar);
    // The first requests pay for code and buffers that are there for good.
    answer = (request, response) => request.pipe(response);
    for (let count = 0; count < 20; count += 1) await send({ method: 'POST' }, Readable.from([Buffer.alloc(MIB)]));
    // So does the garbage that a long body leaves between two collections, which is the same for any length: 1 MiB of a
    // body that goes up, and on Node 24 up to 31 MiB of one that goes down in chunks, since TLS joins size, data and end
    // of each chunk in memory of its own.
    answer = (request, response) => request.on('end', () => response.end()).resume();
    for (let count = 0; count < 3; count += 1) await send({ method: 'POST' }, pattern(createHash('sha256')));
    answer = (_request, response) => pattern(createHash('sha256')).pipe(response);
    for (let count = 0; count < 3; count += 1) await send({ method: 'GET' }, Readable.from([]));
  });

  afterAll(async () => {
    sidecar.kill('SIGKILL');
    application.closeAllConnections();
    application.close();
    directory.remove();
    await once(sidecar, 'close');
  });

  async function listeningPort(child: ChildProcess): Promise<number> {
    for await (const chunk of child.stdout as Readable) {
      const found = /"port":(\d+).*"msg":"listening"/.exec(String(chunk));
      child.stdout?.resume();
      if (found !== null) return Number(found[1]);
    }
    throw new Error('the sidecar did not start');
  }

  function begin(options: { method: string }) {
    const { ca, client } = pki;
    const tls = { ca: ca.certPem, cert: client.certPem, key: client.keyPem, servername: 'localhost' };
    return httpsRequest({ host: '127.0.0.1', port, path: '/', agent: false, ...tls, ...options });
  }

  async function send(options: { method: string }, body: Readable): Promise<{ sha256: string; bytes: number }> {
    const outgoing = begin(options);
    body.pipe(outgoing);
    const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
    const hash = createHash('sha256');
    let bytes = 0;
    for await (const chunk of response) {
      hash.update(chunk as Buffer);
      bytes += (chunk as Buffer).length;
    }
    return { sha256: hash.digest('hex'), bytes };
  }

  /** Resident memory of the sidecar. MiB. */
  function memory(): number {
    const status = readFileSync(`/proc/${sidecar.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1]) / 1024;
  }

  /** Runs `work` and tells by how many MiB the sidecar was larger than before, at most. */
  async function growthDuring(work: () => Promise<void>): Promise<number> {
    const before = memory();
    let most = before;
    const stop = repeat(20, () => (most = Math.max(most, memory())));
    await work();
    stop();
    return most - before;
  }

  it('up arrive unchanged', { timeout: 60_000 }, async () => {
    const [sent, got] = [createHash('sha256'), createHash('sha256')];
    answer = (request, response) => {
      request.on('data', (chunk: Buffer) => got.update(chunk));
      request.on('end', () => response.end());
    };
    const growth = await growthDuring(async () => void (await send({ method: 'POST' }, pattern(sent))));
    expect(got.digest('hex')).toBe(sent.digest('hex'));
    expect(growth).toBeLessThan(30);
  });

  it.each(['with a length', 'in chunks'])('down arrive unchanged %s', { timeout: 60_000 }, async (how) => {
    const sent = createHash('sha256');
    answer = (_request, response) => {
      if (how === 'with a length') response.setHeader('content-length', SIZE);
      pattern(sent).pipe(response);
    };
    let got = { sha256: '', bytes: 0 };
    const growth = await growthDuring(async () => void (got = await send({ method: 'GET' }, Readable.from([]))));
    expect(got).toEqual({ sha256: sent.digest('hex'), bytes: SIZE });
    expect(growth).toBeLessThan(30);
  });

  it('to a caller that does not read stay at the application', { timeout: 60_000 }, async () => {
    let produced = 0;
    answer = (_request, response) => {
      const source = pattern(createHash('sha256'));
      source.on('data', (chunk: Buffer) => (produced += chunk.length));
      source.pipe(response);
    };
    const growth = await growthDuring(async () => {
      const outgoing = begin({ method: 'GET' });
      outgoing.end();
      const [response] = (await once(outgoing, 'response')) as [IncomingMessage];
      response.on('error', () => undefined);
      for (let before = -1; before !== produced; await sleep(300)) before = produced;
      outgoing.destroy();
    });
    expect(produced).toBeLessThan(SIZE / 2);
    expect(growth).toBeLessThan(30);
  });

  it('to an application that does not read stay at the caller', { timeout: 60_000 }, async () => {
    let produced = 0;
    answer = (request) => void request.pause();
    const growth = await growthDuring(async () => {
      const outgoing = begin({ method: 'POST' });
      outgoing.on('error', () => undefined);
      const source = pattern(createHash('sha256'));
      source.on('data', (chunk: Buffer) => (produced += chunk.length));
      source.pipe(outgoing);
      for (let before = -1; before !== produced || produced === 0; await sleep(300)) before = produced;
      outgoing.destroy();
    });
    expect(produced).toBeLessThan(SIZE / 2);
    expect(growth).toBeLessThan(30);
  });
});
