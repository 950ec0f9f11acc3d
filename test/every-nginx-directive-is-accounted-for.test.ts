import { describe, expect, it } from 'vitest';
import { settingsYaml } from '../src/config/settings-yaml.js';
import { imported, mtlsServer } from './support/nginx.js';

/** What `mtlsServer` alone amounts to. */
const BASE = {
  'listen.port': 443,
  'listen.host': '0.0.0.0',
  'tls.cert': '/etc/nginx/a.crt',
  'tls.key': '/etc/nginx/a.key',
  'clientCert.verify': 'required',
  'clientCert.ca': '/etc/nginx/ca.crt',
  'upstream.url': 'http://127.0.0.1:8080',
};

const server = (lines: string, options: Parameters<typeof mtlsServer>[1] = {}) => imported(mtlsServer(lines, options));
const location = (locationLines: string, httpLines = '') => server('', { locationLines, httpLines });
/** A server that does not say whether it verifies. */
const plainTls = (lines: string, http = '') =>
  imported(`${http} server { listen 443 ssl; ssl_certificate a.crt; ssl_certificate_key a.key; ${lines} }`);

describe('what is carried', () => {
  it('is a server that verifies its callers and forwards', () => {
    const { settings, guards, missing, report } = server('');
    expect(settings).toEqual(BASE);
    expect(guards()).toEqual([]);
    expect(missing).toEqual([]);
    expect(report.every(({ fate }) => fate === 'carried' || fate === 'not-needed')).toBe(true);
  });

  it.each<[string, Record<string, unknown>]>([
    ['ssl_verify_depth 3;', { 'clientCert.depth': 3 }],
    ['ssl_crl crl/ca.pem;', { 'clientCert.crl': '/etc/nginx/crl/ca.pem' }],
    ['ssl_password_file /run/pw;', { 'tls.keyPassphraseFile': '/run/pw' }],
    ['ssl_protocols TLSv1.2 TLSv1.3;', { 'tls.minVersion': 'TLSv1.2', 'tls.maxVersion': 'TLSv1.3' }],
    ['ssl_protocols TLSv1.3;', { 'tls.minVersion': 'TLSv1.3', 'tls.maxVersion': 'TLSv1.3' }],
    [
      'ssl_protocols SSLv3 TLSv1 TLSv1.1;',
      { 'tls.minVersion': 'TLSv1', 'tls.maxVersion': 'TLSv1.1', 'tls.legacy': true },
    ],
    ['ssl_ciphers HIGH:!aNULL:!MD5;', { 'tls.ciphers': 'HIGH:!aNULL:!MD5' }],
    ['ssl_ciphers "ECDHE+AESGCM, HIGH";', { 'tls.ciphers': 'ECDHE+AESGCM:HIGH' }],
    ['ssl_ciphers ALL:@SECLEVEL=1;', { 'tls.ciphers': 'ALL', 'tls.securityLevel': 1 }],
    ['ssl_ciphers DEFAULT@SECLEVEL=0;', { 'tls.securityLevel': 0 }],
    ['ssl_ciphers PROFILE=SYSTEM;', {}],
    ['ssl_ecdh_curve X25519:prime256v1;', { 'tls.curves': 'X25519:prime256v1' }],
    ['ssl_ecdh_curve auto;', {}],
    ['ssl_session_timeout 1d;', { 'tls.sessions.lifetime': '24h' }],
    ['ssl_session_tickets off;', { 'tls.sessions.resumption': false }],
    ['client_max_body_size 20m;', { 'limits.body': '20MiB' }],
    ['client_max_body_size 0;', { 'limits.body': 0 }],
    ['client_header_timeout 5;', { 'limits.headTimeout': '5s' }],
    ['client_body_timeout 10s;', { 'limits.bodyIdleTimeout': '10s' }],
    ['large_client_header_buffers 4 16k;', { 'limits.head': '64KiB' }],
    ['keepalive_timeout 65s 60s;', { 'limits.keepAliveTimeout': '65s' }],
    ['keepalive_timeout 0;', { 'limits.requestsPerConnection': 1 }],
    ['keepalive_requests 100;', { 'limits.requestsPerConnection': 100 }],
    ['keepalive_time 30m;', { 'limits.connectionAge': '30m' }],
    ['proxy_connect_timeout 3s;', { 'upstream.connectTimeout': '3s' }],
    [
      'proxy_read_timeout 120s;',
      { 'upstream.headTimeout': '2m', 'upstream.idleTimeout': '2m', 'limits.tunnelIdleTimeout': '2m' },
    ],
    ['underscores_in_headers on;', { 'headers.underscores': 'keep' }],
    ['error_page 497 =301 https://$host$request_uri;', { 'listen.plainHttp': 'redirect' }],
    ['error_page 497 https://$host:$server_port$request_uri;', { 'listen.plainHttp': 'redirect' }],
    [
      'set_real_ip_from 10.0.0.0/8; set_real_ip_from 192.0.2.1; real_ip_header X-Forwarded-For;',
      { 'forwarded.trustedProxies': ['10.0.0.0/8', '192.0.2.1'] },
    ],
    ['access_log off;', { 'log.access': false }],
    ['access_log /var/log/nginx/access.log;', { 'log.access': 'combined' }],
    ['error_log /dev/stderr debug;', { 'log.level': 'debug' }],
    ['error_log /dev/stderr error;', {}],
  ])('%s', (lines, settings) => {
    const result = server(lines);
    expect(result.settings).toEqual({ ...BASE, ...settings });
    expect(result.guards()).toEqual([]);
  });

  it('is inherited as nginx inherits: the innermost level wins, and the others are said to be replaced', () => {
    const result = server('client_max_body_size 2m;', {
      httpLines: 'client_max_body_size 1m; keepalive_timeout 9s;',
      locationLines: 'client_max_body_size 3m;',
    });
    expect(result.settings).toMatchObject({ 'limits.body': '3MiB', 'limits.keepAliveTimeout': '9s' });
    expect(result.entry('client_max_body_size 1m')).toMatchObject({ fate: 'not-needed' });
    expect(result.entry('client_max_body_size 2m')).toMatchObject({ fate: 'not-needed' });
  });

  it('takes what this version has, and says what it has not', () => {
    const lines = 'http2 on; ssl_session_ticket_key t1; ssl_session_ticket_key t2;';
    const without = imported(mtlsServer(lines));
    const keys = { 'tls.sessions.ticketKeys': ['/etc/nginx/t1', '/etc/nginx/t2'] };
    expect(without.settings).toEqual({ ...BASE, ...keys });
    expect(without.entry('http2')).toMatchObject({ fate: 'changed' });
    const available = ['listen.http2'];
    expect(imported(mtlsServer(lines), { available }).settings).toEqual({ ...BASE, 'listen.http2': true, ...keys });
  });
});

