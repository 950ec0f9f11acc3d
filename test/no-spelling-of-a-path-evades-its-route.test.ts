import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { compileRoutes, type RoutePattern } from '../src/admit/routes.js';
import { startApplication, type Application } from './support/application.js';
import { openRaw } from './support/caller.js';
import { generateKeys, issueClient, makePki } from './support/pki.js';
import { startSidecar, type Sidecar } from './support/sidecar.js';

const pki = makePki();
const admin = issueClient(pki.ca, { keys: generateKeys(), subject: [['CN', 'admin']] });

let application: Application;
let sidecar: Sidecar;

const ROUTES = `
routes:
  - {path: /healthz, verify: off}
  - {path: /public/*, verify: off}
  - {path: /admin/*, allow: [{commonName: admin}]}
  - {path: /metrics, allow: [{commonName: admin}]}
  - {path: /manage*, allow: [{commonName: admin}]}
`;

beforeAll(async () => {
  application = await startApplication();
  sidecar = await startSidecar({ pki, upstream: application.url, yaml: ROUTES });
});

afterAll(async () => {
  await sidecar.stop();
  await application.stop();
});

async function ask(target: string, as: Parameters<typeof openRaw>[1], host = 'Host: localhost\r\n', version = '1.1') {
  const caller = await openRaw(sidecar, as);
  caller.socket.write(`GET ${target} HTTP/${version}\r\n${host}Connection: close\r\n\r\n`, 'latin1');
  return Number((await caller.closed()).slice(9, 12));
}

/** What applications of some kind take for a path below /admin. */
const ADMIN = [
  ...['/admin/x', '/admin', '/admin/', '/admin?x', '//admin/x', '/./admin/x', '/x/../admin/x', '/admin//x'],
  ...[
    '/%61dmin/x',
    '/%61%64min',
    '/ADMIN/x',
    '/Admin',
    '/aDMIN/',
    '/admin;x',
    '/admin;x=1/y',
    '/admin%2fx',
    '/%2fadmin/x',
  ],
  ...['/admin%3bx', '/.%2fadmin', '/%2e/admin', '/healthz/../admin', '/healthz/..%2fadmin', '/public/../admin/x'],
  ...[
    '/public/%2e%2e/admin/x',
    '/public/..;/admin/x',
    '/public/..%5cadmin',
    '/public\\..\\admin',
    '/admin%00',
    '/admin%20/x',
  ],
  ...[
    '/admin./x',
    '/%ef%bd%81dmin/x',
    '/%EF%BC%8Fadmin',
    '/admin%c0%af',
    'https://localhost/admin/x',
    'HTTPS://localhost//admin',
  ],
  ...['/metrics', '/metrics/', '/METRICS', '/metrics?a=/healthz', '/%6detrics', '/metrics.', '/metrics%2f'],
  ...['/manage', '/manager.php', '/MANAGE/x', '/%4Danager'],
];

describe('a caller who may not', () => {
  it.each(ADMIN)('is refused %s', async (target) => {
    const before = application.seen.length;
    expect([400, 403]).toContain(await ask(target, {}));
    expect(application.seen.length).toBe(before);
  });
});

describe('a stranger', () => {
  it.each([
    ...ADMIN,
    ...['/', '/im', '/healthz/', '/HEALTHZ', '/%68ealthz', '/healthz%2f', '/healthz/x', '/healthzz', '/x/../healthz'],
    ...[
      '//healthz',
      '/healthz;x',
      '/public;/x',
      '/publicx',
      '/PUBLIC/x',
      '/public/..',
      '/public/%2e%2e/x',
      '/public/a%2f..%2fb',
    ],
    'https://localhost/im',
    '*',
  ])('is refused %s', async (target) => {
    const before = application.seen.length;
    expect(await ask(target, { as: null })).toBe(400);
    expect(application.seen.length).toBe(before);
  });

  it.each([
    '/healthz',
    '/healthz?a=%2f..',
    '/public/a',
    '/public/a/b',
    '/public/%E4%BD%A0',
    '/public',
    '/public/A',
    'https://localhost/healthz',
  ])('gets %s', async (target) => expect(await ask(target, { as: null })).toBe(200));

  it.each(['', 'Host: \r\n', 'Host: a\r\nHost: b\r\n', 'Host: a/b\r\n'])('gets nothing with %j', async (host) => {
    expect(await ask('/healthz', { as: null }, host)).toBe(400);
    expect(await ask('/healthz', { as: null }, host, '1.0')).toBe(400);
  });
});

