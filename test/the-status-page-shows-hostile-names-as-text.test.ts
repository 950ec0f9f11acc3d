import { createHash } from 'node:crypto';
import type { Browser } from 'playwright-core';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { createAdminServer, type AdminServer, type AdminSource } from '../src/admin/admin-server.js';
import { STATUS_PAGE, STATUS_PAGE_HEADERS } from '../src/admin/status-page.js';
import { startApplication } from './support/application.js';
import { CHROMIUM, launch, visit } from './support/browser.js';
import { call } from './support/caller.js';
import { issueClient, makePki } from './support/pki.js';
import { startSidecar } from './support/sidecar.js';

const HOSTILE = [
  '<img src=x onerror="pwned=1">',
  '"><script>pwned=1</script>',
  "' onmouseover='pwned=1",
  '</script></style><svg onload=pwned=1>',
  'javascript:pwned=1',
  '&lt;b&gt;',
  '${pwned=1}{{pwned=1}}',
  'moc.live\u202Eknab.example\u2066',
  'zero\u200Bwidth\u0000\u001B[31m',
  `CN=${'x'.repeat(300)}`,
];

/** Invisible and turning characters as their code points. */
const spelled = (text: string): string =>
  text.replace(/[\p{Cc}\p{Cf}]/gu, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`);

const NOW = Date.parse('2026-06-01T12:00:00Z');
const iso = (days: number): string => new Date(NOW + days * 86_400_000).toISOString();

/** A status that says one text wherever a text can stand. */
function statusOf(text: string): Readonly<Record<string, unknown>> {
  const validity = { notBefore: iso(-300), notAfter: iso(20) };
  const counts = { openConnections: 1, connections: 2, requests: 3, lastUsed: iso(0) };
  const interval = { at: iso(0), seconds: 10, refusedRequests: 0, serverErrors: 1, refusedConnections: 2 };
  return {
    version: text,
    phase: 'ready',
    now: iso(0),
    startedAt: iso(-1),
    listen: { host: text, port: 8443 },
    admin: { host: text, port: 8081 },
    workers: [{ worker: 1, pid: 2, state: text, since: iso(0) }],
    connections: 1,
    tunnels: 0,
    upstream: { url: text, reached: false, open: 1, busy: 0, waiting: 0 },
    clientCert: { verify: text, allowRules: 1 },
    routes: [{ name: text, verify: text, allowRules: 2, upstream: text }],
    reloads: [{ at: iso(0), result: text, message: text }],
    serverCertificates: [{ subject: text, subjectAltName: text, ...validity }],
    cas: [{ file: text, label: text, subject: text, sha256: 'aa', ...validity, callers: counts }],
    otherCallers: counts,
    crls: [{ file: text, issuer: text, thisUpdate: iso(-1), nextUpdate: iso(2) }],
    callers: [
      { subject: text, lastSeen: iso(0), address: text, anchorSha256: 'aa', verified: false, ...validity, ...counts },
    ],
    recent: [
      { ...interval, requests: 0, p50Ms: null, p99Ms: null },
      { ...interval, requests: 40, p50Ms: 1, p99Ms: 9 },
    ],
  };
}

function refusalsOf(text: string): readonly unknown[] {
  const common = { time: iso(0), detail: text, subject: text, peer: text };
  return [
    { kind: 'connection', reason: text, ...common },
    { kind: 'request', code: text, method: text, path: text, ...common },
  ];
}

let admin: AdminServer | null = null;

afterEach(async () => {
  await admin?.close();
  admin = null;
});

/** The admin listener alone, with something to tell. */
async function serve(text: string, more: Partial<AdminSource> = {}): Promise<string> {
  admin = createAdminServer({
    host: '127.0.0.1',
    port: 0,
    report: () => undefined,
    source: {
      ready: () => Promise.resolve({ ready: true, reason: '' }),
      metrics: () => Promise.resolve(''),
      refusals: () => refusalsOf(text),
      status: () => statusOf(text),
      drain: () => undefined,
      reload: () => null,
      ...more,
    },
  });
  const { port } = await admin.listen();
  return `http://127.0.0.1:${port}/`;
}

