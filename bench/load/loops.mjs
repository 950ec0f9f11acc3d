import { performance } from 'node:perf_hooks';
import { percentile } from '../statistics.mjs';

const LONGEST_WAIT_MS = 5_000;

function result(latencies, bytes, start, lateness = []) {
  const sorted = Float64Array.from(latencies).sort();
  return {
    requests: sorted.length,
    bytes,
    seconds: (performance.now() - start) / 1000,
    p50: percentile(sorted, 0.5),
    p99: percentile(sorted, 0.99),
    late: percentile(Float64Array.from(lateness).sort(), 0.99),
  };
}

/**
 * Each caller sends its next request when it has the whole answer: as much as the proxy can take. Requests in flight when
 * time is up are awaited, so that no cost is without its request.
 * @returns {Promise<object>} { requests, bytes, seconds, p50, p99 } (milliseconds)
 */
export async function closedLoop({ callers, mix, hooks, seconds }) {
  const latencies = [];
  const sentAt = new Map();
  let bytes = 0;
  let turn = 0;
  let inFlight = callers.length;
  const start = performance.now();
  const until = start + seconds * 1000;
  await new Promise((resolve) => {
    const send = (caller, now) => {
      sentAt.set(caller, now);
      caller.send(mix[turn++ % mix.length]);
    };
    hooks.answered = (caller, count) => {
      const now = performance.now();
      latencies.push(now - sentAt.get(caller));
      bytes += count;
      if (now < until) send(caller, now);
      else if (--inFlight === 0) resolve();
    };
    for (const caller of callers) send(caller, performance.now());
  });
  return result(latencies, bytes, start);
}

/**
 * Requests come at a fixed rate, whether or not earlier ones are answered: a slow proxy does not slow its callers down,
 * and what waits for a free connection waits on the proxy's account. A request counts from the tick (each millisecond) at
 * which it fell due. How late ticks were themselves is reported: that is the generator's fault and not the proxy's. What is
 * not answered a few seconds after the end counts with the time it has waited by then.
 * @returns {Promise<object>} as closedLoop, and `late`, the 99th percentile of the ticks' lateness in milliseconds
 */
export async function openLoop({ callers, mix, hooks, seconds, rate }) {
  const latencies = [];
  const lateness = [];
  const idle = [...callers];
  const dueAt = new Map();
  const queue = [];
  const total = Math.round(seconds * rate);
  let bytes = 0;
  let issued = 0;
  const start = performance.now();
  const send = (caller, due) => {
    dueAt.set(caller, due);
    caller.send(mix[issued % mix.length]);
  };
  const tick = () => {
    const now = performance.now();
    const due = Math.min(total, Math.floor(((now - start) * rate) / 1000));
    if (issued < due) lateness.push(now - start - ((issued + 1) * 1000) / rate);
    for (; issued < due; issued++) {
      const caller = idle.shift();
      if (caller === undefined) queue.push(now);
      else send(caller, now);
    }
  };
  const timer = setInterval(tick, 1);
  await new Promise((resolve) => {
    const patience = setTimeout(resolve, seconds * 1000 + LONGEST_WAIT_MS);
    hooks.answered = (caller, count) => {
      latencies.push(performance.now() - dueAt.get(caller));
      dueAt.delete(caller);
      bytes += count;
      if (queue.length > 0) send(caller, queue.shift());
      else idle.push(caller);
      if (latencies.length < total) return;
      clearTimeout(patience);
      resolve();
    };
  });
  clearInterval(timer);
  hooks.answered = () => undefined;
  const now = performance.now();
  const waiting = [...dueAt.values(), ...queue].map((due) => now - due);
  return { ...result([...latencies, ...waiting], bytes, start, lateness), requests: latencies.length };
}
