/* oxlint-disable no-underscore-dangle -- rhea's inner methods are named so */
/**
 * One Qpid Dispatch router, or two that are linked, after what was seen of 1.19: distribution, credit, outcomes from end to end,
 * `$management`, and a broker behind it, by link routes and waypoints. It keeps no message. It shares no code with nodes/.
 */
import { randomUUID } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import rhea, { type Connection, type Container, type Delivery, type EventContext } from 'rhea';
import { decode, inspect } from '../../broker/bytes';
import {
  answerDrains,
  echo,
  errorOf,
  type Fields,
  keepBytes,
  keepDirectionsApart,
  type Link,
  nameOf,
  type PeerError,
  type PeerSession,
  renew,
  room,
  takeEarlyFlows,
  terminus,
} from '../../broker/rhea';
import {
  Address,
  type Consumer,
  describedIn,
  type Distribution,
  isPrefix,
  linkOf,
  Message,
  type Outcome,
  OUTCOMES,
  type Producer,
} from './router/addresses';
import { type Behind, BrokerBehind } from './router/broker-behind';
import { type AddressConfig, replyTo } from './router/management';

/** So much a router takes of each sender that is not settled yet. */
const CAPACITY = 250;
const MANAGEMENT = '$management';
const RELEASED: Outcome = { state: 'released' };
const FAILED: Outcome = { state: 'modified' };
const UNAVAILABLE: PeerError = {
  condition: 'amqp:not-found',
  description: 'Deliveries cannot be sent to an unavailable address',
};
/** As they are shipped. */
const PREFIXES: Record<string, Distribution> = {
  closest: 'closest',
  unicast: 'closest',
  exclusive: 'closest',
  multicast: 'multicast',
  broadcast: 'multicast',
};

export interface RouterOptions {
  /** of the routers, each with a port of its own (default: one, `A`) */
  names?: string[];
  /** beside those that are shipped */
  unavailable?: string[];
  /** the port of a broker, the prefixes that are routed to it link by link, and the addresses of which it keeps the messages */
  broker?: Behind;
}

interface RouterEvents {
  /** a message that came in has its outcome */
  settled: [address: string, outcome: Outcome['state']];
  /** a sender has used up its credit, as it was asked to */
  drained: [address: string];
  /** the broker behind can be reached */
  reached: [];
}

export class Router extends EventEmitter<RouterEvents> {
  readonly #names: string[];
  readonly #servers: Server[] = [];
  readonly #connections = new Set<Connection>();
  readonly #configs: AddressConfig[];
  readonly #addresses = new Map<string, Address>();
  readonly #producers = new Map<Link, Producer>();
  readonly #consumers = new Map<Link, Consumer>();
  readonly #broker: BrokerBehind | undefined;
  /** What is to be done on the next turn: rhea would write it before the attach it belongs to. */
  #steps: { connection: Connection; step: () => void }[] = [];

  static async start(options: RouterOptions = {}): Promise<Router> {
    const router = new Router(options);
    await router.#listen();
    if (router.#broker) {
      const reached = once(router, 'reached');
      router.#broker.start();
      await reached;
    }
    return router;
  }

