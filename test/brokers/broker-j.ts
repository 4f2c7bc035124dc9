// An Apache Qpid Broker-J of its own for one test run.
import { readdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { type BrokerKind, distribution, FIXTURES, LocalBroker, run, type Setup } from './broker';

const ARTIFACT = 'org.apache.qpid:apache-qpid-broker-j:10.1.0:tar.gz:bin';

interface Ports {
  amqp: number;
  tls: number;
  http: number;
  ws: number;
  wss: number;
  scram: number;
}

export const brokerJ: BrokerKind = {
  async prepare() {
    await run('java', ['-version']);
    await distribution(ARTIFACT);
  },

  async start(setup) {
    const unpacked = join(await distribution(ARTIFACT), 'qpid-broker');
    const version = readdirSync(unpacked)[0]!;
    const ports = {
      amqp: await freePort(),
      tls: await freePort(),
      http: await freePort(),
      ws: await freePort(),
      wss: await freePort(),
      scram: await freePort(),
    };
    return new BrokerJ(version, join(unpacked, version), ports).launch(setup);
  },
};

class BrokerJ extends LocalBroker {
  readonly version: string;
  readonly port: number;
  readonly tlsPort: number;
  readonly wsPort: number;
  readonly wssPort: number;
  readonly scramPort: number;

  constructor(
    version: string,
    private readonly home: string,
    private readonly ports: Ports,
  ) {
    super('broker-j');
    this.version = `Qpid Broker-J ${version}`;
    this.port = ports.amqp;
    this.tlsPort = ports.tls;
    this.wsPort = ports.ws;
    this.wssPort = ports.wss;
    this.scramPort = ports.scram;
  }

  protected async configure(setup: Setup): Promise<void> {
    const [key, certificate] = ['server.key', 'server.crt'].map((name) => join(FIXTURES, name));
    const store = join(this.directory, 'server.p12');
    // A key store of PEM files cannot have a key of an elliptic curve.
    const files = ['-inkey', key!, '-in', certificate!, '-out', store];
    await run('openssl', ['pkcs12', '-export', ...files, '-passout', `pass:${PASSWORD}`]);
    writeFileSync(join(this.directory, 'initial.json'), JSON.stringify(configuration(this.ports, store, setup)));
  }

  async start(): Promise<void> {
    const args = [
      '-Xmx384m',
      '-XX:MaxDirectMemorySize=128m', // for messages: the default is as much as the heap again
      `-DQPID_WORK=${this.directory}`,
      '-cp',
      join(this.home, 'lib', '*'),
      'org.apache.qpid.server.Main',
      '-icp', // read the first time only
      join(this.directory, 'initial.json'),
    ];
    await this.server.start('java', args, { env: process.env, cwd: this.directory }, /BRK-1004/);
  }

  async depth(queue: string): Promise<number> {
    const path = `queue/default/default/${encodeURIComponent(queue)}/getStatistics`;
    const response = await this.#rest('GET', `${path}?statistics=queueDepthMessages`);
    const { queueDepthMessages } = (await response.json()) as { queueDepthMessages: number };
    return queueDepthMessages;
  }

  async disconnect(): Promise<void> {
    const response = await this.#rest('GET', 'virtualhost/default/default/getConnections');
    const connections = (await response.json()) as { id: string }[];
    await Promise.all(connections.map(({ id }) => this.#rest('DELETE', `connection?id=${id}`)));
  }

  async #rest(method: string, path: string): Promise<Response> {
    const headers = { authorization: `Basic ${Buffer.from('guest:guest').toString('base64')}` };
    const response = await fetch(`http://127.0.0.1:${this.ports.http}/api/latest/${path}`, { method, headers });
    if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${await response.text()}`);
    return response;
  }
}

/** The broker's own initial configuration (initial-config.json in qpid-broker-core), plus what the suite needs. */
function configuration(ports: Ports, store: string, setup: Setup): object {
  const aliases = ['nameAlias', 'defaultAlias', 'hostnameAlias'].map((type) => ({ name: type, type }));
  const listener = { bindingAddress: '127.0.0.1', authenticationProvider: 'plain', virtualhostaliases: aliases };
  const users = ['guest', 'limited'].map((name) => ({ name, type: 'managed', password: name }));
  return {
    name: 'Broker',
    modelVersion: '8.0',
    authenticationproviders: [
      {
        name: 'plain',
        type: 'Plain',
        secureOnlyMechanisms: [], // it offers PLAIN over TLS only
        users,
      },
      { name: 'certificate', type: 'External' },
      { name: 'scram', type: 'Plain', disabledMechanisms: ['PLAIN', 'CRAM-MD5'], users }, // SCRAM-SHA-1 and -256 are left
    ],
    accesscontrolproviders: [{ name: 'acl', type: 'AclFile', path: dataUrl(RULES) }],
    keystores: [{ name: 'server', type: 'FileKeyStore', storeUrl: store, keyStoreType: 'pkcs12', password: PASSWORD }],
    truststores: [{ name: 'ca', type: 'NonJavaTrustStore', certificatesUrl: join(FIXTURES, 'ca.crt') }],
    ports: [
      { ...listener, name: 'AMQP', port: ports.amqp },
      { ...listener, name: 'SCRAM', port: ports.scram, authenticationProvider: 'scram' },
      { ...listener, name: 'WS', port: ports.ws, transports: ['WS'] },
      { ...listener, name: 'WSS', port: ports.wss, transports: ['WSS'], keyStore: 'server' },
      {
        ...listener,
        name: 'AMQPS',
        port: ports.tls,
        authenticationProvider: 'certificate',
        transports: ['SSL'],
        keyStore: 'server',
        trustStores: ['ca'],
        needClientAuth: true,
      },
      {
        name: 'HTTP',
        port: ports.http,
        bindingAddress: '127.0.0.1',
        authenticationProvider: 'plain',
        protocols: ['HTTP'],
      },
    ],
    virtualhostnodes: [
      {
        name: 'default',
        type: 'JSON',
        defaultVirtualHostNode: 'true',
        virtualHostInitialConfiguration: JSON.stringify(virtualHost(setup)),
      },
    ],
    plugins: [{ type: 'MANAGEMENT-HTTP', name: 'httpManagement', httpBasicAuthenticationEnabled: true }],
  };
}

const PASSWORD = 'secret';

const RULES = [
  'ACL DENY limited PUBLISH EXCHANGE name="" routingKey="forbidden"',
  'ACL DENY limited CONSUME QUEUE name="forbidden"',
  'ACL ALLOW ALL ALL',
];

function virtualHost({ queues }: Setup): object {
  return {
    type: 'BDB',
    queues: queues.map(({ name, deadLetters, maxLength }) => ({
      name,
      durable: true,
      // Rejected counts as an attempt, and only the last one leads there.
      ...(deadLetters && { alternateBinding: { destination: deadLetters }, maximumDeliveryAttempts: 2 }),
      ...(maxLength && { maximumQueueDepthMessages: maxLength, overflowPolicy: 'REJECT' }),
    })),
  };
}

function dataUrl(lines: string[]): string {
  return `data:;base64,${Buffer.from(lines.join('\n')).toString('base64')}`;
}
