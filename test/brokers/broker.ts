// What the interop suite needs of a broker, and what starting one takes, whichever it is.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';

export const run = promisify(execFile);

/** A durable queue that is there before the nodes are. */
export interface Queue {
  name: string;
  /** The queue that gets what consumers reject. */
  deadLetters?: string;
  /** The most messages it holds: what comes then is refused. */
  maxLength?: number;
}

export interface Setup {
  queues: Queue[];
  topics: string[];
}

/** What the suite needs to know of any peer, and what it can do with most. */
export interface Broker {
  /** Product and version, as docs/compatibility.md names them. */
  readonly version: string;
  readonly host: string;
  readonly port: number;
  /** Takes TLS, with test/fixtures/server.crt, and insists on a client certificate of test/fixtures/ca.crt. */
  readonly tlsPort?: number;
  /** Where it speaks AMQP over WebSocket: without TLS, and with (test/fixtures/server.crt, no client certificate asked for). */
  readonly wsPort?: number;
  readonly wssPort?: number;
  /** Takes no password in clear text, only SCRAM. */
  readonly scramPort?: number;
  /** How many messages a queue holds. */
  depth?(queue: string): Promise<number>;
  /** Closes all connections of clients, as an administrator does. */
  disconnect?(): Promise<void>;
  /** Stops the broker as an administrator does, and starts it again with the data it had. */
  restart?(): Promise<void>;
  /** Ends the broker without a word to anyone. */
  kill?(): Promise<void>;
  /** Starts it again after `kill`. */
  start?(): Promise<void>;
  /** Ends it, and removes all it left behind. */
  stop(): Promise<void>;
}

/** A kind of broker that can be started on this machine, or not. */
export interface BrokerKind {
  /** Finds or fetches the broker. Rejects with the reason when it cannot be had here. */
  prepare(): Promise<void>;
  /**
   * Starts one for one test run, and resolves once it accepts connections: everything it writes lies in one temporary
   * directory, everything it opens is on loopback. Accounts: guest/guest may do everything, limited/limited everything but
   * use the queue `forbidden`.
   */
  start(setup: Setup): Promise<Broker>;
}

/** Skips a suite, and says why, where what it needs cannot be had. In CI that is a failure. */
export async function needed(suite: Mocha.Context, what: string, prepare: () => unknown): Promise<void> {
  try {
    await prepare();
  } catch (error) {
    const { message: reason } = error as Error;
    process.stderr.write(`\n*** NOTHING WAS TESTED WITH ${what}: skipped: ${reason} ***\n\n`);
    if (process.env['CI']) throw new Error(`in CI ${what} is a must: ${reason}`, { cause: error });
    suite.skip();
  }
}

export const FIXTURES = join(__dirname, '..', 'fixtures');

/** Where what was fetched is kept from run to run. */
const CACHE = join(process.env['XDG_CACHE_HOME'] ?? join(homedir(), '.cache'), 'node-red-amqp10');

/** The folder `name` of the cache, which `fill` fills the first time. It is there whole or not at all. */
export async function cached(name: string, fill: (directory: string) => Promise<void>): Promise<string> {
  const directory = join(CACHE, name);
  if (existsSync(directory)) return directory;
  mkdirSync(CACHE, { recursive: true });
  const unfinished = mkdtempSync(join(CACHE, '.unfinished-'));
  try {
    await fill(unfinished);
    renameSync(unfinished, directory);
  } catch (error) {
    // Suites run side by side: another one was faster.
    if (!existsSync(directory)) throw error;
  } finally {
    rmSync(unfinished, { recursive: true, force: true });
  }
  return directory;
}

/** Fetches `group:artifact:version:tar.gz:bin` from Maven Central. Resolves with the folder that the archive is unpacked in. */
export function distribution(artifact: string): Promise<string> {
  return cached(artifact.replaceAll(':', '_'), async (directory) => {
    await run('mvn', [
      '-q',
      '-B',
      'dependency:copy',
      `-Dartifact=${artifact}`,
      `-DoutputDirectory=${directory}/archive`,
    ]);
    await run('sh', ['-c', 'tar xzf archive/*.tar.gz && rm -r archive'], { cwd: directory });
  });
}

/** A server process: up once it says so, gone with this process at the latest. */
export class Server {
  #child: ChildProcess | undefined;
  #output = '';
  readonly #lastResort = () => this.#child?.kill('SIGKILL');

  /** The end of what it has printed since it was started. */
  get output(): string {
    return this.#output;
  }

  /** Runs the command, and resolves once what it prints matches `ready`. It must be the server itself, not a shell around it. */
  async start(command: string, args: string[], options: { env: NodeJS.ProcessEnv; cwd?: string }, ready: RegExp) {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child = child;
    process.once('exit', this.#lastResort);
    this.#output = '';
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer): void => {
        this.#output = (this.#output + chunk.toString()).slice(-100_000);
        if (ready.test(this.#output)) resolve();
      };
      child.stdout.on('data', read);
      child.stderr.on('data', read);
      child.once('error', reject);
      child.once('exit', (code) =>
        reject(new Error(`${command} ended with ${code} while it started:\n${this.#output}`)),
      );
    });
  }

  /** Resolves once it has ended. */
  async end(signal: NodeJS.Signals): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    process.removeListener('exit', this.#lastResort);
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, 'exit');
  }
}

/** A broker that is a process of this machine, with one directory for all that it writes. */
export abstract class LocalBroker<S = Setup> implements Broker {
  abstract readonly version: string;
  abstract readonly port: number;
  readonly host = '127.0.0.1';
  protected readonly directory: string;
  protected readonly server = new Server();

  constructor(name: string) {
    this.directory = mkdtempSync(join(tmpdir(), `${name}-`));
  }

  /** Writes what the broker is to read. */
  protected abstract configure(setup: S): Promise<void> | void;
  abstract start(): Promise<void>;

  /** Starts it for the first time. When that fails, nothing of it stays. */
  async launch(setup: S): Promise<this> {
    try {
      await this.configure(setup);
      await this.start();
    } catch (error) {
      await this.stop();
      throw error;
    }
    return this;
  }

  async restart(): Promise<void> {
    await this.server.end('SIGTERM');
    await this.start();
  }

  kill(): Promise<void> {
    return this.server.end('SIGKILL');
  }

  async stop(): Promise<void> {
    await this.server.end('SIGTERM');
    rmSync(this.directory, { recursive: true, force: true });
  }
}
