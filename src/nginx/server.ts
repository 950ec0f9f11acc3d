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

/**
 * The server that becomes the sidecar: one with TLS, that serves something, and preferably verifies its callers. The
 * others are reported as not carried.
 */
export function chooseServer(http: readonly Directive[], ledger: Ledger): Directive | null {
  const servers = named(http, 'server').filter(({ block }) => block !== null);
  const tls = servers.filter(isTlsServer);
  const serving = tls.filter((server) => !turnsAway(server));
  const chosen = serving.find((server) => verifyMode(server, http) !== 'off') ?? serving[0] ?? null;
  if (chosen !== null) ledger.carried(chosen);
  const others = servers.filter((server) => server !== chosen);
  const names = chosen === null ? null : literalNames(chosen);
  for (const other of others) leave(other, { chosen, names, http, ledger, tls: tls.includes(other) });
  if (chosen !== null) carryNames(chosen, tls.length > 1, names, ledger);
  return chosen;
}

/** A server that is there to refuse strangers: a handshake rejected, or an error for everything. */
function turnsAway({ block }: Directive): boolean {
  if (named(block, 'ssl_reject_handshake').some(({ args }) => args[0] === 'on')) return true;
  const refuses = named(block, 'return').some(({ args: [status = ''] }) => /^4\d\d$/.test(status));
  return refuses && named(block, 'location').length === 0;
}

interface Leaving {
  readonly chosen: Directive | null;
  /** Host names that the chosen server alone answers to; null when they cannot be listed. */
  readonly names: readonly string[] | null;
  readonly http: readonly Directive[];
  readonly ledger: Ledger;
  readonly tls: boolean;
}

function leave(server: Directive, leaving: Leaving): void {
  const { ledger } = leaving;
  const say = verdictOn(server, leaving);
  say(server);
  forAll(server, (inner) => ledger.lost(inner, `its server (line ${server.line}) is not carried`));
}

function verdictOn(server: Directive, { chosen, names, http, ledger, tls }: Leaving): (each: Directive) => void {
  if (chosen === null || !tls) {
    return (each) => ledger.lost(each, 'only one server with TLS is carried: nothing listens for this one');
  }
  const differs = verifyMode(server, http) !== verifyMode(chosen, http);
  if (names === null) {
    return (each) => ledger.guardLost(each, `its names are now answered by the server of line ${chosen.line}`);
  }
  if (turnsAway(server)) return (each) => ledger.changed(each, 'other names get 421 (listen.serverNames)');
  if (differs) {
    return (each) => ledger.guardLost(each, 'it verifies callers in another way: run a sidecar of its own for it');
  }
  return (each) => ledger.lost(each, 'its names get 421: run a sidecar of its own for it');
}

const HOST_NAME = /^(?=.{1,253}$)[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?(?:\.[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?)*$/i;

/** Null when one of the names is a pattern or the catch-all. */
export function literalNames(server: Directive): readonly string[] | null {
  const names = named(server.block, 'server_name').flatMap(({ args }) => args);
  return names.length > 0 && names.every((name) => HOST_NAME.test(name))
    ? names.map((name) => name.toLowerCase())
    : null;
}

function carryNames(server: Directive, hasOthers: boolean, names: readonly string[] | null, ledger: Ledger): void {
  for (const directive of named(server.block, 'server_name')) {
    if (!hasOthers)
      ledger.notNeeded(directive, 'a single server answers to every name; listen.serverNames is stricter');
    else if (names === null) ledger.lost(directive, 'patterns cannot be listed in listen.serverNames');
    else {
      ledger.set('listen.serverNames', names, directive);
      ledger.changed(directive, 'requests for other names get 421');
    }
  }
}
