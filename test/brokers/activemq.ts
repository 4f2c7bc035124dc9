// Apache ActiveMQ Classic, from its jars on Maven Central: the distributions there end with 5.18.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { type BrokerKind, cached, FIXTURES, LocalBroker, run, type Setup } from './broker';

const VERSION = '6.3.1';
const MBEAN = 'org.apache.activemq:type=Broker,brokerName=localhost';
const CONNECTIONS = 'connector=clientConnectors,connectorName=*,connectionViewType=remoteAddress,connectionName=*';

/** What activemq.xml has beyond that of the distribution: attributes of the broker, and XML. */
interface Extras {
  attributes?: string;
  policies?: string;
  plugins?: string;
}

export const activemq = activemqWith({});

export function activemqWith(extras: Extras): BrokerKind {
  return {
    async prepare() {
      await run('openssl', ['version']);
      await jars();
    },

    async start(setup) {
      return new ActiveMQ(await jars(), await freePort(), await freePort(), await freePort(), extras).launch(setup);
    },
  };
}

function jars(): Promise<string> {
  return cached(`activemq-${VERSION}`, async (directory) => {
    const what = ['-f', join(__dirname, 'activemq', 'pom.xml'), `-Dversion.activemq=${VERSION}`];
    const where = ['-DincludeScope=runtime', '-Dmdep.stripVersion', `-DoutputDirectory=${directory}`];
    await run('mvn', ['-q', '-B', ...what, 'dependency:copy-dependencies', ...where]);
  });
}

class ActiveMQ extends LocalBroker {
  readonly version = `ActiveMQ Classic ${VERSION}`;

  constructor(
    private readonly lib: string,
    readonly port: number,
    readonly tlsPort: number,
    private readonly jolokia: number,
    private readonly extras: Extras,
  ) {
    super('activemq');
  }

  protected async configure(setup: Setup): Promise<void> {
    const { port, tlsPort } = this;
    const { attributes = '', policies = '', plugins = '' } = this.extras;
    const made = destinations(setup);
    const values: Record<string, unknown> = { directory: this.directory, port, tlsPort, attributes, plugins, ...made };
    values['policies'] = made.policies + policies;
    const template = readFileSync(join(__dirname, 'activemq', 'activemq.xml'), 'utf8');
    const configuration = template.replace(/\$\{(\w+)\}/g, (_, name: string) => String(values[name]));
    writeFileSync(join(this.directory, 'activemq.xml'), configuration);
    const store = ['-out', 'server.p12', '-passout', 'pass:secret'];
    const key = ['-in', join(FIXTURES, 'server.crt'), '-inkey', join(FIXTURES, 'server.key')];
    const trust = ['-keystore', 'ca.p12', '-storepass', 'secret', '-file', join(FIXTURES, 'ca.crt')];
    await Promise.all([
      run('openssl', ['pkcs12', '-export', ...key, ...store], { cwd: this.directory }),
      run('keytool', ['-importcert', '-noprompt', '-alias', 'ca', ...trust], { cwd: this.directory }),
    ]);
  }

  async start(): Promise<void> {
    const agent = `-javaagent:${join(this.lib, 'jolokia-agent-jvm-javaagent.jar')}=host=127.0.0.1,port=${this.jolokia}`;
    const options = ['-Xmx384m', agent, '-cp', join(this.lib, '*')];
    const task = ['org.apache.activemq.console.Main', 'start', `xbean:file:${join(this.directory, 'activemq.xml')}`];
    const place = { env: process.env, cwd: this.directory };
    await this.server.start('java', [...options, ...task], place, /Apache ActiveMQ \S+ \(.*\) started/);
  }

  depth(queue: string): Promise<number> {
    const mbean = `${MBEAN},destinationType=Queue,destinationName=${queue}`;
    return this.#ask({ type: 'read', mbean, attribute: 'QueueSize' });
  }

  async disconnect(): Promise<void> {
    const connections: string[] = await this.#ask({ type: 'search', mbean: `${MBEAN},${CONNECTIONS}` });
    await Promise.all(connections.map((mbean) => this.#ask({ type: 'exec', mbean, operation: 'stop' })));
  }

  /** Has Jolokia, which the distribution comes with too, do something with the broker's MBeans. */
  async #ask<T>(request: Record<string, string>): Promise<T> {
    const url = `http://127.0.0.1:${this.jolokia}/jolokia/`;
    const response = await fetch(url, { method: 'POST', body: JSON.stringify(request) });
    const { value, error } = (await response.json()) as { value: T; error?: string };
    if (error) throw new Error(`${JSON.stringify(request)}: ${error}`);
    return value;
  }
}

/** What `setup` makes of activemq.xml. */
function destinations({ queues, topics }: Setup) {
  const names = [...new Set(queues.flatMap(({ name, deadLetters }) => (deadLetters ? [name, deadLetters] : [name])))];
  const policies = queues.map(({ name, deadLetters, maxLength }) => {
    const target = `<deadLetterQueue><queue physicalName="${deadLetters}"/></deadLetterQueue>`;
    const strategy = `<deadLetterStrategy><sharedDeadLetterStrategy>${target}</sharedDeadLetterStrategy></deadLetterStrategy>`;
    // Only bytes can be limited, and a message counts as 1024 and its size. Other cursors leave messages on disk, uncounted.
    const limit = maxLength ? `memoryLimit="${maxLength * 1024}"` : '';
    const cursor = maxLength ? '<pendingQueuePolicy><vmQueueCursor/></pendingQueuePolicy>' : '';
    return `<policyEntry queue="${name}" ${limit}>${deadLetters ? strategy : ''}${cursor}</policyEntry>`;
  });
  const limited = [...names, 'ActiveMQ.DLQ'].filter((name) => name !== 'forbidden');
  return {
    policies: policies.join(''),
    destinations: [
      ...names.map((name) => `<queue physicalName="${name}"/>`),
      ...topics.map((name) => `<topic physicalName="${name}"/>`),
    ].join(''),
    permissions: limited
      .map((name) => `<authorizationEntry queue="${name}" read="users" write="users" admin="users"/>`)
      .join(''),
  };
}
