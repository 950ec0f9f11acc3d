import { describe, expect, it } from 'vitest';
import { join } from 'node:path';
import { loadConfig } from '../src/config/load.js';
import { glob } from '../src/config/glob.js';
import { importNginx } from '../src/config/nginx-conf.js';
import { parseConf, type Directive } from '../src/nginx/syntax.js';
import { readProjectFile, ROOT } from './support/source-tree.js';

const confOf = (name: string): string => join(ROOT, 'test', 'fixtures', 'nginx', name, 'nginx.conf');
const relative = (path: string): string => path.slice(ROOT.length + 1);

function load(name: string) {
  const file = confOf(name);
  const imported = importNginx({ file, prefix: '/usr/share/nginx' });
  const config = loadConfig({ nginx: { file, prefix: '/usr/share/nginx', force: true }, env: {}, flags: {} });
  const guards = imported.report.filter(({ isGuard }) => isGuard).map(({ line, directive }) => `${line} ${directive}`);
  return { ...imported, config, guards };
}

/** Everything that is a directive, and no line of a block of values. */
function directives(tree: readonly Directive[]): Directive[] {
  const values = ['types', 'map', 'geo'];
  return tree.flatMap((each) => [each, ...(values.includes(each.name) ? [] : directives(each.block ?? []))]);
}

const ALL = ['reference', 'debian', 'docker', 'ingress', 'cloudflare', 'aws', 'websocket', 'grpc', 'several'];

describe.each(ALL)('%s', (name) => {
  it('has one entry for each directive, with its place', () => {
    const tree = parseConf(confOf(name), { read: (path) => readProjectFile(relative(path)), list: glob });
    const places = directives(tree).map(({ file, line }) => `${file}:${line}`);
    const { report } = load(name);
    expect(report.map(({ file, line }) => `${file}:${line}`)).toEqual(places);
    expect(report.filter(({ fate, text }) => fate !== 'carried' && text === '')).toEqual([]);
  });

  it('is known to the last directive', () => {
    expect(load(name).report.filter(({ text }) => text.startsWith('not known'))).toEqual([]);
  });
});

it('the reference of the IM documentation serves its files over TLS 1.0 and 1.1', () => {
  const { config, guards } = load('reference');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    listen: { host: '0.0.0.0', port: 443 },
    tls: { minVersion: 'TLSv1', maxVersion: 'TLSv1.1', legacy: true },
    clientCert: { verify: 'required', depth: 1, allow: [] },
    upstream: { address: { kind: 'file', path: '/usr/share/nginx/html' }, index: ['index.html', 'index.htm'] },
  });
});

it("Debian's nginx.conf with a site behind client certificates", () => {
  const { config, guards } = load('debian');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    listen: { host: '::', port: 443, serverNames: ['api.example.com'] },
    tls: { sessions: { resumption: false, lifetime: 86_400_000 } },
    clientCert: {
      verify: 'required',
      depth: 2,
      // Not the chain that is there for stapling.
      ca: ['/etc/nginx/partners-ca.pem'],
      allow: [{ commonName: 'billing.example' }, { commonName: 'stock.example' }],
    },
    upstream: { url: 'http://127.0.0.1:3000', headTimeout: 90_000 },
    identity: {
      presets: [],
      headers: { 'X-Client-DN': 'subject', 'X-Client-CN': 'commonName', 'X-Client-Verify': 'verify' },
    },
    forwarded: { headers: { 'X-Real-IP': 'remoteAddress' } },
    limits: { body: 10 * 1024 ** 2 },
    log: { access: 'combined' },
  });
});

it('the official image with an application in another container', () => {
  const { config, guards } = load('docker');
  expect(guards).toEqual(['26 location /admin']);
  expect(config).toMatchObject({
    listen: { port: 8443 },
    clientCert: { verify: 'required', allow: [{ methods: ['POST'] }] },
    upstream: { url: 'http://web:5000', unsafeRemote: true },
    limits: { keepAliveTimeout: 65_000 },
  });
  expect(config.log.format).toMatch(/^\$remote_addr .*"\$http_x_forwarded_for"$/);
});