describe('addresses', () => {
  it.each([
    ['listen 8443 ssl;', '0.0.0.0', 8443],
    ['listen *:8443 ssl http2 default_server;', '0.0.0.0', 8443],
    ['listen 127.0.0.1:8443 ssl;', '127.0.0.1', 8443],
    ['listen [::]:8443 ssl; listen 8443 ssl;', '::', 8443],
    ['listen [::1]:8443 ssl backlog=511;', '::1', 8443],
    ['listen 8443; ssl on;', '0.0.0.0', 8443],
    ['listen 80; listen 8443 ssl;', '0.0.0.0', 8443],
    // Two addresses are not widened to all.
    ['listen 127.0.0.1:8443 ssl; listen 10.0.0.1:8443 ssl;', '127.0.0.1', 8443],
    ['listen 8443 ssl; listen 9443 ssl;', '0.0.0.0', 8443],
  ])('%s', (lines, host, port) => {
    const { settings } = imported(`server { ${lines} location / { proxy_pass http://127.0.0.1; } }`);
    expect(settings).toMatchObject({ 'listen.host': host, 'listen.port': port });
  });
});

describe('the PROXY protocol', () => {
  const behind = (listen: string, lines: string, locationLines = '') =>
    imported(`server { ${listen} ${lines} location / { ${locationLines} proxy_pass http://127.0.0.1; } }`);
  const PROXIED = 'listen 443 ssl proxy_protocol;';

  it('comes from those whose word nginx takes', () => {
    const lines = 'set_real_ip_from 10.0.0.0/8; set_real_ip_from ::1; real_ip_header proxy_protocol;';
    const result = behind(PROXIED, lines);
    expect(result.settings).toMatchObject({
      'listen.proxyProtocol': true,
      'listen.proxyProtocolFrom': ['10.0.0.0/8', '::1'],
    });
    expect(result.settings).not.toHaveProperty('forwarded.trustedProxies');
    expect(result.entry('listen 443')).toMatchObject({ fate: 'carried' });
    expect(result.guards()).toEqual([]);
  });

  it('is expected without a list, which has to be given then', () => {
    const { settings, entry } = behind(PROXIED, '');
    expect(settings).toMatchObject({ 'listen.proxyProtocol': true });
    expect(settings).not.toHaveProperty('listen.proxyProtocolFrom');
    expect(entry('listen 443')).toMatchObject({
      fate: 'changed',
      text: expect.stringContaining('listen.proxyProtocolFrom') as string,
    });
  });

  it('and proxies of HTTP are two lists', () => {
    const { settings } = behind(PROXIED, 'set_real_ip_from 10.0.0.0/8; real_ip_header X-Forwarded-For;');
    expect(settings).toMatchObject({ 'forwarded.trustedProxies': ['10.0.0.0/8'] });
    expect(settings).not.toHaveProperty('listen.proxyProtocolFrom');
  });

  it('that nobody sends makes nobody trusted', () => {
    const { settings, entry } = behind(
      'listen 443 ssl;',
      'set_real_ip_from 10.0.0.0/8; real_ip_header proxy_protocol;',
    );
    expect(settings).not.toHaveProperty('forwarded.trustedProxies');
    expect(settings).not.toHaveProperty('listen.proxyProtocol');
    expect(entry('set_real_ip_from')).toMatchObject({ fate: 'not-needed' });
  });

  it('knows neither names nor Unix sockets', () => {
    const lines = 'set_real_ip_from unix:; set_real_ip_from lb.example; real_ip_header proxy_protocol;';
    const { settings, entry } = behind(PROXIED, lines);
    expect(settings).not.toHaveProperty('listen.proxyProtocolFrom');
    for (const start of ['set_real_ip_from unix:', 'set_real_ip_from lb']) {
      expect(entry(start)).toMatchObject({ fate: 'not-carried' });
    }
  });

  it('is expected on the other address as well', () => {
    const { entry } = behind(`listen [::]:443 ssl; ${PROXIED}`, 'real_ip_header proxy_protocol;');
    expect(entry('listen [::]:443')?.text).toContain('the PROXY protocol is expected here as well');
  });

  it('gives one address, the caller’s', () => {
    const set = (name: string, variable: string) => `proxy_set_header ${name} ${variable};`;
    const headers = set('X-Real-IP', '$proxy_protocol_addr') + set('X-Forwarded-For', '$proxy_protocol_addr');
    const result = behind(PROXIED, '', headers + set('X-Balancer', '$realip_remote_addr'));
    expect(result.settings).toMatchObject({ 'forwarded.headers': { 'X-Real-IP': 'remoteAddress' } });
    expect(result.entry('proxy_set_header X-Forwarded-For')).toMatchObject({ fate: 'carried' });
    expect(result.guards()).toEqual(['proxy_set_header X-Balancer $realip_remote_addr']);
    expect(behind('listen 443 ssl;', '', headers).settings).toMatchObject({
      'forwarded.headers': { 'X-Real-IP': 'none' },
    });
  });
});

describe('verification', () => {
  it.each([
    ['', 'off'],
    ['ssl_verify_client off;', 'off'],
    ['ssl_verify_client on;', 'required'],
    ['ssl_verify_client optional;', 'optional'],
    ['ssl_verify_client optional_no_ca;', 'optional-no-ca'],
  ])('%s', (line, verify) => {
    expect(plainTls(`${line} location / { proxy_pass http://127.0.0.1; }`).settings['clientCert.verify']).toBe(verify);
  });

  it('trusts both files of CAs, but not the one that is there for stapling', () => {
    expect(server('ssl_trusted_certificate more.crt;').settings['clientCert.ca']).toEqual([
      '/etc/nginx/ca.crt',
      '/etc/nginx/more.crt',
    ]);
    const stapling = server('ssl_trusted_certificate public.crt; ssl_stapling on;');
    expect(stapling.settings['clientCert.ca']).toBe('/etc/nginx/ca.crt');
    expect(stapling.entry('ssl_trusted_certificate')).toMatchObject({ fate: 'not-carried', isGuard: false });
  });
});

