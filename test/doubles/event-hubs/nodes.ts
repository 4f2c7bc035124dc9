// Our own nodes, as the clients of Microsoft for Event Hubs are used.
import { type EventEmitter, once } from 'node:events';
import { helper, type Msg, node } from '../../flow';
import { coreNode, type NodeConfig } from '../../node-red';
import { logged, WARN } from '../../texts';
import { annotated, Nodes, nodesKind } from '../azure/nodes';
import type { EventHubsClient, Position, Received, Subscription } from './client';

interface Outgoing {
  body: string;
  properties?: object;
}

interface Target {
  partition?: string;
  partitionKey?: string;
  batch?: boolean;
}

/** What our nodes tell of a hub. */
interface Info {
  name: string;
  partitions: {
    id: string;
    firstSequenceNumber: number;
    lastSequenceNumber: number;
    lastOffset: string;
    lastEnqueued?: Date;
    isEmpty: boolean;
  }[];
}

export const ours: EventHubsClient = {
  ...nodesKind(() => new EventHubsNodes()),
  sendsSingly: true,
  lacks: {
    createdAt: 'a receiver does not tell when the hub was made',
    partition: 'a receiver tells of all partitions at once, and is not asked for one',
    metrics: 'nothing is told of the partition with an event',
    'with an offset': 'a receiver begins behind an offset',
    'after a sequence number': 'a receiver begins with a sequence number',
    'after a time': 'a receiver begins with a time',
  },
};

class EventHubsNodes extends Nodes {
  protected override readonly operations = {
    open: (connectionString: string, hub: string) => this.#open(connectionString, hub),
    send: (events: Outgoing[], target?: Target) => this.#send(events, target),
    hub: async () => {
      const { name, partitions } = await this.#info();
      return { name, partitions: partitions.map(({ id }) => id) };
    },
    partition: (id: string) => this.#partition(id),
    receiver: (name: string, subscription: Subscription) => this.#receiver(name, subscription),
    receive: (name: string, count: number, wait: number) => this.#receive(name, count, wait),
    failure: (name: string, wait: number) => this.#failure(name, wait),
    close: () => this.close(),
  };
  #hub = '';
  /** What has come, and was not asked for yet, by the names of receivers. */
  readonly #received = new Map<string, Msg[]>();

  constructor() {
    super({
      peer: 'eventhubs',
      names: {
        'amqp:link:stolen': 'ReceiverDisconnectedError',
        'amqp:not-found': 'MessagingEntityNotFoundError',
        'amqp:unauthorized-access': 'UnauthorizedError',
      },
      others: [coreNode('function/15-change')],
    });
    this.events.on('out', (msg) => {
      const { receiver } = msg as Msg & { receiver: string };
      this.#arrivedAt(receiver).push(msg!);
      this.events.emit('received');
    });
  }

  async #open(connectionString: string, hub: string): Promise<void> {
    this.#hub = hub;
    this.#received.clear();
    await this.open(connectionString);
  }

  async #send(
    events: Outgoing[],
    { partition, partitionKey: key, batch: isBatch = false }: Target = {},
  ): Promise<void> {
    const address = partition === undefined ? this.#hub : `${this.#hub}/Partitions/${partition}`;
    const id = await this.sender(address, isBatch ? { batch: 'array' } : {});
    const annotations = key === undefined ? {} : { message_annotations: { 'x-opt-partition-key': key } };
    if (isBatch) {
      await this.done(id, { payload: events.map(({ body }) => body), amqp: annotations });
      return;
    }
    for (const { body, properties } of events)
      await this.done(id, { payload: body, amqp: { application_properties: properties, ...annotations } });
  }

  /** What a receiver tells that is there for nothing else. */
  async #info(): Promise<Info> {
    const id = 'info';
    // It has a partition, since it cannot have none, and takes nothing from it.
    if (!helper.getNode(id)) await this.add(this.#receiverNode(id, { partitions: '0', creditwindow: 0, wires: [] }));
    return (await this.done(id, { action: 'info' })).payload as Info;
  }

  async #partition(id: string): Promise<object> {
    const { name, partitions } = await this.#info();
    const found = partitions.find((one) => one.id === id)!;
    return {
      hub: name,
      id,
      first: found.firstSequenceNumber,
      last: found.lastSequenceNumber,
      lastOffset: found.lastOffset,
      lastAt: Number(found.lastEnqueued),
      isEmpty: found.isEmpty,
    };
  }

  #receiverNode(id: string, properties: object): NodeConfig {
    const fixed = { address: this.#hub, start: 'latest', places: 'none', settle: 'arrival' };
    return { ...node('amqp-receiver', { ...fixed, ...properties }), id };
  }

  async #receiver(name: string, { partition = '', group = '', epoch, ...position }: Subscription): Promise<void> {
    const naming = `names ${name}`;
    const receiver = this.#receiverNode(name, {
      group,
      partitions: partition,
      ...(epoch !== undefined && { epoch }),
      ...startOf(position),
      wires: [[naming]],
    });
    // Several may have the same address, so that their events do not tell whose they are.
    const rules = [{ t: 'set', p: 'receiver', pt: 'msg', to: name, tot: 'str' }];
    await this.add({ ...node('change', { rules }), id: naming }, receiver);
  }

  async #receive(name: string, count: number, wait: number): Promise<Received[]> {
    const arrived = this.#arrivedAt(name);
    const signal = AbortSignal.timeout(wait);
    while (arrived.length < count && !signal.aborted) await once(this.events, 'received', { signal }).catch(() => {});
    return arrived.splice(0, count).map((msg) => told(msg));
  }

  #arrivedAt(name: string): Msg[] {
    const arrived = this.#received.get(name) ?? [];
    this.#received.set(name, arrived);
    return arrived;
  }

  /** The first thing of which a receiver has warned. */
  async #failure(name: string, wait: number): Promise<string | null> {
    const signal = AbortSignal.timeout(wait);
    for (;;) {
      const [warning] = logged(WARN, name);
      if (warning !== undefined) return this.errorOf(warning).message;
      if (signal.aborted) return null;
      await once(helper.getNode(name) as unknown as EventEmitter, 'call:warn', { signal }).catch(() => {});
    }
  }
}

/** The properties of a receiver that begins there. */
function startOf({ offset, sequenceNumber, enqueuedAt }: Position): object {
  if (offset === '@latest') return { start: 'latest' };
  if (offset === '-1') return { start: 'earliest' };
  if (offset !== undefined) return { start: 'offset', startvalue: offset };
  if (sequenceNumber !== undefined) return { start: 'sequence', startvalue: String(sequenceNumber) };
  return { start: 'time', startvalue: String(enqueuedAt) };
}

function told(msg: Msg): Received {
  const { payload, amqp = {}, delivery } = msg;
  const { partition } = delivery as unknown as { partition: string };
  const annotations = amqp['message_annotations'] as Record<string, unknown>;
  return {
    body: payload as string,
    partition,
    sequenceNumber: annotated(msg, 'x-opt-sequence-number')!,
    offset: annotations['x-opt-offset'] as string,
    partitionKey: (annotations['x-opt-partition-key'] as string | undefined) ?? null,
    enqueuedAt: annotated(msg, 'x-opt-enqueued-time')!,
    properties: (amqp['application_properties'] ?? {}) as Record<string, unknown>,
    last: null,
  };
}
