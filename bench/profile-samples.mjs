/**
 * Turns what profilers write into calls: `{ part, place, weight }`. The part is one of those that the report names; the place
 * is more exact: a file of ours, a package, a system call. Null where there is nothing more exact to say.
 */

const OPENSSL =
  /^_*(OSSL|ossl|EVP|evp|SSL|ssl|ssl3|tls|tls1|tls13|CRYPTO|BIO|bio|ERR|err|OPENSSL|aes|aesni|AES|vaes|gcm|ghash|sha\d+|SHA\d+|x25519|X25519|ecp|EC|ec|BN|bn|RSA|rsa|X509|x509|ASN1|asn1|statem|WPACKET|PACKET|HMAC|RAND|rand|drbg|OBJ|DH|lh|chacha|poly1305|cipher|rsaz|mul4x|EC_|ENGINE|PEM|i2d|d2i|c2i|OPENSSL_\w+)(_|$|\d)/;
const TLS_OF_NODE = /node::(crypto|tls)::|TLSWrap|NodeBIO/;
const COLLECTOR =
  /^v8::internal::.*(Heap::|GarbageCollect|Scaveng|MarkCompact|Marking|Sweep|Evacuat|YoungGeneration|MinorGC|Concurrent.*Mark|PagedSpace|NewSpace|Gc|GC|WeakCallback|GlobalHandles|Safepoint)/;
const COMPILER =
  /^v8::internal::(Parser|PreParser|.*(compiler::|maglev::|turboshaft::|baseline::|Compiler|Compilation|OptimizingCompile|Deoptimiz|interpreter::Bytecode|TieringManager))/;
const PARSER = /llhttp|HTTPParser|http_parser|::Parser::|wasm-|ConnectionsList/;

/** Text of `node_modules/@scope/name` or `node_modules/name`, the innermost. */
const packageOf = (path) => /.*node_modules\/((?:@[^/]+\/)?[^/]+)/.exec(path)?.[1] ?? null;

/** Part and place of JavaScript by its file; null for none that we can tell. */
function byFile(path) {
  if (path.startsWith('node:'))
    return {
      part: 'Node, JavaScript',
      place: path.replace(/[:?].*$/s, (rest) => rest.split(':').slice(0, 2).join(':')),
    };
  const name = packageOf(path);
  if (name !== null) return { part: 'libraries', place: name };
  const own = /\/dist\/(.+\.js)/.exec(path)?.[1];
  return own === undefined ? null : { part: 'our code', place: `src/${own.replace(/\.js$/, '.ts')}` };
}

/** `JS:*name file:///…/dist/x.js:12:3` and the like; the sign before the name tells which compiler made it. */
function byCompiledCode(symbol) {
  if (!/^(JS|LazyCompile|Function|Script|Eval|RegExp):/.test(symbol)) return null;
  const path = symbol.slice(symbol.lastIndexOf(' ') + 1).replace('file://', '');
  return byFile(path) ?? { part: 'Node, JavaScript', place: null };
}

/** What one frame says about the sample, or null: then its caller is asked. */
function byFrame({ symbol, object }) {
  if (object.includes('kernel.') || (object === '[unknown]' && symbol.startsWith('0xffffffff')))
    return { part: 'kernel', place: null };
  if (COLLECTOR.test(symbol)) return { part: 'garbage collection', place: null };
  if (COMPILER.test(symbol)) return { part: 'compiling', place: null };
  if (PARSER.test(symbol)) return { part: 'parsing HTTP', place: null };
  if (/lib(ssl|crypto)/.test(object) || OPENSSL.test(symbol)) return { part: 'TLS', place: 'OpenSSL' };
  if (TLS_OF_NODE.test(symbol)) return { part: 'TLS', place: "Node's TLSWrap" };
  const code = byCompiledCode(symbol);
  if (code !== null) return code;
  if (/^(node::|uv_|uv__)/.test(symbol)) return { part: 'Node, native', place: null };
  return null;
}

/** The C library keeps no frame pointers: often nobody can say for whom it allocates. */
function unknown([{ object }]) {
  if (/\/lib(c|jemalloc)[.-]/.test(object)) return { part: 'C library and allocator', place: null };
  return { part: 'engine and other', place: null };
}

/** The innermost frame that says something decides: what a library's `memcpy` costs belongs to the library. */
function callOf(frames) {
  const found = frames.map(byFrame).find((said) => said !== null) ?? unknown(frames);
  if (found.part !== 'kernel') return found;
  // The frame inside of the kernel's entry for system calls is the call: ksys_write, __x64_sys_futex.
  const entry = frames.findIndex(({ symbol }) => symbol === 'do_syscall_64');
  const call = frames[entry - 1]?.symbol.replace(/^(__x64_sys_|__se_sys_|ksys_|do_)/, '');
  return { part: 'kernel', place: `kernel: ${call ?? 'other'}` };
}

/** @param text of `perf script -F comm,tid,ip,sym,dso`: samples apart by empty lines, innermost frame first */
export function callsFromPerf(text) {
  return text
    .split('\n\n')
    .map((block) => block.split('\n').flatMap(frameOf))
    .filter((frames) => frames.length > 0)
    .map((frames) => ({ ...callOf(frames), weight: 1 }));
}

function frameOf(line) {
  const found = /^\s+[0-9a-f]+ (.+) \(([^()]*(?:\([^()]*\))?)\)$/.exec(line);
  return found === null ? [] : [{ symbol: found[1], object: found[2] }];
}

/** @param profile what `--cpu-prof` writes; weights are microseconds */
export function callsFromProfile({ nodes, samples, timeDeltas }) {
  const spent = new Map();
  samples.forEach((id, index) => spent.set(id, (spent.get(id) ?? 0) + timeDeltas[index]));
  return nodes
    .filter(({ id, callFrame }) => spent.has(id) && callFrame.functionName !== '(idle)')
    .map(({ id, callFrame }) => ({ ...byCallFrame(callFrame), weight: spent.get(id) }));
}

const NATIVE = { part: 'kernel, TLS, parsing and other native code', place: null };
const SPECIAL = new Map([
  ['(garbage collector)', { part: 'garbage collection', place: null }],
  ['(program)', NATIVE],
]);

/** A function without a file is native: `writev`, `readStart`. */
function byCallFrame({ functionName, url }) {
  return SPECIAL.get(functionName) ?? byFile(url.replace('file://', '')) ?? NATIVE;
}