const between = (begin: string, end: string): string =>
  STATUS_PAGE.slice(STATUS_PAGE.indexOf(begin) + begin.length, STATUS_PAGE.indexOf(end));

describe('the page', () => {
  it('comes with a policy that lets only its own script and style run', async () => {
    const response = await fetch(await serve(''));
    expect(response.status).toBe(200);
    expect(response.headers.get('content-type')).toBe('text/html; charset=utf-8');
    expect(response.headers.get('x-content-type-options')).toBe('nosniff');
    const policy = response.headers.get('content-security-policy') ?? '';
    expect(policy).toBe(STATUS_PAGE_HEADERS['Content-Security-Policy']);
    expect(policy).not.toMatch(/unsafe|\*|https?:/);
    for (const [name, text] of [
      ['script', between('<script>', '</script>')],
      ['style', between('<style>', '</style>')],
    ] as const) {
      expect(policy).toContain(`${name}-src 'sha256-${createHash('sha256').update(text).digest('base64')}'`);
    }
    expect(policy).toContain("default-src 'none'");
    expect(policy).toContain("frame-ancestors 'none'");
  });

  it('is the same for everybody, and holds no asset, no handler and no way from text to markup', async () => {
    expect(await (await fetch(await serve('<img src=x>'))).text()).toBe(STATUS_PAGE);
    expect(STATUS_PAGE.match(/<\/?script/g)).toHaveLength(2);
    expect(STATUS_PAGE).not.toMatch(/<[a-z]+[^>]* (?:on\w+|style)=/);
    expect(STATUS_PAGE).not.toMatch(/(?:src|href)="?(?:https?:|\/)/);
    expect(between('<script>', '</script>')).not.toMatch(
      /innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function|DOMParser|setHTML|\.href|\.src\b/,
    );
  });
});

describe.skipIf(CHROMIUM === null)('in a browser (skipped where no Chromium is installed)', () => {
  let browser: Browser;

  beforeAll(async () => {
    browser = await launch();
  });

  afterAll(() => browser.close());

  it('shows every text as text, everywhere', async () => {
    const url = await serve(HOSTILE.join(' '));
    const { page, complaints, asked } = await visit(browser, url);
    await page.locator('#callers tbody tr').waitFor();
    for (const place of ['#callers', '#routes', '#refusals', '#reloads', '#endings', '#listening', '#about']) {
      const shown = await page.locator(place).textContent();
      for (const text of HOSTILE) expect(shown, place).toContain(spelled(text));
    }
    expect(await page.evaluate('typeof pwned')).toBe('undefined');
    expect(await page.evaluate('document.querySelectorAll("img, b, a:not(footer a), script").length')).toBe(1);
    expect(complaints).toEqual([]);
    expect(new Set(asked)).toEqual(new Set([url, `${url}status`, `${url}refusals`, `${url}readyz`]));
    await page.context().close();
  });

  it('would not run markup if some got in', async () => {
    const { page, complaints } = await visit(browser, await serve(''));
    await expect(page.evaluate('document.body.innerHTML = "<b>"')).rejects.toThrow(/TrustedHTML/);
    await page.evaluate(
      `document.body.append(Object.assign(document.createElement('img'), { src: 'https://example.invalid/x' }))`,
    );
    await expect.poll(() => complaints.join()).toMatch(/Content Security Policy/);
    await page.context().close();
  });

  it.each([
    [390, false],
    [390, true],
    [1280, false],
    [1280, true],
  ])('fits %i pixels (dark: %s) whatever the names', async (width, dark) => {
    const { page } = await visit(browser, await serve('x'.repeat(600)), { width, dark });
    await page.locator('#callers tbody tr').waitFor();
    expect(await page.evaluate('document.documentElement.scrollWidth')).toBeLessThanOrEqual(width);
    const [red = 0, green = 0] = (
      String(await page.evaluate('getComputedStyle(document.body).backgroundColor')).match(/\d+/g) ?? []
    ).map(Number);
    expect(red + green < 200).toBe(dark);
    await page.context().close();
  });

  it('draws bars, charts and phases', async () => {
    const { page } = await visit(browser, await serve('name'));
    await expect.poll(() => page.locator('#phase').textContent()).toBe('ready');
    expect(await page.locator('#endings .bar').count()).toBe(3);
    expect(await page.locator('#endings li').nth(1).textContent()).toContain('20 days left');
    expect(await page.locator('#endings li').nth(1).textContent()).toContain(
      '2 connections (1 open), 3 requests, last used now',
    );
    const width = String(await page.evaluate('document.querySelector("#endings .bar").style.width'));
    expect(parseFloat(width)).toBeCloseTo((100 * 20) / 320, 1);
    const charts = page.locator('#charts svg');
    expect(await charts.nth(0).getAttribute('aria-label')).toBe('Requests, at most 4/s');
    expect(await charts.nth(1).getAttribute('aria-label')).toBe('Latency, at most 9 ms');
    expect(await charts.nth(2).getAttribute('aria-label')).toBe('Refusals, at most 2');
    await page.context().close();
  });

  it('shows where requests go, and whom each route asks for what', async () => {
    const routes = [
      { name: '/healthz', verify: 'off', allowRules: 0, upstream: 'return 200' },
      { name: 'b.example/im/*', verify: 'optional', allowRules: 2, upstream: 'http://127.0.0.1:9000' },
    ];
    const clientCert = { verify: 'required', allowRules: 0 };
    const url = await serve('x', { status: () => ({ ...statusOf('x'), clientCert, routes }) });
    const { page } = await visit(browser, url);
    await page.locator('#routes tbody tr').first().waitFor();
    const rows = await page.locator('#routes tbody tr').allInnerTexts();
    expect(rows.map((row) => row.split('\t').map((text) => text.trim()))).toEqual([
      ['/healthz', 'exact', 'off: everybody', 'return 200'],
      ['b.example/im/*', 'prefix', 'optional, 2 allow rules', 'http://127.0.0.1:9000'],
      ['everything else', '', 'required, every certificate under the CA', 'x'],
    ]);
    await page.context().close();
  });

  it('says that the application is away, and that nobody answers any more', { timeout: 30_000 }, async () => {
    const url = await serve('', { ready: () => Promise.resolve({ ready: false, reason: 'the application is away' }) });
    const { page } = await visit(browser, url);
    await expect.poll(() => page.locator('#phase').textContent()).toBe('not ready: the application is away');
    await admin?.close();
    await page.evaluate('document.dispatchEvent(new Event("visibilitychange"))');
    await expect.poll(() => page.locator('#phase').textContent()).toMatch(/^no answer/);
    await page.context().close();
  });

  it('shows who called a running sidecar and who was refused', async () => {
    const pki = makePki();
    const subject = [['CN', HOSTILE[0]]] as [string, string][];
    const client = issueClient(pki.ca, { subject });
    const stranger = issueClient(pki.stranger.ca, { subject: [['CN', `${HOSTILE[1]} stranger`]] });
    const application = await startApplication();
    const sidecar = await startSidecar({ pki, upstream: application.url });
    await call(sidecar, { as: client, path: '/one' });
    await call(sidecar, { as: stranger });
    const { page, complaints } = await visit(browser, `http://127.0.0.1:${sidecar.adminPort}/`);
    await expect.poll(() => page.locator('#phase').textContent()).toBe('ready');
    expect(await page.locator('#callers tbody tr').count()).toBe(1);
    expect(await page.locator('#callers .value').first().textContent()).toBe(
      `CN=\\<img src=x onerror=\\"pwned=1\\"\\>`,
    );
    expect(await page.locator('#refusals tbody tr').textContent()).toContain('untrusted_issuer');
    expect(await page.locator('#refusals tbody tr').textContent()).toContain('stranger');
    expect(await page.evaluate('typeof pwned')).toBe('undefined');
    expect(complaints).toEqual([]);
    await page.context().close();
    await sidecar.stop();
    await application.stop();
  });
});
