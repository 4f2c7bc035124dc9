// A RabbitMQ of its own for one test run: everything it writes lies in one temporary directory, everything it opens is on loopback.
import { execFile, spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort } from '../../scripts/free-port';

const LIB = '/usr/lib/rabbitmq/lib';

/** A durable classic queue: its name, with arguments where it needs some. */
export type Queue = string | { name: string; arguments: Record<string, string | number> };

export type RabbitMQOptions = {
  queues?: Queue[];
  /** Name to password, beside guest/guest. */
  users?: Record<string, string>;
};

export class RabbitMQ {
  /** Why there can be no RabbitMQ on this machine; undefined when there can. */
  static available(): string | undefined {
    const home = installation();
    if (!home) return `no RabbitMQ in ${LIB} (Debian: apt-get install rabbitmq-server)`;
    const plugins = readdirSync(join(home, 'plugins'));
    if (!plugins.some((name) => name.startsWith('rabbitmq_amqp1_0-'))) return `${home} has no plugin rabbitmq_amqp1_0`;
    return undefined;
  }

  /** Starts a broker and resolves once it accepts connections. */
  static async start(options: RabbitMQOptions = {}): Promise<RabbitMQ> {
    const reason = RabbitMQ.available();
    if (reason) throw new Error(reason);
    const broker = new RabbitMQ(installation()!, {
      amqp: await freePort(),
      epmd: await freePort(),
      distribution: await freePort(),
    });
    broker.#configure(options);
    try {
      await broker.start();
    } catch (error) {
      await broker.stop();
      throw error;
    }
    return broker;
  }

