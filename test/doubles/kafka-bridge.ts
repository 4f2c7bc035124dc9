/**
 * The receiving half of Strimzi's bridge from Kafka to AMQP (its last version, of 0.22), written from its source: one topic, no
 * Kafka. It shares no code with nodes/.
 */
import { EventEmitter, once } from 'node:events';
import type { AddressInfo, Server } from 'node:net';
import rhea, { type Connection, type EventContext, type Sender } from 'rhea';

const PARTITION = 'io.strimzi:partition-filter:int';
const OFFSET = 'io.strimzi:offset-filter:long';
const GROUP = '/group.id/';

/** A value as it came, with its type on the wire. */
interface Typed {
  type: { name: string };
  value: unknown;
  descriptor?: unknown;
}

/** How a link is refused: condition and description. */
type Refusal = [condition: string, description: string];

export interface Consumer {
  topic: string;
  group: string;
  partition?: number;
  offset?: number;
}

/** Emits 'consumer' with each link that it takes. */
export class KafkaBridge extends EventEmitter<{ consumer: [Consumer] }> {
  readonly #server: Server;
  readonly #connections = new Set<Connection>();

  static async start(topic: { partitions: string[][] }): Promise<KafkaBridge> {
    const container = rhea.create_container({ autoaccept: false });
    const server = container.listen({ port: 0, host: '127.0.0.1' });
    await once(server, 'listening');
    return new KafkaBridge(container, server, topic.partitions);
  }

  private constructor(
    container: rhea.Container,
    server: Server,
    /** Values of records. */
    private readonly partitions: string[][],
  ) {
    super();
    this.#server = server;
    for (const event of ['connection_error', 'session_error', 'sender_error', 'error']) container.on(event, () => {});
    container.on('connection_open', ({ connection }: EventContext) => this.#connections.add(connection));
    container.on('disconnected', ({ connection }: EventContext) => this.#connections.delete(connection));
    container.on('sender_open', ({ sender }: EventContext) => this.#attached(sender!));
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  async stop(): Promise<void> {
    const closed = once(this.#server, 'close');
    this.#server.close();
    for (const connection of this.#connections) connection.close();
    await closed;
  }

  #attached(sender: Sender): void {
    const { address } = sender.source;
    const at = address.indexOf(GROUP);
    const filters = filtersOf(sender);
    const refusal: Refusal | undefined =
      at <= 0 || at + GROUP.length === address.length
        ? ['io.strimzi:no-group-id', 'Mandatory group.id not specified in the address']
        : (wrongIn(filters[PARTITION], filters[OFFSET]) ?? this.#missing(filters[PARTITION]));
    if (refusal) {
      const [condition, description] = refusal;
      return sender.close({ condition, description });
    }
    sender.set_source(sender.source);
    const [partition, offset] = [filters[PARTITION]?.value, filters[OFFSET]?.value].map((value) =>
      value === undefined ? undefined : Number(value),
    );
    this.emit('consumer', {
      topic: address.slice(0, at),
      group: address.slice(at + GROUP.length),
      ...(partition !== undefined && { partition }),
      ...(offset !== undefined && { offset }),
    });
    sender.once('sendable', () => this.#send(sender, partition, offset));
  }

  #missing(partition: Typed | undefined): Refusal | undefined {
    return partition === undefined || this.partitions[Number(partition.value)]
      ? undefined
      : ['io.strimzi:partition-not-exists', "Specified partition doesn't exist"];
  }

  #send(sender: Sender, only: number | undefined, from = 0): void {
    for (const [partition, records] of this.partitions.entries()) {
      if (only !== undefined && only !== partition) continue;
      for (const [offset, value] of records.entries()) {
        if (offset < from) continue;
        const message_annotations = {
          'x-opt-bridge.partition': rhea.types.wrap_int(partition),
          'x-opt-bridge.offset': rhea.types.wrap_long(offset),
          'x-opt-bridge.topic': sender.source.address.split(GROUP)[0],
        };
        const body = rhea.message.data_section(Buffer.from(value)) as unknown;
        sender.send({ message_annotations, body }, Buffer.from(`${partition}_${offset}`));
      }
    }
  }
}

/** The filters with their types, which rhea takes off. */
function filtersOf(sender: Sender): Record<string, Typed> {
  type Composite = { value: (Typed | null)[] };
  const { remote } = sender as unknown as { remote: { attach: Composite } };
  const source = remote.attach.value[5] as unknown as Composite;
  const pairs = (source.value[7]?.value ?? []) as Typed[];
  const keys = pairs.filter((_, i) => i % 2 === 0);
  return Object.fromEntries(keys.map((key, i) => [String(key.value), pairs[2 * i + 1]!]));
}

function isOf(value: Typed, ...types: string[]): boolean {
  return types.includes(value.type.name) && value.descriptor === undefined;
}

/** In the order in which the bridge looks. */
function wrongIn(partition: Typed | undefined, offset: Typed | undefined): Refusal | undefined {
  if (partition && !isOf(partition, 'Int', 'SmallInt'))
    return ['io.strimzi:wrong-partition-filter', 'Wrong partition filter'];
  if (offset && !isOf(offset, 'Long', 'SmallLong')) return ['io.strimzi:wrong-offset-filter', 'Wrong offset filter'];
  if (!partition && offset) return ['io.strimzi:no-partition-filter', 'No partition filter specified'];
  const isNegative = [partition, offset].some((one) => one && Number(one.value) < 0);
  return isNegative ? ['io.strimzi:wrong-filter', 'Wrong filter'] : undefined;
}