describe('whoever satisfies every route', () => {
  it.each(ADMIN.filter((target) => !/[%\\]00|\\/.test(target)))('may ask for %s', async (target) => {
    expect(await ask(target, { as: admin })).toBe(200);
    // As it was written: nothing is tidied up on the way.
    expect(application.seen.at(-1)?.url).toBe(target.replace(/^https:\/\/localhost/i, ''));
  });

  it.each(['/a%2Fb', '/a//b', '/a;b', '/a/%2e%2e/', '/A', '/caf%C3%A9'])(
    'and others may ask for %s if they are let in by all',
    async (target) => {
      const app = await startSidecar({
        pki,
        upstream: application.url,
        yaml: 'routes: [{path: /healthz, verify: off}]',
      });
      const caller = await openRaw(app);
      caller.socket.write(`GET ${target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      expect((await caller.closed()).slice(9, 12)).toBe('200');
      await app.stop();
    },
  );
});

it('another spelling gets no larger body through, and no header that its route keeps out or sets', async () => {
  const strict = await startSidecar({
    pki,
    upstream: application.url,
    yaml: `routes:
  - {path: /api/*, body: 1KiB, headers: {X-Internal: none}}
  - {path: /role, headers: {X-Role: "text:admin"}, upstream: "${application.url.replace('127.0.0.1', 'localhost')}"}`,
  });
  const ends = 'Host: localhost\r\nConnection: close\r\n';
  const send = async (target: string, more: string): Promise<string> => {
    const caller = await openRaw(strict, {});
    caller.socket.write(`POST ${target} HTTP/1.1\r\n${ends}${more}`);
    return (await caller.closed()).slice(9, 12);
  };
  const seenNames = () => application.seen.at(-1)?.rawHeaders.map((text) => text.toLowerCase()) ?? [];
  try {
    for (const target of ['/api/x', '/API/x', '//api/x', '/%61pi/x', '/x/../api/x']) {
      const body = 'a'.repeat(2000);
      expect(await send(target, `Content-Length: 2000\r\n\r\n${body}`)).toBe('413');
      expect(await send(target, `Transfer-Encoding: chunked\r\n\r\n7d0\r\n${body}\r\n0\r\n\r\n`)).toBe('413');
      expect(await send(target, 'X-Internal: yes\r\nContent-Length: 0\r\n\r\n')).toBe('200');
      expect(seenNames()).not.toContain('x-internal');
      const trailers = 'Trailer: X-Internal, X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n';
      expect(await send(target, `${trailers}X-Internal: yes\r\nX-Sum: 1\r\n\r\n`)).toBe('200');
      expect(application.seen.at(-1)?.rawTrailers).toEqual(['X-Sum', '1']);
    }
    expect(await send('/other', 'X-Internal: yes\r\nX-Role: admin\r\nContent-Length: 0\r\n\r\n')).toBe('200');
    expect(seenNames()).toContain('x-internal');
    // The same application by another name of this machine.
    expect(seenNames()).not.toContain('x-role');
  } finally {
    await strict.stop();
  }
});

it('a path is held to each reading, not only to that of an application careless in every way', () => {
  const choose = compileRoutes([
    { path: '/admin/login', hosts: [] },
    { path: '/admin/*', hosts: [] },
  ]);
  for (const path of ['/ADMIN/LOGIN/', '/%41dmin/login/', '/Admin/login.', '/admin/%EF%BD%8Cogin', '/ADMIN/%6Cogin/']) {
    expect(choose('localhost', path).held).toEqual(expect.arrayContaining([1, 2]));
  }
  expect(choose('localhost', '/Admin').held).toEqual([0, 2]);
});

describe('routes are chosen', () => {
  const pattern = (path: string, ...hosts: string[]): RoutePattern => ({ path, hosts });
  const patterns = [
    pattern('/a/*'),
    pattern('/a/b/*'),
    pattern('/a/b'),
    pattern('/a*'),
    pattern('/*', 'b.example'),
    pattern('/a/*', 'b.example', 'c.example'),
    pattern('/A/x'),
  ];
  const choose = compileRoutes(patterns);

  it.each([
    ['localhost', '/', [0]],
    ['localhost', '*', [0]],
    // `/a*` says all of it; `/a/` may be read as `/a`.
    ['localhost', '/a', [4]],
    ['localhost', '/a/', [1, 4]],
    ['localhost', '/a/c', [1]],
    ['localhost', '/a/b', [3]],
    ['localhost', '/a/b/c', [2]],
    ['localhost', '/ab', [4]],
    ['localhost', '/a/b?c', [3]],
    ['localhost', '/a/b/', [2, 3]],
    ['localhost', '/A/x', [7]],
    ['localhost', '/a/x', [1, 7]],
    ['localhost', '/A/y', [0, 1]],
    ['localhost', '/%61/y', [0, 1]],
    ['b.example', '/', [5]],
    ['B.EXAMPLE:8443', '/x', [5]],
    ['b.example.', '/x', [5]],
    ['b.example', '/a/y', [6]],
    ['c.example', '/a/y', [6]],
    ['c.example', '/a/x', [6, 7]],
    ['c.example', '/x', [0]],
    ['c.example', '/ab', [4]],
    ['b.example', '/ab', [5, 4]],
    ['b.example', '/a/b', [6, 3]],
    ['b.example', '/a/b/c', [6, 2]],
    ['b.example', '*', [5]],
    ['b.example..', '/', [0, 1, 2, 3, 4, 5, 6, 7]],
    ['b%2eexample', '/', [0, 1, 2, 3, 4, 5, 6, 7]],
    ['b.example', '/a//x', [5, 0, 1, 2, 3, 4, 6, 7]],
  ])('%s %s', (host, target, [route, ...others]) => {
    const choice = choose(host, target);
    expect(choice.route).toBe(route);
    expect([...choice.held].sort((a, b) => a - b)).toEqual([route, ...others].sort((a, b) => Number(a) - Number(b)));
  });
});

it('/a* has /a itself, although /a/* is longer', () => {
  const choose = compileRoutes(['/a/*', '/a*', '/*'].map((path) => ({ path, hosts: path === '/*' ? ['x'] : [] })));
  expect(choose('localhost', '/a')).toEqual({ route: 2, held: [2] });
  expect(choose('localhost', '/a/x')).toEqual({ route: 1, held: [1] });
  expect(choose('localhost', '/ab')).toEqual({ route: 2, held: [2] });
});

describe('of hosts', () => {
  const choose = compileRoutes([
    { path: '/*', hosts: ['*.w.example'] },
    { path: '/*', hosts: ['*.deep.w.example', 'other.example'] },
    { path: '/a', hosts: ['x.w.example'] },
    { path: '/b', hosts: [] },
  ]);

  it.each([
    ['y.w.example', '/', [1]],
    ['Y.W.example.:8443', '/', [1]],
    ['y.z.w.example', '/', [1]],
    ['y.deep.w.example', '/', [2]],
    ['deep.w.example', '/', [1]],
    ['other.example', '/', [2]],
    ['w.example', '/', [0]],
    ['yw.example', '/', [0]],
    // The name itself first, then the wildcard, then what is for every host.
    ['x.w.example', '/a', [3]],
    ['x.w.example', '/', [1]],
    ['x.w.example', '/b', [1, 4]],
    ['w.example', '/b', [4]],
    // Whatever could be read as another name has to be let in by all.
    ['y$.w.example', '/', [0, 1, 2, 3, 4]],
    ['y..w.example', '/', [0, 1, 2, 3, 4]],
  ])('%s %s', (host, target, held) => {
    expect(choose(host, target)).toEqual({ route: held[0], held });
  });
});