  private constructor({ names = ['A'], unavailable = [], broker }: RouterOptions) {
    super();
    this.setMaxListeners(0);
    this.#names = names;
    const configured = [
      ...Object.entries(PREFIXES),
      ...unavailable.map((prefix): [string, Distribution] => [prefix, 'unavailable']),
      ...(broker?.waypoints ?? []).map((prefix): [string, Distribution] => [prefix, 'balanced']),
    ];
    this.#configs = configured.map(([prefix, distribution], index) => ({
      name: null,
      identity: String(index + 1),
      prefix,
      distribution,
      waypoint: broker?.waypoints?.includes(prefix) ?? false,
    }));
    if (!broker) return;
    this.#broker = new BrokerBehind(broker, {
      later: (connection, step) => this.#later(connection, step),
      // The broker is a receiver of what clients send there, and a sender of what clients receive from there.
      writes: (link, name) => this.#consume(link, 0, this.#address(name, 0)),
      reads: (link, name) => this.#produce(link, 0, this.#address(name, 1)),
      message: (link, delivery, bytes) => this.#onMessage(link, delivery, bytes),
      outcome: (link, delivery, outcome) => this.#onOutcome(link, delivery, outcome),
      flow: (link) => this.#onFlow(link),
      gone: (link) => this.#forget(link),
      reached: () => void this.emit('reached'),
    });
  }

  /** One of each router. */
  get ports(): number[] {
    return this.#servers.map((server) => (server.address() as AddressInfo).port);
  }

  get port(): number {
    return this.ports[0]!;
  }

  async stop(): Promise<void> {
    this.#broker?.stop();
    const closed = this.#servers.map((server) => once(server, 'close'));
    for (const server of this.#servers) server.close();
    for (const connection of this.#connections) connection.close();
    await Promise.all(closed);
  }

  async #listen(): Promise<void> {
    for (const [at, id] of this.#names.entries()) {
      const container = rhea.create_container({ id });
      this.#hear(container, at);
      const server = container.listen({
        port: 0,
        host: '127.0.0.1',
        tcp_no_delay: true,
        autoaccept: false,
        credit_window: 0,
        treat_modified_as_released: false,
        offered_capabilities: ['ANONYMOUS-RELAY', 'qd.streaming-links'],
        properties: { product: 'qpid-dispatch-router', version: '1.19.0' },
        channel_max: 32767,
        max_frame_size: 16384,
        idle_time_out: 8000,
      } as Fields as Parameters<Container['listen']>[0]);
      this.#servers.push(server);
      await once(server, 'listening');
    }
  }

  #hear(container: Container, at: number): void {
    const on = (event: string, listener: (context: EventContext) => void) => container.on(event, listener);
    on('connection_open', ({ connection }) => this.#connections.add(connection));
    for (const event of ['connection_close', 'disconnected'])
      on(event, ({ connection }) => {
        this.#connections.delete(connection);
        this.#forgetAll((link) => link.connection === connection);
      });
    on('session_open', ({ session }) => {
      keepDirectionsApart(session as PeerSession);
      keepBytes(session as PeerSession);
      takeEarlyFlows(session as PeerSession);
    });
    on('session_close', ({ session }) => this.#forgetAll((link) => link.session === session));
    for (const side of ['sender', 'receiver']) {
      on(`${side}_open`, (context) => this.#onAttach(linkOf(context), at));
      on(`${side}_close`, (context) => this.#onDetach(linkOf(context)));
    }
    on('sender_flow', (context) => this.#onFlow(linkOf(context)));
    on('receiver_drained', (context) => {
      const { address } = this.#producers.get(linkOf(context)) ?? {};
      if (address) this.emit('drained', address.key.slice(2));
    });
    on('message', (context) =>
      this.#onMessage(linkOf(context), context.delivery!, context.message as unknown as Buffer),
    );
    for (const state of OUTCOMES)
      on(state, ({ sender, delivery }) =>
        this.#onOutcome(sender as unknown as Link, delivery!, { state, described: describedIn(delivery!) }),
      );
    // settled without an outcome
    on('settled', ({ sender, delivery }) => this.#onOutcome(sender as unknown as Link, delivery!, RELEASED));
    for (const event of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'error'])
      on(event, () => {});
  }

  // Links

  #onAttach(link: Link, at: number): void {
    const asked = link.remote.attach;
    const reads = link.is_sender();
    const source = terminus(asked['source']);
    const target = terminus(asked['target']);
    const node = reads ? source : target;
    renew(link);
    const wanted: string = node?.['address'] ?? '';
    const distribution = this.#distributionOf(wanted);
    const routed = this.#broker?.routes(wanted) ?? false;
    const refusal =
      distribution === 'unavailable'
        ? { condition: 'amqp:not-found', description: 'Node not found' }
        : routed
          ? this.#broker!.objection()
          : undefined;
    if (refusal) {
      link.local.attach['source'] = reads ? null : echo(source);
      link.local.attach['target'] = reads ? echo(target) : null;
      return link.close(errorOf(refusal));
    }
    const name = node?.['dynamic'] ? `amqp:/_topo/0/${this.#names[at]}/temp.${randomUUID().slice(0, 8)}` : wanted;
    const named = name ? { address: name } : {};
    link.local.attach['source'] = echo(source, reads ? named : {});
    link.local.attach['target'] = echo(target, reads ? {} : named);
    link.local.attach['snd_settle_mode'] = asked['snd_settle_mode'];
    if (reads) {
      link.local.attach['rcv_settle_mode'] = asked['rcv_settle_mode'];
      answerDrains(link);
    }
    if (routed) this.#broker!.route(link, `${nameOf(link)}@${link.connection.container_id}`, wanted);
    else if (reads) this.#consume(link, at, this.#address(name, this.#isWaypoint(name) ? 1 : 0));
    else this.#produce(link, at, name && name !== MANAGEMENT ? this.#address(name, 0) : undefined);
  }

  #consume(link: Link, at: number, address: Address): void {
    const consumer: Consumer = { link, at, undelivered: [], unsettled: new Map() };
    this.#consumers.set(link, consumer);
    address.consumers.push(consumer);
    if (address.consumers.length > 1) return;
    // It is the receiver that brings credit, however much it has itself.
    for (const producer of this.#producers.values()) if (producer.address === address) this.#giveCredit(producer.link);
  }

  #produce(link: Link, at: number, address: Address | undefined): void {
    this.#producers.set(link, { link, at, ...(address && { address }) });
    if (!address || address.consumers.length > 0) this.#giveCredit(link);
  }

  #giveCredit(link: Link): void {
    this.#later(link.connection, () => {
      if (!link.is_open()) return;
      link.drain = false;
      if (link.credit < CAPACITY) link.add_credit(CAPACITY - link.credit);
    });
  }

  #onFlow(link: Link): void {
    if (this.#broker?.flows(link)) return;
    const consumer = this.#consumers.get(link);
    if (consumer) this.#later(link.connection, () => this.#deliver(consumer));
  }

  #onDetach(link: Link): void {
    // outcomes that came along with the detach first
    link.connection._process();
    this.#forget(link);
    if (link.remote.detach['closed']) link.close();
    else link.detach();
  }

  #forgetAll(isGone: (link: Link) => boolean): void {
    const links = [...this.#producers.keys(), ...this.#consumers.keys(), ...(this.#broker?.links() ?? [])];
    for (const link of links) if (isGone(link)) this.#forget(link);
  }

  #forget(link: Link): void {
    this.#broker?.forget(link);
    const { address } = this.#producers.get(link) ?? {};
    this.#producers.delete(link);
    const consumer = this.#consumers.get(link);
    this.#consumers.delete(link);
    const read = consumer && [...this.#addresses.values()].find(({ consumers }) => consumers.includes(consumer));
    if (consumer && read) {
      read.consumers = read.consumers.filter((other) => other !== consumer);
      for (const message of consumer.undelivered.splice(0)) message.settled(RELEASED);
      for (const message of consumer.unsettled.values()) message.settled(FAILED);
      consumer.unsettled.clear();
    }
    const left = read ?? address;
    if (!left) return;
    const isUsed = [...this.#producers.values()].some((producer) => producer.address === left);
    if (!isUsed && left.consumers.length === 0) this.#addresses.delete(left.key);
  }

  // Addresses

  #configOf(name: string): AddressConfig | undefined {
    const matching = this.#configs.filter(({ prefix }) => isPrefix(prefix, name));
    return matching.toSorted((a, b) => b.prefix.length - a.prefix.length)[0];
  }

  #distributionOf(name: string): Distribution {
    return this.#configOf(name)?.distribution ?? 'balanced';
  }

  #isWaypoint(name: string): boolean {
    return this.#configOf(name)?.waypoint ?? false;
  }

  #address(name: string, phase: 0 | 1): Address {
    const key = `M${phase}${name}`;
    const address = this.#addresses.get(key) ?? new Address(key, this.#distributionOf(name));
    this.#addresses.set(key, address);
    return address;
  }

  // Messages

  #onMessage(link: Link, delivery: Delivery, bytes: Buffer): void {
    if (this.#broker?.passes(link, delivery, bytes)) return;
    const producer = this.#producers.get(link);
    if (!producer) return;
    if (link.remote.attach['target']?.['address'] === MANAGEMENT) {
      this.#manage(bytes);
      return this.#settle(producer, delivery, MANAGEMENT, { state: 'accepted' });
    }
    const name = producer.address?.key.slice(2) ?? inspect(bytes).to ?? '';
    if (!producer.address && this.#distributionOf(name) === 'unavailable')
      return this.#settle(producer, delivery, name, { state: 'rejected', described: rejectedWith(UNAVAILABLE) });
    const address = producer.address ?? this.#addresses.get(`M0${name}`);
    const isForwarded =
      address &&
      this.#forward(address, producer.at, bytes, delivery.format - 1, (outcome) =>
        this.#settle(producer, delivery, name, outcome),
      );
    if (isForwarded) return;
    this.#answer(delivery, RELEASED);
    this.emit('settled', name, 'released');
    if (!producer.address) return this.#giveCredit(link);
    // Nobody is there: the sender is to use up its credit.
    this.#later(link.connection, () => {
      if (link.is_open()) link.drain_credit();
    });
  }

  #forward(address: Address, at: number, bytes: Buffer, format: number, settle: (outcome: Outcome) => void): boolean {
    const consumers = address.choose(at);
    if (consumers.length === 0) return false;
    const message = new Message(bytes, format, consumers.length, settle);
    address.deliveries.ingress++;
    for (const consumer of consumers) {
      address.deliveries.egress++;
      consumer.undelivered.push(message);
      this.#later(consumer.link.connection, () => this.#deliver(consumer));
    }
    return true;
  }

  #deliver({ link, undelivered, unsettled }: Consumer): void {
    for (const message of undelivered.splice(0, room(link))) {
      const delivery = link.send(message.bytes, undefined, message.format);
      if (delivery.settled) message.settled({ state: 'accepted' });
      else unsettled.set(delivery, message);
    }
    link.set_drained(true);
  }

  #onOutcome(link: Link, delivery: Delivery, outcome: Outcome): void {
    if (this.#broker?.settles(delivery, outcome)) return;
    const consumer = this.#consumers.get(link);
    const message = consumer?.unsettled.get(delivery);
    if (!consumer || !message) return;
    consumer.unsettled.delete(delivery);
    if (!delivery.remote_settled) this.#answer(delivery, outcome);
    message.settled(outcome);
  }

  /** What became of a message that was forwarded; its sender may send another one. */
  #settle({ link }: Producer, delivery: Delivery, name: string, outcome: Outcome): void {
    this.#answer(delivery, outcome);
    this.#later(link.connection, () => {
      if (link.is_open() && !link.drain) link.add_credit(1);
    });
    this.emit('settled', name, outcome.state);
  }

  #answer(delivery: Delivery, { state, described }: Outcome): void {
    const { link } = delivery;
    this.#later(link.connection, () => {
      if (!link.is_open()) return;
      if (described) delivery.update(true, described as Parameters<Delivery['update']>[1]);
      else if (state === 'accepted') delivery.accept();
      else if (state === 'released') delivery.release();
      else if (state === 'rejected') delivery.reject();
      else delivery.modified({ delivery_failed: true });
    });
  }

  #manage(bytes: Buffer): void {
    const request = decode(bytes);
    const reader = request?.reply_to === undefined ? undefined : this.#addresses.get(`M0${request.reply_to}`);
    if (!request || !reader) return;
    const connections = [...this.#connections];
    const links = [...this.#producers.values(), ...this.#consumers.values()];
    const reply = replyTo(request, {
      configs: this.#configs,
      addresses: this.#addresses.values(),
      connections: connections.map((connection, index) => connectionRow(connection, index)),
      links: links.map((one, index) => this.#linkRow(one, index, connections)),
    });
    this.#forward(reader, 0, rhea.message.encode(reply), 0, () => {});
  }

  #linkRow(one: Producer | Consumer, index: number, connections: Connection[]): Fields {
    const isConsumer = 'undelivered' in one;
    const address = isConsumer
      ? [...this.#addresses.values()].find(({ consumers }) => consumers.includes(one))
      : one.address;
    return {
      name: nameOf(one.link),
      identity: String(index + 1),
      linkName: nameOf(one.link),
      linkType: 'endpoint',
      linkDir: isConsumer ? 'out' : 'in',
      owningAddr: address?.key ?? null,
      capacity: CAPACITY,
      undeliveredCount: isConsumer ? one.undelivered.length : 0,
      unsettledCount: isConsumer ? one.unsettled.size : 0,
      deliveryCount: one.link.delivery_count,
      connectionId: String(connections.indexOf(one.link.connection) + 1),
    };
  }

  /** Each step apart from the others, as rhea would mix up their outcomes (R1). */
  #later(connection: Connection, step: () => void): void {
    if (this.#steps.length === 0) setImmediate(() => this.#turn());
    this.#steps.push({ connection, step });
  }

  #turn(): void {
    const steps = this.#steps;
    this.#steps = [];
    for (const { connection, step } of steps) {
      connection._process();
      step();
      connection._process();
    }
  }
}

function connectionRow(connection: Connection, index: number): Fields {
  const host = String((connection as Fields)['socket']?.remotePort ?? index);
  return {
    name: `connection/127.0.0.1:${host}`,
    identity: String(index + 1),
    host: `127.0.0.1:${host}`,
    role: 'normal',
    dir: 'in',
    container: connection.container_id,
    isAuthenticated: false,
    user: 'anonymous',
    isEncrypted: false,
    opened: true,
    operStatus: 'up',
  };
}

function rejectedWith(error: PeerError): unknown {
  const { types } = rhea;
  const described = types.described(types.wrap_ulong(0x1d), types.wrap_list((errorOf(error) as Fields)['value']));
  return types.described(types.wrap_ulong(0x25), types.wrap_list([described]));
}
