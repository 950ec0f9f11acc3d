import { loadConfig } from '../../src/config/load.js';
import type { Config } from '../../src/config/config.js';
import { ConfigError } from '../../src/errors.js';

/** The settings without which nothing starts. */
export const REQUIRED = { 'tls.cert': '/c.pem', 'tls.key': '/k.pem', 'clientCert.ca': '/ca.pem' } as const;

type Texts = Readonly<Record<string, string>>;

/** A configuration of the required settings and these flags, untouched by the environment of the test run. */
export const configured = (flags: Texts = {}): Config => loadConfig({ flags: { ...REQUIRED, ...flags }, env: {} });

/** The problems of a configuration; none when it loads. */
export function problemsOf(load: () => unknown): readonly string[] {
  try {
    load();
    return [];
  } catch (error) {
    if (error instanceof ConfigError) return error.problems;
    throw error;
  }
}

/** The problems of the required settings and these flags. */
export const refused = (flags: Texts): readonly string[] => problemsOf(() => configured(flags));
