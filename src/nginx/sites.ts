import { carryClientCert } from './client-cert.js';
import { Ledger } from './ledger.js';
import { carryLimits } from './limits.js';
import { carryListen, isTlsListen, listenAddress, type Address } from './listen.js';
import { chooseLocation, type Reach } from './location.js';
import { carryLogs } from './logs.js';
import { carryRealIp } from './real-ip.js';
import { answerOfServer, carryRoute, carrySite, type CarriedRoute, type Site } from './routes.js';
import { Scope } from './scope.js';
import { hostsOf, leave, namesOf, turnsAway } from './server.js';
import type { Directive } from './syntax.js';
import { carryTls } from './tls.js';
import { forAll, named, type Work } from './work.js';

/**
 * Carries the servers beside the main one: those that share its address, and all that a handshake is made of but the
 * certificate. Each becomes routes for its names.
 *
 * The names of all become `listen.serverNames`. So a Host other than the name in the handshake gets 421, as nginx answers it
 * where callers are verified, and no request is left to a server that would be nobody's.
 */
export function carrySites(main: Work, others: readonly Directive[]): CarriedRoute[] {
  const names = namesOf(main.server);
  const taken = new Set(names ?? []);
  const left: string[] = [];
  const certificates: ReadonlyMap<string, unknown>[] = [];
  const routes = others.flatMap((server) => {
    const hosts = ownNames(server, taken);
    const reason = hosts.length === 0 || names === null ? ELSEWHERE : obstacleOf(server, main);
    const isThere = reason === null || sharesPort(server, main.server);
    for (const name of isThere ? hosts : []) taken.add(name);
    const shared = sharesEarlier(server, main, names ?? []);
    if (shared !== undefined)
      main.ledger.guardLost(server, `nginx takes it for ${shared}: give that name to one server`);
    if (reason !== null) {
      leave(server, { main: main.server, names, ledger: main.ledger, reason });
      left.push(...(isThere ? hosts : []));
      return [];
    }
    certificates.push(...certificateOf(server, hosts, main));
    shareNames(main, hosts);
    return carryServer(main, { server, hosts });
  });
  if (certificates.length > 0) main.ledger.set('tls.certificates', certificates, others[0] ?? main.server);
  return [...routes, ...exceptions(main, { names: names ?? [], left })];
}

/**
 * Routes for names that a wildcard would answer to: those of the main server go its way where the wildcard is another's, and
 * those of servers that are left out (or that the main one refuses) nowhere.
 */
function exceptions(
  main: Work,
  { names, left }: { readonly names: readonly string[]; readonly left: readonly string[] },
) {
  const served = servedNames(main);
  const theirs = served.filter((name) => !names.includes(name));
  const within = (all: readonly string[]) => (name: string) => all.some((each) => isWithin(name, each));
  const own = names.filter((name) => served.includes(name)).filter(within(theirs));
  const closed = [...names, ...left].filter((name) => !served.includes(name)).filter(within(served));
  return [
    ...(own.length > 0 ? [new Map<string, unknown>([['host', own]])] : []),
    ...(closed.length > 0
      ? [
          new Map<string, unknown>([
            ['host', closed],
            ['return', 403],
          ]),
        ]
      : []),
  ];
}

function isWithin(name: string, served: string): boolean {
  return name === served || (served.startsWith('*.') && name.endsWith(served.slice(1)));
}

function servedNames({ ledger }: Work): readonly string[] {
  return (ledger.settings.get('listen.serverNames')?.value ?? []) as readonly string[];
}

/** Adds to the names of the main server, which an `if ($host != …)` may have made fewer. */
function shareNames(main: Work, names: readonly string[]): void {
  const { ledger, server } = main;
  const before = servedNames(main);
  ledger.settings.delete('listen.serverNames');
  ledger.set('listen.serverNames', [...before, ...names], named(server.block, 'server_name')[0] ?? server);
}

/** Names that can be listed; of servers that share one nginx takes the first. */
function ownNames({ block }: Directive, taken: ReadonlySet<string>): string[] {
  const names = named(block, 'server_name').flatMap(({ args }) => args.flatMap(hostsOf));
  return [...new Set(names)].filter((name) => !taken.has(name));
}

/** Why a server cannot share the process. */
export interface Obstacle {
  readonly text: string;
  /** Whether it is about who gets in, or how traffic is protected. */
  readonly isGuard: boolean;
}

const ELSEWHERE: Obstacle = { text: 'its names get 421: run a sidecar of its own for it', isGuard: false };

function obstacleOf(server: Directive, main: Work): Obstacle | null {
  if (turnsAway(server) || addressesOf(server) !== addressesOf(main.server)) return ELSEWHERE;
  const different = differences(server, main).find(({ setting }) => isGuarded(setting));
  if (different === undefined) return null;
  return { text: `it differs in ${different.setting}: run a sidecar of its own for it`, isGuard: true };
}

function addressesOf(server: Directive): string {
  const addresses = listensOf(server).map((found) => (found === null ? '' : `${found.host} ${found.port}`));
  return addresses.sort().join();
}

