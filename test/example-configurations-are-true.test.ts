import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parse } from 'yaml';
import { describe, expect, it } from 'vitest';
import { loadConfig, loadConfigWithSources } from '../src/config/load.js';
import { SETTINGS } from '../src/config/schema.js';
import { REQUIRED } from './support/settings.js';

const example = fileURLToPath(new URL('../config/mtls-sidecar.yaml', import.meta.url));
const minimal = fileURLToPath(new URL('../config/minimal.yaml', import.meta.url));

describe('config/mtls-sidecar.yaml', () => {
  it('has every setting', () => {
    const { sources } = loadConfigWithSources({ file: example, env: {}, flags: REQUIRED });
    expect([...sources.keys()].sort()).toEqual([...SETTINGS.keys()].sort());
  });

  it('has every setting at its default', () => {
    const config = loadConfig({ file: example, env: {}, flags: REQUIRED });
    expect({ ...config, file: null }).toEqual(loadConfig({ env: {}, flags: REQUIRED }));
  });

  it('writes every default as the schema does', () => {
    const written = parse(readFileSync(example, 'utf8')) as Record<string, unknown>;
    for (const [name, setting] of SETTINGS) {
      const value = name.split('.').reduce<unknown>((at, key) => (at as Record<string, unknown>)[key], written);
      const byDefault = setting.default instanceof Map ? Object.fromEntries(setting.default) : setting.default;
      expect(value, name).toEqual(byDefault);
    }
  });
});

describe('config/minimal.yaml', () => {
  it('loads, and changes nothing but what it must', () => {
    const { sources } = loadConfigWithSources({ file: minimal, env: {} });
    expect([...sources.keys()]).toEqual(['tls.cert', 'tls.key', 'clientCert.ca', 'upstream.url']);
  });
});