describe('the application', () => {
  it.each([
    ['proxy_pass http://127.0.0.1:3000;', 'http://127.0.0.1:3000'],
    ['proxy_pass http://127.0.0.1:3000/;', 'http://127.0.0.1:3000'],
    ['proxy_pass http://localhost;', 'http://localhost'],
    ['proxy_pass http://[::1]:3000;', 'http://[::1]:3000'],
    ['proxy_pass http://unix:/run/app.sock;', 'unix:/run/app.sock'],
    ['proxy_pass http://unix:/run/app.sock:/;', 'unix:/run/app.sock'],
    ['proxy_pass http://127.0.0.1:3000$request_uri;', 'http://127.0.0.1:3000'],
    ['set $app 127.0.0.1:3000; proxy_pass http://$app;', 'http://127.0.0.1:3000'],
    ['proxy_pass http://app;', 'http://127.0.0.1:9000'],
    ['grpc_pass grpc://127.0.0.1:50051;', 'http://127.0.0.1:50051'],
    ['grpc_pass 127.0.0.1:50051;', 'http://127.0.0.1:50051'],
    ['proxy_pass http://sock;', 'unix:/run/x.sock'],
  ])('%s', (lines, url) => {
    const upstreams =
      'upstream app { server 127.0.0.1:9001 down; server 127.0.0.1:9000; server 127.0.0.1:9002; keepalive 32; } upstream sock { server unix:/run/x.sock; }';
    const result = imported(`${upstreams} server { listen 443 ssl; location / { ${lines} } }`);
    expect(result.settings['upstream.url']).toBe(url);
    expect(result.settings['upstream.unsafeRemote']).toBeUndefined();
    expect(result.guards()).toEqual([]);
  });

  it('on another machine is carried, and said to be unsafe', () => {
    const result = plainTls('location / { proxy_pass http://app:3000; }');
    expect(result.settings).toMatchObject({ 'upstream.url': 'http://app:3000', 'upstream.unsafeRemote': true });
    expect(result.entry('proxy_pass')?.text).toContain('UNSAFE');
  });

  it.each([
    ['proxy_pass https://127.0.0.1:8443;', 'proxy_pass https://127.0.0.1:8443'],
    ['proxy_pass http://127.0.0.1:3000/base/;', 'proxy_pass http://127.0.0.1:3000/base/'],
    ['proxy_pass http://$backend;', 'proxy_pass http://$backend'],
    ['fastcgi_pass 127.0.0.1:9000;', 'fastcgi_pass 127.0.0.1:9000'],
    ['grpc_pass grpcs://127.0.0.1:9000;', 'grpc_pass grpcs://127.0.0.1:9000'],
    ['grpc_pass grpc://127.0.0.1:9000; grpc_set_header X-DN $unknown;', 'grpc_set_header X-DN $unknown'],
  ])('that cannot be had is a guard: %s', (lines, guard) => {
    expect(plainTls(`location / { ${lines} }`).guards()).toEqual([guard]);
  });

  it('that is nowhere is missing, whatever is forced', () => {
    expect(plainTls('location / { return 200 ok; }').missing).toHaveLength(0);
    expect(plainTls('location / { proxy_pass https://127.0.0.1; }').missing).toHaveLength(1);
    expect(imported('server { listen 80; }').missing).toEqual(['there is no server with listen … ssl']);
  });

  it('may be a directory, below the prefix', () => {
    expect(plainTls('location / { root html; index index.html index.htm; }').settings).toMatchObject({
      'upstream.url': 'file:/srv/nginx/html',
      'upstream.index': ['index.html', 'index.htm'],
    });
    expect(plainTls('root /var/www/; try_files $uri $uri/ =404;').settings['upstream.url']).toBe('file:/var/www');
    expect(plainTls('').settings['upstream.url']).toBe('file:/srv/nginx/html');
    expect(plainTls('root /var/www; try_files $uri /index.html;').guards()).toEqual([]);
    expect(plainTls('root /var/www; try_files /closed.html =503;').guards()).toEqual(['try_files /closed.html =503']);
    expect(plainTls('root /var/www; location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; }').guards()).toEqual([
      'location ~ \\.php$',
    ]);
    expect(plainTls('root /var/www; location ~ /\\.(?!well-known) { deny all; }').guards()).toEqual([]);
  });
});

describe('headers for the application', () => {
  it('become the maps of identity and of facts', () => {
    const result = location(
      `
      proxy_set_header X-Verify $ssl_client_verify;
      proxy_set_header X-DN $ssl_client_s_dn;
      proxy_set_header X-Cert $ssl_client_escaped_cert;
      proxy_set_header X-Serial "\${ssl_client_serial}";
      proxy_set_header X-CN $ssl_client_s_dn_cn;
      proxy_set_header X-Real-IP $remote_addr;
      proxy_set_header X-Scheme $scheme;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
      proxy_set_header X-Forwarded-Proto $scheme;
      proxy_set_header X-Request-ID $request_id;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection "upgrade";
      proxy_set_header Accept-Encoding "";
      proxy_set_header X-Env prod;
      proxy_set_header Authorization $http_authorization;`,
      'map $ssl_client_s_dn $ssl_client_s_dn_cn { default ""; ~(^|,)CN=(?<CN>[^,]+) $CN; }',
    );
    expect(result.guards()).toEqual([]);
    expect(result.settings).toMatchObject({
      'identity.presets': [],
      'identity.headers': {
        'X-Verify': 'verify',
        'X-DN': 'subject',
        'X-Cert': 'certPem',
        'X-Serial': 'serial',
        'X-CN': 'commonName',
      },
      'forwarded.headers': {
        'X-Real-IP': 'remoteAddress',
        'X-Scheme': 'scheme',
        'Accept-Encoding': 'none',
        'X-Env': 'text:prod',
      },
    });
    expect(result.entry('proxy_set_header X-Forwarded-For')).toMatchObject({ fate: 'changed' });
  });

  it.each([
    'proxy_set_header X-Cert $ssl_client_cert;',
    'proxy_set_header X-Who "$ssl_client_s_dn from $remote_addr";',
    'proxy_set_header X-Other $unknown;',
    'proxy_set_header Range none;',
    'proxy_set_header Host internal.example;',
  ])('that cannot be made are guards, since callers could send them: %s', (line) => {
    const text = mtlsServer('', { locationLines: line }).replace('proxy_set_header Host $host;', '');
    expect(imported(text).guards()).toEqual([line.replaceAll('"', '').slice(0, -1)]);
  });

  it('are not taken from a variable that an if changes', () => {
    const lines = 'set $role admin; if ($ssl_client_verify != SUCCESS) { set $role guest; }';
    const result = location(`${lines} proxy_set_header X-Role $role;`);
    expect(result.guards()).toEqual(['proxy_set_header X-Role $role']);
    expect(location('set $s $scheme; proxy_set_header X-S $s;').settings['forwarded.headers']).toEqual({
      'X-S': 'scheme',
    });
  });

  it('are not taken from a variable that an if alone sets', () => {
    const lines = 'if ($ssl_client_s_dn = CN=admin) { set $role admin; } proxy_set_header X-Role $role;';
    const result = location(lines);
    expect(result.guards()).toEqual(['proxy_set_header X-Role $role']);
    expect(result.settings['forwarded.headers']).toBeUndefined();
    expect(server('if ($http_x) { set $app 127.0.0.1:1; }', { locationLines: '' }).guards()).toEqual([]);
    const pass = 'if ($http_x) { set $app 127.0.0.1:1; } location / { proxy_pass http://$app; }';
    expect(plainTls(pass).guards()).toEqual(['proxy_pass http://$app']);
  });

  it('keep the preset where callers get in unverified and the map does not tell', () => {
    const lines = 'ssl_verify_client optional_no_ca; ssl_client_certificate ca.crt;';
    const where = 'location / { proxy_pass http://127.0.0.1; proxy_set_header X-DN $ssl_client_s_dn; }';
    expect(plainTls(lines + where).settings['identity.presets']).toEqual(['nginx']);
  });
});

