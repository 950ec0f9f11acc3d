import { matchOf } from './location.js';
import { fullName, type Directive } from './syntax.js';
import { named, nameIn, passOf, withConstants, type Work } from './work.js';

/** Carries where admitted requests go. */
export function carryUpstream(work: Work): void {
  const { location, ledger } = work;
  const pass = passOf(location);
  if (pass !== undefined) {
    if (pass.name === 'grpc_pass') work.ledger.set('upstream.http2', true, pass);
    carryPass(pass, work);
    // nginx forwards what is there as a file, and refuses the rest, or sends it elsewhere.
    for (const directive of named(location?.block ?? [], 'try_files')) {
      ledger.guardLost(directive, 'files are not looked for here: every request would reach the application');
    }
    for (const name of ['root', 'index', 'try_files']) {
      for (const directive of work.scope.all(name)) ledger.notNeeded(directive, 'no files are served');
    }
    return;
  }
  const other = (location?.block ?? []).find(({ name }) => name.endsWith('_pass'));
  if (other !== undefined) return ledger.guardLost(other, 'only HTTP applications and files can be served');
  carryFiles(work);
}

interface Target {
  readonly scheme: string;
  /** `host:port`, the name of an upstream block, or `unix:/path`. */
  readonly authority: string;
  /** Null when there is none, and the request's own goes on. */
  readonly uri: string | null;
}

/** gRPC is HTTP/2, and nginx takes its addresses without a scheme, too. */
function plainScheme(written: string, isGrpc: boolean): string {
  if (!isGrpc) return written;
  return /^grpcs?:/.test(written) ? written.replace(/^grpc/, 'http') : `http://${written}`;
}

function targetOf(written: string): Target | null {
  // The same as no URI at all.
  const text = written.replace(/(?:\$request_uri|\$uri\$is_args\$args)$/, '');
  const unix = /^(https?):\/\/(unix:[^:]+)(?::(\/.*)?)?$/.exec(text);
  const plain = /^(https?):\/\/([^/$]+)(\/[^$]*)?$/.exec(text);
  const [, scheme, authority, uri] = unix ?? plain ?? [];
  return scheme === undefined || authority === undefined ? null : { scheme, authority, uri: uri ?? null };
}

function carryPass(pass: Directive, work: Work): void {
  const { ledger } = work;
  const target = targetOf(plainScheme(withConstants(pass.args[0] ?? '', work), pass.name === 'grpc_pass'));
  if (target === null) return ledger.guardLost(pass, 'the application changes with each request: set upstream.url');
  if (target.scheme === 'https') {
    return ledger.guardLost(
      pass,
      'the application is spoken to without TLS: let it listen on loopback, or a Unix socket',
    );
  }
  const address = resolveUpstream(target.authority, work);
  const isRemote = !address.startsWith('unix:') && !isLoopback(address);
  ledger.set('upstream.url', address.startsWith('unix:') ? address : `http://${address}`, pass);
  if (isRemote) ledger.set('upstream.unsafeRemote', true, pass);
  const { path } = work.location === null ? { path: '/' } : matchOf(work.location);
  if (target.uri !== null && target.uri !== path && !carryReplacement(pass, target.uri, work)) {
    return ledger.guardLost(pass, `paths are not changed so: the application gets ${path}…, not ${target.uri}…`);
  }
  const notes = [
    ...(isRemote ? ['UNSAFE: identity headers travel in the clear to another machine, as before'] : []),
    ...(target.uri === null ? [] : ['paths go on as the caller wrote them, not normalised']),
    ...(keepsHost(work) ? [] : ["the application sees the caller's Host, not that of this line"]),
  ];
  if (notes.length === 0) ledger.carried(pass);
  else ledger.changed(pass, notes.join('; '));
}

