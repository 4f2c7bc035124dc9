/** What the input of a receiver understands by `msg.action`. */
import { sequenceNumbersOf } from '../lib/azure/entity';
import { EventHubReceiver } from '../lib/azure/event-hub-receiver';
import { ServiceBusReceiver } from '../lib/azure/service-bus-receiver';
import { bytesOf } from '../lib/codec/notation';
import { amqpError, nameOf } from '../lib/errors';
import type { Receiver, Settle } from '../lib/receiver/receiver';
import type { Receivers } from '../lib/receiver/receivers';
import { type SubscriptionOptions, Subscriptions } from '../lib/receiver/subscriptions';
import { checkedError } from '../lib/wire/outcome';
import type { Endpoint } from './endpoint';

/** The parts of a msg that say more of an action. */
export interface Asked {
  topic?: unknown;
  address?: unknown;
  selector?: unknown;
  window?: unknown;
  settle?: unknown;
  error?: object;
  count?: unknown;
  sequenceNumber?: unknown;
  sessionId?: unknown;
}

/** Messages that may be looked at in one go. */
const MOST_PEEKED = 250;
const MOST_CREDIT = 65_535;
const SETTLE: Settle[] = ['arrival', 'flow', 'pre-settled'];

/**
 * Does what the msg asks for. Resolves with what there is to tell, if anything; rejects with an AmqpError, also for an action
 * that is none.
 */
export async function receiverAction(
  endpoint: Endpoint,
  receiver: Receiver | Receivers,
  action: unknown,
  msg: Asked,
): Promise<unknown> {
  switch (action) {
    case 'connect':
    case 'disconnect':
      return endpoint.act(action);
    case 'pause':
      return receiver.pause();
    case 'resume':
      return receiver.resume();
    case 'drain':
      return receiver.drain();
    case 'detach':
      return receiver.detach(msg.error && checkedError(msg.error));
    case 'subscribe':
      return subscribe(endpoint, receiver, msg);
    case 'unsubscribe':
      return unsubscribe(receiver, msg);
    case 'subscriptions':
      if (receiver instanceof Subscriptions) return receiver.list();
      throw amqpError('AMQP_BAD_INPUT.subscriptions');
    case 'peek': {
      const [first] = sequenceNumbersOf(msg.sequenceNumber ?? 0, 'msg.sequenceNumber');
      await serviceBus(receiver, action).peek(first!, countOf(msg.count ?? 1), sessionIdOf(msg.sessionId));
      return;
    }
    case 'receive': {
      const numbers = sequenceNumbersOf(msg.sequenceNumber, 'msg.sequenceNumber');
      await serviceBus(receiver, action).receive(numbers, sessionIdOf(msg.sessionId));
      return;
    }
    case 'forget':
      return eventHub(receiver, action).forget();
    case 'info':
      return eventHub(receiver, action).info();
    default:
      throw amqpError('AMQP_BAD_INPUT.action', { given: nameOf(action) });
  }
}

/** The state of a session as it is stored. Null: none, as before the first one was. */
export function sessionStateOf(given: unknown): Buffer | null {
  if (given === null) return null;
  const bytes = typeof given === 'string' ? Buffer.from(given) : bytesOf(given);
  if (!bytes) throw amqpError('AMQP_BAD_INPUT.session-state');
  return bytes;
}

async function subscribe(endpoint: Endpoint, receiver: Receiver | Receivers, msg: Asked): Promise<void> {
  const address = addressOf(msg);
  if (receiver instanceof Subscriptions) {
    if (address === undefined) throw amqpError('AMQP_NO_ADDRESS.subscribe');
    receiver.receiveFrom(address, subscriptionOf(msg));
    endpoint.open();
  } else if (await receiver.subscribe(address)) {
    // Needed when the endpoint does not connect by itself.
    endpoint.open();
  }
}

/** Of several, the one that is named, or all. */
async function unsubscribe(receiver: Receiver | Receivers, msg: Asked): Promise<void> {
  const address = receiver instanceof Subscriptions ? addressOf(msg) : undefined;
  if (receiver instanceof Subscriptions && address !== undefined) await receiver.end(address);
  else await receiver.unsubscribe();
}

/** `msg.address`, or `msg.topic`, which may as well be a leftover that is no text. */
function addressOf({ address, topic }: Asked): string | undefined {
  if (address !== undefined && typeof address !== 'string')
    throw amqpError('AMQP_BAD_INPUT.address', { given: nameOf(address) });
  const given = address ?? topic;
  return typeof given === 'string' && given !== '' ? given : undefined;
}

function subscriptionOf({ selector, window, settle }: Asked): SubscriptionOptions {
  if (selector !== undefined && typeof selector !== 'string')
    throw amqpError('AMQP_BAD_INPUT.selector', { given: nameOf(selector) });
  const credit = window === undefined ? undefined : Number(window);
  if (credit !== undefined && !(Number.isInteger(credit) && credit >= 0 && credit <= MOST_CREDIT))
    throw amqpError('AMQP_BAD_INPUT.window', { most: MOST_CREDIT, given: nameOf(window) });
  const when = SETTLE.find((one) => one === settle);
  if (settle !== undefined && !when) throw amqpError('AMQP_BAD_INPUT.settle-when', { given: nameOf(settle) });
  return { ...(selector && { selector }), creditWindow: credit, settle: when };
}

function serviceBus(receiver: unknown, action: string): ServiceBusReceiver {
  if (receiver instanceof ServiceBusReceiver) return receiver;
  throw amqpError('AMQP_BAD_INPUT.service-bus', { given: action });
}

function eventHub(receiver: unknown, action: string): EventHubReceiver {
  if (receiver instanceof EventHubReceiver) return receiver;
  throw amqpError('AMQP_BAD_INPUT.event-hubs', { given: action });
}

function countOf(count: unknown): number {
  const number = Number(count);
  if (Number.isInteger(number) && number >= 1 && number <= MOST_PEEKED) return number;
  throw amqpError('AMQP_BAD_INPUT.count', { most: MOST_PEEKED, given: nameOf(count) });
}

/** Undefined: that of the node, where it has one. */
function sessionIdOf(given: unknown): string | undefined {
  if (given === undefined || typeof given === 'string') return given;
  throw amqpError('AMQP_BAD_INPUT.session-id', { given: nameOf(given) });
}
