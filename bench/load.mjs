/**
 * The caller: keep-alive connections over mutual TLS, each sending its next request when it has the whole answer (a
 * closed loop). Bare TLS sockets and one prepared request, so that the caller costs less than the cheapest proxy.
 *
 * Driven over the IPC channel, one message at a time, each answered with one message:
 *   { do: 'connect', port, connections, files }  every connection has had one answer
 *   { do: 'run', seconds }                       { requests, seconds, p50, p99 } (latencies in milliseconds)
 *   { do: 'close' }
 */
import { readFileSync } from 'node:fs';
import { performance } from 'node:perf_hooks';
import { connect, createSecureContext } from 'node:tls';
import { ANSWER, callbackRequest } from './callback.mjs';

const REQUEST = callbackRequest();
let callers = [];
let latencies = [];
let running = false;

function fail(message) {
  process.send({ error: message });
}

/** Length of the answer that `text` begins with, or -1 when it is not complete. */
function answerLength(text) {
  const end = text.indexOf('\r\n\r\n');
  if (end === -1) return -1;
  const length = /\r\ncontent-length: *(\d+)/i.exec(text);
  if (!text.startsWith('HTTP/1.1 200 ') || length === null) throw new Error(`unexpected answer: ${text.slice(0, 300)}`);
  const total = end + 4 + Number(length[1]);
  if (text.length < total) return -1;
  if (text.slice(end + 4, total) !== ANSWER) throw new Error(`unexpected body: ${text.slice(end + 4, total)}`);
  return total;
}

/** One connection. `onAnswer` is called once per complete answer. */
class Caller {
  #pending = '';
  #sentAt = 0;

  constructor(options, onAnswer) {
    this.onAnswer = onAnswer;
    this.socket = connect(options, () => this.send());
    this.socket.setNoDelay(true);
    this.socket.on('data', (chunk) => this.#read(chunk));
    this.socket.on('error', (error) => fail(`connection: ${error.message}`));
    this.socket.on('end', () => fail('the proxy closed a keep-alive connection'));
  }

  send() {
    this.#sentAt = performance.now();
    this.socket.write(REQUEST);
  }

  #read(chunk) {
    this.#pending += chunk.latin1Slice();
    try {
      const length = answerLength(this.#pending);
      if (length === -1) return;
      if (length !== this.#pending.length) throw new Error('more than one answer to one request');
    } catch (error) {
      this.socket.destroy();
      fail(error.message);
      return;
    }
    this.#pending = '';
    this.onAnswer(this, performance.now() - this.#sentAt);
  }
}

function open({ port, connections, files }) {
  const secureContext = createSecureContext({
    ca: readFileSync(files.ca),
    cert: readFileSync(files.clientCert),
    key: readFileSync(files.clientKey),
  });
  const options = { host: '127.0.0.1', port, servername: 'localhost', secureContext };
  const one = () => new Promise((resolve) => callers.push(new Caller(options, resolve)));
  return Promise.all(Array.from({ length: connections }, one));
}

function next(caller, latency) {
  if (!running) return;
  latencies.push(latency);
  caller.send();
}

function percentile(sorted, share) {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;
}

/** Requests in flight when time is up are awaited by nobody and counted by nobody: at most one per connection. */
async function run({ seconds }) {
  latencies = [];
  running = true;
  const start = performance.now();
  for (const caller of callers) {
    caller.onAnswer = next;
    caller.send();
  }
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  running = false;
  const elapsed = (performance.now() - start) / 1000;
  const sorted = Float64Array.from(latencies).sort();
  return { requests: sorted.length, seconds: elapsed, p50: percentile(sorted, 0.5), p99: percentile(sorted, 0.99) };
}

function close() {
  for (const { socket } of callers) socket.removeAllListeners('end').destroy();
  callers = [];
}

process.on('message', async (message) => {
  const actions = { connect: open, run, close };
  const result = await actions[message.do](message);
  process.send({ done: message.do, result: message.do === 'run' ? result : null });
});