describe('what guards access and is not carried', () => {
  it.each([
    'deny all;',
    'allow 10.0.0.0/8;',
    'satisfy any;',
    'auth_basic closed;',
    'auth_request /auth;',
    'limit_req zone=a;',
    'limit_conn a 1;',
    'ssl_ocsp on;',
    'ssl_conf_command Options NoRenegotiation;',
    'rewrite ^/a/(.*)$ /$1 break;',
    'return 403;',
    'internal;',
    'modsecurity on;',
    'some_module_directive on;',
    'if ($ssl_client_s_dn ~ "CN=evil") { return 403; }',
    'if ($ssl_client_s_dn !~* "^CN=a,") { return 403; }',
    'if ($ssl_client_s_dn !~ "CN=a") { return 403; }',
    'if ($ssl_client_fingerprint != "aa") { return 403; }',
    'if ($http_x_token != "t") { return 403; }',
    'if ($remote_addr != 10.0.0.1) { return 403; }',
    'if ($ssl_client_verify != SUCCESS) { rewrite ^ /login; }',
    'if ($request_method = OPTIONS) { return 204; }',
    'if (-f /maintenance) { return 503; }',
    'if ($host != *.example) { return 403; }',
    'if ($host != $server_name) { return 403; }',
  ])('%s', (line) => {
    expect(server('', { locationLines: line }).guards()).toHaveLength(1);
    if (!line.startsWith('internal')) expect(server(line).guards().length).toBe(1);
  });

  it.each(['allow all;', 'satisfy all;', 'auth_basic off;', 'auth_request off;', 'ssl_ocsp off;'])(
    'is not what is off anyway: %s',
    (line) => {
      expect(server('', { locationLines: line }).guards()).toEqual([]);
    },
  );
});

describe('conditions become allow rules', () => {
  const allow = (lines: string, httpLines = ''): unknown => {
    const result = server(lines, { httpLines });
    expect(result.guards()).toEqual([]);
    return result.settings['clientCert.allow'];
  };
  const refuse = (condition: string): string => `if (${condition}) { return 403; }`;

  it.each<[string, unknown]>([
    ['$ssl_client_s_dn != "CN=im.qq.com,O=Tencent"', [{ subject: 'CN=im.qq.com,O=Tencent' }]],
    [String.raw`$ssl_client_s_dn !~ "^CN=im\.qq\.com,"`, [{ subject: 'CN=im.qq.com,**' }]],
    ['$ssl_client_s_dn !~ ",O=Tencent$"', [{ subject: '**,O=Tencent' }]],
    ['$ssl_client_s_dn !~ "^(CN=a|CN=b)$"', [{ subject: 'CN=a' }, { subject: 'CN=b' }]],
    ['$ssl_client_i_dn != "CN=CA"', [{ issuer: 'CN=CA' }]],
    ['$ssl_client_serial != 0A1B', [{ serial: '0A1B' }]],
    ['$request_method !~ ^(GET|POST)$', [{ methods: ['GET', 'POST'] }]],
    ['$request_method != POST', [{ methods: ['POST'] }]],
    ['$ssl_client_verify != SUCCESS', undefined],
    ['$scheme != https', undefined],
  ])('if (%s)', (condition, rules) => {
    expect(allow(refuse(condition))).toEqual(rules);
  });

  it('what every request satisfies, coming by https, is a guard', () => {
    for (const condition of ['$scheme = https', '$https', '$https = on']) {
      expect(server('', { locationLines: refuse(condition) }).guards()).toHaveLength(1);
    }
    expect(server('', { locationLines: refuse('$scheme = http') }).guards()).toEqual([]);
  });

  it('a map of subjects', () => {
    const map = 'map $ssl_client_s_dn $ok { default 0; "CN=a,O=x" 1; "CN=b,O=x" 1; "CN=gone" 0; }';
    const rules = [{ subject: 'CN=a,O=x' }, { subject: 'CN=b,O=x' }];
    expect(allow(refuse('$ok = 0'), map)).toEqual(rules);
    expect(allow(refuse('$ok != 1'), map)).toEqual(rules);
    const inverse = 'map $ssl_client_s_dn $no { default yes; "CN=a,O=x" ""; "CN=b,O=x" 0; }';
    expect(allow(refuse('$no'), inverse)).toEqual(rules);
  });

  it('a map of common names, through the map that takes them out of the subject', () => {
    const maps = `map $ssl_client_s_dn $cn { default ""; ~(^|,)CN=(?<CN>[^,]+) $CN; }
      map $cn $ok { default 0; im.qq.com 1; "~^(a|b)$" 1; }`;
    expect(allow(refuse('$ok = 0'), maps)).toEqual([
      { commonName: 'im.qq.com' },
      { commonName: 'a' },
      { commonName: 'b' },
    ]);
    expect(allow(refuse('$cn != im.qq.com'), maps)).toEqual([{ commonName: 'im.qq.com' }]);
  });

  it('with what stands in them', () => {
    const result = server(refuse('$ssl_client_i_dn != "CN=CA"'));
    expect(result.entry('return 403')).toMatchObject({ fate: 'carried' });
    expect(server(refuse('$remote_addr != 10.0.0.1')).entry('return 403')).toMatchObject({ fate: 'not-carried' });
  });

  it('all of several conditions', () => {
    expect(allow(refuse('$ssl_client_i_dn != "CN=CA"') + refuse('$request_method != POST'))).toEqual([
      { issuer: 'CN=CA', methods: ['POST'] },
    ]);
  });

  it('limit_except', () => {
    const result = location('limit_except GET POST { deny all; }');
    expect(result.settings['clientCert.allow']).toEqual([{ methods: ['GET', 'POST', 'HEAD'] }]);
    expect(location('limit_except GET { allow 10.0.0.1; deny all; }').guards()).toHaveLength(1);
  });

  it.each([
    // Those who are refused are listed, not those who are admitted.
    'map $ssl_client_s_dn $ok { default 1; "CN=evil" 0; }',
    // An exception to a pattern.
    'map $ssl_client_s_dn $ok { default 0; "CN=a,O=x" 0; "~^CN=a," 1; }',
    'map $ssl_client_s_dn $ok { default 0; ~CN=a 1; }',
    'map $ssl_client_s_dn $ok { default 0; ~*^CN=a,O=x$ 1; }',
    'map $ssl_client_s_dn $ok { default 0; "CN=*" 1; }',
    'map $ssl_client_s_dn $ok { default 0; "" 1; }',
    'map $ssl_client_s_dn $ok { default 0; }',
    // Its value differs with each request.
    'map $request_method $ro { default 0; GET 1; } map $ssl_client_s_dn $ok { default 0; "CN=a" 1; "CN=b" $ro; }',
    'map $remote_addr $ok { default 0; 10.0.0.1 1; }',
    // The name counts only where the unit is right.
    'map $ssl_client_s_dn $cn { default ""; ~CN=(?<CN>[^,]+),OU=admins $CN; } map $cn $ok { default 0; a 1; }',
  ])('not exactly, not at all: %s', (httpLines) => {
    const result = server(refuse('$ok = 0'), { httpLines });
    expect(result.settings['clientCert.allow']).toBeUndefined();
    expect(result.guards()).toHaveLength(1);
  });

  it('where no certificate is asked for they are lost', () => {
    const result = plainTls(`${refuse('$request_method != POST')} location / { proxy_pass http://127.0.0.1; }`);
    expect(result.guards()).toHaveLength(1);
  });

  it('a refusal of the unverified makes certificates required', () => {
    for (const mode of ['optional', 'optional_no_ca']) {
      const lines = `ssl_verify_client ${mode}; location / { ${refuse('$ssl_client_verify != SUCCESS')} proxy_pass http://127.0.0.1; }`;
      expect(plainTls(lines).settings['clientCert.verify']).toBe('required');
    }
    const failed = `ssl_verify_client optional_no_ca; ${refuse('$ssl_client_verify = NONE')} location / { proxy_pass http://127.0.0.1; }`;
    expect(plainTls(failed).guards()).toHaveLength(1);
  });
});

