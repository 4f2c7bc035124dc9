/**
 * Strimzi's bridge between Kafka and AMQP (its last version, of 0.22), written from its source: topics in memory, no Kafka.
 * Its default converter only. It shares no code with nodes/.
 */
import { EventEmitter, once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import rhea, { type Connection, type Delivery, type EventContext, type Receiver, type Sender } from 'rhea';
import { keepBytes, type PeerSession } from '../../broker/rhea';
import { listenAmqp } from './server';

const PARTITION = 'io.strimzi:partition-filter:int';
const OFFSET = 'io.strimzi:offset-filter:long';
const GROUP = '/group.id/';
const ANNOTATION = 'x-opt-bridge.';
const ERROR = 'io.strimzi:';
/** Its flow credit, as it is set up by default. */
const CREDIT = 1024;
/** What Java begins a serialized object with. */
const SERIALIZED = Buffer.from([0xac, 0xed, 0x00, 0x05]);

/** A value as it came, with its type on the wire. */
interface Typed {
  type: { name: string };
  value: unknown;
  descriptor?: unknown;
}

const { Reader } = rhea.types as unknown as {
  Reader: new (bytes: Buffer) => { remaining(): number; read(): Typed };
};

/** How a link is refused: condition and description. */
type Refusal = [condition: string, description: string];

export interface Consumer {
  topic: string;
  group: string;
  partition?: number;
  offset?: number;
}

export interface ProducedRecord {
  topic: string;
  partition: number;
  offset: number;
  key: string | null;
  value: Buffer | null;
}

type Stored = Pick<ProducedRecord, 'key' | 'value'>;

interface Options {
  /** Values of the records that each topic begins with; a topic is made when it is first named. */
  partitions: string[][];
  /** Groups begin where they have committed (default: at the beginning, each time). */
  keepsOffsets?: boolean;
}

class Topic {
  readonly partitions: Stored[][];
  #next = 0;

  constructor(
    readonly name: string,
    partitions: string[][],
  ) {
    this.partitions = partitions.map((values) => values.map((value) => ({ key: null, value: Buffer.from(value) })));
  }

  /** Where Kafka's producer puts a record; what it makes of a key is a hash of another kind. */
  partitionOf(key: string | null): number {
    const number = key === null ? this.#next++ : Buffer.from(key).reduce((sum, byte) => sum + byte, 0);
    return number % this.partitions.length;
  }
}

/** A link that reads. */
class Reading {
  /** By partition: the offset that is next. */
  readonly positions = new Map<number, number>();
  /** By delivery: where it was read, until it is settled. */
  readonly unsettled = new Map<Delivery, { partition: number; offset: number }>();

  constructor(
    readonly sender: Sender,
    readonly topic: Topic,
    readonly group: string,
    /** The one that it asked for; else the group shares them out. */
    readonly only: number | undefined,
  ) {}

  /** Up to the first record that is not settled. */
  committed(partition: number): number {
    const waiting = [...this.unsettled.values()].filter((one) => one.partition === partition);
    return Math.min(this.positions.get(partition)!, ...waiting.map(({ offset }) => offset));
  }
}

/**
 * Emits 'consumer' with each link that it lets read, 'record' with each record that is produced, and 'commit' with a group
 * that has got further.
 */
export class KafkaBridge extends EventEmitter<{
  consumer: [Consumer];
  record: [ProducedRecord];
  commit: [group: string];
}> {
  readonly #server: Server;
  readonly #connections = new Set<Connection>();
  readonly #topics = new Map<string, Topic>();
  readonly #readings = new Set<Reading>();
  /** By topic and group: the offset that each partition goes on at. */
  readonly #offsets = new Map<string, Record<number, number>>();

  static async start(options: Options): Promise<KafkaBridge> {
    const { container, server } = await listenAmqp({ receiver_options: { credit_window: 0 } });
    return new KafkaBridge(container, server, options);
  }

  private constructor(
    container: rhea.Container,
    server: Server,
    private readonly options: Options,
  ) {
    super();
    this.#server = server;
    for (const event of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'error'])
      container.on(event, () => {});
    container.on('connection_open', ({ connection }: EventContext) => this.#connections.add(connection));
    container.on('disconnected', ({ connection }: EventContext) => {
      this.#connections.delete(connection);
      for (const { sender } of this.#readings) if (sender.connection === connection) this.#gone(sender);
    });
    container.on('session_open', ({ session }: EventContext) => keepBytes(session as PeerSession));
    container.on('sender_open', ({ sender }: EventContext) => this.#attached(sender!));
    container.on('receiver_open', ({ receiver }: EventContext) => {
      receiver!.set_target(receiver!.target);
      receiver!.add_credit(CREDIT);
    });
    container.on('message', ({ receiver, delivery, message }: EventContext) =>
      this.#produce(receiver!, delivery!, message as unknown as Buffer),
    );
    for (const event of ['sender_close', 'sender_detached'])
      container.on(event, ({ sender }: EventContext) => {
        sender!.close();
        this.#gone(sender!);
      });
    // Whatever the outcome is: a record counts as read.
    container.on('settled', ({ sender, delivery }: EventContext) => {
      const reading = this.#of(sender);
      if (reading?.unsettled.delete(delivery!)) this.#commit(reading);
    });
    container.on('sendable', ({ sender }: EventContext) => this.#pump(this.#of(sender)));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** The records of a topic, by partition. */
  records(topic: string): Stored[][] {
    return this.#topic(topic).partitions;
  }

  /** The offsets at which a group goes on, by partition. */
  committed(topic: string, group: string): Record<number, number> {
    return this.#offsets.get(this.#topic(topic).name + GROUP + group) ?? {};
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const connection of this.#connections) connection.close();
    await closed;
  }

  /** Kafka knows no slashes in the names of topics. */
  #topic(name: string): Topic {
    const kafkaName = name.replaceAll('/', '.');
    const topic = this.#topics.get(kafkaName) ?? new Topic(kafkaName, this.options.partitions);
    this.#topics.set(kafkaName, topic);
    return topic;
  }

  #of(sender: Sender | undefined): Reading | undefined {
    return [...this.#readings].find((reading) => reading.sender === sender);
  }

  // Those who read

  #attached(sender: Sender): void {
    const { address } = sender.source;
    const at = address.indexOf(GROUP);
    const filters = filtersOf(sender);
    const refusal: Refusal | undefined =
      at <= 0 || at + GROUP.length === address.length
        ? [`${ERROR}no-group-id`, 'Mandatory group.id not specified in the address']
        : (wrongIn(filters[PARTITION], filters[OFFSET]) ?? this.#missing(filters[PARTITION]));
    if (refusal) return refuse(sender, refusal);
    const [partition, offset] = [filters[PARTITION]?.value, filters[OFFSET]?.value].map((value) =>
      value === undefined ? undefined : Number(value),
    );
    const group = address.slice(at + GROUP.length);
    const reading = new Reading(sender, this.#topic(address.slice(0, at)), group, partition);
    this.#readings.add(reading);
    if (partition === undefined) this.#share(reading.topic, group);
    else reading.positions.set(partition, offset ?? this.#offsetsOf(reading)[partition] ?? 0);
    if (!this.#readings.has(reading)) return;
    sender.set_source(sender.source);
    Object.assign((sender as unknown as { local: { attach: object } }).local.attach, {
      snd_settle_mode: sender.snd_settle_mode,
    });
    this.emit('consumer', {
      topic: address.slice(0, at),
      group,
      ...(partition !== undefined && { partition }),
      ...(offset !== undefined && { offset }),
    });
  }

  #missing(partition: Typed | undefined): Refusal | undefined {
    return partition === undefined || this.options.partitions[Number(partition.value)]
      ? undefined
      : [`${ERROR}partition-not-exists`, "Specified partition doesn't exist"];
  }

  #gone(sender: Sender): void {
    const reading = this.#of(sender);
    if (!reading) return;
    this.#readings.delete(reading);
    if (reading.only === undefined) this.#share(reading.topic, reading.group);
  }

  /** Shares the partitions out anew. Who came last goes without, where Kafka's own choice is by chance. */
  #share(topic: Topic, group: string): void {
    const members = [...this.#readings].filter(
      (one) => one.topic === topic && one.group === group && one.only === undefined,
    );
    const count = topic.partitions.length;
    for (const reading of members.splice(count)) {
      this.#readings.delete(reading);
      refuse(reading.sender, [`${ERROR}no-free-partitions`, 'All partitions already have a receiver']);
    }
    const owners = topic.partitions.map((_, partition) => members[Math.floor((partition * members.length) / count)]);
    for (const reading of members) {
      for (const partition of reading.positions.keys()) {
        if (owners[partition] !== reading) reading.positions.delete(partition);
      }
    }
    for (const [partition, owner] of owners.entries()) {
      if (!owner || owner.positions.has(partition)) continue;
      owner.positions.set(partition, this.#offsetsOf(owner)[partition] ?? 0);
      this.#pump(owner);
    }
  }

  #offsetsOf({ topic, group }: Reading): Record<number, number> {
    return this.options.keepsOffsets ? this.committed(topic.name, group) : {};
  }

  #commit(reading: Reading): void {
    const { topic, group, positions } = reading;
    const offsets = { ...this.committed(topic.name, group) };
    for (const partition of positions.keys()) offsets[partition] = reading.committed(partition);
    this.#offsets.set(topic.name + GROUP + group, offsets);
    this.emit('commit', group);
  }

  #pump(reading: Reading | undefined): void {
    if (!reading) return;
    const { sender, topic, positions, unsettled } = reading;
    for (const [partition, from] of positions) {
      for (let offset = from; offset < topic.partitions[partition]!.length; offset++) {
        if (!sender.is_open() || !sender.sendable()) return;
        positions.set(partition, offset + 1);
        const { key, value } = topic.partitions[partition]![offset]!;
        const message_annotations = {
          [`${ANNOTATION}partition`]: rhea.types.wrap_int(partition),
          [`${ANNOTATION}offset`]: rhea.types.wrap_long(offset),
          [`${ANNOTATION}key`]: key,
          [`${ANNOTATION}topic`]: topic.name,
        };
        const body = rhea.message.data_section(value ?? Buffer.alloc(0)) as unknown;
        const { address: to } = sender.source;
        const tag = Buffer.from(`${partition}_${offset}`);
        const delivery = sender.send({ to, message_annotations, body }, tag);
        if (delivery.settled) this.#commit(reading);
        else unsettled.set(delivery, { partition, offset });
      }
    }
  }

  // Those who write

  #produce(receiver: Receiver, delivery: Delivery, bytes: Buffer): void {
    const { to, annotations, body } = sectionsOf(bytes);
    const { address } = receiver.target;
    const [asked, key] = ['partition', 'key'].map((name) => annotations[ANNOTATION + name]);
    // An exception of Java: there is no outcome, ever.
    if ((asked && !isOf(asked, 'Int', 'SmallInt')) || (key && !key.type.name.startsWith('Str'))) return;
    const topic = this.#topic(to ?? address);
    const keyText = key ? String(key.value) : null;
    const partition = asked ? Number(asked.value) : topic.partitionOf(keyText);
    const records = topic.partitions[partition];
    if (records) {
      const record = { key: keyText, value: valueIn(body) };
      const offset = records.push(record) - 1;
      this.emit('record', { topic: topic.name, partition, offset, ...record });
      for (const reading of this.#readings) if (reading.topic === topic) this.#pump(reading);
    }
    const isSettled = delivery.remote_settled;
    if (!isSettled && records) delivery.accept();
    if (!isSettled && !records) {
      const description = `Partition ${partition} of topic ${topic.name} with partition count ${topic.partitions.length} is not present in metadata after 60000 ms.`;
      delivery.reject({ condition: `${ERROR}error-to-kafka`, description });
    }
    receiver.add_credit(1);
  }
}

function refuse(sender: Sender, [condition, description]: Refusal): void {
  sender.close({ condition, description });
}

/** The sections of a message that the bridge looks at, with their types. */
function sectionsOf(bytes: Buffer): {
  to?: string;
  annotations: Record<string, Typed>;
  body?: Typed & { code: number };
} {
  const reader = new Reader(bytes);
  const sections: ReturnType<typeof sectionsOf> = { annotations: {} };
  while (reader.remaining()) {
    const section = reader.read();
    const code = Number((section.descriptor as Typed).value);
    if (code === 0x72) sections.annotations = pairsOf(section.value as Typed[]);
    if (code === 0x73) sections.to = ((section.value as Typed[])[2]?.value as string | null) ?? undefined;
    if (code >= 0x75 && code <= 0x77) sections.body = { ...section, code };
  }
  return sections;
}

/** What its default converter makes of a body. */
function valueIn(body: (Typed & { code: number }) | undefined): Buffer | null {
  if (!body) return null;
  if (body.code === 0x75) return Buffer.from(body.value as Buffer);
  if (body.type.name.startsWith('Str')) return Buffer.from(String(body.value));
  return /^(List|Map|Array)/.test(body.type.name) ? SERIALIZED : null;
}

function pairsOf(items: Typed[]): Record<string, Typed> {
  const keys = items.filter((_, i) => i % 2 === 0);
  return Object.fromEntries(keys.map((key, i) => [String(key.value), items[2 * i + 1]!]));
}

/** The filters with their types, which rhea takes off. */
function filtersOf(sender: Sender): Record<string, Typed> {
  type Composite = { value: (Typed | null)[] };
  const { remote } = sender as unknown as { remote: { attach: Composite } };
  const source = remote.attach.value[5] as unknown as Composite;
  return pairsOf((source.value[7]?.value ?? []) as Typed[]);
}

function isOf(value: Typed, ...types: string[]): boolean {
  return types.includes(value.type.name) && value.descriptor === undefined;
}

/** In the order in which the bridge looks. */
function wrongIn(partition: Typed | undefined, offset: Typed | undefined): Refusal | undefined {
  if (partition && !isOf(partition, 'Int', 'SmallInt'))
    return [`${ERROR}wrong-partition-filter`, 'Wrong partition filter'];
  if (offset && !isOf(offset, 'Long', 'SmallLong')) return [`${ERROR}wrong-offset-filter`, 'Wrong offset filter'];
  if (!partition && offset) return [`${ERROR}no-partition-filter`, 'No partition filter specified'];
  const isNegative = [partition, offset].some((one) => one && Number(one.value) < 0);
  return isNegative ? [`${ERROR}wrong-filter`, 'Wrong filter'] : undefined;
}
