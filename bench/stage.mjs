import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCertificates } from './certificates.mjs';
import { freePort, killTree, listening, OTHER_CORES, proxyCores, start, stop } from './processes.mjs';

const HERE = import.meta.dirname;

/** Every process and file of a run; all of it is gone when the run is. */
export class Stage {
  #children = new Set();

  constructor() {
    this.directory = mkdtempSync(join(tmpdir(), 'mtls-sidecar-bench-'));
    this.files = makeCertificates(this.directory);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.once(signal, () => process.exit(130));
    process.once('exit', () => {
      for (const child of this.#children) killTree(child.pid);
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  #start(cores, command, stdio, env) {
    const child = start(cores, command, stdio, env);
    this.#children.add(child);
    child.once('exit', () => this.#children.delete(child));
    return child;
  }

  /**
   * A proxy. Its standard output goes to a file, as in a container; its errors to another, which is shown when it does
   * not start.
   * @param setup what peers/index.mjs says, without port and directory; `limited` when quotas hold it instead of one core
   * @returns {object} { name, port, child, setup }, before it listens
   */
  async launch(peer, setup) {
    const port = await freePort();
    const whole = { ...setup, port, directory: this.directory };
    const output = join(this.directory, `${peer.name}-${port}.log`);
    const log = openSync(output, 'w');
    const child = this.#start(proxyCores(setup), peer.command(whole), ['ignore', log, log], peer.env?.(whole));
    closeSync(log);
    return { name: peer.name, port, child, setup: whole, output, rounds: [] };
  }

  async peer(peer, setup) {
    const running = await this.launch(peer, setup);
    try {
      await listening(running.child, running.port, peer.name);
    } catch (error) {
      throw new Error(`${error.message}: ${readFileSync(running.output, 'utf8').slice(-1000)}`, { cause: error });
    }
    return running;
  }

  async upstream() {
    const port = await freePort();
    const command = [process.execPath, join(HERE, 'upstream.mjs'), String(port)];
    const child = this.#start(OTHER_CORES, command, ['ignore', 'inherit', 'inherit']);
    await listening(child, port, 'the application');
    return { port, child };
  }

  /** The callers. Returns { ask(order) → result, child }. */
  load() {
    const child = this.#start(
      OTHER_CORES,
      [process.execPath, join(HERE, 'load.mjs')],
      ['ignore', 'inherit', 'inherit', 'ipc'],
    );
    const gone = once(child, 'exit').then(() => [{ error: 'the load generator died' }]);
    const ask = async (order) => {
      child.send(order);
      const [answer] = await Promise.race([once(child, 'message'), gone]);
      if (answer.error) throw new Error(answer.error);
      return answer.result;
    };
    return { child, ask };
  }

  /** Ends whatever a scenario that failed has left. */
  async clear() {
    await Promise.all([...this.#children].map(stop));
  }

  async end(...running) {
    await Promise.all(running.map(({ child }) => stop(child)));
  }
}
