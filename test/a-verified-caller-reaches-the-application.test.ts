import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { startApplication, valuesOf, type Application } from './support/application.js';
import { call } from './support/caller.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

describe('a verified caller reaches the application', () => {
  let application: Application;
  let sidecar: Sidecar;

  beforeAll(async () => {
    application = await startApplication();
    sidecar = await startSidecar({ upstream: application.url });
  });

  afterAll(async () => {
    await sidecar.stop();
    await application.stop();
  });

  it('with method, path, query, body and identity', async () => {
    const answer = await call(sidecar, { path: '/im?SdkAppid=1', body: '{"a":1}' });
    expect(answer).toMatchObject({ status: 200, body: 'ok' });
    const seen = application.seen.at(-1);
    expect(seen).toMatchObject({ method: 'POST', url: '/im?SdkAppid=1' });
    expect(seen?.body.toString()).toBe('{"a":1}');
    expect(valuesOf(seen?.rawHeaders ?? [], 'X-SSL-Client-Verify')).toEqual(['SUCCESS']);
    expect(valuesOf(seen?.rawHeaders ?? [], 'X-SSL-Client-S-DN')).toEqual(['CN=im.qq.com,O=Tencent,C=CN']);
    expect(answer.headers['x-request-id']).toBe(valuesOf(seen?.rawHeaders ?? [], 'X-Request-Id')[0]);
  });

  it('while one without a certificate gets nginx’s 400 and is never seen there', async () => {
    const before = application.seen.length;
    const answer = await call(sidecar, { as: null });
    expect(answer.status).toBe(400);
    expect(answer.body).toContain('400 No required SSL certificate was sent');
    expect(application.seen.length).toBe(before);
    expect(await sidecar.logged(({ reason }) => reason === 'no_certificate')).toMatchObject({ level: 'warn' });
    expect(await sidecar.metric('mtls_sidecar_handshakes_total{result="refused",reason="no_certificate"}')).toBe(1);
  });

  it('while one under another CA of the same name gets nginx’s 400', async () => {
    const answer = await call(sidecar, { as: sidecar.pki.stranger.client });
    expect(answer.status).toBe(400);
    expect(answer.body).toContain('400 The SSL certificate error');
  });
});
