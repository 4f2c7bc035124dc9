// Microsoft's clients, each a process of its own, which does one request after the other.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cached, FIXTURES, run } from '../../brokers/broker';

/** An error of the client, by the name that it has there. */
export class ClientError extends Error {
  constructor(
    readonly code: string,
    message: string,
  ) {
    super(`${code}: ${message}`);
  }
}

export interface ClientKind {
  readonly name: string;
  /** Whether it reads from its connections at all times, and not only while a request is done. */
  readonly isAttentive: boolean;
  /** Fetches the client. Rejects with the reason when it cannot be had here. */
  prepare(): Promise<void>;
  start(): Driver;
  /** It is what is tested here. */
  readonly isOurs?: boolean;
}

/** What does with the service what it is told to. */
export interface Driver {
  /** Rejects with a ClientError when the client does. */
  call<T = void>(operation: string, ...parameters: unknown[]): Promise<T>;
  end(): Promise<void>;
}

/** The versions of packages, by their names. */
type Packages = Record<string, string>;

/** A client of npm, which is on rhea, and trusts the CA of the tests; `client.mjs` in the folder drives it. */
export const javascriptClient = (packages: Packages, folder: string) =>
  clientKind(packages, {
    isAttentive: true,
    separator: '@',
    fetch: (directory, requirements) =>
      run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', directory, ...requirements]),
    command: (directory) => [
      'env',
      `NODE_EXTRA_CA_CERTS=${join(FIXTURES, 'ca.crt')}`,
      process.execPath,
      join(folder, 'client.mjs'),
      directory,
    ],
  });

/** A client of PyPI, with an AMQP of its own; `client.py` in the folder drives it. */
export const pythonClient = (packages: Packages, folder: string) =>
  clientKind(packages, {
    isAttentive: false,
    separator: '==',
    fetch: (directory, requirements) =>
      run('python3', ['-m', 'pip', 'install', '--quiet', '--target', directory, ...requirements]),
    command: (directory) => ['env', `PYTHONPATH=${directory}:${__dirname}`, 'python3', '-B', join(folder, 'client.py')],
  });

function clientKind(
  packages: Packages,
  how: {
    isAttentive: boolean;
    /** between the name of a package and its version */
    separator: string;
    fetch(directory: string, requirements: string[]): Promise<unknown>;
    command(directory: string): string[];
  },
): ClientKind {
  let directory: string | undefined;
  const all = (separator: string) => Object.entries(packages).map((each) => each.join(separator));
  return {
    name: all(' ').join(', '),
    isAttentive: how.isAttentive,
    prepare: async () => {
      directory = await cached(all('_').join('_').replaceAll('/', '_'), async (folder) => {
        await how.fetch(folder, all(how.separator));
      });
    },
    start: () => new Client(how.command(directory!)),
  };
}

class Client implements Driver {
  readonly #process: ChildProcess;
  readonly #answers: AsyncIterator<string>;
  #last: Promise<unknown> = Promise.resolve();

  constructor([command, ...parameters]: string[]) {
    this.#process = spawn(command!, parameters, { stdio: ['pipe', 'pipe', 'inherit'] });
    this.#answers = createInterface(this.#process.stdout!)[Symbol.asyncIterator]();
  }

  /** Rejects with a ClientError when the client does. */
  async call<T = void>(operation: string, ...parameters: unknown[]): Promise<T> {
    const next = this.#last.then(() => {
      this.#process.stdin!.write(`${JSON.stringify([operation, ...parameters])}\n`);
      return this.#answers.next();
    });
    this.#last = next;
    const { done, value } = await next;
    if (done) throw new Error('the client has ended');
    const { result, error, message } = JSON.parse(value) as { result: T; error?: string; message: string };
    if (error !== undefined) throw new ClientError(error, message);
    return result;
  }

  async end(): Promise<void> {
    const closed = once(this.#process, 'close');
    this.#process.stdin!.end();
    await closed;
  }
}

/** The error that the client gives: its code, and what it says. */
export async function refused(request: Promise<unknown>): Promise<string> {
  const error = await request.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (error instanceof ClientError) return error.message;
  throw new Error('the client was not refused', { cause: error });
}
