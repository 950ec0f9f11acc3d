import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Permit } from '../src/admit/authorize.js';
import type { AnswerSink, Exchange } from '../src/forward/exchange.js';
import { Upstream } from '../src/forward/upstream.js';
import { startRawApplication, type RawApplication } from './support/application.js';
import { BARE_REQUEST } from './support/forwarded.js';
import { identityOf } from './support/identity.js';
import { configured } from './support/settings.js';

const SILENT: AnswerSink = { information: () => {}, head: () => {}, data: () => true, end: () => {}, fail: () => {} };

const PERMIT = Permit.grant(identityOf({}));
describe('requests that wait for a connection to the application', () => {
  let application: RawApplication;
  let upstream: Upstream;

  beforeEach(async () => {
    application = await startRawApplication(() => {});
    const settings = {
      'upstream.url': application.url,
      'upstream.maxConnections': '1',
      'upstream.connectTimeout': '1m',
    };
    upstream = new Upstream(configured(settings).upstream);
  });

  afterEach(async () => {
    upstream.close();
    await application.stop();
  });

  function send(expectsContinue = false): Exchange {
    return upstream.send(PERMIT, { ...BARE_REQUEST, expectsContinue }, SILENT);
  }

  it.each([false, true])('are forgotten when they are given up (Expect: %s)', (expectsContinue) => {
    const first = send();
    const waiting = Array.from({ length: 20 }, () => send(expectsContinue));
    expect(upstream.numbers()).toMatchObject({ busy: 1, waiting: 20 });
    for (const exchange of waiting) exchange.abort();
    expect(upstream.numbers()).toMatchObject({ busy: 1, waiting: 0 });
    first.abort();
  });

  it('free their connection, however many of them there were', async () => {
    const accepted = new Promise((resolve) => application.server.once('connection', resolve));
    const exchanges = Array.from({ length: 20_000 }, () => send());
    await accepted;
    for (const exchange of exchanges.slice(1)) exchange.abort();
    exchanges[0]?.abort();
    await expect.poll(() => upstream.numbers()).toMatchObject({ busy: 0, waiting: 0 });
  });
});
