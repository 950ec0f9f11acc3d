import { X509Certificate } from 'node:crypto';
import { writeFileSync } from 'node:fs';
import { Agent } from 'node:https';
import { createSecureContext } from 'node:tls';
import { queryObjects } from 'node:v8';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { createAuthority, issueServer, type Issued } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const RELOADS = 500;
const CONNECTIONS = 50;
const CONTEXT = createSecureContext().constructor as new () => object;
const COUNT = { format: 'count' } as const;

describe('500 reloads in a row under load', () => {
  let application: Application;
  let sidecar: Sidecar;
  let servers: Issued[];
  let bundles: string[];

  beforeAll(async () => {
    application = await startApplication();
    sidecar = await startSidecar({ upstream: application.url, settings: { 'reload.interval': '1h' } });
    const { ca } = sidecar.pki;
    servers = [issueServer(ca), issueServer(ca)];
    bundles = [ca.certPem, ca.certPem + createAuthority({ subject: [['CN', 'Another CA']] }).certPem];
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  /** Every second reload changes the server certificate alone, the others what callers are verified against as well. */
  async function reload(round: number): Promise<void> {
    const server = servers[round % 2];
    writeFileSync(sidecar.paths.cert, server?.certPem ?? '');
    writeFileSync(sidecar.paths.key, server?.keyPem ?? '');
    writeFileSync(sidecar.paths.ca, bundles[Math.floor(round / 2) % 2] ?? '');
    expect((await sidecar.app.reload()).result).toBe('applied');
    await new Promise((resolve) => setImmediate(resolve));
  }

  it('fail no request and refuse no honest handshake', async () => {
    let done = false;
    const statuses = new Map<number, number>();
    const agent = new Agent({ keepAlive: true, maxSockets: CONNECTIONS });
    const kept = Array.from({ length: CONNECTIONS }, () => keepCalling({ agent }));
    const churned = Array.from({ length: 5 }, () => keepCalling({ agent: false }));

    async function keepCalling(options: { readonly agent: Agent | false }): Promise<void> {
      while (!done) {
        const { status } = await call(sidecar, options);
        statuses.set(status, (statuses.get(status) ?? 0) + 1);
      }
    }

    for (let round = 0; round < RELOADS; round += 1) await reload(round);
    done = true;
    await Promise.all([...kept, ...churned]);
    agent.destroy();
    expect([...statuses.keys()]).toEqual([200]);
    expect(statuses.get(200)).toBeGreaterThan(RELOADS);
    expect(sidecar.refusals()).toEqual([]);
    expect(sidecar.requests().every(({ outcome }) => outcome === 'ok')).toBe(true);
  }, 120_000);

  it('leave nothing of what they replaced behind', async () => {
    const agent = new Agent({ keepAlive: true, maxSockets: 4 });
    const held = async (reloads: number): Promise<number> => {
      for (let round = 0; round < reloads; round += 1) {
        await Promise.all(Array.from({ length: 4 }, () => call(sidecar, { agent })));
        await reload(round);
      }
      // Collects garbage first. Contexts of OpenSSL, with the keys and bundles in them, and certificates.
      return queryObjects(CONTEXT, COUNT) + queryObjects(X509Certificate, COUNT);
    };
    const before = await held(20);
    const after = await held(100);
    agent.destroy();
    expect(after - before).toBeLessThan(20);
  }, 120_000);
});
