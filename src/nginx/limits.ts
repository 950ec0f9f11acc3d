import type { Ledger } from './ledger.js';
import type { Directive } from './syntax.js';
import { sizeOf, sizeSetting, timeOf, timeSetting } from './units.js';
import { nameIn, type Work } from './work.js';

type Times = readonly (readonly [name: string, settings: readonly string[]])[];

/** Times that mean the same there and here. */
const TIMES: Times = [
  ['client_header_timeout', ['limits.headTimeout']],
  ['keepalive_time', ['limits.connectionAge']],
];

/** Those that a route can have of its own. */
const TIMES_OF_ROUTES: Times = [
  ['client_body_timeout', ['limits.bodyIdleTimeout']],
  ['proxy_connect_timeout', ['upstream.connectTimeout']],
  ['proxy_read_timeout', ['upstream.headTimeout', 'upstream.idleTimeout', 'limits.tunnelIdleTimeout']],
];

/** `limits.head` cannot be less or more. Bytes. */
const SMALLEST_HEAD = 1024;
const LARGEST_HEAD = 16 * 1024 ** 2;

/** Carries sizes, deadlines and counts. */
export function carryLimits(work: Work): void {
  const { ledger, scope } = work;
  carryTimes(TIMES, work);
  carryRouteLimits(work);
  carryHead(work);
  carryKeepAlive(work);
  carryStreams(work);
  const underscores = scope.one('underscores_in_headers');
  if (underscores === undefined) return;
  if (underscores.args[0] === 'on') ledger.set('headers.underscores', 'keep', underscores);
  ledger.carried(underscores);
}

/** Carries the sizes and deadlines that a route can have. */
export function carryRouteLimits(work: Work): void {
  carryTimes(TIMES_OF_ROUTES, work);
  carryBody(work);
}

function carryTimes(times: Times, work: Work): void {
  for (const [name, settings] of times) {
    const directive = work.scope.one(nameIn(work.location, name));
    if (directive !== undefined) carryTime(directive, settings, work.ledger);
  }
}

function carryTime(directive: Directive, settings: readonly string[], ledger: Ledger): void {
  const time = timeOf(directive.args[0] ?? '');
  if (time === null || time === 0) return ledger.lost(directive, `set ${settings.join(', ')}`);
  for (const setting of settings) ledger.set(setting, timeSetting(time), directive);
  ledger.carried(directive);
}

function carryBody({ ledger, scope }: Work): void {
  const directive = scope.one('client_max_body_size');
  const size = sizeOf(directive?.args[0] ?? '');
  if (directive === undefined || size === null) return;
  ledger.set('limits.body', sizeSetting(size), directive);
  ledger.carried(directive);
}

function carryHead({ ledger, scope }: Work): void {
  const directive = scope.one('large_client_header_buffers');
  const [number = '', size = ''] = directive?.args ?? [];
  const bytes = Number(number) * (sizeOf(size) ?? NaN);
  if (directive === undefined || !Number.isInteger(bytes)) return;
  ledger.set('limits.head', sizeSetting(Math.min(Math.max(bytes, SMALLEST_HEAD), LARGEST_HEAD)), directive);
  ledger.changed(directive, 'the sum counts, not each line; a request line has 8 KiB at most');
}

/** `limits.streams` cannot be more. */
const MOST_STREAMS = 1000;

function carryStreams({ ledger, scope }: Work): void {
  const directive = scope.one('http2_max_concurrent_streams');
  const count = Number(directive?.args[0] ?? NaN);
  if (directive === undefined || !Number.isInteger(count)) return;
  ledger.set('limits.streams', Math.min(Math.max(count, 1), MOST_STREAMS), directive);
  ledger.carried(directive);
}

function carryKeepAlive({ ledger, scope }: Work): void {
  const timeout = scope.one('keepalive_timeout');
  const requests = scope.one('keepalive_requests');
  const count = Number(requests?.args[0] ?? NaN);
  if (timeout !== undefined && timeOf(timeout.args[0] ?? '') === 0) {
    ledger.set('limits.requestsPerConnection', 1, timeout);
    ledger.changed(timeout, 'became limits.requestsPerConnection: 1');
  } else if (timeout !== undefined) carryTime(timeout, ['limits.keepAliveTimeout'], ledger);
  if (requests === undefined || !Number.isInteger(count)) return;
  ledger.set('limits.requestsPerConnection', Math.max(count, 1), requests);
  ledger.carried(requests);
}