function sharesPort(server: Directive, other: Directive): boolean {
  const ports = listensOf(other).map((found) => found?.port);
  return listensOf(server).some((found) => ports.includes(found?.port));
}

/** A name that nginx gives to a server because it stands before the main one, which has it as well. */
function sharesEarlier(server: Directive, { http, server: main }: Work, names: readonly string[]): string | undefined {
  if (http.indexOf(server) > http.indexOf(main)) return undefined;
  const isTheSame = (one: Address | null, two: Address | null): boolean =>
    one !== null && one.host === two?.host && one.port === two.port;
  const meets = listensOf(server).some((one) => listensOf(main).some((two) => isTheSame(one, two)));
  return meets ? ownNames(server, new Set()).find((name) => names.includes(name)) : undefined;
}

function listensOf(server: Directive): (Address | null)[] {
  return named(server.block, 'listen')
    .filter((listen) => isTlsListen(listen, server))
    .map(listenAddress);
}

/** The settings that a server would have, besides those that a route can have of its own. */
function sharedSettings(server: Directive, main: Work, ledger = new Ledger()): Ledger['settings'] {
  const levels = [server.block ?? [], main.http];
  const work: Work = { ...main, server, location: null, ledger, scope: new Scope(levels, ledger) };
  carryListen(work);
  carryTls(work);
  carryClientCert(work);
  carryLimits(work);
  carryLogs(work);
  carryRealIp(work);
  return ledger.settings;
}

/** What each route, or each entry of `tls.certificates`, may have of its own. */
const OF_SITES =
  /^(?:tls\.(?:cert|key|keyPassphraseFile)|clientCert\.verify|upstream\..*|limits\.(?:body|bodyIdleTimeout|tunnelIdleTimeout))$/;

function isGuarded(setting: string): boolean {
  return !/^(?:log|limits)\.|^listen\.http2$/.test(setting);
}

interface Difference {
  readonly setting: string;
  readonly from: { readonly file: string; readonly line: number } | undefined;
}

/** What nginx takes where nobody says anything. */
const DEFAULTS: Readonly<Record<string, unknown>> = { 'clientCert.depth': 1 };

function differences(server: Directive, main: Work): Difference[] {
  const own = sharedSettings(server, main);
  const usual = sharedSettings(main.server, main);
  const asksNobody = own.get('clientCert.verify')?.value === 'off';
  return (
    [...new Set([...own.keys(), ...usual.keys()])]
      .filter((setting) => !OF_SITES.test(setting) && !(asksNobody && setting.startsWith('clientCert.')))
      // Parameters of an address are those of all its servers.
      .filter((setting) => !setting.startsWith('listen.') || own.has(setting))
      .filter((setting) => {
        const [one, two] = [own, usual].map((all) => all.get(setting)?.value ?? DEFAULTS[setting]);
        return JSON.stringify(one) !== JSON.stringify(two);
      })
      .map((setting) => ({ setting, from: own.get(setting) }))
  );
}

function carryServer(main: Work, site: Site): CarriedRoute[] {
  const { server } = site;
  const { ledger } = main;
  ledger.carried(server, `routes for ${site.hosts?.join(' ')}`);
  for (const directive of named(server.block, 'server_name')) {
    const isWhole = directive.args.every((name) => hostsOf(name).length > 0);
    if (isWhole) ledger.changed(directive, 'the host of its routes; requests for other names get 421');
    else ledger.changed(directive, 'regular expressions and names with a star at the end get 421: write them out');
  }
  sharedSettings(server, main, ledger.forRoute());
  for (const { from } of differences(server, main)) giveWay(server, from, main);
  if (answerOfServer(server) !== undefined) {
    for (const location of named(server.block, 'location')) {
      forAll(location, (each) => ledger.notNeeded(each, 'the server answers before it looks for a location'));
    }
    return [carrySite(main, site, NOWHERE)];
  }
  const reach = chooseLocation(server, { http: main.http, ledger, mayAnswer: true });
  return [carrySite(main, site, reach), ...reach.routes.map((location) => carryRoute(main, site, location))];
}

function giveWay(server: Directive, from: Difference['from'], { ledger, server: main }: Work): void {
  forAll(server, (each) => {
    if (each.line !== from?.line || each.file !== from.file || each === server) return;
    ledger.replaced(each, `what the server of line ${main.line} says holds for all`);
  });
}

const NOWHERE: Reach = { location: null, paths: null, routes: [] };

/** The entry for its names, unless it shows the certificate that the main server shows. */
function certificateOf(server: Directive, serverNames: readonly string[], main: Work): Map<string, unknown>[] {
  const own = sharedSettings(server, main);
  const [cert, key, phrase] = ['tls.cert', 'tls.key', 'tls.keyPassphraseFile'].map((name) => own.get(name)?.value);
  if (cert === undefined || cert === main.ledger.settings.get('tls.cert')?.value) return [];
  const words = phrase === undefined ? [] : ([['keyPassphraseFile', phrase]] as const);
  return [new Map<string, unknown>([['cert', cert], ['key', key], ...words, ['serverNames', serverNames]])];
}
