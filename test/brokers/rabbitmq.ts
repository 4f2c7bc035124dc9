// A RabbitMQ of its own for one test run: everything it writes lies in one temporary directory, everything it opens is on loopback.
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { type BrokerKind, FIXTURES, LocalBroker, type Queue, run, Server } from './broker';
import { unpacked, within } from './debian';
import { KEY_ID, RESOURCE } from './tokens';

const LIB = '/usr/lib/rabbitmq/lib';
const KEY_FILE = 'token-key.pem';

/** What rabbitmqctl close_all_connections would do, if 3.10 knew of the connections of its plugin. They end with no close frame. */
const CLOSE_ALL =
  '[catch rabbit_amqp1_0_reader:shutdown(rabbit_connection_sup:reader(P), "disconnect()")' +
  ' || R <- maps:keys(ranch:info()), P <- ranch:procs(R, connections)].';

export type RabbitMQOptions = {
  /** Durable classic queues, unless their arguments say otherwise. */
  queues?: (string | (Queue & { arguments?: Record<string, string | number> }))[];
  /** Queues that get what is sent to amq.topic with this key. */
  bindings?: { queue: string; key: string }[];
  /** Name to password, beside guest/guest. */
  users?: Record<string, string>;
  /** Takes tokens as passwords, see tokens.ts, that can be verified with this key (PEM). */
  tokenKey?: string;
};

/** Where a RabbitMQ lies, and the command that runs what lies there. */
type Installation = { home: string; command: [string, ...string[]] };

/** The plugin rabbitmq_amqp1_0 of this machine's Debian. Topics need no setup: they are routing keys of amq.topic. */
export const rabbitmq3: BrokerKind = {
  async prepare() {
    const reason = RabbitMQ.available();
    if (reason) throw new Error(reason);
  },
  start: (setup) => RabbitMQ.start(withLimited(setup.queues)),
};

export interface RabbitMQKind extends BrokerKind {
  startWith(options: RabbitMQOptions): Promise<RabbitMQ>;
}

/** RabbitMQ 4, which speaks AMQP 1.0 itself. */
export const rabbitmq40 = packaged('trixie');
export const rabbitmq43 = packaged('forky'); // testing: the version moves on

export class RabbitMQ extends LocalBroker<RabbitMQOptions> {
  /** Why there can be no RabbitMQ on this machine; undefined when there can. */
  static available(): string | undefined {
    const home = installation()?.home;
    if (!home) return `no RabbitMQ in ${LIB} (Debian: apt-get install rabbitmq-server)`;
    const plugins = readdirSync(join(home, 'plugins'));
    if (!plugins.some((name) => name.startsWith('rabbitmq_amqp1_0-'))) return `${home} has no plugin rabbitmq_amqp1_0`;
    return undefined;
  }

  /** Starts a broker and resolves once it accepts connections. */
  static async start(options: RabbitMQOptions = {}, found = installation()): Promise<RabbitMQ> {
    if (!found) throw new Error(RabbitMQ.available());
    const [amqp, amqps, epmd, distribution] = [await freePort(), await freePort(), await freePort(), await freePort()];
    return new RabbitMQ(found, { amqp, amqps, epmd, distribution }).launch(options);
  }

  readonly port: number;
  readonly tlsPort: number;
  readonly version: string;
  readonly #env: NodeJS.ProcessEnv;
  readonly #portMapper = new Server();

