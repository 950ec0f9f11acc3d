import { describe, expect, it } from 'vitest';
import { configured, refused } from './support/settings.js';

const problems = (routes: string, more: Readonly<Record<string, string>> = {}): readonly string[] =>
  refused({ 'clientCert.ca': 'ca.pem', routes, ...more });

const WHERE = 'routes (flag --routes): ';

describe('refused:', () => {
  it.each<[string, string, string, Record<string, string>?]>([
    ['something else than a list', '{"path":"/a"}', 'must be a list of routes'],
    ['something else than a route', '["/a"]', 'route 1: must be a map'],
    ['a route for everything', '[{"verify":"off"}]', 'route 1: needs a path (or a host)'],
    ['the same, with a star', '[{"path":"/*","verify":"off"}]', 'route 1 ("/*"): needs a path (or a host)'],
    ['an unknown key', '[{"path":"/a","verfy":"off"}]', 'verfy is unknown (did you mean verify?)'],
    ['a key of Object', '[{"path":"/a","__proto__":{"x":1}}]', '__proto__ is unknown'],
    ['a path that is none', '[{"path":"a"}]', 'path must begin with /'],
    ['a path with an escape', '[{"path":"/%61"}]', 'path must begin with /'],
    ['a path with dots', '[{"path":"/a/../b"}]', 'path must begin with /'],
    ['a path with two slashes', '[{"path":"//a"}]', 'path must begin with /'],
    ['a path with a query', '[{"path":"/a?b"}]', 'path must begin with /'],
    ['a path with parameters', '[{"path":"/a;b"}]', 'path must begin with /'],
    ['a path beyond ASCII', '[{"path":"/ä"}]', 'path must begin with /'],
    ['a star in the middle', '[{"path":"/a/*/b"}]', 'path may hold a star at its end alone'],
    ['a host that is none', '[{"host":"a/b"}]', 'host must be a list of host names'],
    ['an unknown mode', '[{"path":"/a","verify":"maybe"}]', 'verify must be one of required'],
    ['a bad rule', '[{"path":"/a","allow":[{"cn":"a"}]}]', 'allow rule 1: unknown condition "cn"'],
    ['a bad upstream', '[{"path":"/a","upstream":"ftp://a"}]', 'upstream must be http://HOST:PORT'],
    ['a bad size', '[{"path":"/a","body":"1MB"}]', 'body must be a size'],
    ['a bad deadline', '[{"path":"/a","headTimeout":"never"}]', 'headTimeout must be a duration'],
    [
      'a header that frames',
      '[{"path":"/a","headers":{"Connection":"text:close"}}]',
      'headers "Connection" has a meaning',
    ],
    ['two routes for one path', '[{"path":"/a"},{"path":"/a"}]', 'routes 1 and 2 are both for /a'],
    ['two for one host', '[{"host":["a","b"]},{"host":"b","path":"/*"}]', 'routes 1 and 2 are both for b/*'],
    ['a status that is none', '[{"path":"/a","return":100}]', 'return must be a status from 200 to 599'],
    ['a redirect to nowhere', '[{"path":"/a","return":301}]', 'return of a redirect must be followed by'],
    ['a redirect to another scheme', '[{"path":"/a","return":"301 javascript:x"}]', 'return of a redirect'],
    ['a redirect to two slashes', '[{"path":"/a","return":"301 //a.example/"}]', 'return of a redirect'],
    ['a redirect to a backslash', '[{"path":"/a","return":"301 /\\\\a.example/"}]', 'return of a redirect'],
    ['a redirect to a target alone', '[{"path":"/a","return":"301 $request_uri"}]', 'return of a redirect'],
    ['a redirect to a slash and a target', '[{"path":"/a","return":"301 /$request_uri"}]', 'return of a redirect'],
    ['a redirect to a longer host', '[{"path":"/a","return":"301 https://a.example$host/"}]', 'return of a redirect'],
    [
      'a redirect by another variable',
      '[{"path":"/a","return":"301 https://a.example/$arg_x"}]',
      'return of a redirect',
    ],
    [
      'a redirect with a line end',
      '[{"path":"/a","return":"301 https://a.example/\\r\\nX: y"}]',
      'return of a redirect',
    ],
    [
      'a redirect to whatever host',
      '[{"path":"/a","return":"301 https://$host/"}]',
      'needs host or listen.serverNames',
    ],
    ['a text where there is none', '[{"path":"/a","return":"204 none"}]', '204 has no text'],
    ['a type with a line end', '[{"path":"/a","return":200,"type":"a/b\\r\\nc: d"}]', 'type must be a content type'],
    ['a type for nothing', '[{"path":"/a","type":"a/b"}]', 'type has no effect without return'],
    [
      'an application that is not asked',
      '[{"path":"/a","return":200,"upstream":"http://127.0.0.1:1"}]',
      'upstream has no effect',
    ],
    ['a replacement that joins slashes', '[{"path":"/a*","replaceWith":"/"}]', 'replaceWith must end in /'],
    ['a replacement that joins names', '[{"path":"/a/*","replaceWith":"/b"}]', 'replaceWith must end in /'],
    ['a replacement for everything', '[{"host":"a","replaceWith":"/b/"}]', 'replaceWith needs a path'],
    [
      'rules for nobody',
      '[{"path":"/a","verify":"off","allow":[{"commonName":"a"}]}]',
      'clientCert.allow has nothing to match',
    ],
    ['another machine', '[{"path":"/a","upstream":"http://192.0.2.1"}]', 'upstream.url is not this machine'],
    ['an index without files', '[{"path":"/a","index":["a.html"]}]', 'upstream.index is of use with a file: upstream'],
    [
      'presets that cannot say unverified',
      '[{"path":"/a","verify":"optional-no-ca"}]',
      'identity.presets must be without xfcc',
      { 'identity.presets': '[nginx, xfcc]' },
    ],
    [
      'a header of the identity',
      '[{"path":"/a","headers":{"X-SSL-Client-CN":"text:a"}}]',
      'forwarded.headers must not set X-SSL-Client-CN',
    ],
    [
      'a host that is not served',
      '[{"host":"b"}]',
      'host b is not among listen.serverNames',
      { 'listen.serverNames': '[a]' },
    ],
    [
      'a wildcard that is wider than what is served',
      '[{"host":["x.a.example","*.b.a.example","*.example"]}]',
      'host *.example is not among listen.serverNames',
      { 'listen.serverNames': '["*.a.example"]' },
    ],
    [
      'no CA for the one that asks',
      '[{"path":"/a","verify":"required"}]',
      'clientCert.ca is required',
      { 'clientCert.ca': 'null', 'clientCert.verify': 'off' },
    ],
  ])('%s', (_what, routes, message, more) => {
    const found = problems(routes, more);
    expect(found).toEqual([expect.stringContaining(message)]);
    expect(found[0]).toMatch(/^routes \(flag --routes\): /);
  });

  it('every mistake at once, with the place', () => {
    expect(problems('[{"path":"a","verify":"x"},{"path":"/b","x":1}]')).toEqual([
      expect.stringMatching(/route 1 \("a"\): path .*; route 1 \("a"\): verify .*; route 2 \("\/b"\): x is unknown/),
    ]);
    expect(problems('[{"path":"/b","upstream":"http://192.0.2.1"}]')[0]).toContain(
      `${WHERE}route 1 ("/b"): upstream.url`,
    );
  });
});

