import type { Ledger } from './ledger.js';
import { isTlsServer } from './listen.js';
import type { Directive } from './syntax.js';
import { forAll, named } from './work.js';

/** The level that servers stand in: `http`, or the top of a file of `conf.d`. */
export function httpLevel(tree: readonly Directive[], ledger: Ledger): readonly Directive[] {
  const blocks = named(tree, 'http');
  for (const block of blocks) ledger.carried(block);
  return blocks.length === 0 ? tree : blocks.flatMap(({ block }) => block ?? []);
}

/** The mode in force for a server. */
export function verifyMode(server: Directive, http: readonly Directive[]): string {
  const own = named(server.block, 'ssl_verify_client').at(-1) ?? named(http, 'ssl_verify_client').at(-1);
  return own?.args[0] ?? 'off';
}

/** The servers that are there. */
export interface Servers {
  /** The one that becomes the settings; null when there is none with TLS. */
  readonly main: Directive | null;
  /** The others with TLS. */
  readonly others: readonly Directive[];
}

/**
 * Chooses the server that becomes the settings: one with TLS, that serves something, and preferably verifies its callers.
 * Those without TLS are reported as not carried.
 */
export function chooseServer(http: readonly Directive[], ledger: Ledger): Servers {
  const servers = named(http, 'server').filter(({ block }) => block !== null);
  const tls = servers.filter(isTlsServer);
  const serving = tls.filter((server) => !turnsAway(server));
  const answering = serving.filter(({ block }) => named(block, 'return').length === 0);
  const verifying = (each: Directive): boolean => verifyMode(each, http) !== 'off';
  const main = answering.find(verifying) ?? serving.find(verifying) ?? answering[0] ?? serving[0] ?? null;
  for (const server of servers) {
    if (main === null || !tls.includes(server)) leavePlain(server, ledger);
  }
  if (main === null) return { main, others: [] };
  ledger.carried(main);
  carryNames(main, tls.length > 1, ledger);
  return { main, others: tls.filter((server) => server !== main) };
}

/** A server without TLS: nobody reaches anything by it here. */
function leavePlain(server: Directive, ledger: Ledger): void {
  const sendsToTls = waysOf(server).every(
    ({ name, args }) => name === 'return' && /^(?:30[12378] )?https:\/\//.test(args.join(' ')),
  );
  if (!sendsToTls) {
    const reason = { text: 'nothing listens for plain HTTP here: keep nginx for it', isGuard: false };
    return leave(server, { main: null, names: [], ledger, reason });
  }
  const text =
    'it only sends callers to https. Nothing listens for plain HTTP here; on the TLS port listen.plainHttp redirects';
  forAll(server, (each) => ledger.notNeeded(each, each === server ? text : `see line ${server.line}`));
}

/** What answers: the server itself, or its locations. */
function waysOf({ block }: Directive): Directive[] {
  const own = named(block, 'return');
  const locations = named(block, 'location').map((each) => named(each.block, 'return')[0] ?? each);
  return own.length > 0 ? own : locations.length > 0 ? locations : [...(block ?? [])];
}

/** A server that is there to refuse strangers: a handshake rejected, or an error for everything. */
export function turnsAway({ block }: Directive): boolean {
  if (named(block, 'ssl_reject_handshake').some(({ args }) => args[0] === 'on')) return true;
  const refuses = named(block, 'return').some(({ args: [status = ''] }) => /^4\d\d$/.test(status));
  return refuses && named(block, 'location').length === 0;
}

interface Reason {
  readonly text: string;
  readonly isGuard: boolean;
}

interface Leaving {
  readonly main: Directive | null;
  /** Host names that the main server alone answers to; null when they cannot be listed. */
  readonly names: readonly string[] | null;
  readonly ledger: Ledger;
  readonly reason: Reason;
}

/** Leaves a server out, with all that is in it. */
export function leave(server: Directive, { main, names, ledger, reason }: Leaving): void {
  if (names === null) {
    ledger.guardLost(server, `its names are now answered by the server of line ${main?.line}`);
  } else if (turnsAway(server))
    ledger.changed(server, 'names that nobody serves get 421 (listen.serverNames), or 403 under a wildcard of another');
  else if (reason.isGuard) ledger.guardLost(server, reason.text);
  else ledger.lost(server, reason.text);
  forAll(server, (inner) => ledger.lost(inner, `its server (line ${server.line}) is not carried`));
}

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/;

/** What a `server_name` stands for, in our words; none for regular expressions, a star at the end, and the catch-all. */
export function hostsOf(name: string): readonly string[] {
  const [, star, rest = ''] = /^(\*?\.)?(.*)$/s.exec(name.toLowerCase()) ?? [];
  if (!HOST_NAME.test(rest)) return [];
  if (star === undefined) return [rest];
  return star === '.' ? [rest, `*.${rest}`] : [`*.${rest}`];
}

/** All names of a server, in lower case; null when it has none, or one that cannot be listed. */
export function namesOf({ block }: Directive): readonly string[] | null {
  const hosts = named(block, 'server_name').flatMap(({ args }) => args.map(hostsOf));
  return hosts.length > 0 && hosts.every((each) => each.length > 0) ? hosts.flat() : null;
}

function carryNames(server: Directive, hasOthers: boolean, ledger: Ledger): void {
  const names = namesOf(server);
  for (const directive of named(server.block, 'server_name')) {
    if (!hasOthers)
      ledger.notNeeded(directive, 'a single server answers to every name; listen.serverNames is stricter');
    else if (names === null)
      ledger.lost(directive, 'regular expressions, a star at the end and _ cannot be listed in listen.serverNames');
    else {
      ledger.set('listen.serverNames', names, directive);
      ledger.changed(directive, 'requests for other names get 421');
    }
  }
}
