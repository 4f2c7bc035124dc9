// Microsoft's client for JavaScript as a process of its own. client.py does the same with the client for Python.
import { setTimeout as delay } from 'node:timers/promises';
import { failureOf, load, serve } from '../azure/serve.mjs';

const { EventHubConsumerClient, EventHubProducerClient } = load('@azure/event-hubs');

const retrying = (maxRetries = 2) => ({ retryOptions: { maxRetries, retryDelayInMs: 1, timeoutInMs: 10_000 } });

let where;
let producer;
/** by their names: the client, its subscription, and what has come of it */
const receivers = new Map();

const told = (partition, each, last) => ({
  body: each.body,
  partition,
  sequenceNumber: each.sequenceNumber,
  offset: each.offset,
  partitionKey: each.partitionKey ?? null,
  enqueuedAt: Number(each.enqueuedTimeUtc),
  properties: each.properties ?? {},
  last: last?.offset === undefined ? null : { sequenceNumber: last.sequenceNumber, offset: last.offset },
});

const startOf = ({ offset, sequenceNumber, enqueuedAt, isInclusive }) => ({
  offset,
  sequenceNumber,
  ...(enqueuedAt !== undefined && { enqueuedOn: new Date(enqueuedAt) }),
  isInclusive,
});

/** Waits until there are so many, or it has waited for so long, in milliseconds. */
async function taken(list, count, wait) {
  const end = Date.now() + wait;
  while (list.length < count && Date.now() < end) await delay(5);
  return list.splice(0, count);
}

const operations = {
  open(connectionString, hub) {
    where = [connectionString, hub];
    producer = new EventHubProducerClient(connectionString, hub, retrying());
  },

  async send(events, { partition, partitionKey, batch = false } = {}) {
    const options = { partitionId: partition, partitionKey };
    if (!batch) return producer.sendBatch(events, options);
    const all = await producer.createBatch(options);
    for (const each of events) if (!all.tryAdd(each)) throw new Error('does not fit');
    await producer.sendBatch(all);
  },

  async hub() {
    const { name, createdOn, partitionIds } = await producer.getEventHubProperties();
    return { name, createdAt: Number(createdOn), partitions: partitionIds };
  },

  async partition(id) {
    const properties = await producer.getPartitionProperties(id);
    return {
      hub: properties.eventHubName,
      id: properties.partitionId,
      first: properties.beginningSequenceNumber,
      last: properties.lastEnqueuedSequenceNumber,
      lastOffset: properties.lastEnqueuedOffset,
      lastAt: Number(properties.lastEnqueuedOnUtc),
      isEmpty: properties.isEmpty,
    };
  },

  receiver(name, { group = '$Default', partition, epoch, metrics = false, retries, ...position }) {
    const receiver = { events: [], errors: [] };
    receiver.client = new EventHubConsumerClient(group, ...where, retrying(retries));
    const handlers = {
      processEvents(events, { partitionId, lastEnqueuedEventProperties }) {
        receiver.events.push(...events.map((each) => told(partitionId, each, lastEnqueuedEventProperties)));
      },
      processError(thrown) {
        const { error, message } = failureOf(thrown);
        receiver.errors.push(`${error}: ${message}`);
      },
    };
    const options = {
      startPosition: startOf(position),
      ownerLevel: epoch,
      trackLastEnqueuedEventProperties: metrics,
      // only after this time does it see that its connection is gone
      maxWaitTimeInSeconds: 1,
    };
    receiver.client.subscribe(...(partition === undefined ? [] : [partition]), handlers, options);
    receivers.set(name, receiver);
  },

  receive(name, count, wait) {
    return taken(receivers.get(name).events, count, wait);
  },

  async failure(name, wait) {
    const [error] = await taken(receivers.get(name).errors, 1, wait);
    return error ?? null;
  },

  async close() {
    const all = [producer, ...[...receivers.values()].map(({ client }) => client)];
    await Promise.all(all.map((each) => each?.close()));
    receivers.clear();
  },
};

await serve(operations);