describe('taken', () => {
  it.each([
    '[{"path":"/healthz","verify":"off","return":200}]',
    '[{"path":"/admin/*","allow":[{"commonName":"a"}],"upstream":"http://127.0.0.1:8082"}]',
    '[{"path":"/admin/**"}]',
    '[{"path":"/a","upstream":"http://192.0.2.1","unsafeRemote":true}]',
    '[{"path":"/a","return":"301 https://a.example$request_uri"},{"path":"/b","return":"308 /c$request_uri"},{"path":"/c","return":"302 /"}]',
    '[{"host":"a.example","return":"301 http://$host:8080$request_uri"}]',
    '[{"path":"/a","host":["a","b"]},{"path":"/a"},{"path":"/a","host":"c"}]',
  ])('%s', (routes) => expect(problems(routes)).toEqual([]));

  it('as settings with some replaced', () => {
    const { routes } = configured({
      'clientCert.ca': 'ca.pem',
      'clientCert.allow': '[{"commonName":"a"}]',
      'upstream.url': 'http://192.0.2.1',
      'upstream.unsafeRemote': 'true',
      'upstream.headTimeout': '5s',
      'forwarded.headers': '{"X-A":"scheme","X-B":"host"}',
      routes: `[
        {"path":"/a","headers":{"X-B":"none","X-C":"text:c"},"body":"2KiB"},
        {"path":"/b/**","verify":"off","upstream":"unix:/run/b.sock"},
        {"path":"/c","return":"200 \\"quoted text\\""},
        {"path":"/d","allow":[]}
      ]`,
    });
    const [a, b, c, d] = routes;
    expect(a).toMatchObject({ name: '/a', clientCert: { allow: [{ commonName: 'a' }] }, limits: { body: 2048 } });
    expect(a?.forwarded.headers).toEqual({ 'X-A': 'scheme', 'X-B': 'none', 'X-C': 'text:c' });
    // Nobody is asked, so there is nobody whom rules could be about.
    expect(b).toMatchObject({ name: '/b/*', clientCert: { verify: 'off', allow: [] } });
    // What permits one application to be far away is not meant for another.
    expect(b?.upstream).toMatchObject({ unsafeRemote: false, headTimeout: 5000, address: { kind: 'unix' } });
    expect(c?.upstream.address).toMatchObject({ kind: 'answer', answer: { status: 200, body: 'quoted text' } });
    expect(d?.clientCert.allow).toEqual([]);
    expect(Object.isFrozen(a?.clientCert)).toBe(true);
  });
});
