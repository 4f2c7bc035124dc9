// Several Artemises on loopback: a pair, one of which takes over when the other is gone, or members that all work.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { freePort } from '../../scripts/free-port';
import { artemisHome, ArtemisProcess } from './artemis';

/** How the second one of a pair comes to have what the first one has accepted. */
export type Sharing = 'shared-store' | 'replication';
/** What is there on each member from the start. */
export type Addresses = Record<'queues' | 'topics', string[]>;

interface Membership {
  name: string;
  /** Of the journal. */
  data: string;
  ports: { own: number; others: number[] };
  /** Further settings of the broker. */
  settings: string;
}

/** What a backup prints when it is ready to take over. */
const READY_TO_TAKE_OVER = /AMQ221031: /;
// For a minute's life it is not worth while to compile much.
const SMALL = ['-Xmx256m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1'];

export class Member extends ArtemisProcess<void> {
  readonly #membership: Membership;

  constructor(home: string, membership: Membership, ready?: RegExp) {
    super(`artemis-${membership.name}`, home, membership.ports.own, SMALL, ready);
    this.#membership = membership;
  }

  get url(): string {
    return `amqp://${this.host}:${this.port}`;
  }

  protected configure(): void {
    this.write(this.#configuration(), LOGIN);
  }

  #configuration(): string {
    const { name, data, ports, settings } = this.#membership;
    const directories = ['paging', 'bindings', 'journal', 'large-messages'].map(
      (kind) => `<${kind}-directory>${join(data, kind)}</${kind}-directory>`,
    );
    const connectors = [ports.own, ...ports.others].map(
      (port) => `<connector name="at-${port}">tcp://${this.host}:${port}</connector>`,
    );
    const others = ports.others.map((port) => `<connector-ref>at-${port}</connector-ref>`);
    const cluster = `<cluster-connections>
      <cluster-connection name="cluster">
        <connector-ref>at-${ports.own}</connector-ref>
        <message-load-balancing>ON_DEMAND</message-load-balancing>
        <static-connectors>${others.join('')}</static-connectors>
      </cluster-connection>
    </cluster-connections>`;
    return `<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>${name}</name>
    <journal-type>NIO</journal-type>
    <max-disk-usage>100</max-disk-usage>
    ${directories.join('\n    ')}
    <connectors>
      ${connectors.join('\n      ')}
    </connectors>
    <acceptors>
      <acceptor name="all">tcp://${this.host}:${this.port}?protocols=CORE,AMQP</acceptor>
    </acceptors>
    <cluster-user>cluster</cluster-user>
    <cluster-password>cluster</cluster-password>
    ${ports.others.length > 0 ? cluster : ''}
    <security-settings>
      <security-setting match="#">
        ${PERMISSIONS.map((type) => `<permission type="${type}" roles="amq"/>`).join('')}
      </security-setting>
    </security-settings>
    <address-settings>
      <address-setting match="#">
        <auto-delete-queues>false</auto-delete-queues>
        <redistribution-delay>0</redistribution-delay>
      </address-setting>
    </address-settings>
    ${settings}
  </core>
</configuration>`;
  }
}

const PERMISSIONS = ['send', 'consume', 'createAddress', 'createDurableQueue', 'createNonDurableQueue', 'manage'];
const LOGIN = `activemq {
  org.apache.activemq.artemis.spi.core.security.jaas.GuestLoginModule required
    org.apache.activemq.jaas.guest.user="guest"
    org.apache.activemq.jaas.guest.role="amq";
};`;

export class ArtemisCluster {
  /** Fetches Artemis, if need be. */
  static async prepare(): Promise<void> {
    await artemisHome();
  }

  /** The first one takes connections. The second one does once the first is gone, with what that has accepted. */
  static async pair(sharing: Sharing): Promise<ArtemisCluster> {
    const ports = await freePorts(2);
    const data = sharing === 'replication' ? [directory(), directory()] : [directory()];
    const role = (name: 'primary' | 'backup', own: number, others: number[]): Membership => {
      const settings = `<ha-policy><${sharing}><${name}/></${sharing}></ha-policy>`;
      return { name, data: name === 'primary' ? data[0]! : data.at(-1)!, ports: { own, others }, settings };
    };
    const home = await artemisHome();
    const primary = new Member(home, role('primary', ports[0]!, [ports[1]!]));
    const backup = new Member(home, role('backup', ports[1]!, [ports[0]!]), READY_TO_TAKE_OVER);
    return new ArtemisCluster([primary, backup], data).#launch();
  }

  /** Each has messages of its own, and gives them to another one where somebody receives. */
  static async of(count: number, addresses: Addresses): Promise<ArtemisCluster> {
    const ports = await freePorts(count);
    const home = await artemisHome();
    const data = ports.map(directory);
    const members = ports.map((own, n) => {
      const others = ports.filter((port) => port !== own);
      // Which member has a group is decided by one of them, and kept by that.
      const groups = `<grouping-handler name="groups">
        <type>${n === 0 ? 'LOCAL' : 'REMOTE'}</type><address></address><timeout>5000</timeout>
      </grouping-handler>`;
      const settings = `${count > 1 ? groups : ''}${addressesOf(addresses)}`;
      return new Member(home, { name: `member-${n + 1}`, data: data[n]!, ports: { own, others }, settings });
    });
    return new ArtemisCluster(members, data).#launch();
  }

  private constructor(
    readonly members: Member[],
    private readonly data: string[],
  ) {}

  async #launch(): Promise<this> {
    try {
      for (const member of this.members) await member.launch();
    } catch (error) {
      await this.stop();
      throw error;
    }
    return this;
  }

  /** As the endpoint takes them. */
  get urls(): string[] {
    return this.members.map(({ url }) => url);
  }

  /** How many messages the members have in their queues of that name. */
  async depth(queue: string): Promise<number> {
    const depths = await Promise.all(this.members.map((member) => member.depth(queue)));
    return depths.reduce((sum, depth) => sum + depth, 0);
  }

  async stop(): Promise<void> {
    await Promise.all(this.members.map((member) => member.stop()));
    for (const each of this.data) rmSync(each, { recursive: true, force: true });
  }
}

const directory = (): string => mkdtempSync(join(tmpdir(), 'artemis-data-'));

async function freePorts(count: number): Promise<number[]> {
  const ports: number[] = [];
  while (ports.length < count) ports.push(await freePort());
  return ports;
}

function addressesOf({ queues, topics }: Addresses): string {
  const all = [
    ...queues.map((name) => `<address name="${name}"><anycast><queue name="${name}"/></anycast></address>`),
    ...topics.map((name) => `<address name="${name}"><multicast/></address>`),
  ];
  return `<addresses>${all.join('')}</addresses>`;
}
