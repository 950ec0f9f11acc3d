import { carryClientCert } from './client-cert.js';
import { carryGuards } from './guards.js';
import { carryHeaders } from './headers.js';
import { Ledger, type CarriedSetting, type ReportEntry } from './ledger.js';
import { settle } from './leftovers.js';
import { carryLimits } from './limits.js';
import { carryListen } from './listen.js';
import { chooseLocation } from './location.js';
import { carryErrorLog, carryLogs } from './logs.js';
import { carryRealIp } from './real-ip.js';
import { carryRoute, setRoutes, type Site } from './routes.js';
import { Scope } from './scope.js';
import { chooseServer, httpLevel, namesOf } from './server.js';
import { carrySites } from './sites.js';
import type { Directive } from './syntax.js';
import { carryTls } from './tls.js';
import { carryUpstream } from './upstream.js';
import { named, type ImportOptions, type Work } from './work.js';

/** An nginx configuration in our words. */
export interface Translation {
  /** By full name, as they would be written in a settings file. */
  readonly settings: ReadonlyMap<string, CarriedSetting>;
  /** One entry for each directive. */
  readonly report: readonly ReportEntry[];
  /** What no setting could stand in for: nothing can be served without it, forced or not. */
  readonly missing: readonly string[];
}

/** Translates a configuration, and says of each directive what became of it. */
export function translate(tree: readonly Directive[], options: ImportOptions): Translation {
  const ledger = new Ledger();
  const http = httpLevel(tree, ledger);
  const { main: server, others } = chooseServer(http, ledger);
  if (server !== null) carryServer({ server, http, ledger, options }, others);
  for (const directive of http === tree ? [] : named(tree, 'error_log')) carryErrorLog(directive, ledger);
  settle(tree, ledger, options);
  return { settings: ledger.settings, report: ledger.report(tree), missing: missing(server, ledger) };
}

function carryServer(parts: Pick<Work, 'server' | 'http' | 'ledger' | 'options'>, others: readonly Directive[]): void {
  const { server, http, ledger } = parts;
  const reach = chooseLocation(server, { http, ledger });
  const levels = [reach.location?.block ?? [], server.block ?? [], http];
  const work: Work = { ...parts, location: reach.location, scope: new Scope(levels, ledger) };
  carryListen(work);
  carryTls(work);
  carryClientCert(work);
  carryUpstream(work);
  carryGuards(work, reach);
  carryHeaders(work);
  carryLimits(work);
  carryLogs(work);
  carryRealIp(work);
  const sites = carrySites(work, others);
  // Without other sites its locations are for every host.
  const site: Site = { server, hosts: sites.length === 0 ? null : namesOf(server) };
  const own = reach.routes.map((location) => carryRoute(work, site, location));
  setRoutes(work, [...own, ...sites], reach.routes[0] ?? others[0] ?? server);
}

function missing(server: Directive | null, { settings }: Ledger): string[] {
  if (server === null) return ['there is no server with listen … ssl'];
  return settings.has('upstream.url') ? [] : [`the server of line ${server.line} has nothing that could be served`];
}
