import { onTestFinished } from 'vitest';
import { startApp, type App } from '../../src/app.js';
import { loadConfig } from '../../src/config/load.js';
import { loadCredentials } from '../../src/trust/credentials.js';
import { ask } from './ask.js';
import { makePki, temporaryDirectory, writePem, writePki, type Pki } from './pki.js';

/** One line of the log, parsed. */
export type LogLine = Readonly<Record<string, unknown>> & { readonly msg: string; readonly level: string };

export interface SidecarOptions {
  readonly pki?: Pki;
  /** Any settings, as flags: `{'limits.body': '1KiB'}`. */
  readonly settings?: Readonly<Record<string, string>>;
  /** PEM texts to put in place of, or beside, the usual files; the setting gets the path. */
  readonly files?: Readonly<Record<string, string>>;
  /** Text of a settings file, read again at each reload. */
  readonly yaml?: string;
  /** `http://127.0.0.1:port` or `unix:/path`. */
  readonly upstream?: string;
}

/** A sidecar in this process, over real sockets, with everything it says kept. */
export interface Sidecar {
  readonly app: App;
  readonly port: number;
  readonly adminPort: number;
  readonly pki: Pki;
  /** Where the files are, for tests that change them. */
  readonly directory: string;
  readonly paths: ReturnType<typeof writePki>;
  readonly log: readonly LogLine[];
  /** Resolves with the first line, past or future, that the test accepts. */
  logged(test: (line: LogLine) => boolean): Promise<LogLine>;
  /** Access records so far. */
  requests(): LogLine[];
  /** Refusal records so far. */
  refusals(): LogLine[];
  /** The value of a metric line such as `mtls_sidecar_handshakes_total{result="refused",reason="expired"}`; 0 when absent. */
  metric(line: string): Promise<number>;
  admin(path: string, method?: string): Promise<{ readonly status: number; readonly body: string }>;
  stop(): Promise<void>;
}

/** Starts a sidecar on free ports. Stop it in `afterEach` or `afterAll`. */
export async function startSidecar(options: SidecarOptions = {}): Promise<Sidecar> {
  const pki = options.pki ?? makePki();
  const directory = temporaryDirectory();
  const paths = writePki(directory.path, pki);
  const extra = Object.entries(options.files ?? {}).map(([setting, pem]) => {
    return [setting, writePem(directory.path, `${setting}.pem`, pem)] as const;
  });
  const file = options.yaml === undefined ? null : writePem(directory.path, 'sidecar.yaml', options.yaml);
  const readConfig = () =>
    loadConfig({
      env: {},
      file,
      flags: {
        'listen.host': '127.0.0.1',
        'listen.port': '0',
        'admin.port': '0',
        'tls.cert': paths.cert,
        'tls.key': paths.key,
        'clientCert.ca': paths.ca,
        'upstream.url': options.upstream ?? 'http://127.0.0.1:1',
        ...Object.fromEntries(extra),
        ...options.settings,
      },
    });
  const config = readConfig();
  const sink = createLogSink();
  const app = await startApp(config, loadCredentials(config), { logTo: sink, readConfig });
  const adminPort = app.adminAddress?.port ?? 0;
  return {
    app,
    pki,
    paths,
    directory: directory.path,
    adminPort,
    port: app.address.port,
    log: sink.lines,
    logged: (test) => sink.find(test),
    requests: () => sink.lines.filter(({ msg }) => msg === 'request'),
    refusals: () => sink.lines.filter(({ msg }) => msg === 'connection refused'),
    metric: async (line) => metricOf((await ask(adminPort, '/metrics')).body, line),
    admin: (path, method) => ask(adminPort, path, method),
    stop: async () => {
      await app.close();
      directory.remove();
    },
  };
}

/** The same, stopped when the test that it is called in is over. */
export async function sidecarForTest(options: SidecarOptions = {}): Promise<Sidecar> {
  const sidecar = await startSidecar(options);
  onTestFinished(() => sidecar.stop());
  return sidecar;
}

function createLogSink() {
  const lines: LogLine[] = [];
  const waiting = new Set<(line: LogLine) => void>();
  return {
    lines,
    write(text: string) {
      for (const json of text.split('\n').filter((part) => part !== '')) {
        const line = JSON.parse(json) as LogLine;
        lines.push(line);
        for (const look of [...waiting]) look(line);
      }
    },
    find(test: (line: LogLine) => boolean): Promise<LogLine> {
      const past = lines.find(test);
      if (past !== undefined) return Promise.resolve(past);
      return new Promise((resolve) => {
        const look = (line: LogLine): void => {
          if (!test(line)) return;
          waiting.delete(look);
          resolve(line);
        };
        waiting.add(look);
      });
    },
  };
}

function metricOf(text: string, line: string): number {
  const found = text.split('\n').find((candidate) => candidate.startsWith(`${line} `));
  return found === undefined ? 0 : Number(found.slice(line.length + 1));
}