  private constructor(
    private readonly found: Installation,
    private readonly ports: Record<'amqp' | 'amqps' | 'epmd' | 'distribution', number>,
  ) {
    super('rabbitmq');
    this.port = ports.amqp;
    this.tlsPort = ports.amqps;
    this.version = found.home.replace(/^.*-/, 'RabbitMQ ');
    const own = Object.entries(process.env).filter(([name]) => !/^(RABBITMQ|ERL)_|^NOTIFY_SOCKET$/.test(name));
    const loopback = '-kernel inet_dist_use_interface {127,0,0,1}';
    this.#env = {
      ...Object.fromEntries(own),
      HOME: this.directory, // the Erlang cookie lies here
      ERL_EPMD_PORT: String(ports.epmd),
      ERL_EPMD_ADDRESS: '127.0.0.1',
      RABBITMQ_NODENAME: `amqp10-${ports.amqp}@localhost`,
      RABBITMQ_DIST_PORT: String(ports.distribution),
      RABBITMQ_CONF_ENV_FILE: join(this.directory, 'none'),
      RABBITMQ_CONFIG_FILE: join(this.directory, 'rabbitmq'),
      RABBITMQ_ADVANCED_CONFIG_FILE: join(this.directory, 'none'),
      RABBITMQ_ENABLED_PLUGINS_FILE: join(this.directory, 'enabled_plugins'),
      RABBITMQ_MNESIA_BASE: join(this.directory, 'data'),
      RABBITMQ_LOG_BASE: join(this.directory, 'log'),
      RABBITMQ_GENERATED_CONFIG_DIR: join(this.directory, 'generated'),
      RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: loopback,
      RABBITMQ_CTL_ERL_ARGS: loopback,
      RUNNING_UNDER_SYSTEMD: 'true', // makes the script exec the Erlang VM, so that our child is the broker itself
    };
  }

  async start(): Promise<void> {
    await this.#run(this.server, join(this.found.home, 'sbin', 'rabbitmq-server'), [], /completed with \d+ plugins/);
  }

  override async stop(): Promise<void> {
    await super.stop();
    await this.#portMapper.end('SIGKILL');
  }

  /** Runs rabbitmqctl against this broker and resolves with what it printed. */
  async ctl(...args: string[]): Promise<string> {
    const [command, ...before] = this.found.command;
    const ctl = join(this.found.home, 'sbin', 'rabbitmqctl');
    const { stdout } = await run(command, [...before, ctl, ...args], { env: this.#env });
    return stdout;
  }

  async disconnect(): Promise<void> {
    if (this.#native) await this.ctl('close_all_connections', 'disconnect()');
    else await this.ctl('eval', CLOSE_ALL);
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

  async depth(queue: string): Promise<number> {
    const depth = (await this.depths())[queue];
    if (depth === undefined) throw new Error(`no queue ${queue}`);
    return depth;
  }

  /** Speaks AMQP 1.0 itself, with addresses of its own, rather than by a plugin that maps it to AMQP 0.9.1. */
  get #native(): boolean {
    return !this.version.startsWith('RabbitMQ 3.');
  }

  protected async configure({ queues = [], bindings = [], users = {}, tokenKey }: RabbitMQOptions): Promise<void> {
    const mechanisms = ['PLAIN', 'AMQPLAIN', ...(this.#native ? ['ANONYMOUS'] : []), 'EXTERNAL'];
    const config = [
      `listeners.tcp.1 = 127.0.0.1:${this.port}`,
      `listeners.ssl.1 = 127.0.0.1:${this.tlsPort}`,
      `ssl_options.cacertfile = ${join(FIXTURES, 'ca.crt')}`,
      `ssl_options.certfile = ${join(FIXTURES, 'server.crt')}`,
      `ssl_options.keyfile = ${join(FIXTURES, 'server.key')}`,
      'ssl_options.verify = verify_peer',
      'ssl_options.fail_if_no_peer_cert = true',
      'ssl_cert_login_from = common_name', // and not the whole subject
      ...mechanisms.map((name, i) => `auth_mechanisms.${i + 1} = ${name}`),
      ...(this.#native ? [] : ['amqp1_0.default_user = guest']), // what SASL ANONYMOUS may do; the default of 4
      `load_definitions = ${join(this.directory, 'definitions.json')}`,
      'disk_free_limit.absolute = 1MB',
      ...(tokenKey ? this.#tokens() : []),
    ];
    const plugins = [
      'rabbitmq_auth_mechanism_ssl',
      ...(this.#native ? [] : ['rabbitmq_amqp1_0']),
      ...(tokenKey ? ['rabbitmq_auth_backend_oauth2'] : []),
    ];
    const accounts = Object.entries({ guest: 'guest', ...users });
    const definitions = {
      vhosts: [{ name: '/' }],
      users: [
        ...accounts.map(([name, password]) => ({ name, password, tags: '' })),
        { name: 'client', password_hash: '', tags: '' }, // of the certificate: no password fits
      ],
      permissions: [...accounts, ['client']].map(([user]) => {
        const names = user === 'limited' ? '^(?!forbidden$)' : '.*';
        return { user, vhost: '/', configure: names, write: names, read: names };
      }),
      queues: queues
        .map((queue) => (typeof queue === 'string' ? { name: queue } : queue))
        .map((queue) => ({
          name: queue.name,
          vhost: '/',
          durable: true,
          auto_delete: false,
          arguments: toArguments(queue),
        })),
      bindings: bindings.map(({ queue, key }) => ({
        vhost: '/',
        source: 'amq.topic',
        destination: queue,
        destination_type: 'queue',
        routing_key: key,
        arguments: {},
      })),
    };
    writeFileSync(join(this.directory, 'rabbitmq.conf'), `${config.join('\n')}\n`);
    if (tokenKey) writeFileSync(join(this.directory, KEY_FILE), tokenKey);
    writeFileSync(join(this.directory, 'enabled_plugins'), `[${plugins.join()}].\n`);
    writeFileSync(join(this.directory, 'definitions.json'), JSON.stringify(definitions));
    await this.#startEpmd();
  }

  #tokens(): string[] {
    return [
      'auth_backends.1 = internal',
      'auth_backends.2 = oauth2',
      `auth_oauth2.resource_server_id = ${RESOURCE}`,
      `auth_oauth2.signing_keys.${KEY_ID} = ${join(this.directory, KEY_FILE)}`,
      `auth_oauth2.default_key = ${KEY_ID}`,
      'auth_oauth2.algorithms.1 = RS256',
    ];
  }

  /** Runs epmd as a child of ours: left to Erlang it would become a daemon that outlives the broker. */
  async #startEpmd(): Promise<void> {
    const options = ['-d', '-d', '-port', String(this.ports.epmd), '-address', '127.0.0.1'];
    await this.#run(this.#portMapper, 'epmd', options, /entering the main select\(\) loop/);
  }

  async #run(server: Server, program: string, args: string[], ready: RegExp): Promise<void> {
    const [command, ...before] = this.found.command;
    await server.start(command, [...before, program, ...args], { env: this.#env }, ready);
  }
}

function toArguments(queue: Queue & { arguments?: object }): object {
  const { deadLetters, maxLength } = queue;
  return {
    ...(deadLetters && { 'x-dead-letter-exchange': '', 'x-dead-letter-routing-key': deadLetters }),
    ...(maxLength && { 'x-max-length': maxLength, 'x-overflow': 'reject-publish' }),
    ...queue.arguments,
  };
}

function withLimited(queues: Queue[]): RabbitMQOptions {
  return { queues, users: { limited: 'limited' } };
}

function packaged(suite: string): RabbitMQKind {
  const tree = () => unpacked(suite, 'rabbitmq-server');
  const startWith = async (options: RabbitMQOptions) => RabbitMQ.start(options, installation(await tree()));
  return {
    async prepare() {
      await tree();
    },
    startWith,
    start({ queues, topics }) {
      // A topic is an exchange, and cannot be received from: each subscriber has a queue.
      const bindings = topics.flatMap((key) => ['one', 'two'].map((who) => ({ queue: `${key}.${who}`, key })));
      const all = [...queues, ...bindings.map(({ queue: name }) => ({ name }))];
      return startWith({ ...withLimited(all), bindings });
    },
  };
}

/** The newest RabbitMQ of this machine, or of the Debian unpacked in `tree`. */
function installation(tree?: string): Installation | undefined {
  const lib = join(tree ?? '/', LIB);
  if (!existsSync(lib)) return undefined;
  const name = readdirSync(lib)
    .filter((entry) => entry.startsWith(tree ? 'rabbitmq_server-' : 'rabbitmq_server-3.'))
    .at(-1);
  return name ? { home: join(LIB, name), command: tree ? within(tree) : ['env'] } : undefined;
}