describe('several locations', () => {
  it('that the application is not behind are closed by paths', () => {
    const result = imported(mtlsServer('location /other { root /x; }').replace('location / {', 'location /im/ {'));
    expect(result.settings['clientCert.allow']).toEqual([{ paths: ['/im/', '/im/**'] }]);
    expect(result.guards()).toEqual([]);
  });

  it('without / are the shortest path, other paths that become routes, and nothing else', () => {
    const lines = `location /im/ws { proxy_pass http://127.0.0.1:8081; } location = /im { proxy_pass http://127.0.0.1:8082; }
      location = /x { return 200 x; } location / { return 404; }`;
    const { settings, guards, report } = imported(mtlsServer(lines).replace('location / {\n', 'location ^~ /im {\n'));
    expect(guards()).toEqual([]);
    expect(settings['clientCert.allow']).toEqual([{ paths: ['/im', '/im/', '/im/**'] }]);
    expect(settings['routes']).toEqual([
      { path: '/im/ws*', allow: [], upstream: 'http://127.0.0.1:8081' },
      { path: '/im', allow: [], upstream: 'http://127.0.0.1:8082' },
      { path: '/x', allow: [], return: '200 x' },
    ]);
    const root = report.find(({ directive }) => directive === 'location /');
    expect(root).toMatchObject({ fate: 'not-carried', text: 'its paths get 403' });
  });

  it('of gRPC are applications of their own, with headers and deadlines', () => {
    const { settings, guards } = plainTls(`ssl_verify_client on; ssl_client_certificate ca.crt;
      location /a.A/ { grpc_pass 127.0.0.1:1; grpc_set_header X-DN $ssl_client_s_dn; grpc_read_timeout 1h; }
      location /longer.B/ { grpc_pass grpc://127.0.0.1:2; grpc_set_header X-DN $ssl_client_s_dn; }
      location /longer.C/ { proxy_pass http://127.0.0.1:3; proxy_set_header X-DN $ssl_client_s_dn; }`);
    expect(guards()).toEqual([]);
    expect(settings).toMatchObject({
      'upstream.url': 'http://127.0.0.1:1',
      'upstream.http2': true,
      'upstream.idleTimeout': '1h',
      'identity.headers': { 'X-DN': 'subject' },
    });
    expect(settings['routes']).toMatchObject([
      { path: '/longer.B/*', upstream: 'http://127.0.0.1:2', http2: true, headTimeout: '60s', idleTimeout: '60s' },
      { path: '/longer.C/*', upstream: 'http://127.0.0.1:3' },
    ]);
    expect((settings['routes'] as unknown[])[1]).not.toHaveProperty('http2');
  });

  it('without / become no routes where these would have what is of another', () => {
    const { settings, entry } = imported(
      mtlsServer('location /app/ { return 200 x; }').replace('location / {\n', 'location = /app {\n'),
    );
    expect(settings).not.toHaveProperty('routes');
    expect(entry('location /app/')).toMatchObject({ fate: 'not-carried', text: 'its paths get 403' });
  });

  it('that are internal get 404, whatever else they say', () => {
    const lines = 'error_page 403 /denied.html; location = /denied.html { internal; root /srv; auth_basic x; }';
    const { settings, guards, entry } = server(lines);
    expect(guards()).toEqual([]);
    expect(settings['routes']).toEqual([{ path: '/denied.html', return: 404 }]);
    expect(entry('location = /denied.html')).toMatchObject({
      fate: 'changed',
      text: expect.stringContaining('X-Accel-Redirect'),
    });
    expect(entry('auth_basic')?.fate).toBe('not-needed');
  });

  it.each([
    'location ~ ^/private { auth_basic x; proxy_pass http://127.0.0.1:8080; }',
    'location /some { allow 10.0.0.1; deny all; proxy_pass http://127.0.0.1:8080; }',
    'location /lua { access_by_lua_file x; return 200; }',
    'location ~ ^/internal { internal; }',
    'location /odd { some_auth_module on; proxy_pass http://127.0.0.1:8080; }',
    'location /nested { location /nested/x { deny all; } proxy_pass http://127.0.0.1:8080; }',
    // Whatever it answers, the application is not asked.
    'location ~ ^/admin { return 302 /login; }',
    'location ~ ^/admin { return 200 hello; }',
    'location ~ ^/api { proxy_set_header X-User $ssl_client_s_dn; proxy_pass http://127.0.0.1:8080; }',
    'location ~ ^/api { proxy_set_header Host internal; proxy_pass http://127.0.0.1:8080; }',
    'location /static/ { root /srv; } location ~ \\.php$ { fastcgi_pass unix:/run/php.sock; }',
    // What nginx does not send, or not from there.
    'location /static/ { root /srv; } location ~ \\.key$ { root /var/empty; }',
    'location /static/ { root /srv; } location ~ \\.key$ { try_files /none =404; }',
    // Only what asks for the password is asked.
    'location ~ ^/admin { proxy_set_header Host $host; proxy_pass http://127.0.0.1:4180; }',
    // nginx forwards what is there as a file, and refuses the rest.
    'location /files/ { try_files $uri =404; proxy_pass http://127.0.0.1:8080; }',
  ])('that are stricter are guards: %s', (line) => {
    expect(server(line).guards()).toHaveLength(1);
  });

  it.each([
    'location = /favicon.ico { log_not_found off; }',
    'location @x { return 403; }',
    'location ~ ^/api { proxy_set_header X-Real-IP $remote_addr; proxy_set_header Host $host; proxy_pass http://127.0.0.1:8080; }',
  ])('that are not are lost: %s', (line) => {
    expect(server(line).guards()).toEqual([]);
    expect(server(line).entry('location')?.fate).toBe('not-carried');
  });

  const paths = (lines: string) => imported(mtlsServer(lines).replace('location / {', 'location /im/ {'));

  it('within any of the paths that lead to an application are guards, others are closed', () => {
    const ws = 'location /ws/ { proxy_set_header Host $host; proxy_pass http://127.0.0.1:8080; }';
    const asks = 'auth_basic x; proxy_pass http://127.0.0.1:8080;';
    for (const path of ['/ws/admin', '= /ws', '= /ws/x', '/im/admin']) {
      expect(paths(`${ws} location ${path} { ${asks} }`).guards()).toEqual([`location ${path}`]);
    }
    expect(paths(`${ws} location /wsx { ${asks} }`).guards()).toEqual([]);
    expect(paths(`${ws} location ~ admin { deny all; }`).guards()).toEqual(['location ~ admin']);
    expect(paths(`${ws} location / { return 404; }`).guards()).toEqual([]);
    expect(paths(`${ws} location /other { deny all; }`).guards()).toEqual([]);
  });

  it('with headers of their own do not go the way of another', () => {
    const im = 'location /im/ { proxy_pass http://127.0.0.1:8080; }';
    const locationLines = 'proxy_set_header X-User $ssl_client_s_dn;';
    const result = imported(mtlsServer(im, { locationLines }).replace('location / {', 'location /ws/ {'));
    expect(result.settings['clientCert.allow']).toEqual([{ paths: ['/im/', '/im/**'] }]);
    expect(result.guards()).toEqual([]);
  });
});

