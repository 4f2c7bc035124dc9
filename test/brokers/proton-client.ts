// Python with Proton, a client that knows nothing of us.
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const python = ['/usr/bin/python3', 'python3'].find(
  (command) => spawnSync(command, ['-I', '-c', 'import proton.utils']).status === 0,
);

/** Python with Proton, which does one request after the other. */
export class Proton {
  /** Throws where there is none. */
  static find(): void {
    if (!python) throw new Error('no Python with Proton (Debian: apt-get install python3-qpid-proton)');
  }

  readonly #process: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  #last: Promise<unknown> = Promise.resolve();

  /** It trusts `ca`, the path of a certificate. */
  constructor({ ca }: { ca?: string } = {}) {
    // -I: or else "import proton" would find the script itself
    this.#process = spawn(python!, ['-I', join(__dirname, 'proton.py')], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...(ca && { PROTON_CA: ca }) },
    });
    this.#answers = createInterface(this.#process.stdout!)[Symbol.asyncIterator]();
  }

  async call<T>(name: string, ...parameters: unknown[]): Promise<T> {
    const next = this.#last.then(() => {
      this.#process.stdin!.write(`${JSON.stringify([name, ...parameters])}\n`);
      return this.#answers.next();
    });
    this.#last = next;
    const { done, value } = await next;
    if (done) throw new Error('Python has ended');
    const { result, error } = JSON.parse(value) as { result: T; error?: string };
    if (error) throw new Error(error);
    return result;
  }

  async end(): Promise<void> {
    const closed = once(this.#process, 'close');
    this.#process.stdin!.end();
    await closed;
  }
}
