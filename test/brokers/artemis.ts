// An Artemis of its own for one test run, and what any Artemis takes. What is not said here is as after `artemis create`, which mostly means the broker's defaults.
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import rhea, { type EventContext, type Source } from 'rhea';
import { freePort } from '../../scripts/free-port';
import { type BrokerKind, distribution, FIXTURES, LocalBroker, type Setup } from './broker';

const VERSION = '2.56.0';

export const artemis: BrokerKind = {
  async prepare() {
    await artemisHome();
  },
  async start(setup) {
    const home = await artemisHome();
    return new Artemis(home, await freePort(), await freePort(), await freePort(), await freePort()).launch(setup);
  },
};

/** Where Artemis is unpacked; the first time, it is fetched. */
export async function artemisHome(): Promise<string> {
  return join(
    await distribution(`org.apache.artemis:apache-artemis:${VERSION}:tar.gz:bin`),
    `apache-artemis-${VERSION}`,
  );
}

/** The process of an Artemis, however that is configured. */
export abstract class ArtemisProcess<S> extends LocalBroker<S> {
  readonly version = `ActiveMQ Artemis ${VERSION}`;
  protected readonly etc = join(this.directory, 'etc');

  constructor(
    name: string,
    private readonly home: string,
    readonly port: number,
    /** Options of Java. */
    private readonly java: string[],
    /** What it prints when it is ready: by default, that it takes connections. */
    private readonly ready = /AMQ221007: /,
  ) {
    super(name);
  }

  /** What is in broker.xml, in login.config, and in further files beside them. */
  protected write(broker: string, login: string, further: Record<string, string> = {}): void {
    const files = {
      'bootstrap.xml': `<broker xmlns="http://activemq.apache.org/schema"><jaas-security domain="activemq"/>
        <server configuration="${pathToFileURL(join(this.etc, 'broker.xml')).href}"/></broker>`,
      'broker.xml': broker,
      'management.xml': '<management-context xmlns="http://activemq.apache.org/schema"/>',
      'login.config': login,
      ...further,
    };
    mkdirSync(this.etc);
    for (const [name, content] of Object.entries(files)) writeFileSync(join(this.etc, name), content);
  }

  async start(): Promise<void> {
    const properties = {
      'artemis.home': this.home,
      'artemis.instance': this.directory,
      'java.io.tmpdir': this.directory, // Netty unpacks its native library there, and leaves it after a kill
      'java.security.auth.login.config': join(this.etc, 'login.config'),
      'org.apache.logging.log4j.level': 'INFO', // without log4j2.properties: to the console only
    };
    const defines = Object.entries(properties).map(([name, value]) => `-D${name}=${value}`);
    // What the script bin/artemis runs, without the options that it takes from the environment.
    const boot = ['-cp', join(this.home, 'lib', 'artemis-boot.jar'), 'org.apache.activemq.artemis.boot.Artemis', 'run'];
    await this.server.start('java', [...this.java, ...defines, ...boot], { env: process.env }, this.ready);
  }

  async depth(queue: string): Promise<number> {
    return Number(await this.manage(`queue.${queue}`, { _AMQ_Attribute: 'messageCount' }));
  }

  /** Asks the broker over AMQP. Rejects with an AbortError when the connection ends before the answer comes. */
  protected async manage(resource: string, what: Record<string, string>, ...parameters: string[]): Promise<unknown> {
    const account = { username: 'guest', password: 'guest', reconnect: false as const };
    const connection = rhea.create_container().connect({ host: this.host, port: this.port, ...account });
    const disconnected = new AbortController();
    // One that the broker closes is not always told to be disconnected as well.
    for (const event of ['disconnected', 'connection_close']) connection.once(event, () => disconnected.abort());
    connection.on('connection_error', () => undefined); // rhea throws what nobody listens to
    const requests = connection.open_sender('activemq.management');
    const replies = connection.open_receiver({ source: { dynamic: true } as Source });
    replies.once('receiver_open', () => {
      const application_properties = { _AMQ_ResourceName: resource, ...what };
      requests.send({ reply_to: replies.source.address, application_properties, body: JSON.stringify(parameters) });
    });
    try {
      const [{ message }] = (await once(replies, 'message', { signal: disconnected.signal })) as [EventContext];
      const answer = String(message?.body);
      if (!message?.application_properties?.['_AMQ_OperationSucceeded']) throw new Error(`${resource}: ${answer}`);
      return (JSON.parse(answer) as unknown[])[0];
    } finally {
      connection.close();
    }
  }
}

class Artemis extends ArtemisProcess<Setup> {
  readonly wsPort: number;

  constructor(
    home: string,
    port: number,
    readonly tlsPort: number,
    readonly wssPort: number,
    readonly scramPort: number,
  ) {
    super('artemis', home, port, ['-Xmx384m']);
    this.wsPort = port; // the first bytes tell a WebSocket from AMQP, at any port
  }