  readonly host = '127.0.0.1';
  readonly port: number;
  readonly version: string;
  readonly #directory = mkdtempSync(join(tmpdir(), 'rabbitmq-'));
  readonly #env: NodeJS.ProcessEnv;
  #epmd: ChildProcess | undefined;
  #server: ChildProcess | undefined;
  readonly #lastResort = () => {
    this.#server?.kill('SIGKILL');
    this.#epmd?.kill('SIGKILL');
  };

  private constructor(
    private readonly home: string,
    private readonly ports: Record<'amqp' | 'epmd' | 'distribution', number>,
  ) {
    this.port = ports.amqp;
    this.version = home.replace(/^.*-/, '');
    const own = Object.entries(process.env).filter(([name]) => !/^(RABBITMQ|ERL)_|^NOTIFY_SOCKET$/.test(name));
    const loopback = '-kernel inet_dist_use_interface {127,0,0,1}';
    this.#env = {
      ...Object.fromEntries(own),
      HOME: this.#directory, // the Erlang cookie lies here
      ERL_EPMD_PORT: String(ports.epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `amqp10-${ports.amqp}@localhost`,
      RABBITMQ_DIST_PORT: String(ports.distribution),
      RABBITMQ_CONF_ENV_FILE: join(this.#directory, 'none'),
      RABBITMQ_CONFIG_FILE: join(this.#directory, 'rabbitmq'),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(this.#directory, 'none'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(this.#directory, 'enabled_plugins'),
      RABBITMQ_MNESIA_BASE: join(this.#directory, 'data'),
      RABBITMQ_LOG_BASE: join(this.#directory, 'log'),
      RABBITMQ_GENERATED_CONFIG_DIR: join(this.#directory, 'generated'),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: loopback,
      RABBITMQ_CTL_ERL_ARGS: loopback,
      RUNNING_UNDER_SYSTEMD: 'true', // makes the script exec the Erlang VM, so that our child is the broker itself
    };
    process.once('exit', this.#lastResort);
  }

  /** Starts the broker again, with the data it had, after `kill()`. */
  async start(): Promise<void> {
    await this.#startEpmd();
    const server = spawn(join(this.home, 'sbin', 'rabbitmq-server'), {
      env: this.#env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    this.#server = server;
    let output = '';
    await new Promise<void>((resolve, reject) => {
      const read = (chunk: Buffer) => {
        output += chunk.toString();
        if (/completed with \d+ plugins/.test(output)) resolve();
      };
      server.stdout.on('data', read);
      server.stderr.on('data', read);
      server.once('error', reject);
      server.once('exit', (code) => reject(new Error(`RabbitMQ ended with ${code} while it started:\n${output}`)));
    });
  }

  /** Stops the broker as an administrator does, and starts it again with the same data. */
  async restart(): Promise<void> {
    await this.#end('SIGTERM');
    await this.start();
  }

  /** Ends the broker without a word to anyone. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Stops the broker and removes all it left behind. */
  async stop(): Promise<void> {
    await this.#end('SIGTERM');
    const epmd = this.#epmd;
    this.#epmd = undefined;
    if (epmd && epmd.exitCode === null && epmd.signalCode === null) {
      epmd.kill('SIGKILL');
      await once(epmd, 'exit');
    }
    process.removeListener('exit', this.#lastResort);
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Runs rabbitmqctl against this broker and resolves with what it printed. */
  async ctl(...args: string[]): Promise<string> {
    const ctl = join(this.home, 'sbin', 'rabbitmqctl');
    const { stdout } = await promisify(execFile)(ctl, args, { env: this.#env });
    return stdout;
  }

  /** Adds an account that may do everything in the default vhost. */
  async addUser(name: string, password: string): Promise<void> {
    await this.ctl('add_user', name, password);
    await this.ctl('set_permissions', name, '.*', '.*', '.*');
  }

  /** How many messages each queue holds. */
  async depths(): Promise<Record<string, number>> {
    const rows = await this.ctl('list_queues', '--silent', '--formatter', 'json', 'name', 'messages');
    const queues: { name: string; messages: number }[] = JSON.parse(rows);
    return Object.fromEntries(queues.map(({ name, messages }) => [name, messages]));
  }

  #configure({ queues = [], users = {} }: RabbitMQOptions): void {
    const config = [
      `listeners.tcp.1 = 127.0.0.1:${this.port}`,
      `load_definitions = ${join(this.#directory, 'definitions.json')}`,
      'amqp1_0.default_user = guest', // what SASL ANONYMOUS may do
      'disk_free_limit.absolute = 1MB',
    ];
    const accounts = Object.entries({ guest: 'guest', ...users });
    const definitions = {
      vhosts: [{ name: '/' }],
      users: accounts.map(([name, password]) => ({ name, password, tags: '' })),
      permissions: accounts.map(([user]) => ({ user, vhost: '/', configure: '.*', write: '.*', read: '.*' })),
      queues: queues
        .map((queue) => (typeof queue === 'string' ? { name: queue, arguments: {} } : queue))
        .map((queue) => ({ ...queue, vhost: '/', durable: true, auto_delete: false })),
    };
    writeFileSync(join(this.#directory, 'rabbitmq.conf'), `${config.join('\n')}\n`);
    writeFileSync(join(this.#directory, 'enabled_plugins'), '[rabbitmq_amqp1_0].\n');
    writeFileSync(join(this.#directory, 'definitions.json'), JSON.stringify(definitions));
  }

  /** Runs epmd as a child of ours: left to Erlang it would become a daemon that outlives the broker. */
  async #startEpmd(): Promise<void> {
    if (this.#epmd) return;
    const options = ['-d', '-d', '-port', String(this.ports.epmd), '-address', '127.0.0.1'];
    const epmd = spawn('epmd', options, { env: this.#env, stdio: ['ignore', 'ignore', 'pipe'] });
    this.#epmd = epmd;
    await new Promise<void>((resolve, reject) => {
      epmd.stderr.on('data', (chunk: Buffer) => {
        if (chunk.includes('entering the main select() loop')) resolve();
      });
      epmd.once('error', reject);
      epmd.once('exit', (code) => reject(new Error(`epmd ended with ${code}`)));
    });
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    const server = this.#server;
    this.#server = undefined;
    if (!server || server.exitCode !== null || server.signalCode !== null) return;
    server.kill(signal);
    await once(server, 'exit');
  }
}

function installation(): string | undefined {
  if (!existsSync(LIB)) return undefined;
  const version = readdirSync(LIB)
    .filter((name) => name.startsWith('rabbitmq_server-3.'))
    .at(-1);
  return version && join(LIB, version);
}
