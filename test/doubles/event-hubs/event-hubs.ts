import rhea from 'rhea';
import { echo, type Fields, terminus } from '../../../broker/rhea';
import type { Answer } from '../azure/answers';
import { type Claim, pathOf } from '../azure/authorization';
import { Message, unpack } from '../azure/messages';
import { isManagement, Namespace, type NamespaceOptions } from '../azure/namespace';
import { disabled, missing, Refusal, unauthorized } from '../azure/refusals';
import type { Attached as Linked, LinkInfo as Info, Outgoing, Purpose } from '../azure/server';
import { Hub, type HubOptions, type Partition } from './hub';
import { FILTER, startOf } from './position';
import { epochRequired, epochTooLow, stolenBy, tooManyReceivers } from './refusals';

export type { Policy, Right, Tokens } from '../azure/authorization';
export type { ServiceError } from '../azure/refusals';
export type { Event, Hub, HubOptions, Partition } from './hub';

const { types } = rhea;
const STRING = 0xa1;
/** How many receivers without an epoch a group may have on a partition. */
const MOST_RECEIVERS = 5;
const METRICS = 'com.microsoft:enable-receiver-runtime-metric';

export interface EventHubsOptions extends NamespaceOptions {
  hubs?: Record<string, HubOptions>;
  /**
   * Send events settled, whatever the client asks for: so does the service. With false they are unsettled where the client
   * asks so, and its outcomes are taken, and change nothing (default true).
   */
  settled?: boolean;
}

/** A link, as the client sees it. */
export interface LinkInfo extends Info {
  epoch?: number;
}

type Attached = Linked<Claim, LinkInfo>;

/** What an address names: a partition where one is named, a group where it is received from. */
interface Place {
  hub: Hub;
  group?: string;
  partition?: Partition;
}

const ADDRESS = /^(.+?)(?:\/consumergroups\/([^/]+))?(?:\/partitions\/([^/]+))?$/;

/**
 * A double of Azure Event Hubs: it does what the vendor's documentation says and the vendor's own clients rely on, and was
 * never compared with the service itself.
 *
 * Left out: publishers, idempotent producers, capture, schema registry, geo-replication.
 *
 * What `fail` plans goes for messages to a hub or its partitions, which are rejected. Events: those of each namespace.
 */
export class EventHubs extends Namespace<LinkInfo> {
  private readonly hubs = new Map<string, Hub>();

  static async start(options: EventHubsOptions = {}): Promise<EventHubs> {
    const eventHubs = new EventHubs(options);
    await eventHubs.listen();
    return eventHubs;
  }

  private constructor(readonly options: EventHubsOptions) {
    super(options, { name: 'event hubs', maxMessageSize: 1_048_576, busyCode: 50_002, statusNames: 'hyphenated' });
    for (const [name, settings] of Object.entries(options.hubs ?? {})) {
      this.hubs.set(pathOf(name), new Hub(name, settings));
    }
  }

  hub(name: string): Hub {
    const hub = this.hubs.get(pathOf(name));
    if (!hub) throw new Error(`no event hub ${name}`);
    return hub;
  }

  /** An event comes in another way than by a link, as what devices send to an IoT hub does. */
  put(hub: string, message: Message, key?: string): void {
    this.hub(hub).partitionFor(key).add([message]);
    this.wake();
  }

  /** Retention: the events of the partition that are older than the one with this sequence number are gone. */
  trim(hub: string, partition: number | string, sequenceNumber: number): void {
    this.hub(hub).partition(partition).trim(sequenceNumber);
  }

  protected setDisabled(address: string, isDisabled: boolean): void {
    this.hub(address).disabled = isDisabled;
  }

  protected override linksOf(address: string): Attached[] {
    const path = pathOf(address);
    return this.all().filter(({ info }) => `${info.address}/`.startsWith(`${path}/`));
  }

  // Links

  protected admit(attached: Attached): Purpose {
    const { info } = attached;
    if (isManagement(info.address)) return this.management(attached);
    const place = this.placeOf(info);
    if (place.hub.disabled) throw disabled(info.address);
    if (info.role === 'receiver') return { next: this.consume(attached, place.partition!) };
    return { take: (bytes, isBatch) => this.take(place, bytes, isBatch) };
  }

  /** The node for requests is one of the namespace: who may do anything may ask, and each request brings a token. */
  protected override authorizeLink(attached: Attached): void {
    if (!isManagement(attached.info.address)) return super.authorizeLink(attached);
    const claims = [...attached.peer.claims.values()];
    if (!claims.some(({ until }) => until > Date.now())) throw unauthorized('Unauthorized access. No claim is left.');
  }

  /** Throws a Refusal, when it names nothing that a link of this role can have. */
  private placeOf({ address, role }: Info): Place {
    const [, name = '', group, partition] = ADDRESS.exec(address) ?? [];
    const hub = this.hubs.get(name);
    const isWhole = role === 'receiver' ? group !== undefined && partition !== undefined : group === undefined;
    if (!hub || !isWhole || (group !== undefined && !hub.groups.has(group))) throw missing(address);
    return { hub, group, partition: partition === undefined ? undefined : hub.partition(partition) };
  }