/** A route can replace the beginning of a path; one slash must stay one. */
function carryReplacement(pass: Directive, uri: string, { location, ledger, isRoute = false }: Work): boolean {
  if (!isRoute || location === null || !PLAIN_URI.test(uri)) return false;
  const { kind, path } = matchOf(location);
  if (kind !== 'exact' && path.endsWith('/') !== uri.endsWith('/')) return false;
  ledger.set('replaceWith', uri, pass);
  return true;
}

const PLAIN_URI = /^\/(?!.*(?:\/\/|\/\.{1,2}(?:\/|$)|[?#%;\\*]))[!-~]*$/;

function keepsHost({ scope, location }: Work): boolean {
  return scope.all(nameIn(location, 'proxy_set_header')).some(({ args }) => args[0]?.toLowerCase() === 'host');
}

function isLoopback(address: string): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(address);
}

/** The one server of an upstream block, or the address itself. */
function resolveUpstream(authority: string, { http, ledger }: Work): string {
  const block = named(http, 'upstream').find(({ args }) => args[0] === authority);
  if (block === undefined) return authority;
  ledger.carried(block);
  const servers = named(block.block, 'server');
  const usable = servers.filter(({ args }) => !args.includes('down') && !args.includes('backup'));
  const [first] = usable.length > 0 ? usable : servers;
  for (const directive of block.block ?? []) {
    if (directive === first) ledger.carried(directive);
    else if (directive.name === 'server') ledger.lost(directive, 'one application only: the first server');
    else ledger.notNeeded(directive, 'connections to the application are kept and shared always');
  }
  return first?.args[0] ?? authority;
}

/** A directory instead of an application. */
function carryFiles(work: Work): void {
  const { scope, location, server } = work;
  const alias = named(location?.block ?? [], 'alias')[0];
  const root = alias ?? scope.one('root');
  // Without one nginx serves `html` below its prefix.
  carryDirectory(root ?? location ?? server, root?.args[0] ?? 'html', { work, isAlias: alias !== undefined });
  carryIndex(work);
  carryTryFiles(work);
}

function carryDirectory(
  from: Directive,
  written: string,
  how: { readonly work: Work; readonly isAlias: boolean },
): void {
  const { ledger, location, options } = how.work;
  const isWhole = location === null || matchOf(location).path === '/';
  // nginx puts the rest of the path right behind the alias: `/srv/a` with `/x` below is `/srv/ax`.
  const isBelow = location !== null && matchOf(location).path.endsWith('/') && written.endsWith('/');
  const isReplaced = how.isAlias && !isWhole && isBelow && carryReplacement(from, '/', how.work);
  if (written.includes('$') || (how.isAlias && !isWhole && !isReplaced)) {
    return ledger.guardLost(from, 'one fixed directory only: set upstream.url to file:/directory');
  }
  const directory = fullName(options.prefix, written).replace(/(?<=.)\/+$/, '');
  ledger.set('upstream.url', `file:${directory}`, from);
  if (from === location || from === how.work.server) return;
  if (written.startsWith('/')) ledger.carried(from);
  else ledger.carried(from, `${directory}, relative to --prefix ${options.prefix}`);
}

function carryIndex({ scope, ledger }: Work): void {
  const index = scope.one('index');
  if (index === undefined) return;
  const names = index.args.filter((name) => !/[$/]/.test(name) && !name.startsWith('.'));
  if (names.length > 0) ledger.set('upstream.index', names, index);
  if (names.length === index.args.length) ledger.carried(index);
  else ledger.changed(index, 'plain names of files only');
}

function carryTryFiles({ scope, ledger }: Work): void {
  const files = scope.one('try_files');
  if (files === undefined) return;
  const isPlain = /^(?:\$uri )+(?:\$uri\/ )?=404$/.test(files.args.join(' '));
  if (isPlain) ledger.notNeeded(files, 'what is not there gets 404 always');
  else if (!files.args.some((name) => /\$(?:\{?uri\b|request_filename\b)/.test(name)))
    ledger.guardLost(files, 'nginx sends none of the files that callers name: here they would get them');
  else ledger.lost(files, 'what is not there gets 404');
}