it('what an ingress controller generates', () => {
  const { config, guards, report } = load('ingress');
  // A pattern that is not anchored: CN=callbacks-of-somebody-else matches, too.
  expect(guards).toEqual([
    '74 if ($ssl_client_s_dn !~ CN=callbacks)',
    '85 proxy_set_header X-Original-Forwarded-For $http_x_forwarded_for',
  ]);
  expect(config).toMatchObject({
    clientCert: { verify: 'required', allow: [] },
    identity: {
      headers: {
        'ssl-client-cert': 'certPem',
        'ssl-client-verify': 'verify',
        'ssl-client-subject-dn': 'subject',
        'ssl-client-issuer-dn': 'issuer',
      },
    },
    forwarded: {
      trustedProxies: ['10.0.0.0/8'],
      headers: { 'X-Real-IP': 'remoteAddress', 'X-Scheme': 'scheme', Proxy: 'none' },
    },
  });
  const unknown = report.find(({ directive }) => directive.startsWith('log_format'))?.text;
  expect(unknown).toContain('$upstream_response_time');
});

it('files behind a network that pulls with its own certificate, and a redirect from port 80', () => {
  const { config, guards, report } = load('cloudflare');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    listen: { host: '::', port: 443, http2: true },
    clientCert: { verify: 'required', ca: ['/etc/ssl/certs/cloudflare.crt'] },
    upstream: { address: { kind: 'file', path: '/var/www/html' } },
    forwarded: { trustedProxies: ['173.245.48.0/20', '103.21.244.0/22', '2400:cb00::/32'] },
  });
  const fates = new Map(report.map(({ directive, fate }) => [directive, fate]));
  expect(fates.get('return 302 https://$server_name$request_uri')).toBe('not-needed');
  expect(fates.get('real_ip_header CF-Connecting-IP')).toBe('changed');
});

it('an application behind an API gateway, by the common name that a map takes out', () => {
  const { config, guards } = load('aws');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    clientCert: { depth: 2, allow: [{ commonName: 'apigateway.example.com' }, { commonName: 'test.example.com' }] },
    identity: { headers: { 'X-SSL-Client-CN': 'commonName' } },
    upstream: { url: 'http://127.0.0.1:8080' },
  });
});

it('WebSocket with a map of Upgrade, and a plain server that renews certificates', () => {
  const { config, guards, report } = load('websocket');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    limits: { tunnelIdleTimeout: 86_400_000 },
    upstream: { url: 'http://127.0.0.1:8010' },
  });
  const plain = report.find(({ line, directive }) => line === 6 && directive === 'server');
  expect(plain).toMatchObject({ fate: 'not-carried', text: expect.stringContaining('plain HTTP') as unknown });
});

it('several gRPC services, each by its path', () => {
  const { config, guards } = load('grpc');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    listen: { http2: true },
    upstream: { url: 'http://127.0.0.1:50051', http2: true, idleTimeout: 3_600_000 },
    identity: { headers: { 'X-Client-DN': 'subject' } },
    routes: [
      { path: '/routeguide.RouteGuide*', upstream: { url: 'http://127.0.0.1:10002', http2: true } },
      { path: '/error502grpc', upstream: { address: { kind: 'answer' } } },
    ],
  });
});

it('several servers, by names and wildcards', () => {
  const { config, guards } = load('several');
  expect(guards).toEqual([]);
  expect(config).toMatchObject({
    listen: { serverNames: ['api.example.com', '*.apps.example.com', 'example.org', '*.example.org'] },
    tls: { certificates: [{ serverNames: ['example.org', '*.example.org'] }] },
    upstream: { url: 'http://127.0.0.1:3000' },
    routes: [
      { hosts: ['*.apps.example.com'], upstream: { url: 'http://127.0.0.1:3001' } },
      { hosts: ['example.org', '*.example.org'], clientCert: { verify: 'optional' } },
    ],
  });
});
