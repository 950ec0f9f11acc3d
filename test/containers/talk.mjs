/**
 * What the container test does from outside the containers, with Node's own modules and the built program:
 *
 *   talk.mjs certificates FOLDER       server.crt, server.key, ca.crt and, for the caller, client.crt and client.key
 *   talk.mjs callback PORT FOLDER      one callback with the certificate (200, and the application knows who called),
 *                                      one without (400)
 *   talk.mjs taken-over PORT FOLDER    waits until the server certificate is the one in the folder
 *   talk.mjs admin PORT METHOD PATH    prints the status
 */
import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect } from 'node:tls';
import { fileURLToPath } from 'node:url';
import { createAuthority } from '../../dist/pki/authority.js';

const PATIENCE_MS = 30_000;
const CALLBACK = fileURLToPath(new URL('../fixtures/im-callbacks/C2C.CallbackBeforeSendMsg.json', import.meta.url));

/** Each file is replaced in one step, as whoever renews certificates does it. */
function replace(folder, name, text) {
  const path = join(folder, name);
  // Read by the user of the container, who is nobody here.
  writeFileSync(`${path}.new`, text, { mode: 0o644 });
  renameSync(`${path}.new`, path);
}

function certificates(folder) {
  mkdirSync(folder, { recursive: true });
  const now = Date.now();
  const ca = createAuthority({ now, subject: [['CN', 'Callback CA']] });
  const san = [{ dns: 'localhost' }, { ip: '127.0.0.1' }];
  const server = ca.issue({ now, subject: [['CN', 'localhost']], san, eku: ['serverAuth'] });
  const client = ca.issue({ now, subject: [['CN', 'im.qq.com']], eku: ['clientAuth'] });
  // Compose's names and those of a Kubernetes Secret.
  for (const name of ['server', 'tls']) {
    replace(folder, `${name}.key`, server.keyPem);
    replace(folder, `${name}.crt`, server.certPem);
  }
  replace(folder, 'client.key', client.keyPem);
  replace(folder, 'client.crt', client.certPem);
  replace(folder, 'ca.crt', ca.certPem);
}

const pem = (folder, name) => readFileSync(join(folder, name));

async function answerTo(outgoing, body) {
  outgoing.end(body);
  const [response] = await once(outgoing, 'response');
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk;
  return { status: response.statusCode, text };
}

function call(port, folder, identity) {
  const options = { host: '127.0.0.1', port, servername: 'localhost', agent: false, method: 'POST', path: '/im' };
  return answerTo(httpsRequest({ ...options, ca: pem(folder, 'ca.crt'), ...identity }), readFileSync(CALLBACK));
}

/** Until it holds, or for half a minute: containers take their time. */
async function eventually(attempt) {
  const deadline = Date.now() + PATIENCE_MS;
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (Date.now() > deadline) throw error;
      await sleep(250);
    }
  }
}

async function callback(port, folder) {
  const identity = { cert: pem(folder, 'client.crt'), key: pem(folder, 'client.key') };
  await eventually(async () => {
    const honest = await call(port, folder, identity);
    assert.deepEqual(honest, { status: 200, text: 'hello im.qq.com\n' });
  });
  const anonymous = await call(port, folder, {});
  assert.equal(anonymous.status, 400);
  assert.match(anonymous.text, /No required SSL certificate was sent/);
}

async function served(port) {
  const socket = connect({ host: '127.0.0.1', port, servername: 'localhost', rejectUnauthorized: false });
  await once(socket, 'secureConnect');
  const { fingerprint256 } = socket.getPeerX509Certificate();
  socket.destroy();
  return fingerprint256;
}

async function takenOver(port, folder) {
  const wanted = new X509Certificate(pem(folder, 'server.crt')).fingerprint256;
  await eventually(async () => assert.equal(await served(port), wanted));
}

async function admin(port, method, path) {
  const { status } = await answerTo(httpRequest({ host: '127.0.0.1', port, method, path, agent: false }));
  console.log(status);
}

const [what, ...args] = process.argv.slice(2);
await { certificates, callback, 'taken-over': takenOver, admin }[what](...args);
