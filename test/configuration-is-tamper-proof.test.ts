import { afterAll, describe, expect, it } from 'vitest';
import { loadConfig } from '../src/config/load.js';
import { REQUIRED, configured, problemsOf } from './support/settings.js';
import { temporaryDirectory, writePem } from './support/pki.js';

const dir = temporaryDirectory();
afterAll(() => dir.remove());

function frozenAllTheWay(value: unknown): boolean {
  if (typeof value !== 'object' || value === null) return true;
  return Object.isFrozen(value) && Object.values(value).every(frozenAllTheWay);
}

describe('a configuration', () => {
  it('is frozen all the way down', () => {
    const config = configured({
      'clientCert.allow': '[{"commonName":"a","methods":["GET"]}]',
      'identity.headers': '{"X-A":"serial"}',
    });
    expect(frozenAllTheWay(config)).toBe(true);
    expect(() => Object.assign(config.tls, { legacy: true })).toThrow(TypeError);
  });

  it('does not share its lists with the next one', () => {
    expect(configured().identity.presets).toEqual(['nginx']);
    expect(configured().clientCert.allow).toEqual([]);
  });

  it.each([
    '__proto__: {polluted: yes}',
    'constructor: {prototype: {polluted: yes}}',
    'tls: {__proto__: {polluted: yes}}',
    'identity: {__proto__: {headers: {X-A: verify}}}',
    'listen: {constructor: {prototype: {polluted: yes}}}',
  ])('reads %s as an unknown setting, and pollutes nothing', (text) => {
    const file = writePem(dir.path, 'sidecar.yaml', `${text}\n`);
    const problems = problemsOf(() => loadConfig({ file, env: {}, flags: REQUIRED }));
    expect(problems).toEqual([expect.stringContaining('there is no such setting')]);
    expect(({} as Record<string, unknown>)['polluted']).toBeUndefined();
  });

  it('keeps a header named __proto__ a header', () => {
    const { headers } = configured({ 'identity.headers': '{"__proto__":"serial","X-A":"verify"}' }).identity;
    expect(Object.getPrototypeOf(headers)).toBe(Object.prototype);
    expect(Object.entries(headers)).toEqual([
      ['__proto__', 'serial'],
      ['X-A', 'verify'],
    ]);
  });
});