describe('locations beside / become routes', () => {
  it.each<[string, Record<string, unknown>]>([
    ['location /admin { deny all; }', { path: '/admin*', return: 403 }],
    ['location = /metrics { return 403; }', { path: '/metrics', return: 403 }],
    ['location = /healthz { return 200 "ok"; access_log off; }', { path: '/healthz', return: '200 ok' }],
    [
      'location = /healthz { default_type application/json; return 200 \'{"ok":true}\'; }',
      { path: '/healthz', return: '200 {"ok":true}', type: 'application/json' },
    ],
    ['location /gone { return 444; }', { path: '/gone*', return: 403 }],
    [
      'location /old { return 301 https://new.example$request_uri; }',
      { path: '/old*', return: '301 https://new.example$request_uri' },
    ],
    ['location = /q { return 200 \'"ok"\'; }', { path: '/q', return: '200 ""ok""' }],
    ['location = /in { return 302 /out; }', { path: '/in', return: '302 /out' }],
    ['location = /in { return https://new.example/x; }', { path: '/in', return: '302 https://new.example/x' }],
    ['location /static/ { root /srv; expires 1d; }', { path: '/static/*', upstream: 'file:/srv' }],
    [
      'location /files/ { alias /srv/files/; index a.html; }',
      { path: '/files/*', upstream: 'file:/srv/files', index: ['a.html'], replaceWith: '/' },
    ],
    ['location ^~ /b { proxy_pass http://127.0.0.1:8082; }', { path: '/b*', upstream: 'http://127.0.0.1:8082' }],
    ['location /api/ { proxy_pass http://127.0.0.1:8080/; }', { path: '/api/*', replaceWith: '/' }],
    ['location /api { proxy_pass http://127.0.0.1:8080/v1; }', { path: '/api*', replaceWith: '/v1' }],
    ['location = /ws { proxy_pass http://127.0.0.1:8080; }', { path: '/ws' }],
    [
      'location /up { client_max_body_size 1g; client_body_timeout 5m; proxy_read_timeout 10m; proxy_pass http://127.0.0.1:8080; }',
      {
        path: '/up*',
        headTimeout: '10m',
        idleTimeout: '10m',
        body: '1GiB',
        bodyIdleTimeout: '5m',
        tunnelIdleTimeout: '10m',
      },
    ],
    [
      'location /post { limit_except POST { deny all; } proxy_pass http://127.0.0.1:8080; }',
      { path: '/post*', allow: [{ methods: ['POST'] }] },
    ],
    [
      'location /admin { if ($ssl_client_s_dn != "CN=admin") { return 403; } proxy_pass http://127.0.0.1:8080; }',
      { path: '/admin*', allow: [{ subject: 'CN=admin' }] },
    ],
    [
      'location /h { proxy_set_header X-A b; proxy_pass http://127.0.0.1:8080; }',
      { path: '/h*', headers: { 'X-A': 'text:b' } },
    ],
  ])('%s', (line, route) => {
    const result = server(line);
    expect(result.guards()).toEqual([]);
    expect(result.entry('location /')?.fate ?? result.entry('location')?.fate).toBe('carried');
    expect(result.settings).toMatchObject({ ...BASE, routes: [route] });
    expect((result.settings['routes'] as object[])[0]).toEqual(route);
  });

  it('with optional callers, each as strict as it was', () => {
    const need = 'if ($ssl_client_verify != SUCCESS) { return 403; }';
    const text = mtlsServer(`location /in { ${need} proxy_pass http://127.0.0.1:8080; }`).replace(
      'ssl_verify_client on',
      'ssl_verify_client optional',
    );
    const { settings, guards } = imported(text);
    expect(guards()).toEqual([]);
    expect(settings).toMatchObject({ 'clientCert.verify': 'optional', routes: [{ path: '/in*', verify: 'required' }] });
    const other = text.replace(need, '').replace('location / {', `location / { ${need}`);
    expect(imported(other).settings).toMatchObject({
      'clientCert.verify': 'required',
      routes: [{ path: '/in*', verify: 'optional' }],
    });
  });

  it('and keep nothing that the main one has alone', () => {
    const lines = 'location /b { proxy_pass http://127.0.0.1:8080; }';
    const own =
      'proxy_set_header X-A b; proxy_read_timeout 5s; client_max_body_size 5m; limit_except POST { deny all; }';
    const { settings, guards } = server(lines, { locationLines: own });
    expect(guards()).toEqual([]);
    expect(settings['routes']).toEqual([
      {
        path: '/b*',
        allow: [],
        headTimeout: '60s',
        idleTimeout: '60s',
        body: '1MiB',
        tunnelIdleTimeout: '1h',
        headers: { 'X-A': 'none' },
      },
    ]);
  });

  it('inherit what the main one replaces, and callers could then send', () => {
    const hidden = 'proxy_set_header X-Cert $ssl_client_cert;';
    const own = 'proxy_set_header X-A a;';
    expect(server(hidden, { locationLines: own }).guards()).toEqual([]);
    const beside = 'location /b { proxy_pass http://127.0.0.1:8081; }';
    expect(server(hidden + beside, { locationLines: own }).guards()).toEqual([
      'proxy_set_header X-Cert $ssl_client_cert',
    ]);
  });

  it('that cannot be said refuse, and stop the import', () => {
    for (const line of [
      'return 301 https://$host$request_uri',
      'return 301 $request_uri',
      'return 200 $uri',
      'return 301 //x.example',
    ]) {
      const result = server(`location /x { ${line}; }`);
      expect(result.guards()).toEqual([line]);
      expect(result.settings['routes']).toEqual([{ path: '/x*', return: 403 }]);
    }
    const beside = server('location /x/ { alias /srv/x; }');
    expect(beside.guards()).toEqual(['alias /srv/x']);
    for (const line of ['proxy_pass https://127.0.0.1', 'proxy_pass http://$backend', 'alias /srv/x']) {
      const result = server(`location = /x { ${line}; }`);
      expect(result.guards()).toEqual([line]);
      expect(result.settings['routes']).toEqual([{ path: '/x', return: 403 }]);
    }
    const named = server('server_name a.example; location /x { return 301 https://$host$request_uri; }');
    expect(named.guards()).toEqual([]);
    expect(named.settings).toMatchObject({
      'listen.serverNames': ['a.example'],
      routes: [{ return: '301 https://$host$request_uri' }],
    });
  });

  it('tell all applications alike who calls', () => {
    const header = (name: string) => `proxy_set_header X-Who $ssl_client_${name};`;
    const two = (first: string, second: string) =>
      server(`location /b { ${second} proxy_pass http://127.0.0.1:8080; }`, { locationLines: first });
    expect(two(header('s_dn'), header('s_dn')).guards()).toEqual([]);
    expect(two('', header('s_dn')).settings).toMatchObject({
      'identity.headers': { 'X-Who': 'subject' },
      'identity.presets': [],
    });
    expect(two(header('i_dn'), header('s_dn')).guards()).toEqual(['proxy_set_header X-Who $ssl_client_s_dn']);
    const fixed = 'proxy_set_header x-who nobody;';
    for (const result of [two(fixed, header('s_dn')), two(header('s_dn'), fixed)]) {
      expect(result.guards()).toEqual(['proxy_set_header x-who nobody']);
      expect(JSON.stringify(result.settings)).not.toContain('nobody');
    }
    const hidden = 'proxy_set_header X-Who "";';
    for (const { settings } of [two(hidden, header('s_dn')), two(header('s_dn'), hidden)]) {
      expect(settings['identity.headers']).toEqual({ 'X-Who': 'subject' });
      expect(JSON.stringify([settings['forwarded.headers'], settings['routes']])).not.toContain('X-Who');
    }
  });
});

