import { constants, randomBytes } from 'node:crypto';
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest';
import { createService, type Membership, type Service } from '../src/app.js';
import { SessionCache } from '../src/listen/resumption.js';
import { loadCredentials } from '../src/trust/credentials.js';
import type { Member } from '../src/workers/member.js';
import { ANSWERS, SESSIONS_AT_ONCE } from '../src/workers/orders.js';
import { bytesOf, SessionNews, spreadSessions } from '../src/workers/session-news.js';
import { issueClient, makePki, temporaryDirectory, writePki } from './support/pki.js';
import { configured } from './support/settings.js';
import { visit } from './support/visit.js';

const pki = makePki();
const MINUTE = 60_000;
/** A caller of TLS 1.2 that knows no tickets. */
const PLAIN = { version: 'TLSv1.2', tls: { secureOptions: constants.SSL_OP_NO_TICKET } } as const;

type Kept = readonly [id: Buffer, session: Buffer];

/** One of two workers, in this process, and the sessions that it tells of. */
async function worker(settings: Readonly<Record<string, string>> = {}) {
  const directory = temporaryDirectory();
  const { cert, key, ca } = writePki(directory.path, pki);
  const files = { 'tls.cert': cert, 'tls.key': key, 'clientCert.ca': ca };
  const config = configured({ ...files, 'listen.host': '127.0.0.1', 'listen.port': '0', ...settings });
  const told: Kept[] = [];
  const shareSession: Membership['shareSession'] = (...session) => told.push(session);
  const membership = { number: 1, of: 2, ticketSecret: randomBytes(32), shareSession };
  const logTo = { write: () => undefined };
  const service = createService(config, loadCredentials(config), { logTo, membership });
  await service.listen();
  onTestFinished(async () => {
    await service.close();
    directory.remove();
  });
  return { service, told, pki, port: service.address.port };
}

/** A session that began in one worker, as the caller and as the other worker have it. */
async function beginning(as = pki.client) {
  const one = await worker();
  const { session } = await visit(one, { ...PLAIN, as });
  const [told] = one.told;
  if (session === undefined || told === undefined) throw new Error('no session');
  return { session, told };
}

const sizeOf = ({ parts }: Service): number => parts.state.trust.memory.sessions.size;

describe('a session of another worker', () => {
  it('is resumed under the same trust, and told to nobody again', async () => {
    const { session, told } = await beginning();
    const other = await worker();
    other.service.learn(...told);
    expect(await visit(other, { ...PLAIN, session })).toMatchObject({ reused: true });
    expect(other.told).toEqual([]);
  });

  it('is not resumed under another', async () => {
    const { session, told } = await beginning();
    const other = await worker({ 'clientCert.depth': '2' });
    other.service.learn(...told);
    expect(await visit(other, { ...PLAIN, session })).toMatchObject({ reused: false });
  });

  it('is not resumed once its caller has expired', async () => {
    const as = issueClient(pki.ca, { notAfter: Date.now() + MINUTE });
    const { session, told } = await beginning(as);
    const other = await worker();
    other.service.learn(...told);
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + 2 * MINUTE });
    onTestFinished(() => void vi.useRealTimers());
    expect(await visit(other, { ...PLAIN, as, session })).toMatchObject({ status: 400, reused: false });
  });

  it('takes up no room when it is none of a verified caller', async () => {
    const { service } = await worker();
    for (const junk of [Buffer.alloc(0), randomBytes(1_000), Buffer.from('3003020101', 'hex')]) {
      service.learn(randomBytes(32), junk);
    }
    expect(sizeOf(service)).toBe(0);
  });

  it('replaces none that began here', () => {
    const id = randomBytes(32);
    const kept = new SessionCache(MINUTE);
    kept.keep(id, Buffer.from('ours'));
    kept.learn(id, Buffer.from('theirs'));
    expect(kept.find(id)?.toString()).toBe('ours');
  });

  it('lives as long as one that began here, and pushes out the oldest alike', () => {
    const kept = new SessionCache(MINUTE, 2);
    for (const number of [1, 2, 3]) kept.learn(Buffer.of(number), Buffer.of(number));
    expect([1, 2, 3].map((number) => kept.find(Buffer.of(number)) !== null)).toEqual([false, true, true]);
  });

  it('arrives as it was sent', async () => {
    const news = new SessionNews();
    const [id, session] = [randomBytes(32), randomBytes(1_001)];
    news.add(id, session);
    const [sent] = await news.next();
    expect([bytesOf(sent?.id ?? ''), bytesOf(sent?.session ?? '')]).toEqual([id, session]);
  });
});

