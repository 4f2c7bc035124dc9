// Microsoft's client for JavaScript as a process of its own. client.py does the same with the client for Python.
import { load, serve } from '../azure/serve.mjs';

const { ServiceBusClient } = load('@azure/service-bus');
const Long = load('long');

let client;
const senders = new Map();
const receivers = new Map();
/** What was received, by the numbers that stand for it in requests. */
const received = [];

const sender = (entity) => {
  if (!senders.has(entity)) senders.set(entity, client.createSender(entity));
  return senders.get(entity);
};

const message = ({ id, body, sessionId, ttl, properties, scheduledIn }) => ({
  messageId: id,
  body,
  sessionId,
  timeToLive: ttl,
  applicationProperties: properties,
  ...(scheduledIn && { scheduledEnqueueTimeUtc: new Date(Date.now() + scheduledIn) }),
});

const told = (each) => ({
  handle: received.push(each) - 1,
  id: each.messageId,
  body: each.body,
  sequenceNumber: Number(each.sequenceNumber),
  deliveryCount: each.deliveryCount ?? 0,
  sessionId: each.sessionId ?? null,
  properties: each.applicationProperties ?? {},
  state: each.state,
  reason: each.deadLetterReason ?? null,
  description: each.deadLetterErrorDescription ?? null,
  enqueuedAt: Number(each.enqueuedTimeUtc),
  lockedUntil: each.lockedUntilUtc ? Number(each.lockedUntilUtc) : null,
});

const longs = (numbers) => numbers.map((number) => Long.fromNumber(number));

const operations = {
  open(connectionString) {
    client = new ServiceBusClient(connectionString, {
      retryOptions: { maxRetries: 1, retryDelayInMs: 1, timeoutInMs: 10_000 },
    });
  },

  async send(entity, messages, { batch = false } = {}) {
    if (!batch) return sender(entity).sendMessages(messages.map(message)[0]);
    const all = await sender(entity).createMessageBatch();
    for (const each of messages) if (!all.tryAddMessage(message(each))) throw new Error('does not fit');
    await sender(entity).sendMessages(all);
  },

  async receiver(name, { queue, topic, subscription, receiveAndDelete, deadLetters, session }) {
    const options = {
      receiveMode: receiveAndDelete ? 'receiveAndDelete' : 'peekLock',
      ...(deadLetters && { subQueueType: 'deadLetter' }),
      // locks are renewed when a request says so
      maxAutoLockRenewalDurationInMs: 0,
    };
    const where = queue ? [queue] : [topic, subscription];
    if (session === undefined) receivers.set(name, client.createReceiver(...where, options));
    else if (session === null) receivers.set(name, await client.acceptNextSession(...where, options));
    else receivers.set(name, await client.acceptSession(...where, session, options));
    return receivers.get(name).sessionId ?? null;
  },

  async receive(name, count, wait) {
    const messages = await receivers.get(name).receiveMessages(count, { maxWaitTimeInMs: wait });
    return messages.map(told);
  },

  async settle(name, handle, outcome, { properties, reason, description } = {}) {
    const receiver = receivers.get(name);
    const one = received[handle];
    if (outcome === 'complete') await receiver.completeMessage(one);
    if (outcome === 'abandon') await receiver.abandonMessage(one, properties);
    if (outcome === 'defer') await receiver.deferMessage(one, properties);
    if (outcome === 'dead-letter') {
      await receiver.deadLetterMessage(one, {
        deadLetterReason: reason,
        deadLetterErrorDescription: description,
        ...properties,
      });
    }
  },

  async renew(name, handle) {
    return Number(await receivers.get(name).renewMessageLock(received[handle]));
  },

  async receiveDeferred(name, numbers) {
    return (await receivers.get(name).receiveDeferredMessages(longs(numbers))).map(told);
  },

  async peek(name, count) {
    return (await receivers.get(name).peekMessages(count)).map(told);
  },

  async schedule(entity, messages, delay) {
    const numbers = await sender(entity).scheduleMessages(messages.map(message), new Date(Date.now() + delay));
    return numbers.map(Number);
  },

  async cancel(entity, numbers) {
    await sender(entity).cancelScheduledMessages(longs(numbers));
  },

  async state(name) {
    return (await receivers.get(name).getSessionState())?.toString() ?? null;
  },

  async setState(name, state) {
    await receivers.get(name).setSessionState(state);
  },

  async renewSession(name) {
    return Number(await receivers.get(name).renewSessionLock());
  },

  async closeReceiver(name) {
    await receivers.get(name).close();
  },

  async close() {
    await client.close();
    senders.clear();
    receivers.clear();
  },
};

await serve(operations);