describe('several servers', () => {
  const other = (lines: string): string =>
    mtlsServer('server_name a.example;').replace('server {', `server { ${lines} }\n server {`);

  it.each([
    ['return 301 https://$host$request_uri;', 'not-needed'],
    ['location / { return 308 https://a.example$request_uri; }', 'not-needed'],
    ['location / { return 301 https://$host; } location /x { root /srv; }', 'not-carried'],
    ['return 301 http://a.example;', 'not-carried'],
    ['location / { proxy_pass http://127.0.0.1:1; }', 'not-carried'],
    ['root /srv;', 'not-carried'],
  ])('for plain HTTP are left out: %s', (lines, fate) => {
    const result = imported(other(`listen 80; ${lines}`));
    expect(result.settings).toEqual(BASE);
    expect(result.guards()).toEqual([]);
    expect(result.report.find(({ directive }) => directive === 'server')).toMatchObject({ fate });
  });

  it('that turn strangers away become the names of the one that serves', () => {
    for (const lines of ['ssl_reject_handshake on;', 'return 444;']) {
      const result = imported(other(`listen 443 ssl default_server; server_name _; ${lines}`));
      expect(result.settings).toEqual({ ...BASE, 'listen.serverNames': ['a.example'] });
      expect(result.guards()).toEqual([]);
    }
  });

  const beside = (lines: string): string =>
    mtlsServer('server_name a.example;').replace(/\}\s*\}\s*$/, `} server { ${lines} }\n }`);
  const b = (lines: string) =>
    imported(
      beside(`listen 443 ssl; server_name b.example B2.example www.b.*; ssl_certificate a.crt; ssl_certificate_key a.key;
        ssl_client_certificate ca.crt; ssl_verify_client on; ${lines}`),
    );
  const HOSTS = ['b.example', 'b2.example'];
  const NAMES = ['a.example', ...HOSTS];
  const TO_ONE = 'location / { proxy_set_header Host $host; proxy_pass http://127.0.0.1:1; }';

  it('become routes for their names', () => {
    const { settings, guards, entry } = b(TO_ONE);
    expect(guards()).toEqual([]);
    expect(settings['listen.serverNames']).toEqual(NAMES);
    expect(settings['routes']).toEqual([{ host: HOSTS, upstream: 'http://127.0.0.1:1' }]);
    expect(settings).not.toHaveProperty(['tls.certificates']);
    expect(entry('server_name b.example')).toMatchObject({
      fate: 'changed',
      text: expect.stringContaining('write them out'),
    });
  });

  it('answer to wildcards as nginx does', () => {
    const named = (names: string): string => `listen 443 ssl; server_name ${names}; ssl_certificate a.crt;
      ssl_certificate_key a.key; ssl_client_certificate ca.crt; ssl_verify_client on;`;
    const { settings, guards } = imported(beside(`${named('.B.example *.c.example')} ${TO_ONE}`));
    const hosts = ['b.example', '*.b.example', '*.c.example'];
    expect(guards()).toEqual([]);
    expect(settings['listen.serverNames']).toEqual(['a.example', ...hosts]);
    expect(settings['routes']).toEqual([{ host: hosts, upstream: 'http://127.0.0.1:1' }]);
  });

  it('of wider names take none of the names that others have', () => {
    const wide = `listen 443 ssl; server_name *.example; ssl_certificate a.crt; ssl_certificate_key a.key;
      ssl_client_certificate ca.crt; ssl_verify_client on; ${TO_ONE}`;
    const elsewhere = 'listen 8443 ssl; server_name d.example; return 200;';
    const away = 'listen 443 ssl; server_name b.example; return 403;';
    const stranger = `listen 443 ssl; server_name .c.example; ssl_verify_client on; ssl_client_certificate x.crt; ${TO_ONE}`;
    const servers = [away, stranger, elsewhere].map((lines) => `server { ${lines} }`).join('\n');
    const text = beside(wide).replace(/\}\s*$/, `${servers} }`);
    const { settings, guards } = imported(text);
    // The names of a server with other trust are closed, also for whoever uses --force.
    expect(guards()).toEqual(['server']);
    expect(settings['listen.serverNames']).toEqual(['a.example', '*.example']);
    expect(settings['routes']).toEqual([
      { host: ['*.example'], upstream: 'http://127.0.0.1:1' },
      { host: ['a.example'] },
      { host: ['b.example', 'c.example', '*.c.example'], return: 403 },
    ]);
    const refusing = imported(
      text.replace(
        'server_name a.example;',
        'server_name a.example a2.example; if ($host != a.example) { return 403; }',
      ),
    );
    expect(refusing.settings['routes']).toContainEqual({
      host: expect.arrayContaining(['a2.example']) as unknown,
      return: 403,
    });
  });

  it('that turn strangers away keep their names from a wildcard of the main one', () => {
    const { settings, guards } = imported(
      beside('listen 443 ssl; server_name admin.example; return 403;').replace('a.example;', '*.example;'),
    );
    expect(guards()).toEqual([]);
    expect(settings['listen.serverNames']).toEqual(['*.example']);
    expect(settings['routes']).toEqual([{ host: ['admin.example'], return: 403 }]);
  });

  it('have the names that they share with a later one', () => {
    const first = (address: string): string[] =>
      imported(other(`listen ${address} ssl; server_name a.example; return 403;`)).guards();
    expect(first('443')).toEqual(['server']);
    expect(first('8443')).toEqual([]);
  });

  it('are written out, for people to edit', () => {
    const { settings } = b(`${TO_ONE} location = /x { return 200 b; }`);
    const text = settingsYaml(new Map(Object.entries(settings)));
    expect(text).not.toMatch(/[&*]a\d/);
    expect(text.match(/- b2\.example/g)).toHaveLength(3);
  });

  it('keep their locations apart', () => {
    const text = beside(`listen 443 ssl; server_name b.example; ssl_certificate a.crt; ssl_certificate_key a.key;
      ssl_client_certificate ca.crt; ssl_verify_client on; ${TO_ONE} location = /x { return 200 b; }`);
    const { settings } = imported(text);
    const main = imported(text.replace('server_name a.example;', 'server_name a.example; location /x/ { deny all; }'));
    const ofOther = [
      { host: ['b.example'], upstream: 'http://127.0.0.1:1' },
      { host: ['b.example'], path: '/x', return: '200 b' },
    ];
    expect(settings['routes']).toEqual(ofOther);
    expect(main.settings['routes']).toEqual([{ host: ['a.example'], path: '/x/*', return: 403 }, ...ofOther]);
  });

  it('show certificates of their own', () => {
    const own = imported(
      beside(`listen 443 ssl; server_name b.example; ssl_certificate b.crt; ssl_certificate_key b.key; ssl_password_file pw;
        ssl_client_certificate ca.crt; ssl_verify_client on; ${TO_ONE}`),
    );
    expect(own.settings).toMatchObject({ 'tls.cert': '/etc/nginx/a.crt' });
    const [cert, key, keyPassphraseFile] = ['b.crt', 'b.key', 'pw'].map((name) => `/etc/nginx/${name}`);
    expect(own.settings['tls.certificates']).toEqual([{ cert, key, keyPassphraseFile, serverNames: ['b.example'] }]);
  });

  it.each([
    ['verify', 'ssl_verify_client off;', { verify: 'off' }],
    ['verify', 'ssl_verify_client optional;', { verify: 'optional' }],
    ['limits', 'client_max_body_size 2m;', { body: '2MiB' }],
    ['rules', 'if ($ssl_client_s_dn != CN=a) { return 403; }', { allow: [{ subject: 'CN=a' }] }],
  ])('may differ in %s: %s', (_what, lines, keys) => {
    const { settings, guards } = imported(
      beside(`listen 443 ssl; server_name b.example; ssl_certificate a.crt; ssl_certificate_key a.key;
        ssl_client_certificate ca.crt; ${lines.startsWith('ssl_verify') ? '' : 'ssl_verify_client on;'} ${lines} ${TO_ONE}`),
    );
    expect(guards()).toEqual([]);
    expect(settings['routes']).toEqual([{ host: ['b.example'], upstream: 'http://127.0.0.1:1', ...keys }]);
    expect(settings['clientCert.verify']).toBe('required');
  });

  it('may send everybody elsewhere', () => {
    const { settings, guards } = imported(
      beside(`listen 443 ssl; server_name www.a.example; ssl_certificate a.crt; ssl_certificate_key a.key;
        return 301 https://a.example$request_uri;`),
    );
    expect(guards()).toEqual([]);
    const answer = '301 https://a.example$request_uri';
    expect(settings['routes']).toEqual([{ host: ['www.a.example'], verify: 'off', return: answer }]);
    const inLocation = imported(
      beside(`listen 443 ssl; server_name b.example; ssl_certificate a.crt; ssl_certificate_key a.key;
        ssl_client_certificate ca.crt; ssl_verify_client on; location / { return 404; } location /x { return 200 x; }`),
    );
    expect(inLocation.guards()).toEqual([]);
    expect(inLocation.settings['routes']).toEqual([
      { host: ['b.example'], return: 404 },
      { host: ['b.example'], path: '/x*', return: '200 x' },
    ]);
  });

  it.each([
    'ssl_client_certificate other.crt;',
    'ssl_client_certificate ca.crt; ssl_verify_depth 2;',
    'ssl_client_certificate ca.crt; ssl_crl list.pem;',
    'ssl_client_certificate ca.crt; ssl_protocols TLSv1.2;',
    'ssl_client_certificate ca.crt; ssl_ciphers ALL;',
    'ssl_client_certificate ca.crt; underscores_in_headers on;',
    'ssl_client_certificate ca.crt; set_real_ip_from 10.0.0.0/8;',
  ])('are guards, and closed, where trust or handshakes differ: %s', (lines) => {
    const { settings, guards } = imported(
      beside(`listen 443 ssl; server_name b.example; ssl_certificate a.crt; ssl_certificate_key a.key;
        ssl_verify_client on; ${lines} ${TO_ONE}`),
    );
    expect(guards()).toEqual(['server']);
    expect(settings).toEqual({ ...BASE, 'listen.serverNames': ['a.example'] });
  });

  it('are left out where they listen elsewhere', () => {
    const { settings, guards } = imported(
      beside(`listen 8443 ssl; server_name b.example; ssl_certificate a.crt; ssl_certificate_key a.key;
        ssl_client_certificate ca.crt; ssl_verify_client on; ${TO_ONE}`),
    );
    expect(guards()).toEqual([]);
    expect(settings).toEqual({ ...BASE, 'listen.serverNames': ['a.example'] });
  });

  it('open nothing that a condition about Host closes', () => {
    const { settings } = imported(
      beside(`listen 443 ssl; server_name b.example; ssl_certificate a.crt; ssl_certificate_key a.key;
        ssl_client_certificate ca.crt; ssl_verify_client on; ${TO_ONE}`).replace(
        'server_name a.example;',
        'server_name a.example a2.example; if ($host != a.example) { return 403; }',
      ),
    );
    expect(settings['listen.serverNames']).toEqual(['a.example', 'b.example']);
  });

  it('whose names cannot be kept apart are guards', () => {
    const text = other('listen 443 ssl; ssl_verify_client on; location / { root /x; }');
    const result = imported(text.replace('server_name a.example;', 'server_name a.*;'));
    expect(result.guards()).toHaveLength(1);
  });
});

describe('the format of the log', () => {
  it('is taken over with the variables that are known', () => {
    const main = `log_format main '$remote_addr - $remote_user [$time_local] "$request" ' '$status $body_bytes_sent "$http_x_forwarded_for"';`;
    const result = server('access_log /var/log/nginx/access.log main;', { httpLines: main });
    expect(result.settings['log.format']).toBe(
      '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_x_forwarded_for"',
    );
    expect(result.entry('log_format')?.fate).toBe('carried');
  });

  it('has - for those that are not', () => {
    const result = server('access_log logs/a.log j;', {
      httpLines: `log_format j escape=json '{"a":"$upstream_addr","s":$status}'; log_format unused '$x';`,
    });
    expect(result.settings).toMatchObject({ 'log.format': '{"a":"-","s":$status}', 'log.escape': 'json' });
    expect(result.entry('log_format j')).toMatchObject({ fate: 'changed' });
    expect(result.entry('log_format unused')).toMatchObject({ fate: 'not-needed' });
  });
});
