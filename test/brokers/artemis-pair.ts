// Two Artemises, one of which takes over when the other is gone, on loopback: with one journal for both, or with copies of it.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { freePort } from '../../scripts/free-port';
import { distribution, LocalBroker } from './broker';

const VERSION = '2.56.0';
const fetched = () => distribution(`org.apache.artemis:apache-artemis:${VERSION}:tar.gz:bin`);

/** How the second one comes to have what the first one has accepted. */
export type Sharing = 'shared-store' | 'replication';
type Role = 'primary' | 'backup';

/** What each of them prints when it is ready to take connections, and when it is ready to take over. */
const READY = { primary: /AMQ221007: /, backup: /AMQ221031: / };

class Member extends LocalBroker<void> {
  readonly version = `ActiveMQ Artemis ${VERSION}`;
  readonly #etc = join(this.directory, 'etc');

  constructor(
    private readonly home: string,
    private readonly role: Role,
    private readonly sharing: Sharing,
    readonly port: number,
    private readonly other: number,
    /** Of the journal. */
    private readonly data: string,
  ) {
    super(`artemis-${role}`);
  }

  protected configure(): void {
    mkdirSync(this.#etc);
    const files = {
      'bootstrap.xml': `<broker xmlns="http://activemq.apache.org/schema"><jaas-security domain="activemq"/>
        <server configuration="${pathToFileURL(join(this.#etc, 'broker.xml')).href}"/></broker>`,
      'broker.xml': this.#configuration(),
      'management.xml': '<management-context xmlns="http://activemq.apache.org/schema"/>',
      'login.config': LOGIN,
    };
    for (const [name, content] of Object.entries(files)) writeFileSync(join(this.#etc, name), content);
  }

  async start(): Promise<void> {
    const properties = {
      'artemis.home': this.home,
      'artemis.instance': this.directory,
      'java.io.tmpdir': this.directory,
      'java.security.auth.login.config': join(this.#etc, 'login.config'),
      'org.apache.logging.log4j.level': 'INFO',
    };
    const defines = Object.entries(properties).map(([name, value]) => `-D${name}=${value}`);
    const boot = ['-cp', join(this.home, 'lib', 'artemis-boot.jar'), 'org.apache.activemq.artemis.boot.Artemis', 'run'];
    // For a minute's life it is not worth while to compile much.
    const small = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];
    await this.server.start('java', [...small, ...defines, ...boot], { env: process.env }, READY[this.role]);
  }

  #configuration(): string {
    const directories = ['paging', 'bindings', 'journal', 'large-messages'].map(
      (name) => `<${name}-directory>${join(this.data, name)}</${name}-directory>`,
    );
    return `<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>${this.role}</name>
    <journal-type>NIO</journal-type>
    <max-disk-usage>100</max-disk-usage>
    ${directories.join('\n    ')}
    <connectors>
      <connector name="this">tcp://${this.host}:${this.port}</connector>
      <connector name="other">tcp://${this.host}:${this.other}</connector>
    </connectors>
    <acceptors>
      <acceptor name="all">tcp://${this.host}:${this.port}?protocols=CORE,AMQP</acceptor>
    </acceptors>
    <cluster-user>cluster</cluster-user>
    <cluster-password>cluster</cluster-password>
    <cluster-connections>
      <cluster-connection name="pair">
        <connector-ref>this</connector-ref>
        <static-connectors><connector-ref>other</connector-ref></static-connectors>
      </cluster-connection>
    </cluster-connections>
    <ha-policy>
      <${this.sharing}><${this.role}/></${this.sharing}>
    </ha-policy>
    <security-settings>
      <security-setting match="#">
        ${['send', 'consume', 'createAddress', 'createDurableQueue'].map((type) => `<permission type="${type}" roles="amq"/>`).join('')}
      </security-setting>
    </security-settings>
    <address-settings>
      <address-setting match="#"><auto-delete-queues>false</auto-delete-queues></address-setting>
    </address-settings>
  </core>
</configuration>`;
  }
}

const LOGIN = `activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule required
    org.apache.activemq.jaas.guest.user="guest"
    org.apache.activemq.jaas.guest.role="amq";
};`;

export class ArtemisPair {
  /** Fetches Artemis, if need be. */
  static async prepare(): Promise<void> {
    await fetched();
  }

  static async start(sharing: Sharing): Promise<ArtemisPair> {
    const home = join(await fetched(), `apache-artemis-${VERSION}`);
    const [one, other] = [await freePort(), await freePort()];
    const data = [mkdtempSync(join(tmpdir(), 'artemis-data-'))];
    if (sharing === 'replication') data.push(mkdtempSync(join(tmpdir(), 'artemis-data-')));
    const primary = new Member(home, 'primary', sharing, one, other, data[0]!);
    const backup = new Member(home, 'backup', sharing, other, one, data.at(-1)!);
    const pair = new ArtemisPair(primary, backup, data);
    try {
      await primary.launch();
      await backup.launch();
    } catch (error) {
      await pair.stop();
      throw error;
    }
    return pair;
  }

  private constructor(
    readonly primary: Member,
    readonly backup: Member,
    private readonly data: string[],
  ) {}

  /** As the endpoint takes them. */
  get urls(): string[] {
    return [this.primary, this.backup].map(({ host, port }) => `amqp://${host}:${port}`);
  }

  async stop(): Promise<void> {
    await Promise.all([this.primary.stop(), this.backup.stop()]);
    for (const directory of this.data) rmSync(directory, { recursive: true, force: true });
  }
}