  private consume(attached: Attached, partition: Partition): () => Outgoing | undefined {
    const { link } = attached;
    const { settled = true } = this.options;
    const asked = link.remote.attach;
    const source = terminus(asked.source);
    const place = { next: startOf(source, partition) };
    this.makeWay(attached);
    if (settled) link.local.attach.snd_settle_mode = 1;
    link.local.attach.source = echo(source, { filter: knownFilter(source) });
    const metrics = [asked.desired_capabilities].flat().some((capability) => String(capability) === METRICS);
    return () => {
      const event = partition.from(place.next);
      if (!event) return undefined;
      place.next = event.sequenceNumber + 1;
      // events stay, whatever a client does with them
      return { bytes: partition.encode(event, { metrics }), settle: () => {} };
    };
  }

  /** Ends the receivers that have to yield to this one; throws a Refusal, when it has to yield to them. */
  private makeWay(attached: Attached): void {
    const { info } = attached;
    const asked = epochOf(attached);
    if (asked !== undefined) info.epoch = asked;
    const others = this.at(info.address).filter((other) => other.info.role === 'receiver');
    const highest = others.toSorted((one, other) => (other.info.epoch ?? -1) - (one.info.epoch ?? -1))[0];
    const epoch = highest?.info.epoch;
    if (info.epoch === undefined) {
      if (epoch !== undefined) throw epochRequired(epoch);
      if (others.length >= MOST_RECEIVERS) throw tooManyReceivers(others.map((other) => named(other).receiver));
      return;
    }
    if (highest && epoch !== undefined && epoch > info.epoch) throw epochTooLow(named(highest), named(attached));
    for (const other of others) this.cut(other, stolenBy(named(attached), named(other)));
  }

  // Messages and requests that come

  private take({ hub, partition }: Place, bytes: Buffer, isBatch: boolean): void {
    this.failAsPlanned(pathOf(hub.name));
    const envelope = Message.decode(bytes);
    const messages = isBatch ? unpack(bytes).map((each) => Message.decode(each)) : [envelope];
    const key = envelope.partitionKey ?? messages[0]?.partitionKey;
    for (const message of messages) {
      if (key !== undefined) message.annotate({ 'x-opt-partition-key': types.wrap_string(key) });
    }
    (partition ?? hub.partitionFor(key)).add(messages);
    this.wake();
  }

  protected manage({ info }: Attached, { application_properties: properties = {} }: Fields): Answer {
    const { operation, type, name, partition, security_token: token } = properties;
    if (info.address !== '$management') throw missing(info.address);
    if (operation !== 'READ') throw new Refusal('amqp:not-implemented', `There is no operation ${operation}.`, 501);
    const path = pathOf(String(name));
    this.authorize([this.claim('jwt', path, token)], path, undefined);
    const hub = this.hubs.get(path);
    if (!hub) throw missing(String(name));
    if (type === 'com.microsoft:eventhub') return tellHub(hub);
    if (type === 'com.microsoft:partition') return tellPartition(hub, hub.partition(String(partition)));
    throw new Refusal('amqp:not-implemented', `There is nothing of the type ${type}.`, 501);
  }
}

const tellHub = ({ name, createdAt, partitions }: Hub): Answer => ({
  name,
  type: 'com.microsoft:eventhub',
  created_at: types.wrap_timestamp(createdAt),
  partition_count: types.wrap_int(partitions.length),
  partition_ids: types.wrap_array(
    partitions.map(({ id }) => id),
    STRING,
    undefined,
  ),
});

const tellPartition = ({ name }: Hub, partition: Partition): Answer => ({
  name,
  type: 'com.microsoft:partition',
  partition: partition.id,
  begin_sequence_number: types.wrap_long(partition.beginSequenceNumber),
  last_enqueued_sequence_number: types.wrap_long(partition.lastSequenceNumber),
  last_enqueued_offset: partition.lastOffset,
  last_enqueued_time_utc: types.wrap_timestamp(partition.lastEnqueuedAt),
  is_partition_empty: partition.events.length === 0,
});

/** The epoch that a receiver asks for; of one beyond 2^53, which clients make of the time, about. */
function epochOf({ link }: Attached): number | undefined {
  const epoch: unknown = link.remote.attach.properties?.['com.microsoft:epoch'];
  if (epoch === undefined || epoch === null) return undefined;
  return Buffer.isBuffer(epoch) ? Number(epoch.readBigInt64BE()) : Number(epoch);
}

/** A receiver, as the service tells of it. */
function named({ link, info }: Attached): { receiver: string; epoch?: number } {
  const name: unknown = link.remote.attach.properties?.['com.microsoft:receiver-name'];
  return { receiver: typeof name === 'string' ? name : 'nil', epoch: info.epoch };
}

/** Of the filters, the one that the service knows: it says nothing of the others. */
function knownFilter(source: Fields | null): Fields | undefined {
  const filter = source?.['filter']?.[FILTER];
  return filter && { [FILTER]: types.wrap_described(filter.value, filter.descriptor?.value ?? filter.descriptor) };
}
