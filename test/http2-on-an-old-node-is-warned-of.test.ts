import { describe, expect, it } from 'vitest';
import { http2Caution } from '../src/config/http2-caution.js';
import { startApplication } from './support/application.js';
import { startSidecar } from './support/sidecar.js';
import { configured } from './support/settings.js';

const OLD = '20.20.2';

describe('on an old Node', () => {
  it.each([
    [{ 'listen.http2': 'true' }, 'listen.http2'],
    [{ 'upstream.http2': 'true' }, 'upstream.http2'],
    [{ routes: '[{"path":"/a","upstream":"http://127.0.0.1:1","http2":true}]' }, 'upstream.http2'],
  ])('%j', (flags, setting) => {
    expect(http2Caution(configured(flags as Record<string, string>), OLD)).toMatchObject({ setting });
  });

  it('not without HTTP/2', () => {
    expect(http2Caution(configured(), OLD)).toBeNull();
  });
});

it.each(['22.0.0', '24.21.0', '100.0.0'])('not on Node %s', (node) => {
  expect(http2Caution(configured({ 'listen.http2': 'true', 'upstream.http2': 'true' }), node)).toBeNull();
});

it('in the log, if this is one', async () => {
  const application = await startApplication();
  const sidecar = await startSidecar({ upstream: application.url, settings: { 'listen.http2': 'true' } });
  const said = sidecar.log.some(
    ({ level, msg }) => level === 'warn' && /^listen\.http2 is on: .* end the process/.test(msg),
  );
  expect(said).toBe(process.versions.node.startsWith('20.'));
  await sidecar.stop();
  await application.stop();
});
