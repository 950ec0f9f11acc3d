import { describe, expect, it } from 'vitest';
import { callsFromPerf, callsFromProfile } from '../bench/profile-samples.mjs';

/** A sample of `perf script`, innermost frame first. */
const sample = (...frames: string[]) =>
  ['node 4711', ...frames.map((frame) => `\t    7f75da9e1525 ${frame}`)].join('\n');

const NODE = '(/usr/bin/node)';
const COMPILED = '(/tmp/perf-4711.map)';
const KERNEL = '([kernel.kallsyms])';

const partOf = (...frames: string[]) => {
  const [call] = callsFromPerf(sample(...frames));
  return [call?.part, call?.place];
};

describe('a sample of perf', () => {
  it.each([
    ['a system call', 'kernel', 'kernel: write', [`tcp_sendmsg ${KERNEL}`, `ksys_write ${KERNEL}`, `do_syscall_64 ${KERNEL}`, `uv__write ${NODE}`]], // prettier-ignore
    ['an interrupt', 'kernel', 'kernel: other', [`handle_softirqs ${KERNEL}`, `EVP_EncryptUpdate ${NODE}`]],
    ['OpenSSL', 'TLS', 'OpenSSL', [`aesni_gcm_encrypt ${NODE}`, `node::crypto::TLSWrap::ClearIn ${NODE}`]],
    ['assembler of OpenSSL', 'TLS', 'OpenSSL', [`__ecp_nistz256_sqr_montx ${NODE}`]],
    ['memory that OpenSSL copies', 'TLS', 'OpenSSL', ['__memcpy_avx (/usr/lib/libc.so.6)', `SSL_read ${NODE}`]],
    ['the parser of requests', 'parsing HTTP', null, [`llhttp__internal__run ${NODE}`]],
    ['the parser of answers', 'parsing HTTP', null, [`JS:wasm-function[20]-20-turbofan ${COMPILED}`]],
    ['our code', 'our code', 'src/forward/relay.ts', [`JS:*go file:///app/dist/forward/relay.js:7:1 ${COMPILED}`]],
    ['what our code asked the engine for', 'our code', 'src/proxy.ts', [`Builtins_MapPrototypeGet ${NODE}`, `JS:~on file:///app/dist/proxy.js:7:1 ${COMPILED}`]], // prettier-ignore
    ['a library', 'libraries', 'undici', [`JS:*x /app/node_modules/undici/lib/client.js:7:1 ${COMPILED}`]],
    ['a library with a scope', 'libraries', '@a/b', [`JS:*x /app/node_modules/@a/b/dist/c.js:7:1 ${COMPILED}`]],
    ['JavaScript of Node', 'Node, JavaScript', 'node:internal/timers', [`JS:*list node:internal/timers:389:25 ${COMPILED}`]], // prettier-ignore
    ['garbage collection', 'garbage collection', null, [`v8::internal::Scavenger::Process ${NODE}`, `JS:*x file:///a/dist/proxy.js:1:1 ${COMPILED}`]], // prettier-ignore
    ['compiling', 'compiling', null, [`v8::internal::compiler::PipelineImpl::Run ${NODE}`]],
    ['JSON that our code reads', 'our code', 'src/a.ts', [`v8::internal::JsonParser<char>::Parse ${NODE}`, `JS:*x file:///a/dist/a.js:1:1 ${COMPILED}`]], // prettier-ignore
    ['malloc for nobody knows whom', 'C library and allocator', null, ['_int_malloc (/usr/lib/libc.so.6)']],
    ["the image's allocator, too", 'C library and allocator', null, ['malloc (/usr/lib/libjemalloc.so.2)']],
    ['nothing known', 'engine and other', null, ['[unknown] ([unknown])']],
  ])('%s', (_, part, place, frames) => {
    expect(partOf(...frames)).toEqual([part, place]);
  });

  it('is one of several, apart by empty lines', () => {
    const one = sample(`SSL_read ${NODE}`);
    expect(callsFromPerf(`${one}\n\n${one}\n\n`)).toHaveLength(2);
  });
});

describe('a profile of V8', () => {
  const frame = (id: number, functionName: string, url: string) => ({ id, callFrame: { functionName, url } });
  const calls = callsFromProfile({
    nodes: [
      frame(1, '(idle)', ''),
      frame(2, 'relay', 'file:///app/dist/respond/relay.js'),
      frame(3, 'constructor', ''),
      frame(4, '(garbage collector)', ''),
    ],
    samples: [1, 2, 2, 3, 4],
    timeDeltas: [900, 10, 20, 5, 1],
  });

  it('weighs by time, and leaves idleness out', () => {
    expect(calls).toEqual([
      { part: 'our code', place: 'src/respond/relay.ts', weight: 30 },
      { part: 'kernel, TLS, parsing and other native code', place: null, weight: 5 },
      { part: 'garbage collection', place: null, weight: 1 },
    ]);
  });
});
