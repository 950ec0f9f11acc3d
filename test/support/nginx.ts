import type { ReportEntry } from '../../src/nginx/ledger.js';
import { parseConf } from '../../src/nginx/syntax.js';
import { translate } from '../../src/nginx/translate.js';

/** What became of a configuration. */
export interface Imported {
  /** Maps as plain objects. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly report: readonly ReportEntry[];
  readonly missing: readonly string[];
  /** The entry of the directive that begins so. */
  readonly entry: (start: string) => ReportEntry | undefined;
  /** Directives that guard access and are not carried. */
  readonly guards: () => string[];
}

/** Translates a text as `/etc/nginx/nginx.conf` under the prefix `/srv/nginx`; nothing is read but these files. */
export function imported(
  text: string,
  { files = {}, available = [] }: { files?: Readonly<Record<string, string>>; available?: readonly string[] } = {},
): Imported {
  const file = '/etc/nginx/nginx.conf';
  const all: Readonly<Record<string, string>> = { ...files, [file]: text };
  const tree = parseConf(file, {
    read(path) {
      const found = all[path];
      if (found === undefined) throw new Error(`${path}: no such file`);
      return found;
    },
    list: (pattern) => Object.keys(files).filter((path) => path.startsWith(pattern.slice(0, pattern.indexOf('*')))),
  });
  const { settings, report, missing } = translate(tree, {
    file,
    prefix: '/srv/nginx',
    available: (setting) => available.includes(setting),
  });
  return {
    settings: Object.fromEntries([...settings].map(([name, { value }]) => [name, plain(value)])),
    report,
    missing,
    entry: (start) => report.find(({ directive }) => directive.startsWith(start)),
    guards: () => report.filter(({ isGuard }) => isGuard).map(({ directive }) => directive),
  };
}

/** A configuration around these lines of a server that verifies its callers and forwards to loopback. */
export function mtlsServer(serverLines = '', { locationLines = '', httpLines = '' } = {}): string {
  return `
    events {}
    http {
      ${httpLines}
      server {
        listen 443 ssl;
        ssl_certificate a.crt;
        ssl_certificate_key a.key;
        ssl_client_certificate ca.crt;
        ssl_verify_client on;
        ${serverLines}
        location / {
          proxy_set_header Host $host;
          proxy_pass http://127.0.0.1:8080;
          ${locationLines}
        }
      }
    }`;
}

function plain(value: unknown): unknown {
  if (value instanceof Map) return Object.fromEntries([...value].map(([key, inner]) => [key, plain(inner)]));
  return Array.isArray(value) ? value.map(plain) : value;
}