  protected configure(setup: Setup): void {
    this.write(configuration(this.#acceptors(), setup), LOGIN, {
      'users.properties': 'guest=guest\nlimited=limited\n',
      'certificates.properties': 'guest=CN=client\n',
      'roles.properties': 'amq=guest\nlimited=limited\n',
      'server.pem': ['server.key', 'server.crt'].map((name) => readFileSync(join(FIXTURES, name), 'utf8')).join(''),
    });
  }

  async disconnect(): Promise<void> {
    const operation = { _AMQ_OperationName: 'closeConnectionsForAddress' };
    await this.manage('broker', operation, this.host).catch((error: Error) => {
      if (error.name !== 'AbortError') throw error; // that the question's own connection ends too is the answer
    });
  }

  #acceptors(): string {
    const store = `sslEnabled=true;keyStoreType=PEM;keyStorePath=${join(this.etc, 'server.pem')}`;
    const client = `needClientAuth=true;trustStoreType=PEMCA;trustStorePath=${join(FIXTURES, 'ca.crt')}`;
    const acceptors = {
      amqp: [this.port, ''],
      // PLAIN and ANONYMOUS are what is offered unless told.
      amqps: [this.tlsPort, `;saslMechanisms=EXTERNAL,PLAIN,ANONYMOUS;${store};${client}`],
      wss: [this.wssPort, `;${store}`],
      // Who logs in is found in one scope, and what that one may do in another.
      scram: [
        this.scramPort,
        ';saslMechanisms=SCRAM-SHA-256,SCRAM-SHA-512;saslLoginConfigScope=amqp-sasl-scram;securityDomain=scram',
      ],
    };
    return Object.entries(acceptors)
      .map(
        ([name, [port, more]]) =>
          `<acceptor name="${name}">tcp://${this.host}:${port}?protocols=AMQP${more}</acceptor>`,
      )
      .join('\n      ');
  }
}

// Guests with a wrong password are no guests: by default they are. With a client certificate they still get in by that.
const JAAS = 'org.apache.activemq.artemis.spi.core.security.jaas';
const LOGIN = `activemq {
  ${JAAS}.PropertiesLoginModule sufficient
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.role="roles.properties";
  ${JAAS}.TextFileCertificateLoginModule sufficient
    org.apache.activemq.jaas.textfiledn.user="certificates.properties"
    org.apache.activemq.jaas.textfiledn.role="roles.properties";
  ${JAAS}.GuestLoginModule sufficient
    credentialsInvalidate=true
    org.apache.activemq.jaas.guest.user="guest"
    org.apache.activemq.jaas.guest.role="amq";
};
amqp-sasl-scram {
  ${JAAS}.SCRAMPropertiesLoginModule required
    org.apache.activemq.jaas.properties.user="users.properties"
    org.apache.activemq.jaas.properties.role="roles.properties";
};
scram {
  ${JAAS}.SCRAMLoginModule required;
};`;

// The one setting that matches an address best counts, alone.
const security = (match: string, roles: string, permissions: string) => `
      <security-setting match="${match}">
        ${permissions.replaceAll(/\w+/g, (type) => `<permission type="${type}" roles="${roles}"/>`)}
      </security-setting>`;
const USE = `send consume browse createAddress deleteAddress
        createDurableQueue deleteDurableQueue createNonDurableQueue deleteNonDurableQueue`;

function configuration(acceptors: string, { queues, topics }: Setup): string {
  const names = new Set([
    'DLQ',
    'ExpiryQueue',
    ...queues.flatMap(({ name, deadLetters = name }) => [name, deadLetters]),
  ]);
  const addresses = [
    ...[...names].map((name) => `<address name="${name}"><anycast><queue name="${name}"/></anycast></address>`),
    ...topics.map((name) => `<address name="${name}"><multicast/></address>`),
  ];
  // Unlike security settings, these take from that of # what they do not say.
  const settings = queues.map(
    ({ name, deadLetters, maxLength }) => `<address-setting match="${name}">
        ${deadLetters ? `<dead-letter-address>${deadLetters}</dead-letter-address>` : ''}
        ${maxLength ? `<max-size-messages>${maxLength}</max-size-messages><address-full-policy>FAIL</address-full-policy>` : ''}
      </address-setting>`,
  );
  // max-disk-usage: on a disk that is fuller, senders get no credit.
  return `<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>artemis</name>
    <journal-type>NIO</journal-type>
    <max-redelivery-records>1</max-redelivery-records>
    <max-disk-usage>100</max-disk-usage>
    <acceptors>
      ${acceptors}
    </acceptors>
    <security-settings>
      ${security('#', 'amq,limited', USE)}${security('forbidden', 'amq', USE)}
      ${security('activemq.management.#', 'amq', `manage ${USE}`)}
    </security-settings>
    <address-settings>
      <address-setting match="#">
        <dead-letter-address>DLQ</dead-letter-address>
        <expiry-address>ExpiryQueue</expiry-address>
        <auto-delete-queues>false</auto-delete-queues>
        <auto-delete-addresses>false</auto-delete-addresses>
      </address-setting>
      ${settings.join('\n      ')}
    </address-settings>
    <addresses>
      ${addresses.join('\n      ')}
    </addresses>
  </core>
</configuration>`;
}