describe('an id that nobody knows', () => {
  it('is looked up here alone, and leaves nothing behind', () => {
    const asked = vi.fn();
    const kept = new SessionCache(MINUTE, 1_000, asked);
    for (let number = 0; number < 10_000; number += 1) expect(kept.find(randomBytes(32))).toBeNull();
    expect(kept.size).toBe(0);
    expect(asked).not.toHaveBeenCalled();
  });
});

describe('what a worker has to tell', () => {
  it('is the latest few while nobody asks', async () => {
    const news = new SessionNews();
    for (let number = 1; number <= 1_000; number += 1) news.add(Buffer.of(number % 256), Buffer.of(0));
    const told = await news.next();
    expect(told).toHaveLength(SESSIONS_AT_ONCE);
    expect(bytesOf(told.at(-1)?.id ?? '')).toEqual(Buffer.of(1_000 % 256));
  });

  it('is never more than the primary takes, whatever a caller made of it', async () => {
    const news = new SessionNews();
    for (const size of [0, 10_241, 10_240]) news.add(randomBytes(32), Buffer.alloc(size));
    for (const size of [0, 33]) news.add(Buffer.alloc(size), randomBytes(100));
    const told = await news.next();
    expect(told.map(({ session }) => bytesOf(session).length)).toEqual([10_240]);
    expect(ANSWERS.sessions(told)).toEqual(told);
  });

  it('is told at once to whoever waits for it, and once', async () => {
    const news = new SessionNews();
    const first = news.next();
    news.add(Buffer.of(1), Buffer.of(0));
    const second = news.next();
    news.add(Buffer.of(2), Buffer.of(0));
    const ids = [...(await first), ...(await second)].map(({ id }) => bytesOf(id)[0]);
    expect(ids).toEqual([1, 2]);
  });
});

describe('the primary', () => {
  const SESSIONS = [{ id: 'AA==', session: 'AA==' }];
  let asked: [member: string, order: string, argument: unknown][];

  beforeEach(() => {
    asked = [];
  });

  function member(name: string, unanswered: number, answers: readonly unknown[] = []): Member & { gone: boolean } {
    const left = [...answers];
    const one = {
      gone: false,
      unanswered,
      ask: (order: string, argument: unknown = null) => {
        asked.push([name, order, argument]);
        if (order === 'learn') return Promise.reject(new Error('does not answer'));
        one.gone = left.length === 0;
        return one.gone ? Promise.reject(new Error('has ended')) : Promise.resolve(left.shift());
      },
    };
    return one as unknown as Member & { gone: boolean };
  }

  it('hands them to all others until the worker has ended, whatever becomes of it there', async () => {
    const [one, two, three] = [member('one', 1, [SESSIONS, [], SESSIONS]), member('two', 1), member('three', 1)];
    await spreadSessions(one, () => [one, two, three]);
    const orders = asked.filter(([, order]) => order === 'learn');
    expect(orders.map(([name]) => name)).toEqual(['two', 'three', 'two', 'three']);
    expect(orders.every(([, , argument]) => argument === SESSIONS)).toBe(true);
  });

  it('hands none to a worker that leaves much unanswered', async () => {
    const [one, hung] = [member('one', 1, [SESSIONS]), member('hung', 8)];
    await spreadSessions(one, () => [one, hung]);
    expect(asked.map(([name]) => name)).not.toContain('hung');
  });

  it('asks one worker not more than fifty times a second', async () => {
    const one = member(
      'one',
      1,
      Array.from({ length: 10 }, () => SESSIONS),
    );
    const began = performance.now();
    await spreadSessions(one, () => [one]);
    // Each pause may be a millisecond short: a timer counts from when its turn of the event loop began.
    expect(performance.now() - began).toBeGreaterThan(10 * 19);
  });
});

describe('without resumption', () => {
  it('nothing is taken in', async () => {
    const { told } = await beginning();
    const { service } = await worker({ 'tls.sessions.resumption': 'false' });
    service.learn(...told);
    expect(sizeOf(service)).toBe(0);
  });
});
