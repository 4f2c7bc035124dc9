// Microsoft's clients, which do one request after the other.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { cached, run } from '../../brokers/broker';

/** What a client tells of a message. */
export interface Received {
  /** stands for it in requests */
  handle: number;
  id: string;
  body: string;
  sequenceNumber: number;
  deliveryCount: number;
  sessionId: string | null;
  properties: Record<string, unknown>;
  state: 'active' | 'deferred' | 'scheduled';
  reason: string | null;
  description: string | null;
  enqueuedAt: number;
  lockedUntil: number | null;
}

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

const script = (name: string) => join(__dirname, name);

/** `@azure/service-bus` of npm, which is on rhea. */
export const javascript = clientKind('@azure/service-bus', '7.9.5', {
  isAttentive: true,
  fetch: (directory, requirement) =>
    run('npm', ['install', '--no-audit', '--no-fund', '--ignore-scripts', '--prefix', directory, requirement('@')]),
  command: (directory) => [process.execPath, script('client.mjs'), directory],
});

/** `azure-servicebus` of PyPI, with an AMQP of its own. */
export const python = clientKind('azure-servicebus', '7.15.0', {
  isAttentive: false,
  fetch: (directory, requirement) =>
    run('python3', ['-m', 'pip', 'install', '--quiet', '--target', directory, requirement('==')]),
  command: (directory) => ['env', `PYTHONPATH=${directory}`, 'python3', script('client.py')],
});

function clientKind(
  name: string,
  version: string,
  how: {
    isAttentive: boolean;
    fetch(directory: string, requirement: (separator: string) => string): Promise<unknown>;
    command(directory: string): string[];
  },
): ClientKind {
  let directory: string | undefined;
  return {
    name: `${name} ${version}`,
    isAttentive: how.isAttentive,
    prepare: async () => {
      directory = await cached(`${name.replace('/', '_')}_${version}`, async (folder) => {
        await how.fetch(folder, (separator) => `${name}${separator}${version}`);
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
